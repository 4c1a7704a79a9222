//! The way from the root to a node, and a changed node at its end.
//!
//! From the root down, as long as each block has one reference only, nobody but the caller reaches it, and it is changed where it is.
//! From the first one on that somebody else reaches, too (a snapshot, a checkpoint, another root of the caller), blocks are written anew
//! up to the last of those before. So the first write below a node after a checkpoint copies the way down to there, and every later one
//! costs the node's own block, however deep it is.

use alloc::vec::Vec;

use xenstore_wire::Path;

use super::block::{Directory, HEADER, LARGE_BYTES, Node, SMALL_ENTRY, small_entries};
use super::index_block::Sort;
use super::memory::Memory;
use super::update::Refused;
use super::{Root, Tree};

/// A block that leads further, and where in it the next one is named, in bytes from its beginning.
#[derive(Clone, Copy)]
struct Step {
    id: u32,
    next_at: usize,
}

/// The blocks from the root to a node: other nodes, and of large directories a way through their index by hash.
pub(super) struct Trail {
    above: Vec<Step>,
    end: u32,
}

impl Trail {
    /// The node's block.
    pub(super) const fn end(&self) -> u32 {
        self.end
    }

    fn start(&self) -> u32 {
        self.above.first().map_or(self.end, |step| step.id)
    }
}

impl<M: Memory> Tree<M> {
    /// The way to the node at `path`.
    pub(super) fn walk(&self, root: Root, path: Path<'_>) -> Result<Trail, Refused> {
        let mut trail = Trail {
            above: Vec::with_capacity(path.depth().saturating_mul(2)),
            end: root.0,
        };
        for name in path.components() {
            self.step_down(&mut trail, name).ok_or(Refused::Impossible)?;
        }
        Ok(trail)
    }

    /// One node further, to the child of this name.
    fn step_down(&self, trail: &mut Trail, name: &str) -> Option<()> {
        let id = trail.end;
        let block = self.arena.block(id);
        let hash = self.hash.of(name);
        let is_it = |child: u32| Node::name_in(self.arena.block(child)) == Some(name.as_bytes());
        match Directory::of(block)? {
            Directory::Small { entries, .. } => {
                let mut with_hash = small_entries(entries)
                    .enumerate()
                    .filter(|(_, (other, _))| *other == hash);
                let (place, (_, child)) = with_hash.find(|(_, (_, child))| is_it(*child))?;
                let before = place.checked_mul(SMALL_ENTRY)?.checked_add(4)?;
                let next_at = block.len().checked_sub(entries.len())?.checked_add(before)?;
                trail.above.push(Step { id, next_at });
                trail.end = child;
            }
            Directory::Large { by_hash, .. } => {
                let next_at = block.len().checked_sub(LARGE_BYTES)?;
                trail.above.push(Step { id, next_at });
                let mut child = None;
                let cursor = self.arena.index_find(by_hash, u64::from(hash), |entry| {
                    child = Some(entry.reference).filter(|child| is_it(*child));
                    child.is_some()
                })?;
                for &(id, place) in cursor.blocks() {
                    let next_at = place.checked_mul(Sort::Hash.entry_size())?.checked_add(HEADER + 4)?;
                    trail.above.push(Step { id, next_at });
                }
                trail.end = child?;
            }
        }
        Some(())
    }

    /// Writes `block` as the node at the end of the way, and above it what others reach, too. The root of what comes out: the one that
    /// the way began at, unless others hold that.
    pub(super) fn put_at_end(&mut self, trail: &Trail, block: Vec<u8>) -> Result<u32, Refused> {
        let mut sole = trail.above.iter().map(|step| self.arena.is_sole(step.id));
        let alone = sole.position(|sole| !sole).unwrap_or(trail.above.len());
        if alone == trail.above.len() && self.arena.is_sole(trail.end) {
            self.arena.replace(trail.end, block)?;
            return Ok(trail.start());
        }
        let mut new = self.arena.place(block)?;
        for (depth, step) in trail.above.iter().enumerate().rev() {
            if depth < alone {
                self.arena.repoint(step.id, step.next_at, new);
                if trail.start() == self.current.0 {
                    self.ways.forget();
                }
                return Ok(trail.start());
            }
            let mut copy = self.arena.scratch();
            self.arena
                .copy_repointed(step.id, step.next_at, new, &mut copy)
                .ok_or(Refused::Impossible)?;
            new = self.arena.place(copy)?;
        }
        Ok(new)
    }
}
