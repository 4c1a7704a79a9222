//! The chunks that take no more blocks, sorted by how little is alive in them: what the cleaner chooses from.
//!
//! There is a list for each 32nd of a chunk that is alive. Each chunk is in one list, and going from one to another, as blocks die,
//! is a few stores: so choosing does not cost more the more chunks there are.

use alloc::vec::Vec;

use super::memory::CHUNK;

/// Bytes of live blocks by which one list differs from the next.
const STEP: usize = CHUNK / 32;
const LISTS: usize = 33;
const NONE: u32 = u32::MAX;

/// A chunk's place: its list (if any) and its neighbours there.
#[derive(Clone, Copy, Debug)]
struct Place {
    list: Option<usize>,
    before: u32,
    after: u32,
}

impl Place {
    const NOWHERE: Place = Place {
        list: None,
        before: NONE,
        after: NONE,
    };
}

/// The closed chunks.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    first: [u32; LISTS],
    places: Vec<Place>,
}

impl Closed {
    pub(super) const fn new() -> Self {
        Self {
            first: [NONE; LISTS],
            places: Vec::new(),
        }
    }

    /// Makes room for the chunks `0..chunks`. False if there is no memory for it.
    pub(super) fn grow(&mut self, chunks: usize) -> bool {
        let more = chunks.saturating_sub(self.places.len());
        if self.places.try_reserve(more).is_err() {
            return false;
        }
        self.places
            .resize(self.places.len().saturating_add(more), Place::NOWHERE);
        true
    }

    /// The chunk is closed, and so many bytes in it are alive.
    pub(super) fn put(&mut self, chunk: u32, live: usize) {
        let list = (live / STEP).min(LISTS - 1);
        if self.places.get(chunk as usize).and_then(|place| place.list) == Some(list) {
            return;
        }
        self.take(chunk);
        let Some(first) = self.first.get_mut(list) else { return };
        let after = core::mem::replace(first, chunk);
        if let Some(next) = self.places.get_mut(after as usize) {
            next.before = chunk;
        }
        if let Some(place) = self.places.get_mut(chunk as usize) {
            *place = Place {
                list: Some(list),
                before: NONE,
                after,
            };
        }
    }

    /// The chunk is not closed any more, or not to be chosen again.
    pub(super) fn take(&mut self, chunk: u32) {
        let Some(slot) = self.places.get_mut(chunk as usize) else {
            return;
        };
        let Place { list, before, after } = core::mem::replace(slot, Place::NOWHERE);
        let Some(list) = list else { return };
        match self.places.get_mut(before as usize) {
            Some(previous) => previous.after = after,
            None => {
                if let Some(first) = self.first.get_mut(list) {
                    *first = after;
                }
            }
        }
        if let Some(next) = self.places.get_mut(after as usize) {
            next.before = before;
        }
    }

    /// A chunk with the least alive, give or take a step, if that is below `most`, rounded down to a step.
    pub(super) fn emptiest(&self, most: usize) -> Option<u32> {
        let lists = self.first.iter().take(most / STEP);
        lists.copied().find(|first| *first != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptiest_chunk_is_found_whatever_came_and_went() {
        let mut closed = Closed::new();
        assert!(closed.grow(5));
        assert_eq!(closed.emptiest(CHUNK), None);
        for (chunk, live) in [(0, 20_000), (1, 9_000), (2, 9_100), (3, 31_000), (4, 100)] {
            closed.put(chunk, live);
        }
        assert_eq!(closed.emptiest(CHUNK), Some(4));
        closed.take(4);
        assert!(matches!(closed.emptiest(CHUNK), Some(1 | 2)));
        assert_eq!(closed.emptiest(4_000), None);
        closed.put(0, 3_000);
        assert_eq!(closed.emptiest(4_000), Some(0));
        for chunk in [0, 1, 2, 2] {
            closed.take(chunk);
        }
        assert_eq!((closed.emptiest(30_000), closed.emptiest(CHUNK)), (None, Some(3)));
    }
}
