//! Going through the children of a node in the order of their creation.

use alloc::vec::Vec;

use super::Tree;
use super::block::{Directory, Node, SMALL_ENTRY, small_entries, u32_at};
use super::index::Cursor;
use super::index_block::Entry;
use super::memory::Memory;

/// The children of a node, oldest first. Each step visits a bounded number of blocks.
#[derive(Clone, Debug)]
pub struct Children<'a, M> {
    tree: &'a Tree<M>,
    rest: Rest<'a>,
}

#[derive(Clone, Debug)]
enum Rest<'a> {
    Small(&'a [u8]),
    /// `None` at the end.
    Large {
        cursor: Option<Cursor>,
        by_hash: u32,
    },
}

impl<'a, M: Memory> Iterator for Children<'a, M> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let arena = &self.tree.arena;
        match &mut self.rest {
            Rest::Small(entries) => {
                let (entry, rest) = entries.split_at_checked(SMALL_ENTRY)?;
                *entries = rest;
                arena.node(u32_at(entry, 4)?)
            }
            Rest::Large { cursor, by_hash } => {
                let at = cursor.as_mut()?;
                let entry = arena.index_entry(at)?;
                if !arena.index_next(at) {
                    *cursor = None;
                }
                self.tree.child_of_order(*by_hash, entry)
            }
        }
    }
}

impl<M: Memory> Tree<M> {
    /// The children of a node, in the order of their creation.
    pub fn children<'a>(&'a self, node: Node<'a>) -> Children<'a, M> {
        let rest = match node.directory {
            Directory::Small { entries, .. } => Rest::Small(entries),
            Directory::Large { by_hash, by_order, .. } => Rest::Large {
                cursor: self.arena.index_first(by_order),
                by_hash,
            },
        };
        Children { tree: self, rest }
    }

    /// Adds names of a node's children to `out`, oldest first, each with its NUL: from byte `from` of their list on, and only whole
    /// ones, as many as fit into `room` bytes. True if the end of the list was reached.
    pub fn append_names(&self, node: Node<'_>, from: u64, room: usize, out: &mut Vec<u8>) -> bool {
        let mut part = Part {
            room,
            out,
            complete: true,
        };
        match node.directory {
            Directory::Small { entries, .. } => {
                let mut skip = from;
                for (_, id) in small_entries(entries) {
                    let name = Node::name_in(self.arena.block(id)).unwrap_or_default();
                    skip = match skip.checked_sub((name.len() as u64).saturating_add(1)) {
                        Some(beyond) => beyond,
                        None => {
                            part.name(name.get(usize::try_from(skip).unwrap_or(0)..).unwrap_or_default());
                            0
                        }
                    };
                }
            }
            Directory::Large { by_hash, by_order, .. } => {
                let found = self.arena.index_at_byte(by_order, from);
                if let Some((cursor, skip)) = found {
                    self.append_large(cursor, usize::try_from(skip).unwrap_or(0), by_hash, &mut part);
                }
            }
        }
        part.complete
    }

    /// The child that an index by order has this entry for.
    fn child_of_order(&self, by_hash: u32, entry: Entry) -> Option<Node<'_>> {
        let is_it = |block: &&[u8]| Node::parse(block).is_some_and(|node| node.order == entry.key);
        self.child_in_index(by_hash, entry.reference, is_it)
            .and_then(Node::parse)
    }

    fn append_large(&self, cursor: Cursor, mut skip: usize, by_hash: u32, part: &mut Part<'_>) {
        self.arena.index_leaves(cursor, |leaf, at| {
            if let Some(names) = leaf.names_from(at) {
                part.names(names.get(skip..).unwrap_or_default());
                skip = 0;
                return part.complete;
            }
            for entry in leaf.iter().skip(at) {
                let name = self.child_of_order(by_hash, entry).map_or(&[][..], |node| node.name);
                part.name(name.get(skip..).unwrap_or_default());
                skip = 0;
            }
            part.complete
        });
    }
}

/// A part of the list of names that is being collected.
struct Part<'o> {
    room: usize,
    out: &'o mut Vec<u8>,
    /// Everything so far had room.
    complete: bool,
}

impl Part<'_> {
    /// One name, without its NUL.
    fn name(&mut self, name: &[u8]) {
        match self.room.checked_sub(name.len().saturating_add(1)) {
            Some(left) if self.complete => {
                self.room = left;
                self.out.extend_from_slice(name);
                self.out.push(0);
            }
            _ => self.complete = false,
        }
    }

    /// Names with their NULs.
    fn names(&mut self, names: &[u8]) {
        if let Some(left) = self.room.checked_sub(names.len()).filter(|_| self.complete) {
            self.room = left;
            self.out.extend_from_slice(names);
            return;
        }
        for name in names.split_inclusive(|byte| *byte == 0) {
            self.name(name.strip_suffix(&[0]).unwrap_or(name));
        }
    }
}
