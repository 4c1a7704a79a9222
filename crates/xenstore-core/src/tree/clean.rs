//! The cleaner: makes chunks free by moving what is still alive in them.
//!
//! It takes the chunk with the fewest live bytes, goes through its blocks, and moves each one that is alive to the end
//! of an open chunk: one store of the block, then one store of its table entry. After a crash between the two the old
//! place still counts. Roots and references name ids, so nobody notices; any number of roots may be alive.
//!
//! Updates pay for cleaning in proportion to what they write, so that memory that is large enough never runs out.

use super::arena::{Arena, Claimant, Exhausted, FOR_CLEANER, Use, block_at, location_of, place_of};
use super::block;
use super::counts::State;
use super::memory::{CHUNK, Memory};

/// A chunk is not worth cleaning if this is alive in it, or more: moving nearly a chunk to win nearly nothing.
const WORTH_CLEANING: usize = CHUNK - CHUNK / 16;

/// Without need, only chunks are cleaned in which less than this is alive: no more is moved than is won.
const HALF: usize = CHUNK / 2;

/// What passing over a dead block costs, in bytes of the cleaner's budget.
const PASSING: usize = 16;

/// Dead bytes beyond live ones that are tolerated although memory is plenty.
const TOLERATED: usize = 16 * CHUNK;

/// Doomed blocks taken apart with each update, in addition to twice as many as it wrote.
const RECLAIM_STEP: usize = 16;

/// Times that 64 doomed blocks are taken apart at once where no chunk is free; then chunks are cleaned, doomed blocks and all.
const RECLAIMS_AT_ONCE: usize = 32;

impl<M: Memory> Arena<M> {
    /// Pays for what was written since the last call: takes apart doomed blocks and cleans, as much as memory demands.
    pub(super) fn pace(&mut self) {
        self.reclaim(self.unpaid_blocks.saturating_mul(2).saturating_add(RECLAIM_STEP));
        self.clean(self.unpaid.saturating_mul(self.pressure()));
        (self.unpaid, self.unpaid_blocks) = (0, 0);
    }

    /// Takes apart doomed blocks, then cleans chunks that are at least half dead, or any if memory is short.
    pub(super) fn tidy(&mut self, budget: usize) {
        // A block to take apart counts like one of 64 bytes to move.
        let reclaimed = self.reclaim(budget / 64).saturating_mul(64);
        let most_alive = if self.pressure() > 0 { WORTH_CLEANING } else { HALF };
        self.evacuate(budget.saturating_sub(reclaimed), most_alive);
    }

    /// How many bytes to clean for each byte written.
    fn pressure(&self) -> usize {
        let available = self.available_chunks() as usize;
        let total = self.chunks.len().saturating_add(self.memory.chunks_to_come() as usize);
        let low = (total / 8).max((FOR_CLEANER + 2) as usize);
        if available < low {
            // From 2 at the mark to 10 where only the cleaner's own chunks are left.
            let missing = low.saturating_sub(available);
            return missing
                .saturating_mul(8)
                .checked_div(low)
                .unwrap_or(8)
                .saturating_add(2);
        }
        let used = self
            .chunks
            .len()
            .saturating_sub(self.free_chunks.len())
            .saturating_mul(CHUNK);
        let live = self.live.iter().sum::<usize>();
        if used.saturating_sub(live) > live.saturating_add(TOLERATED) {
            2
        } else {
            0
        }
    }

    /// Evacuates chunks until `budget` bytes are spent or no chunk is worth it. Returns what was spent.
    pub(super) fn clean(&mut self, budget: usize) -> usize {
        self.evacuate(budget, WORTH_CLEANING)
    }

    /// As [`Arena::clean`], for chunks in which less than `most_alive` is alive.
    fn evacuate(&mut self, budget: usize, most_alive: usize) -> usize {
        let mut spent = 0usize;
        while spent < budget {
            let Some((chunk, at)) = self.victim(most_alive) else {
                break;
            };
            match self.clean_step(chunk, at) {
                Ok(cost) => spent = spent.saturating_add(cost),
                Err(Exhausted) => break,
            }
        }
        spent
    }

    /// Leaves at least one chunk for updates, whatever it costs.
    pub(super) fn free_some_chunk(&mut self) -> Result<(), Exhausted> {
        for _ in 0..RECLAIMS_AT_ONCE {
            if self.available_chunks() > FOR_CLEANER || self.reclaim(64) == 0 {
                break;
            }
        }
        // Evacuating a chunk may open another one, so not each one is a gain at once.
        let mut tries = self.chunks.len().saturating_mul(2).saturating_add(2);
        while self.available_chunks() <= FOR_CLEANER {
            tries = tries.checked_sub(1).ok_or(Exhausted)?;
            let (victim, at) = self.victim(WORTH_CLEANING).ok_or(Exhausted)?;
            self.clean_step(victim, at)?;
            while let Some((chunk, at)) = self.cleaning {
                self.clean_step(chunk, at)?;
            }
        }
        Ok(())
    }

    /// The chunk that is being cleaned, and how far that is; else the next one, unless too much is alive in all.
    fn victim(&self, most_alive: usize) -> Option<(u32, usize)> {
        self.cleaning
            .or_else(|| self.closed.emptiest(most_alive).map(|chunk| (chunk, 0)))
    }

    /// Deals with the block at `at` of the chunk that is being cleaned. Returns what it cost.
    fn clean_step(&mut self, chunk: u32, at: usize) -> Result<usize, Exhausted> {
        let fill = self.chunks.get(chunk as usize).map_or(0, |entry| entry.fill);
        let rest = self.memory.chunk(chunk).get(at..fill).unwrap_or_default();
        let Some((length, id)) = block::length_and_id(rest) else {
            // The end; or bytes that are no block, which the table can still tell us about.
            return self.clean_by_table(chunk);
        };
        self.cleaning = Some((chunk, at.saturating_add(length)));
        if self.locations.get(id) == location_of(chunk, at).unwrap_or(0) && self.counts.state(id) != State::Free {
            if let Err(exhausted) = self.move_block(id, chunk) {
                self.cleaning = Some((chunk, at));
                return Err(exhausted);
            }
            Ok(length)
        } else {
            Ok(PASSING)
        }
    }

    /// Ends the cleaning of a chunk. If something is alive that was not found by going from block to block, then the
    /// chunk has changed on its own; the table still names the blocks in it.
    fn clean_by_table(&mut self, chunk: u32) -> Result<usize, Exhausted> {
        self.cleaning = Some((chunk, CHUNK));
        for id in 0..self.counts.ids() {
            if self.cleaning.is_none_or(|(cleaning, _)| cleaning != chunk) {
                break;
            }
            let here = place_of(self.locations.get(id)).is_some_and(|(place, _)| place == chunk);
            if here && self.counts.state(id) != State::Free {
                self.move_block(id, chunk)?;
            }
        }
        if let Some(entry) = self.chunks.get_mut(chunk as usize)
            && entry.usage == Use::Closed
            && entry.live > 0
        {
            // Not to be chosen again.
            entry.live = CHUNK;
            self.closed.take(chunk);
        }
        self.cleaning = None;
        Ok(CHUNK)
    }

    fn move_block(&mut self, id: u32, from: u32) -> Result<(), Exhausted> {
        let mut copy = self.scratch();
        copy.clear();
        copy.extend_from_slice(block_at(&self.memory, self.locations.get(id)));
        let (chunk, at) = self.space(copy.len(), Claimant::Cleaner)?;
        self.put(id, chunk, at, &copy);
        self.moved_bytes = self.moved_bytes.saturating_add(copy.len() as u64);
        self.forget(Some(from), copy.len());
        self.give_back(copy);
        Ok(())
    }
}
