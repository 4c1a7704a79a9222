//! Going through the children of a node in the order of their creation.

use super::Tree;
use super::block::{Directory, Node, SMALL_ENTRY, small_entries, u32_at};
use super::index::Cursor;
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
                self.tree
                    .child_in_index(*by_hash, entry.reference, |node| node.order == entry.key)
            }
        }
    }
}

/// The names of children, oldest first.
#[derive(Clone, Debug)]
pub struct Names<'a, M> {
    children: Children<'a, M>,
}

impl<'a, M: Memory> Iterator for Names<'a, M> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.children.next().map(|child| child.name())
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

    /// The names of a node's children from a byte of the list of names on, as DIRECTORY_PART wants it; in the list,
    /// every name is followed by a NUL. Gives the offset of that byte in the first name (its length, if the byte is the
    /// NUL) and the names; none if the list is not that long.
    pub fn child_names_from<'a>(&'a self, node: Node<'a>, byte_offset: u64) -> (usize, Names<'a, M>) {
        let (skip, rest) = match node.directory {
            Directory::Small { entries, .. } => self.skip_in_small(entries, byte_offset),
            Directory::Large { by_hash, by_order, .. } => {
                let found = self.arena.index_at_byte(by_order, byte_offset);
                let skip = found.as_ref().map_or(0, |(_, skip)| *skip);
                (
                    skip,
                    Rest::Large {
                        cursor: found.map(|(cursor, _)| cursor),
                        by_hash,
                    },
                )
            }
        };
        (
            usize::try_from(skip).unwrap_or(0),
            Names {
                children: Children { tree: self, rest },
            },
        )
    }

    fn skip_in_small<'a>(&self, entries: &'a [u8], byte_offset: u64) -> (u64, Rest<'a>) {
        let mut rest = byte_offset;
        let before = small_entries(entries).take_while(|&(_, id)| {
            let name = self.arena.node(id).map_or(0, |node| node.name.len() as u64);
            match rest.checked_sub(name.saturating_add(1)) {
                Some(beyond) => {
                    rest = beyond;
                    true
                }
                None => false,
            }
        });
        let before = before.count().saturating_mul(SMALL_ENTRY);
        let entries = entries.get(before..).unwrap_or_default();
        (if entries.is_empty() { 0 } else { rest }, Rest::Small(entries))
    }
}
