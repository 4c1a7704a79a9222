//! An open transaction: the store as it saw it first, what it looked at, and what it wrote.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, PathBuf, Permissions};

use crate::tree::Root;

/// What of a node was observed. A commit succeeds only if each would be observed the same again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facets(u8);

impl Facets {
    /// Its value.
    pub const VALUE: Facets = Facets(1);
    /// The names and order of its children.
    pub const CHILDREN: Facets = Facets(2);
    /// Its list of permissions.
    pub const PERMISSIONS: Facets = Facets(4);
    /// What an attempt to read it comes to: allowed, not there, not allowed.
    pub const READING: Facets = Facets(8);
    /// What an attempt to write it comes to.
    pub const WRITING: Facets = Facets(16);
    /// What an attempt to change its permissions comes to.
    pub const OWNING: Facets = Facets(32);
    /// That it exists.
    pub const EXISTENCE: Facets = Facets(64);

    /// Both.
    pub const fn and(self, other: Facets) -> Facets {
        Facets(self.0 | other.0)
    }

    /// Some of `other` is in here.
    pub const fn touches(self, other: Facets) -> bool {
        self.0 & other.0 != 0
    }

    /// All of `other` is in here.
    pub const fn include(self, other: Facets) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One write of a transaction. They are done again, in this order, on the store at commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Write {
    /// WRITE
    Value(PathBuf, Box<[u8]>),
    /// MKDIR
    Mkdir(PathBuf),
    /// RM
    Remove(PathBuf),
    /// SET_PERMS
    Permissions(PathBuf, Permissions),
}

impl Write {
    /// The node written.
    pub fn path(&self) -> &PathBuf {
        match self {
            Write::Value(path, _) | Write::Mkdir(path) | Write::Remove(path) | Write::Permissions(path, _) => path,
        }
    }

    /// The bytes it is charged with.
    pub(crate) fn bytes(&self) -> usize {
        let extra = match self {
            Write::Value(_, value) => value.len(),
            Write::Permissions(_, permissions) => permissions.entries().len().saturating_mul(8),
            Write::Mkdir(_) | Write::Remove(_) => 0,
        };
        self.path().as_path().as_str().len().saturating_add(extra)
    }
}

/// The trees of a transaction that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Roots {
    /// The store when the first operation came.
    pub snapshot: Root,
    /// The same with its own writes.
    pub own: Root,
}

/// One open transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// None before the first operation.
    pub roots: Option<Roots>,
    pub observed: BTreeMap<PathBuf, Facets>,
    pub writes: Vec<Write>,
    /// Broke a limit: it can only end.
    pub failed: bool,
    /// The store has gone on in a way that it cannot be merged with.
    pub outdated: bool,
    /// The place of each path in the order of first accesses: commits tell events in it, as in C.
    pub accesses: BTreeMap<PathBuf, u32>,
    /// Nodes more (or fewer) per owner through its own writes.
    pub nodes: BTreeMap<DomId, i64>,
    /// Bytes charged to its connection's domain.
    pub bytes: usize,
}

impl Transaction {
    /// Notes that a path was used.
    pub fn access(&mut self, path: &PathBuf) {
        let next = u32::try_from(self.accesses.len()).unwrap_or(u32::MAX);
        self.accesses.entry(path.clone()).or_insert(next);
    }

    /// When a path was first used; one that was only removed along with a node above it, when that was.
    pub fn first_access(&self, path: &PathBuf) -> u32 {
        let known = path
            .as_path()
            .ancestors()
            .find_map(|above| self.accesses.get(&above.to_owned()));
        known.copied().unwrap_or(u32::MAX)
    }

    /// How many nodes it touched (quota `transaction-nodes`).
    pub fn touched(&self) -> usize {
        self.observed.len().saturating_add(self.writes.len())
    }

    /// The value at `path` is its own: written, and neither it nor a parent removed since.
    pub fn wrote_value(&self, path: &PathBuf) -> bool {
        self.writes
            .iter()
            .rev()
            .find_map(|write| match write {
                Write::Value(written, _) if written == path => Some(true),
                Write::Remove(removed) if removed.as_path().contains(path.as_path()) => Some(false),
                _ => None,
            })
            .unwrap_or(false)
    }

    /// Adds a write; a value that is only written again takes the place of the older one.
    pub fn push(&mut self, write: Write) {
        if let Write::Value(path, value) = &write {
            for older in self.writes.iter_mut().rev() {
                match older {
                    Write::Value(written, place) if written == path => {
                        *place = value.clone();
                        return;
                    }
                    Write::Remove(removed) if removed.as_path().contains(path.as_path()) => break,
                    _ => {}
                }
            }
        }
        self.writes.push(write);
    }
}
