//! Reading a tree back from its memory, after a restart.
//!
//! Memory holds the blocks and the table. Everything else is derived here by going from the roots to all they reach:
//! which blocks are alive, how often each is referred to, which chunks and ids are free. Every block is checked on the
//! way. What no root reaches (an update that was not finished, what had been given up) becomes free by that.

use alloc::vec;
use alloc::vec::Vec;

use super::arena::{Arena, place_of};
use super::block::{self, Node};
use super::hash::NameHash;
use super::index_block::IndexBlock;
use super::memory::{CHUNK, Memory};
use super::{Root, Tree};

/// The memory does not hold what the roots promise. Each variant names the block id concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Corrupt {
    /// The table does not say where the block is, or another block is there.
    Missing(u32),
    /// The checksum of the block is wrong.
    Checksum(u32),
    /// The block is not a node or an index block, although its checksum is right.
    Shape(u32),
    /// Blocks lead in a circle.
    Circle,
    /// There is not enough memory to read the tree back. Not the fault of any block.
    Memory,
}

/// [`Tree::open`] did not succeed. Gives the memory back, so that an older root can be tried.
#[derive(Clone, Debug)]
pub struct Unreadable<M> {
    /// The memory, unchanged.
    pub memory: M,
    /// What is wrong with it.
    pub why: Corrupt,
}

impl<M: Memory> Tree<M> {
    /// The tree that `memory` holds. `current` becomes the present root; each of the `held` roots gets a reference for
    /// every time it is named, so [`Tree::release`] is due for each of them. `hash_seed` is the one that the tree was
    /// made with. Takes time in proportion to the blocks that are alive, and parses nothing but them.
    ///
    /// # Errors
    /// Says which block is not what it should be. Whether or not it succeeds, nothing in the memory is changed.
    pub fn open(memory: M, hash_seed: u64, current: Root, held: &[Root]) -> Result<Self, Unreadable<M>> {
        let mut arena = Arena::new(memory);
        match arena.reach_all(current, held) {
            Ok(()) => Ok(Self {
                arena,
                hash: NameHash::new(hash_seed),
                current,
                impossible: 0,
                exhausted: 0,
            }),
            Err(why) => Err(Unreadable {
                memory: arena.memory,
                why,
            }),
        }
    }
}

impl<M: Memory> Arena<M> {
    /// Counts what the roots reach and checks it; the rest is free.
    fn reach_all(&mut self, current: Root, held: &[Root]) -> Result<(), Corrupt> {
        if self.counts.ids() < self.memory.table_len() {
            return Err(Corrupt::Memory);
        }
        let mut lives = vec![(0usize, 0usize); self.chunks.len()];
        let mut live = [0usize; 2];
        let mut found: Vec<u32> = Vec::new();
        for root in core::iter::once(&current).chain(held) {
            self.reach(root.0, &mut found)?;
            while let Some(id) = found.pop() {
                let Arena { memory, counts, .. } = &mut *self;
                let (chunk, end, block) = check(memory, id)?;
                let length = block.len();
                if let Some((live, fill)) = lives.get_mut(chunk as usize) {
                    (*live, *fill) = (live.saturating_add(length), end.max(*fill));
                }
                if let Some(live) = live.get_mut(Arena::<M>::class_of(length)) {
                    *live = live.saturating_add(length);
                }
                for reference in block::references(block) {
                    if reference >= counts.ids() {
                        return Err(Corrupt::Missing(reference));
                    }
                    if counts.found(reference) {
                        found.try_reserve(1).map_err(|_| Corrupt::Memory)?;
                        found.push(reference);
                    }
                }
            }
        }
        self.counts.relink();
        self.restore_chunks(&lives, live);
        Ok(())
    }

    fn reach(&mut self, root: u32, found: &mut Vec<u32>) -> Result<(), Corrupt> {
        if root >= self.counts.ids() {
            return Err(Corrupt::Missing(root));
        }
        if self.counts.found(root) {
            found.push(root);
        }
        Ok(())
    }
}

/// Checks a block. Gives its chunk, its end in the chunk, and the block.
fn check<M: Memory>(memory: &M, id: u32) -> Result<(u32, usize, &[u8]), Corrupt> {
    let (chunk, at) = place_of(memory.location(id)).ok_or(Corrupt::Missing(id))?;
    let bytes = memory.chunk(chunk).get(at..).unwrap_or_default();
    let (length, owner) = block::length_and_id(bytes).ok_or(Corrupt::Missing(id))?;
    let block = bytes.get(..length).ok_or(Corrupt::Missing(id))?;
    let end = at.saturating_add(length);
    if !block::is_intact(block, memory.crc32c()) {
        return Err(Corrupt::Checksum(id));
    }
    if owner != id || end > CHUNK {
        return Err(Corrupt::Missing(id));
    }
    if Node::parse(block).is_none() && IndexBlock::parse(block).is_none() {
        return Err(Corrupt::Shape(id));
    }
    Ok((chunk, end, block))
}
