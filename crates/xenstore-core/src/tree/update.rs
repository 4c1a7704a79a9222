//! What changes a tree: each update writes the blocks that it must, from the node up (see `trail`).
//!
//! A root that others hold besides the caller stays as it is, and a new one comes out; one that the caller alone holds is changed, and
//! comes out again. Either way what comes out has one reference more, which is the caller's, who releases the one it gave. What cannot
//! be done (the parent is missing, the node exists already, a name is too long) and what memory does not suffice for gives the old root
//! with one more reference; the server checks all of this before it decides to do something, so it happens only where the server or the
//! memory is broken.

use alloc::vec::Vec;

use xenstore_wire::{Path, Permissions};

use super::arena::{Arena, Exhausted};
use super::block::{
    Directory, NAME_MAX, Node, PERMISSIONS_MAX, SMALL_AGAIN, SMALL_ENTRY, SMALL_MAX, VALUE_MAX, push_small_entry,
    small_entries,
};
use super::index_block::{Entry, Sort};
use super::memory::Memory;
use super::{Root, Tree, permissions};

/// A node to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// Its value, at most [`VALUE_MAX`] bytes.
    pub value: &'a [u8],
    /// Its permissions, at most [`PERMISSIONS_MAX`] entries.
    pub permissions: &'a Permissions,
    /// Its security label; 0 = none, and takes no memory.
    pub label: u32,
    /// Its generation, and its parent's from now on.
    pub generation: u64,
    /// Its place among its siblings: it need not be the largest so far, but no sibling may have the same.
    pub order: u64,
}

/// Why an update gives back the root it was given.
pub(super) enum Refused {
    Impossible,
    Exhausted,
}

impl From<Exhausted> for Refused {
    fn from(_: Exhausted) -> Self {
        Refused::Exhausted
    }
}

impl<M: Memory> Tree<M> {
    /// A new node without a label: see [`Tree::create_node`].
    pub fn create(
        &mut self,
        root: Root,
        path: Path<'_>,
        value: &[u8],
        permissions: &Permissions,
        generation: u64,
        order: u64,
    ) -> Root {
        let node = NewNode {
            value,
            permissions,
            label: 0,
            generation,
            order,
        };
        self.create_node(root, path, node)
    }

    /// A new node. Its parent must exist and gets the same generation; the node must not exist.
    pub fn create_node(&mut self, root: Root, path: Path<'_>, new: NewNode<'_>) -> Root {
        let NewNode {
            value,
            permissions,
            label,
            generation,
            order,
        } = new;
        let permissions = permissions::encode(permissions);
        self.update(root, |tree| {
            let name = path.name();
            let parent = path.parent().ok_or(Refused::Impossible)?;
            let trail = tree.walk(root, parent)?;
            let hash = tree.hash.of(name);
            fits(name, value, &permissions)?;
            let parent = tree.arena.node(trail.end()).ok_or(Refused::Impossible)?;
            if tree.child_in(parent.directory, hash, name).is_some() {
                return Err(Refused::Impossible);
            }
            let directory = Directory::EMPTY;
            let (name, permissions) = (name.as_bytes(), permissions.as_slice());
            let node = Node {
                name,
                value,
                permissions,
                label,
                generation,
                order,
                directory,
                ..Node::UNREADABLE
            };
            let mut block = tree.arena.scratch();
            node.encode(&mut block);
            let child = tree.arena.place(block)?;
            let child = Child {
                id: child,
                hash,
                order,
                name_bytes: bytes_in_list(name),
            };
            let parent = tree.with_child(trail.end(), child, generation)?;
            tree.put_at_end(&trail, parent)
        })
    }

    /// Gives a node another value.
    pub fn set_value(&mut self, root: Root, path: Path<'_>, value: &[u8], generation: u64) -> Root {
        self.update(root, |tree| {
            fits("", value, &[])?;
            tree.change(root, path, |node, out| {
                Node {
                    value,
                    generation,
                    ..node
                }
                .encode(out)
            })
        })
    }

    /// Gives a node other permissions.
    pub fn set_permissions(&mut self, root: Root, path: Path<'_>, permissions: &Permissions, generation: u64) -> Root {
        let permissions = permissions::encode(permissions);
        self.update(root, |tree| {
            fits("", &[], &permissions)?;
            tree.change(root, path, |node, out| {
                Node {
                    permissions: &permissions,
                    generation,
                    ..node
                }
                .encode(out)
            })
        })
    }

    /// Gives a node a security label; 0 takes it away.
    pub fn set_label(&mut self, root: Root, path: Path<'_>, label: u32, generation: u64) -> Root {
        self.update(root, |tree| {
            tree.change(root, path, |node, out| {
                Node {
                    label,
                    generation,
                    ..node
                }
                .encode(out)
            })
        })
    }

    /// Removes a node and all that is below it. Its parent gets the generation. The root cannot be removed.
    pub fn remove(&mut self, root: Root, path: Path<'_>, generation: u64) -> Root {
        self.update(root, |tree| {
            let trail = tree.walk(root, path.parent().ok_or(Refused::Impossible)?)?;
            let parent = tree.arena.node(trail.end()).ok_or(Refused::Impossible)?;
            let hash = tree.hash.of(path.name());
            let node = tree.child_in(parent.directory, hash, path.name());
            let node = node.ok_or(Refused::Impossible)?;
            let name_bytes = bytes_in_list(node.name);
            let child = Child {
                id: node.id,
                hash,
                order: node.order,
                name_bytes,
            };
            if root == tree.current {
                tree.ways.forget();
            }
            let parent = tree.without_child(trail.end(), child, generation)?;
            tree.put_at_end(&trail, parent)
        })
    }

    /// Runs an update: pays for the one before, and settles what has been written.
    fn update(&mut self, root: Root, build: impl FnOnce(&mut Self) -> Result<u32, Refused>) -> Root {
        self.arena.pace();
        match build(self) {
            Ok(id) => {
                self.arena.keep(id);
                Root(id)
            }
            Err(refused) => {
                self.arena.abandon();
                self.retain(root);
                match refused {
                    Refused::Impossible => self.impossible = self.impossible.saturating_add(1),
                    Refused::Exhausted => self.exhausted = self.exhausted.saturating_add(1),
                }
                root
            }
        }
    }

    /// Writes the node at `path` anew, as `encode` says, and what is above it as far as it must be.
    fn change(
        &mut self,
        root: Root,
        path: Path<'_>,
        encode: impl FnOnce(Node<'_>, &mut Vec<u8>),
    ) -> Result<u32, Refused> {
        let trail = self.walk(root, path)?;
        let mut block = self.arena.scratch();
        encode(self.arena.node(trail.end()).ok_or(Refused::Impossible)?, &mut block);
        self.put_at_end(&trail, block)
    }

    /// The block of `parent` with one child more.
    fn with_child(&mut self, parent: u32, child: Child, generation: u64) -> Result<Vec<u8>, Refused> {
        let node = self.arena.node(parent).ok_or(Refused::Impossible)?;
        match node.directory {
            Directory::Small { names, entries } if entries.len() / SMALL_ENTRY < SMALL_MAX => {
                let at = self.place_in_small(entries, child.order);
                let mut new = Vec::with_capacity(entries.len().saturating_add(SMALL_ENTRY));
                for (hash, id) in small_entries(entries).take(at) {
                    push_small_entry(&mut new, hash, id);
                }
                push_small_entry(&mut new, child.hash, child.id);
                for (hash, id) in small_entries(entries).skip(at) {
                    push_small_entry(&mut new, hash, id);
                }
                let names = names.saturating_add(child.name_bytes);
                self.rewrite(parent, generation, Directory::Small { names, entries: &new })
            }
            Directory::Small { .. } => {
                let directory = self.grow_directory(parent, child)?;
                self.rewrite(parent, generation, directory)
            }
            Directory::Large {
                by_hash,
                by_order,
                count,
                names,
            } => {
                let name = self.arena.node(child.id).ok_or(Refused::Impossible)?.name.to_vec();
                let directory = Directory::Large {
                    by_hash: self.arena.index_insert(Sort::Hash, by_hash, child.by_hash(), &name)?,
                    by_order: self
                        .arena
                        .index_insert(Sort::Order, by_order, child.by_order(), &name)?,
                    count: count.saturating_add(1),
                    names: names.saturating_add(child.name_bytes),
                };
                self.rewrite(parent, generation, directory)
            }
        }
    }

    /// The block of `parent` without this child.
    fn without_child(&mut self, parent: u32, child: Child, generation: u64) -> Result<Vec<u8>, Refused> {
        let node = self.arena.node(parent).ok_or(Refused::Impossible)?;
        match node.directory {
            Directory::Small { names, entries } => {
                let mut new = Vec::with_capacity(entries.len());
                for (hash, id) in small_entries(entries).filter(|(_, id)| *id != child.id) {
                    push_small_entry(&mut new, hash, id);
                }
                let names = names.saturating_sub(child.name_bytes);
                self.rewrite(parent, generation, Directory::Small { names, entries: &new })
            }
            Directory::Large { count, names, .. } if count <= SMALL_AGAIN.saturating_add(1) => {
                let mut new = Vec::new();
                for sibling in self.children(node).filter(|sibling| sibling.id != child.id) {
                    push_small_entry(&mut new, self.hash.of(sibling.name()), sibling.id);
                }
                let names = names.saturating_sub(child.name_bytes);
                self.rewrite(parent, generation, Directory::Small { names, entries: &new })
            }
            Directory::Large {
                by_hash,
                by_order,
                count,
                names,
            } => {
                let directory = Directory::Large {
                    by_hash: self
                        .arena
                        .index_remove(Sort::Hash, by_hash, (u64::from(child.hash), child.id))?,
                    by_order: self
                        .arena
                        .index_remove(Sort::Order, by_order, (child.order, child.hash))?,
                    count: count.saturating_sub(1),
                    names: names.saturating_sub(child.name_bytes),
                };
                self.rewrite(parent, generation, directory)
            }
        }
    }

    /// The block of a node with this generation and directory.
    fn rewrite(&mut self, id: u32, generation: u64, directory: Directory<'_>) -> Result<Vec<u8>, Refused> {
        let mut block = self.arena.scratch();
        let node = self.arena.node(id).ok_or(Refused::Impossible)?;
        Node {
            generation,
            directory,
            ..node
        }
        .encode(&mut block);
        Ok(block)
    }

    /// Behind the last child that is not younger.
    fn place_in_small(&self, entries: &[u8], order: u64) -> usize {
        let older = |&(_, id): &(u32, u32)| self.arena.node(id).is_some_and(|node| node.order <= order);
        let younger = small_entries(entries).rev().take_while(|entry| !older(entry)).count();
        (entries.len() / SMALL_ENTRY).saturating_sub(younger)
    }

    /// The indexes for the children of a small directory and one more.
    fn grow_directory(&mut self, parent: u32, child: Child) -> Result<Directory<'static>, Refused> {
        let node = self.arena.node(parent).ok_or(Refused::Impossible)?;
        let Directory::Small { names, entries } = node.directory else {
            return Err(Refused::Impossible);
        };
        let mut children = Vec::with_capacity(SMALL_MAX.saturating_add(1));
        for (hash, id) in small_entries(entries) {
            let node = self.arena.node(id).ok_or(Refused::Impossible)?;
            children.push(Child {
                id,
                hash,
                order: node.order,
                name_bytes: bytes_in_list(node.name),
            });
        }
        children.push(child);
        children.sort_by_key(|child| child.order);
        let by_order: Vec<Entry> = children.iter().map(Child::by_order).collect();
        let mut list = Vec::new();
        for child in &children {
            list.extend_from_slice(self.arena.node(child.id).ok_or(Refused::Impossible)?.name);
            list.push(0);
        }
        children.sort_by_key(|child| child.hash);
        let by_hash: Vec<Entry> = children.iter().map(Child::by_hash).collect();
        Ok(Directory::Large {
            by_hash: self.arena.index_build(Sort::Hash, &by_hash, None)?,
            by_order: self.arena.index_build(Sort::Order, &by_order, Some(&list))?,
            count: u32::try_from(children.len()).unwrap_or(u32::MAX),
            names: names.saturating_add(child.name_bytes),
        })
    }
}

impl<M: Memory> Arena<M> {
    /// A root node without children, with one reference.
    pub(super) fn place_root(&mut self, permissions: &Permissions, generation: u64) -> Result<u32, Exhausted> {
        let permissions = permissions::encode(permissions);
        let node = Node {
            permissions: &permissions,
            generation,
            ..Node::UNREADABLE
        };
        let mut block = self.scratch();
        node.encode(&mut block);
        let id = self.place(block)?;
        self.keep(id);
        Ok(id)
    }
}

/// A child as its directory knows it.
#[derive(Clone, Copy)]
struct Child {
    id: u32,
    hash: u32,
    order: u64,
    name_bytes: u32,
}

impl Child {
    fn by_hash(&self) -> Entry {
        Entry {
            key: u64::from(self.hash),
            reference: self.id,
            bytes: 0,
        }
    }

    fn by_order(&self) -> Entry {
        Entry {
            key: self.order,
            reference: self.hash,
            bytes: self.name_bytes,
        }
    }
}

/// What a name takes in the list of children: its bytes and a NUL.
fn bytes_in_list(name: &[u8]) -> u32 {
    u32::try_from(name.len()).unwrap_or(u32::MAX).saturating_add(1)
}

fn fits(name: &str, value: &[u8], permissions: &[u8]) -> Result<(), Refused> {
    if name.len() <= NAME_MAX && value.len() <= VALUE_MAX && permissions.len() / 4 <= PERMISSIONS_MAX {
        Ok(())
    } else {
        Err(Refused::Impossible)
    }
}
