//! How much memory is left, and what a request may cost: the server refuses in advance, because applying a record
//! cannot fail.
//!
//! Room is computed from what is alive, not from what is free at the moment: the cleaner makes the one into the other.
//! It is careful: chunks that only the cleaner may take, tails of chunks that no block fits into, and the share of
//! garbage without which cleaning would cost too much are left out.

use xenstore_wire::Path;

use super::arena::{Arena, FOR_CLEANER, SMALL_BLOCK};
use super::block::{BLOCK_MAX, Directory, HEADER, NODE_OVERHEAD, SMALL_ENTRY, SMALL_MAX};
use super::index_block::{INDEX_MAX, NAMED_COUNT, NAMES_MAX, Sort};
use super::memory::{CHUNK, Memory};
use super::{Root, Tree};

/// The part of the memory that [`Tree::room`] does not offer: 1/16, for what must always work (removing, domain death,
/// the end of a transaction) and for requests that had been let in before.
const RESERVE_SHARE: usize = 16;

/// Bytes that an id is worth when ids are what is scarce: below the mean size of blocks.
const BYTES_PER_ID: usize = 40;

/// Chunks that may be open and nearly empty: one for small and one for large blocks.
const OPEN: u32 = 2;

/// Figures for administrators and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Blocks (nodes and parts of indexes) that are alive or doomed.
    pub blocks: u32,
    /// Blocks among them that no root reaches any more and that are still to be taken apart.
    pub doomed_blocks: u32,
    /// Ids that exist, used or not.
    pub ids: u32,
    /// Bytes of `blocks`.
    pub live_bytes: usize,
    /// Bytes in chunks in use that are neither live nor still to be written.
    pub dead_bytes: usize,
    /// Chunks that exist, of [`CHUNK`] bytes.
    pub chunks: u32,
    /// Chunks among them that are free.
    pub free_chunks: u32,
    /// Chunks that the memory could still deliver.
    pub chunks_to_come: u32,
    /// Bytes that cleaning has moved since the tree was made or opened.
    pub moved_bytes: u64,
    /// Updates that were refused because they made no sense.
    pub impossible: u64,
    /// Updates that were refused because memory was exhausted.
    pub exhausted: u64,
}

impl<M: Memory> Arena<M> {
    /// Bytes of blocks that could be written and kept if there were none.
    fn capacity(&self) -> usize {
        let total = (self.chunks.len()).saturating_add(self.memory.chunks_to_come() as usize);
        total
            .saturating_sub((FOR_CLEANER + OPEN) as usize)
            .saturating_mul(CHUNK / 8 * 7)
    }

    /// Bytes of blocks that can still be written and kept, without and with the reserve.
    fn room(&self) -> (usize, usize) {
        let usable = self.capacity();
        let [small, large] = self.live;
        let taken = weight(small, false).saturating_add(weight(large, true));
        let ids = self.counts.ids().saturating_add(self.memory.ids_to_come()) as usize;
        let free_ids = self.counts.free_count().saturating_add(self.memory.ids_to_come()) as usize;

        let without = |reserve: usize| {
            let bytes = usable
                .saturating_sub(taken)
                .saturating_sub(usable.checked_div(reserve).unwrap_or(0));
            let ids = free_ids.saturating_sub(ids.checked_div(reserve).unwrap_or(0));
            bytes.min(ids.saturating_mul(BYTES_PER_ID))
        };
        (without(RESERVE_SHARE), without(0))
    }
}

/// What blocks of so many bytes take, with the tails that they leave unused: up to 1/32 of a chunk of small blocks
/// (1/31 of what is used), up to [`BLOCK_MAX`] of a chunk of large ones.
fn weight(bytes: usize, large: bool) -> usize {
    const _: () = assert!(BLOCK_MAX * 32 < (CHUNK - BLOCK_MAX) * 11);
    let tails = if large {
        bytes.saturating_mul(11) / 32
    } else {
        bytes / 31
    };
    bytes.saturating_add(tails)
}

/// Bytes of the largest block of an index by hash, and by order without names.
const HASH_BLOCK: usize = HEADER + INDEX_MAX * Sort::Hash.entry_size();
const ORDER_BLOCK: usize = HEADER + INDEX_MAX * Sort::Order.entry_size();
/// What the names of a leaf take; a split or a merge writes two leaves.
const NAMES: usize = NAMED_COUNT + NAMES_MAX;
/// Levels of an index: each block but the root has eight entries or more, and there are fewer than 2³² ids.
const LEVELS_MAX: usize = 11;
/// What the block of a node on the way grows by: generations can grow, and there may be one child more, or all of a small directory
/// again.
const REWRITTEN_MORE: usize = 20 + (SMALL_MAX + 1) * SMALL_ENTRY;

/// What it costs to insert into both indexes, or to remove, with so many levels by hash and by order.
fn edit_cost(levels: usize, order_levels: usize) -> usize {
    // A split or a merge writes two blocks at each level, and there may be one level more.
    let by_hash = levels.saturating_add(1).saturating_mul(HASH_BLOCK);
    let by_order = order_levels.saturating_add(1).saturating_mul(ORDER_BLOCK);
    by_hash
        .saturating_add(by_order)
        .saturating_add(weight(NAMES, NAMES > SMALL_BLOCK))
        .saturating_mul(2)
}

impl<M: Memory> Tree<M> {
    /// Bytes that the tree can hold in all, by the measure of [`Tree::room`].
    pub fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Bytes that updates may still take, by the measure of [`Tree::cost_of`]. The reserve is not in it.
    pub fn room(&self) -> usize {
        self.arena.room().0
    }

    /// As [`Tree::room`], with the reserve: for what must not be refused.
    pub fn room_with_reserve(&self) -> usize {
        self.arena.room().1
    }

    /// What [`Tree::cost_of`] is never above, whatever the tree looks like: visits nothing. As long as there is so much room, nobody
    /// needs to know better.
    pub fn cost_at_most(&self, path: Path<'_>, payload: usize) -> usize {
        let depth = path.depth().max(1);
        let way = weight(BLOCK_MAX + REWRITTEN_MORE, true).saturating_add(LEVELS_MAX * HASH_BLOCK);
        let new = path
            .as_str()
            .len()
            .saturating_add(payload)
            .saturating_add(depth.saturating_mul(NODE_OVERHEAD));
        let each_time = depth
            .saturating_add(1)
            .saturating_mul(way)
            .saturating_add(weight(new, true));
        each_time
            .saturating_mul(depth)
            .saturating_add(edit_cost(LEVELS_MAX, LEVELS_MAX))
    }

    /// An upper bound of what it costs to create, change or remove the node at `path`, ancestors that are missing
    /// included; `payload` is the length of the new value plus 4 for each permission entry. In bytes, for the time both
    /// the old and the new root are held. Visits the blocks that [`Tree::find`] visits.
    pub fn cost_of(&self, root: Root, path: Path<'_>, payload: usize) -> usize {
        let mut missing = 0usize;
        let mut names = 0usize;
        let mut ways = 0usize;
        let mut last = 0usize;
        let mut at = self.arena.node(root.0);
        let mut block = self.arena.block(root.0).len();
        let mut components = path.components();
        loop {
            if let Some(node) = at {
                let rewritten = block.saturating_add(REWRITTEN_MORE);
                let (way, edit) = self.index_cost(node.directory);
                ways = ways
                    .saturating_add(weight(rewritten, rewritten > SMALL_BLOCK))
                    .saturating_add(way);
                // Creating edits the last directory that exists, removing the one above.
                last = last.max(edit);
            }
            let Some(name) = components.next() else { break };
            at = at.and_then(|node| self.child_in(node.directory, self.hash.of(name), name));
            block = at.map_or(0, |node| self.arena.block(node.id).len());
            if at.is_none() {
                missing = missing.saturating_add(1);
                names = names.saturating_add(name.len());
            }
        }
        let new = names
            .saturating_add(payload)
            .saturating_add(missing.max(1).saturating_mul(NODE_OVERHEAD));
        let each_time = ways.saturating_add(weight(new, new > SMALL_BLOCK));
        each_time.saturating_mul(missing.max(1)).saturating_add(last)
    }

    /// What it costs to write one way through the index by hash, and to insert or remove in both.
    fn index_cost(&self, directory: Directory<'_>) -> (usize, usize) {
        match directory {
            Directory::Small { .. } => (0, HASH_BLOCK + ORDER_BLOCK + NAMES),
            Directory::Large { by_hash, by_order, .. } => {
                let levels = self.arena.index_height(by_hash);
                let edit = edit_cost(levels, self.arena.index_height(by_order));
                (levels.saturating_mul(HASH_BLOCK), edit)
            }
        }
    }

    /// How things are.
    pub fn figures(&self) -> Figures {
        let arena = &self.arena;
        let live_bytes = arena.live.iter().sum::<usize>();
        let filled = arena.chunks.iter().map(|chunk| chunk.fill).sum::<usize>();
        Figures {
            blocks: arena.counts.ids().saturating_sub(arena.counts.free_count()),
            doomed_blocks: arena.counts.doomed_count(),
            ids: arena.counts.ids(),
            live_bytes,
            dead_bytes: filled.saturating_sub(live_bytes),
            chunks: u32::try_from(arena.chunks.len()).unwrap_or(u32::MAX),
            free_chunks: u32::try_from(arena.free_chunks.len()).unwrap_or(u32::MAX),
            chunks_to_come: arena.memory.chunks_to_come(),
            moved_bytes: arena.moved_bytes,
            impossible: self.impossible,
            exhausted: self.exhausted,
        }
    }
}
