//! Reading a tree back from its memory, after a restart.
//!
//! Memory holds the blocks and the table. Everything else is derived here by going from the roots to all they reach:
//! which blocks are alive, how often each is referred to, which chunks and ids are free. Every block is checked on the
//! way. What no root reaches (an update that was not finished, what had been given up) becomes free by that.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::arena::{Arena, block_at, place_of};
use super::block::{self, Directory, Node};
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
    /// Two blocks of one tree lead to the same one, or in a circle.
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

/// No node: what is above the root.
const NONE: u32 = u32::MAX;
/// In the place of a parent: everything below this block has been visited.
const LEFT: u32 = u32::MAX - 1;

/// What going through the present tree shows besides: which nodes differ from their parents, and where they are.
#[derive(Debug, Default)]
pub struct Family {
    /// Nodes that have other permissions than their parent, each with its parent; the root is one of them.
    apart: Vec<(u32, u32)>,
    /// The parent of each node that has children, by id.
    parents: Vec<u32>,
}

impl Family {
    /// Calls `see` with the path of each node whose permissions are not those of its parent, the node, and its parent; none for the
    /// root, whose path is empty.
    pub fn each_apart<M: Memory>(&self, tree: &Tree<M>, mut see: impl FnMut(&str, Node<'_>, Option<Node<'_>>)) {
        let mut path = String::new();
        let mut names = Vec::new();
        for &(id, parent) in &self.apart {
            let Some(node) = tree.arena.node(id) else { continue };
            let mut above = parent;
            path.clear();
            names.clear();
            while above != NONE {
                names.push(above);
                above = self.parents.get(above as usize).copied().unwrap_or(NONE);
            }
            // The last one is the root, which has no name.
            names.pop();
            while let Some(above) = names.pop().and_then(|id| tree.arena.node(id)) {
                path.push('/');
                path.push_str(above.name());
            }
            if parent != NONE {
                path.push('/');
                path.push_str(node.name());
            }
            see(&path, node, tree.arena.node(parent).filter(|_| parent != NONE));
        }
    }
}

impl<M: Memory> Tree<M> {
    /// The tree that `memory` holds, and what was seen on the way. `current` becomes the present root; each of the `held` roots gets a reference for
    /// every time it is named, so [`Tree::release`] is due for each of them. `hash_seed` is the one that the tree was
    /// made with. Takes time in proportion to the blocks that are alive, and parses nothing but them.
    ///
    /// # Errors
    /// Says which block is not what it should be. Whether or not it succeeds, nothing in the memory is changed.
    pub fn open(memory: M, hash_seed: u64, current: Root, held: &[Root]) -> Result<(Self, Family), Unreadable<M>> {
        let mut arena = Arena::new(memory);
        match arena.reach_all(current, held) {
            Ok(family) => {
                let tree = Self {
                    arena,
                    hash: NameHash::new(hash_seed),
                    current,
                    impossible: 0,
                    exhausted: 0,
                    ways: super::ways::Ways::new(),
                };
                Ok((tree, family))
            }
            Err(why) => Err(Unreadable {
                memory: arena.memory,
                why,
            }),
        }
    }
}

impl<M: Memory> Arena<M> {
    /// Counts what the roots reach and checks it; the rest is free.
    fn reach_all(&mut self, current: Root, held: &[Root]) -> Result<Family, Corrupt> {
        if self.counts.ids() < self.memory.table_len() {
            return Err(Corrupt::Memory);
        }
        let mut lives = vec![(0usize, 0usize); self.chunks.len()];
        let mut live = [0usize; 2];
        let mut family = Family::default();
        let ids = self.counts.ids() as usize;
        family.parents.try_reserve_exact(ids).map_err(|_| Corrupt::Memory)?;
        family.parents.resize(ids, NONE);
        // Each block with the node that it belongs to, or is a child of.
        let mut found: Vec<(u32, u32)> = Vec::new();
        // Those that the walk is below of. States share blocks, so that meeting one again is no circle; meeting one of these is.
        let mut above_here = BTreeSet::new();
        let present = core::iter::once((&current, true));
        for (root, is_present) in present.chain(held.iter().map(|root| (root, false))) {
            self.reach(root.0, &mut found)?;
            let Arena {
                memory,
                counts,
                locations,
                ..
            } = &mut *self;
            let memory = &*memory;
            // The last parent, and its permissions.
            let mut above: (u32, &[u8]) = (NONE, &[]);
            while let Some((id, parent)) = found.pop() {
                if parent == LEFT {
                    above_here.remove(&id);
                    continue;
                }
                let location = memory.location(id);
                let (chunk, end, block) = check(memory, id, location)?;
                locations.set(id, location);
                let length = block.len();
                // What lies below a node, and who may do what there, is all that is asked here.
                let permissions = Node::permissions_in(block).filter(|_| Directory::of(block).is_some());
                if permissions.is_none() && IndexBlock::parse(block).is_none() {
                    return Err(Corrupt::Shape(id));
                }
                if let Some(permissions) = permissions.filter(|_| is_present) {
                    if above.0 != parent {
                        let permissions = Node::permissions_in(block_at(memory, locations.get(parent)));
                        above = (parent, permissions.unwrap_or_default());
                    }
                    if parent == NONE || permissions != above.1 {
                        family.apart.try_reserve(1).map_err(|_| Corrupt::Memory)?;
                        family.apart.push((id, parent));
                    }
                    if let Some(known) = family.parents.get_mut(id as usize) {
                        *known = parent;
                    }
                }
                let owner = if permissions.is_some() { id } else { parent };
                if let Some((live, fill)) = lives.get_mut(chunk as usize) {
                    (*live, *fill) = (live.saturating_add(length), end.max(*fill));
                }
                if let Some(live) = live.get_mut(Arena::<M>::class_of(length)) {
                    *live = live.saturating_add(length);
                }
                if !is_present && block::references(block).next().is_some() {
                    above_here.insert(id);
                    found.try_reserve(1).map_err(|_| Corrupt::Memory)?;
                    found.push((id, LEFT));
                }
                for reference in block::references(block) {
                    if reference >= counts.ids() {
                        return Err(Corrupt::Missing(reference));
                    }
                    if counts.found(reference) {
                        found.try_reserve(1).map_err(|_| Corrupt::Memory)?;
                        found.push((reference, owner));
                    } else if is_present || above_here.contains(&reference) {
                        return Err(Corrupt::Circle);
                    }
                }
            }
        }
        self.counts.relink();
        self.restore_chunks(&lives, live);
        Ok(family)
    }

    fn reach(&mut self, root: u32, found: &mut Vec<(u32, u32)>) -> Result<(), Corrupt> {
        if root >= self.counts.ids() {
            return Err(Corrupt::Missing(root));
        }
        if self.counts.found(root) {
            found.push((root, NONE));
        }
        Ok(())
    }
}

/// Checks that a block lies where the table says, and is whole. Gives its chunk, its end in the chunk, and the block.
fn check<M: Memory>(memory: &M, id: u32, location: u32) -> Result<(u32, usize, &[u8]), Corrupt> {
    let (chunk, at) = place_of(location).ok_or(Corrupt::Missing(id))?;
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
    Ok((chunk, end, block))
}
