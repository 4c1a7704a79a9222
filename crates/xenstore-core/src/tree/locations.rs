//! Where each block lies, as the table in the memory says: a copy in the heap, because every look at a block begins here, and an
//! entry of a durable table must be checked each time that it is read.

use alloc::vec::Vec;

/// One word per id; 0: nothing lies there.
#[derive(Clone, Debug)]
pub(super) struct Locations(Vec<u32>);

impl Locations {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Makes room for the ids `0..ids`. False if there is no memory for it.
    pub(super) fn grow(&mut self, ids: u32) -> bool {
        let ids = ids as usize;
        let more = ids.saturating_sub(self.0.len());
        if self.0.try_reserve_exact(more.max(self.0.len() / 8)).is_err() {
            return false;
        }
        self.0.resize(ids.max(self.0.len()), 0);
        true
    }

    pub(super) fn get(&self, id: u32) -> u32 {
        self.0.get(id as usize).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, id: u32, location: u32) {
        if let Some(known) = self.0.get_mut(id as usize) {
            *known = location;
        }
    }
}
