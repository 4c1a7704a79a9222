//! The tree of nodes, with structural sharing, as bytes in an arena.
//!
//! A [`Root`] names one state of the whole store. An update of a state that several hold gives a new root and leaves the old one as it
//! is, so a transaction's snapshot costs nothing but a [`Tree::retain`]; one that only its caller holds is changed where it is. Nodes
//! are blocks of bytes in chunks of a [`Memory`]; a block is named by a 32-bit id, and a table says where it lies. A block that two
//! held roots reach is never changed, and a chunk is used again only when no root that is held reaches anything in it.
//!
//! **After a crash** [`Tree::open`] reads everything back from the memory and the ids of the roots. Whoever keeps a
//! root in durable memory must hold it ([`Tree::retain`]) until a newer one is kept in its place: ids and chunks of
//! what no held root reaches are used again at once.
//!
//! This module knows paths, values, permissions, generations and order keys as given. It does not know who may do what,
//! transactions, quotas, nor where the memory comes from.
//!
//! | file | subject |
//! |---|---|
//! | `memory` | the trait that recovery implements; memory from the heap |
//! | `block`, `permissions`, `index_block` | what a block looks like |
//! | `checksum`, `hash` | of blocks; of names |
//! | `counts`, `locations` | references to blocks, free ids; where blocks lie |
//! | `arena`, `clean`, `closed`, `room` | writing and giving up blocks; making chunks free; which; how much is left |
//! | `index`, `children` | large directories; listing |
//! | `ways` | finding a node; where paths led to before |
//! | `update`, `trail`, `open` | changing a tree; on the way to a node, what is changed where it is and what is copied; reading it back |

mod arena;
mod block;
mod checksum;
mod children;
mod clean;
mod closed;
mod counts;
mod hash;
mod index;
mod index_block;
mod locations;
mod memory;
mod open;
mod permissions;
mod room;
#[cfg(test)]
mod simulation;
mod trail;
mod update;
mod ways;

use serde::{Deserialize, Serialize};
use xenstore_wire::{Path, Permissions};

use arena::Arena;
use block::{Directory, small_entries};
pub(crate) use hash::{NameHash, fingerprint};

pub use block::{NAME_MAX, Node, PERMISSIONS_MAX, VALUE_MAX};
pub use checksum::{Crc32c, crc32c};
pub use children::Children;
pub use memory::{CHUNK, Memory, PlainMemory};
pub use open::{Corrupt, Family, Unreadable};
pub use permissions::PermissionsView;
pub use room::Figures;
pub use update::NewNode;

/// One state of the whole store: the id of the block of its root node.
///
/// Holds nothing by itself: see [`Tree::retain`] and [`Tree::release`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Root(u32);

impl Root {
    /// A root from the id that was kept of it.
    pub const fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// The id of the root's block; it names the same state as long as the root is held.
    pub const fn id(self) -> u32 {
        self.0
    }
}

/// The store's nodes in all states that someone holds.
#[derive(Clone, Debug)]
pub struct Tree<M> {
    arena: Arena<M>,
    hash: NameHash,
    current: Root,
    impossible: u64,
    exhausted: u64,
    ways: ways::Ways,
}

impl<M: Memory> Tree<M> {
    /// A tree that has only "/". `hash_seed` should be random, and must be given to [`Tree::open`] again. The memory
    /// must be able to have at least 8 chunks to be of use.
    pub fn new(memory: M, hash_seed: u64, root_permissions: &Permissions, generation: u64) -> Self {
        let mut arena = Arena::new(memory);
        let current = Root(arena.place_root(root_permissions, generation).unwrap_or(u32::MAX));
        Self {
            arena,
            hash: NameHash::new(hash_seed),
            current,
            impossible: 0,
            exhausted: 0,
            ways: ways::Ways::new(),
        }
    }

    /// The state that the server regards as the present one. Held by the tree.
    pub fn current(&self) -> Root {
        self.current
    }

    /// Makes `root` the present one; the caller's reference becomes the tree's. Releases the one before.
    pub fn set_current(&mut self, root: Root) {
        let before = core::mem::replace(&mut self.current, root);
        if before != root {
            self.ways.forget();
        }
        self.release(before);
    }

    /// One holder more of a state.
    pub fn retain(&mut self, root: Root) {
        self.arena.counts.retain(root.0);
    }

    /// One holder less of a state. Without any it must not be used again. What only it reached is taken apart later, in
    /// small steps: with each update, and by [`Tree::reclaim`].
    pub fn release(&mut self, root: Root) {
        self.arena.counts.release(root.0);
    }

    /// The node at a path, from the root down.
    fn look_for(&self, root: Root, path: Path<'_>) -> Option<Node<'_>> {
        let mut block = self.arena.block(root.0);
        for name in path.components() {
            block = self.child_block(Directory::of(block)?, self.hash.of(name), name)?;
        }
        Node::parse(block)
    }

    /// The node "/".
    pub fn root_node(&self, root: Root) -> Node<'_> {
        self.arena.node(root.0).unwrap_or(Node::UNREADABLE)
    }

    /// The child of that name.
    pub fn child(&self, node: Node<'_>, name: &str) -> Option<Node<'_>> {
        self.child_in(node.directory, self.hash.of(name), name)
    }

    /// Takes apart up to `budget` blocks that no root reaches any more. Returns how many there were; fewer than the
    /// budget means that nothing is left to do.
    pub fn reclaim(&mut self, budget: usize) -> usize {
        self.arena.reclaim(budget)
    }

    /// Upkeep between requests: takes apart what no root reaches, then makes chunks free if that is worth while; at
    /// most about `budget` bytes of work.
    pub fn tidy(&mut self, budget: usize) {
        self.arena.tidy(budget);
    }

    /// Makes chunks free by moving what is alive in those with the least, up to `budget` bytes. Returns what was spent;
    /// less than the budget means that nothing is worth it. Updates do this by themselves as far as it is necessary.
    pub fn clean(&mut self, budget: usize) -> usize {
        self.arena.clean(budget)
    }

    /// The memory, to look at.
    pub fn memory(&self) -> &M {
        &self.arena.memory
    }

    /// The memory, for what its owner keeps in it besides the tree. Chunks and table must not be changed.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.arena.memory
    }

    /// The memory, when the tree is needed no longer.
    pub fn into_memory(self) -> M {
        self.arena.memory
    }

    fn child_in(&self, directory: Directory<'_>, hash: u32, name: &str) -> Option<Node<'_>> {
        self.child_block(directory, hash, name).and_then(Node::parse)
    }

    fn child_block(&self, directory: Directory<'_>, hash: u32, name: &str) -> Option<&[u8]> {
        let is_it = |block: &&[u8]| Node::name_in(block) == Some(name.as_bytes());
        match directory {
            Directory::Small { entries, .. } => small_entries(entries)
                .filter(|&(other, _)| other == hash)
                .map(|(_, id)| self.arena.block(id))
                .find(is_it),
            Directory::Large { by_hash, .. } => self.child_in_index(by_hash, hash, is_it),
        }
    }

    /// The child with this hash that is the right one: different names can have the same hash.
    fn child_in_index(&self, by_hash: u32, hash: u32, is_it: impl Fn(&&[u8]) -> bool) -> Option<&[u8]> {
        let key = u64::from(hash);
        let first = self
            .arena
            .index_last_at_most(by_hash, key)
            .filter(|entry| entry.key == key)?;
        let block = self.arena.block(first.reference);
        if is_it(&block) {
            return Some(block);
        }
        let mut found = None;
        self.arena.index_find(by_hash, key, |entry| {
            found = Some(self.arena.block(entry.reference)).filter(&is_it);
            found.is_some()
        })?;
        found
    }
}
