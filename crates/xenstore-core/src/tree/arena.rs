//! Blocks in chunks: writing one, finding one, giving one up.
//!
//! New blocks go to the end of an open chunk (small and large blocks have one each, so that large ones waste little of
//! their chunks). A chunk none of whose blocks is alive any more is free; making chunks free on purpose is the business
//! of `clean`. All that is kept here besides the memory is derived from it and from the roots.
//!
//! Knows blocks as lengths, ids and references; not what a directory is.

use alloc::vec::Vec;
use core::mem;

use super::block::{self, HEADER, Node};
use super::closed::Closed;
use super::counts::{Counts, State};
use super::index_block::IndexBlock;
use super::locations::Locations;
use super::memory::{CHUNK, Memory};

/// Blocks up to this length share chunks; larger ones have chunks of their own. So the unused tail of a chunk of small
/// blocks is below 1/32.
pub(super) const SMALL_BLOCK: usize = CHUNK / 32;

/// Chunks that only the cleaner may take: one to move small blocks to, one for large ones.
pub(super) const FOR_CLEANER: u32 = 2;

/// There is no memory for another block, not even after cleaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exhausted;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    Free,
    /// Blocks are being added.
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) usage: Use,
    /// Bytes of blocks that are alive or doomed.
    pub(super) live: usize,
    /// Blocks lie end to end in `0..fill`.
    pub(super) fill: usize,
}

/// Who wants memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimant {
    Update,
    Cleaner,
}

#[derive(Clone, Debug)]
pub(super) struct Arena<M> {
    pub(super) memory: M,
    pub(super) counts: Counts,
    pub(super) locations: Locations,
    pub(super) chunks: Vec<Chunk>,
    pub(super) free_chunks: Vec<u32>,
    pub(super) closed: Closed,
    /// The open chunks for small and for large blocks.
    open: [Option<u32>; 2],
    /// The chunk that is being evacuated, and how far.
    pub(super) cleaning: Option<(u32, usize)>,
    /// Bytes of small and of large blocks that are alive or doomed.
    pub(super) live: [usize; 2],
    /// The blocks that the current update has written.
    fresh: Vec<u32>,
    /// Bytes written since the cleaner was last asked.
    pub(super) unpaid: usize,
    /// Blocks written since the last `pace`.
    pub(super) unpaid_blocks: usize,
    pub(super) moved_bytes: u64,
    scratch: Vec<u8>,
    #[cfg(test)]
    pub(super) visits: core::cell::Cell<usize>,
}

/// The table's entry for a place; never 0.
pub(super) fn location_of(chunk: u32, at: usize) -> Option<u32> {
    let start = (chunk as usize).checked_mul(CHUNK)?.checked_add(at)?;
    u32::try_from(start).ok()?.checked_add(1)
}

/// The place that a table entry names: chunk and offset.
pub(super) fn place_of(location: u32) -> Option<(u32, usize)> {
    let start = location.checked_sub(1)? as usize;
    Some((u32::try_from(start / CHUNK).ok()?, start % CHUNK))
}

const fn class_of(length: usize) -> usize {
    if length <= SMALL_BLOCK { 0 } else { 1 }
}

/// The bytes of the block at a location; empty if there is none.
pub(super) fn block_at<M: Memory>(memory: &M, location: u32) -> &[u8] {
    let found = place_of(location).and_then(|(chunk, at)| {
        let rest = memory.chunk(chunk).get(at..)?;
        rest.get(..usize::from(block::u16_at(rest, 0)?))
    });
    found.unwrap_or_default()
}

impl<M: Memory> Arena<M> {
    /// An arena over memory of which nothing is in use.
    pub(super) fn new(memory: M) -> Self {
        let mut arena = Self {
            memory,
            counts: Counts::new(),
            locations: Locations::new(),
            chunks: Vec::new(),
            free_chunks: Vec::new(),
            closed: Closed::new(),
            open: [None; 2],
            cleaning: None,
            live: [0; 2],
            fresh: Vec::new(),
            unpaid: 0,
            unpaid_blocks: 0,
            moved_bytes: 0,
            scratch: Vec::new(),
            #[cfg(test)]
            visits: core::cell::Cell::new(0),
        };
        arena.grow_ids();
        for index in 0..arena.memory.chunk_count() {
            arena.chunks.push(Chunk {
                usage: Use::Free,
                live: 0,
                fill: 0,
            });
            arena.free_chunks.push(index);
        }
        arena.closed.grow(arena.chunks.len());
        arena
    }

    pub(super) fn block(&self, id: u32) -> &[u8] {
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        block_at(&self.memory, self.locations.get(id))
    }

    pub(super) fn node(&self, id: u32) -> Option<Node<'_>> {
        Node::parse(self.block(id))
    }

    pub(super) fn index(&self, id: u32) -> Option<IndexBlock<'_>> {
        IndexBlock::parse(self.block(id))
    }

    /// A buffer to build a block in, for [`Arena::place`].
    pub(super) fn scratch(&mut self) -> Vec<u8> {
        mem::take(&mut self.scratch)
    }

    /// Returns a buffer that [`Arena::scratch`] gave, to be used again.
    pub(super) fn give_back(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    /// Writes a block. What it refers to is referred to once more; the block itself has no reference yet: either a
    /// block of the same update will have one, or [`Arena::keep`] gives it one, or [`Arena::abandon`] dooms it.
    pub(super) fn place(&mut self, mut block: Vec<u8>) -> Result<u32, Exhausted> {
        if self.counts.next_free().is_none() {
            self.more_ids()?;
        }
        let (chunk, at) = self.space(block.len(), Claimant::Update)?;
        // Making space may have freed ids, so the id is taken only now.
        let id = self.counts.take().ok_or(Exhausted)?;
        block::seal(&mut block, id, self.memory.crc32c());
        for reference in block::references(&block) {
            self.counts.retain(reference);
        }
        self.put(id, chunk, at, &block);
        self.unpaid = self.unpaid.saturating_add(block.len());
        self.unpaid_blocks = self.unpaid_blocks.saturating_add(1);
        self.fresh.push(id);
        self.scratch = block;
        Ok(id)
    }

    /// All that refers to this block is one reference.
    pub(super) fn is_sole(&self, id: u32) -> bool {
        self.counts.state(id) == State::Alive(1)
    }

    /// Writes a block in the place of one to which there is one reference only: it keeps that one's id. Nothing has changed where there
    /// is no memory for it.
    pub(super) fn replace(&mut self, id: u32, mut block: Vec<u8>) -> Result<(), Exhausted> {
        let length = self.block(id).len();
        let elsewhere = if block.len() == length {
            None
        } else {
            Some(self.space(block.len(), Claimant::Update)?)
        };
        block::seal(&mut block, id, self.memory.crc32c());
        for reference in block::references(&block) {
            self.counts.retain(reference);
        }
        for reference in block::references(block_at(&self.memory, self.locations.get(id))) {
            self.counts.release(reference);
        }
        // Making space may have moved it.
        let before = place_of(self.locations.get(id));
        match (elsewhere, before) {
            (Some((chunk, at)), _) => {
                self.put(id, chunk, at, &block);
                self.forget(before.map(|(chunk, _)| chunk), length);
                self.unpaid = self.unpaid.saturating_add(block.len());
            }
            (None, Some((chunk, at))) => self.memory.store(chunk, at, &block),
            (None, None) => {}
        }
        self.scratch = block;
        Ok(())
    }

    /// Makes a block with one reference to it name another block where it names one now, `at` bytes from its beginning.
    pub(super) fn repoint(&mut self, id: u32, at: usize, new: u32) {
        let mut block = self.scratch();
        let old = self.copy_repointed(id, at, new, &mut block);
        block::seal(&mut block, id, self.memory.crc32c());
        if let (Some(old), Some((chunk, start))) = (old, place_of(self.locations.get(id))) {
            self.counts.retain(new);
            self.counts.release(old);
            self.memory.store(chunk, start, &block);
        }
        self.scratch = block;
    }

    /// Copies a block, all but what it names `at` bytes from its beginning: there `new` is named. What was named before.
    pub(super) fn copy_repointed(&self, id: u32, at: usize, new: u32, copy: &mut Vec<u8>) -> Option<u32> {
        copy.clear();
        copy.extend_from_slice(self.block(id));
        let place = copy.get_mut(at..)?.first_chunk_mut()?;
        Some(u32::from_le_bytes(core::mem::replace(place, new.to_le_bytes())))
    }

    /// Ends an update that went well: its last block gets its one reference, the caller's.
    pub(super) fn keep(&mut self, id: u32) {
        self.counts.retain(id);
        self.fresh.clear();
    }

    /// Ends an update that ran out of memory: what it wrote is doomed.
    pub(super) fn abandon(&mut self) {
        let mut fresh = mem::take(&mut self.fresh);
        // Later blocks refer to earlier ones, so going backwards each is released by its last reference or here.
        for &id in fresh.iter().rev() {
            if self.counts.state(id) == State::Alive(0) {
                self.counts.release(id);
            }
        }
        fresh.clear();
        self.fresh = fresh;
    }

    /// Takes apart up to `budget` doomed blocks. Each is a bounded step. Returns how many there were.
    pub(super) fn reclaim(&mut self, budget: usize) -> usize {
        let mut done = 0usize;
        while done < budget {
            let Some(id) = self.counts.take_doomed() else { break };
            let location = self.locations.get(id);
            let block = block_at(&self.memory, location);
            for reference in block::references(block) {
                self.counts.release(reference);
            }
            let length = block.len();
            let chunk = place_of(location).map(|(chunk, _)| chunk);
            self.counts.free(id);
            self.forget(chunk, length);
            done = done.wrapping_add(1);
        }
        done
    }

    /// Stores a block at a place that [`Arena::space`] gave.
    pub(super) fn put(&mut self, id: u32, chunk: u32, at: usize, block: &[u8]) {
        let Some(location) = location_of(chunk, at) else { return };
        self.memory.store(chunk, at, block);
        self.memory.set_location(id, location);
        self.locations.set(id, location);
        if let Some(entry) = self.chunks.get_mut(chunk as usize) {
            entry.live = entry.live.saturating_add(block.len());
            entry.fill = at.saturating_add(block.len());
        }
        if let Some(live) = self.live.get_mut(class_of(block.len())) {
            *live = live.saturating_add(block.len());
        }
    }

    /// A block of this length in this chunk is gone.
    pub(super) fn forget(&mut self, chunk: Option<u32>, length: usize) {
        if let Some(live) = self.live.get_mut(class_of(length)) {
            *live = live.saturating_sub(length);
        }
        let Some(index) = chunk else { return };
        if let Some(entry) = self.chunks.get_mut(index as usize) {
            entry.live = entry.live.saturating_sub(length);
            let live = entry.live;
            if entry.usage == Use::Closed {
                if live == 0 {
                    self.free_chunk(index);
                } else {
                    self.closed.put(index, live);
                }
            }
        }
    }

    fn free_chunk(&mut self, index: u32) {
        if let Some(entry) = self.chunks.get_mut(index as usize) {
            *entry = Chunk {
                usage: Use::Free,
                live: 0,
                fill: 0,
            };
            self.free_chunks.push(index);
            self.closed.take(index);
        }
        if self.cleaning.is_some_and(|(chunk, _)| chunk == index) {
            self.cleaning = None;
        }
    }

    /// Chunks that can still be opened.
    pub(super) fn available_chunks(&self) -> u32 {
        u32::try_from(self.free_chunks.len())
            .unwrap_or(u32::MAX)
            .saturating_add(self.memory.chunks_to_come())
    }

    /// A place for a block of this length. It is taken only by [`Arena::put`].
    pub(super) fn space(&mut self, length: usize, claimant: Claimant) -> Result<(u32, usize), Exhausted> {
        if let Some(place) = self.space_in_open(length) {
            return Ok(place);
        }
        if claimant == Claimant::Update && self.available_chunks() <= FOR_CLEANER {
            self.free_some_chunk()?;
            // Cleaning has opened chunks of its own.
            if let Some(place) = self.space_in_open(length) {
                return Ok(place);
            }
        }
        let index = self.take_chunk().ok_or(Exhausted)?;
        if let Some(slot) = self.open.get_mut(class_of(length))
            && let Some(old) = slot.replace(index)
        {
            self.close(old);
        }
        self.space_in_open(length).ok_or(Exhausted)
    }

    fn space_in_open(&self, length: usize) -> Option<(u32, usize)> {
        let index = (*self.open.get(class_of(length))?)?;
        let fill = self.chunks.get(index as usize)?.fill;
        if fill.checked_add(length)? <= CHUNK {
            Some((index, fill))
        } else {
            None
        }
    }

    fn take_chunk(&mut self) -> Option<u32> {
        let index = match self.free_chunks.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.chunks.len()).ok()?;
                // Beyond 4 GiB there are no locations. The list of free chunks can hold all chunks without growing.
                location_of(index, CHUNK)?;
                self.chunks.try_reserve(1).ok()?;
                self.free_chunks.try_reserve(self.chunks.len().saturating_add(1)).ok()?;
                if !self.closed.grow(self.chunks.len().saturating_add(1)) || !self.memory.grow() {
                    return None;
                }
                self.chunks.push(Chunk {
                    usage: Use::Free,
                    live: 0,
                    fill: 0,
                });
                index
            }
        };
        if let Some(entry) = self.chunks.get_mut(index as usize) {
            *entry = Chunk {
                usage: Use::Open,
                live: 0,
                fill: 0,
            };
        }
        Some(index)
    }

    fn close(&mut self, index: u32) {
        if let Some(entry) = self.chunks.get_mut(index as usize) {
            entry.usage = Use::Closed;
            let live = entry.live;
            self.closed.put(index, live);
            if live == 0 {
                self.free_chunk(index);
            }
        }
    }

    /// Keeps account of all ids that the table has room for. False if there is no memory for it.
    fn grow_ids(&mut self) -> bool {
        let ids = self.memory.table_len();
        self.locations.grow(ids) && self.counts.grow(ids)
    }

    fn more_ids(&mut self) -> Result<(), Exhausted> {
        if self.memory.grow_table() && self.grow_ids() {
            return Ok(());
        }
        while self.counts.next_free().is_none() {
            if self.reclaim(64) == 0 {
                return Err(Exhausted);
            }
        }
        Ok(())
    }

    /// Sets up what is known about the chunks of an arena that is read back: `lives` has live bytes and the end of the
    /// last live block of each chunk.
    pub(super) fn restore_chunks(&mut self, lives: &[(usize, usize)], live: [usize; 2]) {
        self.free_chunks.clear();
        self.live = live;
        for ((index, entry), &(live, fill)) in (0u32..).zip(self.chunks.iter_mut()).zip(lives) {
            let usage = if live == 0 { Use::Free } else { Use::Closed };
            *entry = Chunk { usage, live, fill };
            if live == 0 {
                self.free_chunks.push(index);
            } else {
                self.closed.put(index, live);
            }
        }
    }

    pub(super) const fn class_of(length: usize) -> usize {
        class_of(length)
    }
}

// A block is never shorter than its header, and never as long as a chunk.
const _: () = assert!(HEADER < SMALL_BLOCK && block::BLOCK_MAX < CHUNK / 3);
