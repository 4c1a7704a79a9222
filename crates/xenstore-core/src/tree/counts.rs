//! How often each block is referred to, and which ids are free.
//!
//! One 32-bit word per id: a count; or, for ids that are free or whose block is doomed, a link of one of two lists that
//! run through the words. So giving up a tree of any size needs no memory, and no step of it is long. Ids that were never given out are
//! in neither list: most of a table may be such ids, and a restart need not look at them.

use alloc::vec::Vec;

const FREE: u32 = 0x8000_0000;
const DOOMED: u32 = 0xC000_0000;
const LINK: u32 = 0x3FFF_FFFF;
const END: u32 = LINK;

/// What an id is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    /// Nothing refers to the block any more, but it still refers to others.
    Doomed,
    /// A block with this many references; 0 while an update is building what will refer to it.
    Alive(u32),
}

#[derive(Clone, Debug)]
pub(super) struct Counts {
    words: Vec<u32>,
    free: u32,
    free_count: u32,
    /// From here on all ids are free and in no list.
    unused: u32,
    doomed: u32,
    doomed_count: u32,
}

impl Counts {
    pub(super) const fn new() -> Self {
        Self {
            words: Vec::new(),
            free: END,
            free_count: 0,
            unused: 0,
            doomed: END,
            doomed_count: 0,
        }
    }

    /// Makes room for the ids `0..ids`. False if there is no memory for it.
    pub(super) fn grow(&mut self, ids: u32) -> bool {
        let ids = ids.min(END);
        let more = (ids as usize).saturating_sub(self.words.len());
        if self.words.try_reserve_exact(more.max(self.words.len() / 8)).is_err() {
            return false;
        }
        self.words.resize(ids.max(self.ids()) as usize, FREE | END);
        self.free_count = self.free_count.saturating_add(u32::try_from(more).unwrap_or(0));
        true
    }

    pub(super) fn state(&self, id: u32) -> State {
        match self.words.get(id as usize) {
            Some(&word) if word < FREE => State::Alive(word),
            Some(&word) if word >= DOOMED => State::Doomed,
            _ => State::Free,
        }
    }

    pub(super) const fn free_count(&self) -> u32 {
        self.free_count
    }

    pub(super) const fn doomed_count(&self) -> u32 {
        self.doomed_count
    }

    pub(super) fn ids(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(END)
    }

    /// The id that [`Counts::take`] would give.
    pub(super) fn next_free(&self) -> Option<u32> {
        let unused = Some(self.unused).filter(|id| *id < self.ids());
        if self.free == END { unused } else { Some(self.free) }
    }

    /// Takes a free id; its count is 0.
    pub(super) fn take(&mut self) -> Option<u32> {
        let id = self.next_free()?;
        let word = self.words.get_mut(id as usize)?;
        if self.free == END {
            self.unused = id.saturating_add(1);
        } else {
            self.free = *word & LINK;
        }
        self.free_count = self.free_count.saturating_sub(1);
        *word = 0;
        Some(id)
    }

    /// One reference more. Ignored for an id that is not alive.
    pub(super) fn retain(&mut self, id: u32) {
        match self.words.get_mut(id as usize) {
            Some(word) if *word < FREE => *word = word.wrapping_add(1),
            _ => debug_assert!(false, "id {id} is not alive"),
        }
    }

    /// One reference less; without any, the block is doomed. Ignored for an id that is not alive.
    pub(super) fn release(&mut self, id: u32) {
        match self.words.get_mut(id as usize) {
            Some(word) if (2..FREE).contains(word) => *word = word.wrapping_sub(1),
            Some(word) if *word < FREE => {
                *word = DOOMED | self.doomed;
                self.doomed = id;
                self.doomed_count = self.doomed_count.saturating_add(1);
            }
            _ => debug_assert!(false, "id {id} is not alive"),
        }
    }

    /// Takes one block off the doomed list. The caller reads what it refers to, then calls [`Counts::free`].
    pub(super) fn take_doomed(&mut self) -> Option<u32> {
        if self.doomed == END {
            return None;
        }
        let id = self.doomed;
        self.doomed = self.words.get(id as usize)? & LINK;
        self.doomed_count = self.doomed_count.saturating_sub(1);
        Some(id)
    }

    /// Makes an id free that [`Counts::take_doomed`] gave.
    pub(super) fn free(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize) {
            *word = FREE | self.free;
            self.free = id;
            self.free_count = self.free_count.saturating_add(1);
        }
    }

    /// For a tree that is read back: one reference more, to an id that may still be free. True at the first one. The
    /// list of free ids must be put in order by [`Counts::relink`] afterwards.
    pub(super) fn found(&mut self, id: u32) -> bool {
        match self.words.get_mut(id as usize) {
            Some(word) if *word >= FREE => {
                *word = 1;
                self.unused = self.unused.max(id.saturating_add(1));
                true
            }
            Some(word) => {
                *word = word.wrapping_add(1);
                false
            }
            None => false,
        }
    }

    /// Builds the list of free ids anew.
    pub(super) fn relink(&mut self) {
        let unused = self.unused.min(self.ids());
        let (mut free, mut count) = (END, self.ids().saturating_sub(unused));
        for (id, word) in (0..unused).zip(&mut self.words).rev() {
            if *word >= FREE {
                *word = FREE | free;
                free = id;
                count = count.wrapping_add(1);
            }
        }
        (self.free, self.free_count) = (free, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_out_once_and_come_back() {
        let mut counts = Counts::new();
        assert!(counts.grow(3));
        assert_eq!(
            [counts.take(), counts.take(), counts.take(), counts.take()],
            [Some(0), Some(1), Some(2), None]
        );
        counts.retain(1);
        counts.retain(1);
        counts.release(1);
        assert_eq!(counts.state(1), State::Alive(1));
        counts.release(1);
        assert_eq!((counts.state(1), counts.doomed_count()), (State::Doomed, 1));
        assert_eq!(counts.take_doomed(), Some(1));
        assert_eq!(counts.take_doomed(), None);
        counts.free(1);
        assert!(counts.grow(4));
        assert_eq!(counts.free_count(), 2);
        assert_eq!([counts.take(), counts.take(), counts.take()], [Some(1), Some(3), None]);
    }

    #[test]
    fn a_tree_read_back_has_its_counts_and_the_rest_is_free() {
        let mut counts = Counts::new();
        assert!(counts.grow(4));
        assert!(counts.found(2));
        assert!(!counts.found(2));
        counts.relink();
        assert_eq!(counts.state(2), State::Alive(2));
        assert_eq!(
            [counts.take(), counts.take(), counts.take(), counts.take()],
            [Some(0), Some(1), Some(3), None]
        );
    }
}
