//! Where the tree's bytes lie.
//!
//! The tree knows chunks (flat pieces of [`CHUNK`] bytes) and a table (block id → location); it does not know what they
//! are made of. Recovery implements [`Memory`] over the durable pages; tests and the Unix daemon use [`PlainMemory`].
//! Every durable store goes through [`Memory::store`] or [`Memory::set_location`], so that a simulator can stop after
//! any of them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::checksum::{Crc32c, crc32c};

/// Bytes of one chunk. Large enough that the unused tail of a chunk costs little (a block never spans two chunks and
/// the largest one has about a quarter of this), small enough that the few chunks kept back for the cleaner do not
/// matter in a memory of 2 MiB.
pub const CHUNK: usize = 32 * 1024;

/// Block ids that a plain memory sets aside for each chunk: one for every 40 bytes. The smallest blocks have 25 bytes,
/// typical ones 60.
const IDS_PER_CHUNK: u32 = 820;

/// Ids by which a plain memory's table grows: one page of 4 KiB.
const TABLE_STEP: u32 = 1024;

/// The bytes of one table entry.
const TABLE_ENTRY: usize = 4;

/// Storage for chunks and for the table.
///
/// The tree relies on this: what was stored stays until something else is stored at the same place, and stores take
/// effect in program order. [`Memory::set_location`] must be atomic (after a crash the entry is the old or the new
/// one); [`Memory::store`] need not be: a block becomes reachable only by a later `set_location` and a later store of
/// the root by whoever keeps it, and one that such a root reaches is never stored over.
pub trait Memory {
    /// The chunks that exist: they have the indexes `0..chunk_count()`. Never becomes smaller.
    fn chunk_count(&self) -> u32;

    /// How many more chunks [`Memory::grow`] could deliver. The tree counts them as free memory, so this must not
    /// promise too much.
    fn chunks_to_come(&self) -> u32;

    /// Adds one chunk (its content does not matter). False if there is no more memory; then nothing has changed.
    fn grow(&mut self) -> bool;

    /// The [`CHUNK`] bytes of a chunk; an empty slice if it does not exist.
    fn chunk(&self, index: u32) -> &[u8];

    /// Stores `bytes` into a chunk, beginning `at` bytes from its start. The tree never stores beyond the end of a
    /// chunk.
    fn store(&mut self, chunk: u32, at: usize, bytes: &[u8]);

    /// The block ids that have a table entry: `0..table_len()`. Never becomes smaller.
    fn table_len(&self) -> u32;

    /// How many more ids [`Memory::grow_table`] could deliver.
    fn ids_to_come(&self) -> u32;

    /// Adds entries (containing 0) to the table, as many as is convenient. False if there is no more memory; then
    /// nothing has changed.
    fn grow_table(&mut self) -> bool;

    /// What the table says about a block id. 0 if nothing was ever stored there or if the id does not exist.
    fn location(&self, id: u32) -> u32;

    /// Changes one table entry, atomically.
    fn set_location(&mut self, id: u32, location: u32);

    /// How the machine computes a CRC-32C, if it has something better than [`crc32c`].
    fn crc32c(&self) -> Crc32c {
        crc32c
    }
}

/// Memory from the heap, within a limit.
#[derive(Clone, Debug)]
pub struct PlainMemory {
    chunks: Vec<Box<[u8]>>,
    table: Vec<u32>,
    chunks_max: u32,
    ids_max: u32,
}

impl PlainMemory {
    /// A memory that will take at most `limit` bytes, table included. Takes them from the heap as they are needed.
    pub fn new(limit: usize) -> Self {
        let share = CHUNK.saturating_add((IDS_PER_CHUNK as usize).saturating_mul(TABLE_ENTRY));
        let chunks_max = u32::try_from(limit.checked_div(share).unwrap_or(0)).unwrap_or(u32::MAX);
        let rest = limit.saturating_sub((chunks_max as usize).saturating_mul(CHUNK));
        let ids_max = u32::try_from(rest / TABLE_ENTRY).unwrap_or(u32::MAX);
        Self {
            chunks: Vec::new(),
            table: Vec::new(),
            chunks_max,
            ids_max,
        }
    }
}

impl Memory for PlainMemory {
    fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    fn chunks_to_come(&self) -> u32 {
        self.chunks_max.saturating_sub(self.chunk_count())
    }

    fn grow(&mut self) -> bool {
        if self.chunks_to_come() == 0 || self.chunks.try_reserve(1).is_err() {
            return false;
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(CHUNK).is_err() {
            return false;
        }
        bytes.resize(CHUNK, 0);
        self.chunks.push(bytes.into_boxed_slice());
        true
    }

    fn chunk(&self, index: u32) -> &[u8] {
        self.chunks.get(index as usize).map_or(&[], |chunk| chunk)
    }

    fn store(&mut self, chunk: u32, at: usize, bytes: &[u8]) {
        let place = self
            .chunks
            .get_mut(chunk as usize)
            .and_then(|chunk| chunk.get_mut(at..at.saturating_add(bytes.len())));
        debug_assert!(place.is_some(), "a store outside of the chunk");
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    fn table_len(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    fn ids_to_come(&self) -> u32 {
        self.ids_max.saturating_sub(self.table_len())
    }

    fn grow_table(&mut self) -> bool {
        let step = self.ids_to_come().min(TABLE_STEP) as usize;
        if step == 0 || self.table.try_reserve(step).is_err() {
            return false;
        }
        self.table.resize(self.table.len().saturating_add(step), 0);
        true
    }

    fn location(&self, id: u32) -> u32 {
        self.table.get(id as usize).copied().unwrap_or(0)
    }

    fn set_location(&mut self, id: u32, location: u32) {
        if let Some(entry) = self.table.get_mut(id as usize) {
            *entry = location;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_memory_stays_within_its_limit() {
        let limit = 1 << 20;
        let mut memory = PlainMemory::new(limit);
        while memory.grow() {}
        while memory.grow_table() {}
        let taken = memory.chunk_count() as usize * CHUNK + memory.table_len() as usize * TABLE_ENTRY;
        assert!(taken <= limit && taken > limit - TABLE_ENTRY, "{taken}");
        assert!(memory.table_len() >= memory.chunk_count() * IDS_PER_CHUNK);
        assert_eq!((memory.chunks_to_come(), memory.ids_to_come()), (0, 0));
    }
}
