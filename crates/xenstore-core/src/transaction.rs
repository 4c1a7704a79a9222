//! An open transaction: the store as it saw it first, what it looked at, and what it wrote.
//!
//! Its commit stands if doing its requests again, one after the other, on the store at commit would bring the same replies.
//! A write that succeeded is done again then, so its reply needs no note. For all else is noted what was looked at, and
//! when: after how many of the transaction's own writes. What none of its own writes touches is noted as seen before them
//! all, because it is the same then; so most observations are compared between the snapshot and the store as they are.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, Path, PathBuf, Permissions};

use crate::apply::Used;
use crate::heap::Cost;
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
    /// That the node above it exists.
    pub const PARENT: Facets = Facets(64);
    /// Whose it is.
    pub const OWNER: Facets = Facets(128);
    /// What only a node that is there has.
    pub const OF_A_NODE: Facets = Facets(1 | 2 | 4 | 128);

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
    Value(PathBuf, #[serde(with = "crate::bytes")] Box<[u8]>),
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

    /// It can change which children the node above has.
    fn lists(&self) -> bool {
        !matches!(self, Write::Permissions(..))
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

/// A write, and how far up it reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    pub write: Write,
    /// Bytes of the path's beginning that name the topmost node that it changed or made. The node above that was there.
    pub top: u16,
}

impl Written {
    /// The topmost node that it changed or made.
    pub fn top(&self) -> Path<'_> {
        beginning(self.write.path().as_path(), self.top)
    }
}

/// The node on the way to `path` that is named by so many bytes.
fn beginning(path: Path<'_>, length: u16) -> Path<'_> {
    path.ancestors()
        .find(|above| above.as_str().len() <= usize::from(length))
        .unwrap_or(Path::ROOT)
}

/// How a transaction has used a path.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Use {
    /// Its place in the order in which requests named paths first.
    first: Option<u32>,
    /// How many writes there were when it, or what is below it, was last changed from here on down.
    written: u32,
    /// How many writes there were when a child of it was last written.
    listed: u32,
}

/// One open transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// None before the first operation.
    pub roots: Option<Roots>,
    /// What was seen of which path, by the number of writes done before.
    pub observed: BTreeMap<u32, BTreeMap<PathBuf, Facets>>,
    pub writes: Vec<Written>,
    /// Broke a limit: it can only end.
    pub failed: bool,
    /// The store has gone on in a way that it cannot be merged with.
    pub outdated: bool,
    uses: BTreeMap<PathBuf, Use>,
    /// Paths named so far.
    named: u32,
    /// Nodes more (or fewer) per owner through its own writes.
    pub nodes: BTreeMap<DomId, i64>,
    /// The newest generation when it began: the smaller, the older its snapshot.
    pub began: u64,
    /// It had to give up its snapshot for want of room.
    pub snapshot_lost: bool,
    /// Bytes charged to its connection's domain.
    pub bytes: usize,
    /// Things charged to it: what was observed, written, made.
    pub items: u64,
    /// What they take besides the tree.
    pub cost: Cost,
    /// How it was when each child that is open began, outermost first (see `nesting`).
    pub outer: Vec<Transaction>,
}

impl Transaction {
    /// Notes that a request named this path.
    fn name(&mut self, path: &PathBuf) {
        let used = self.uses.entry(path.clone()).or_default();
        if used.first.is_none() {
            used.first = Some(self.named);
            self.named = self.named.saturating_add(1);
        }
    }

    /// The path that a request named first.
    pub fn first(&self) -> Option<&PathBuf> {
        let first = self.uses.iter().find(|(_, used)| used.first == Some(0));
        first.map(|(path, _)| path)
    }

    /// No request has named a path in it.
    pub fn is_fresh(&self) -> bool {
        self.named == 0
    }

    /// The roots of the tree that it holds.
    pub fn held(&self) -> impl Iterator<Item = Root> + '_ {
        let snapshot = self.roots.map(|roots| roots.snapshot);
        let own = core::iter::once(self)
            .chain(&self.outer)
            .filter_map(|state| state.roots);
        snapshot.into_iter().chain(own.map(|roots| roots.own))
    }

    /// The snapshot and every own view are given up; nothing can be read from them any more.
    pub fn lose_snapshot(&mut self) {
        self.snapshot_lost = true;
        for state in core::iter::once(&mut self.roots).chain(self.outer.iter_mut().map(|outer| &mut outer.roots)) {
            *state = None;
        }
    }

    /// What it uses, its open children's outer states included.
    pub fn used(&self) -> Used {
        Used {
            items: self.items,
            bytes: self.bytes,
            cost: self.cost,
        }
    }

    /// When a path was first named; one that was only removed along with a node above it, when that was.
    pub fn first_access(&self, path: &PathBuf) -> u32 {
        let known = path
            .as_path()
            .ancestors()
            .find_map(|above| self.uses.get(above.as_str())?.first);
        known.unwrap_or(u32::MAX)
    }

    /// How many of its writes came before what is to be seen at this path last changed by one of them.
    pub fn moment(&self, path: Path<'_>) -> u32 {
        let listed = self.uses.get(path.as_str()).map_or(0, |used| used.listed);
        let above = path.ancestors().filter_map(|above| self.uses.get(above.as_str()));
        above.map(|used| used.written).max().unwrap_or(0).max(listed)
    }

    /// What was observed of the path as it is to be seen now.
    pub fn seen(&self, path: &PathBuf) -> Option<Facets> {
        self.observed.get(&self.moment(path.as_path()))?.get(path).copied()
    }

    /// How many nodes it touched (quota `transaction-nodes`).
    pub fn touched(&self) -> usize {
        let observed = self.observed.values().map(BTreeMap::len);
        observed.fold(self.writes.len(), usize::saturating_add)
    }

    /// What it would be charged with for an observation; nothing where it only learns more of what it has seen.
    pub fn observing(&self, path: &PathBuf) -> Used {
        if self.seen(path).is_some() {
            return Used::default();
        }
        let length = path.as_path().as_str().len();
        Used::of(length, length.saturating_add(self.unused(&[path.as_path()])))
    }

    /// Adds an observation, which has been charged for.
    pub fn observe(&mut self, path: &PathBuf, facets: Facets) {
        self.name(path);
        let moment = self.moment(path.as_path());
        let known = self
            .observed
            .entry(moment)
            .or_default()
            .entry(path.clone())
            .or_default();
        *known = known.and(facets);
    }

    /// The bytes of those of these paths that it has not used so far.
    fn unused(&self, paths: &[Path<'_>]) -> usize {
        let mut bytes = 0usize;
        for (place, path) in paths.iter().enumerate() {
            let again = paths.iter().take(place).any(|other| other == path);
            if !again && !self.uses.contains_key(path.as_str()) {
                bytes = bytes.saturating_add(path.as_str().len());
            }
        }
        bytes
    }

    /// What it would be charged with for a write, and what would no longer be held: the value that this one replaces.
    pub fn writing(&self, write: &Write, top: u16) -> (Used, Used) {
        let path = write.path().as_path();
        let of = |bytes| Used::of(path.as_str().len(), bytes);
        let top = beginning(path, top);
        let above = top.parent().filter(|_| write.lists()).unwrap_or(path);
        let more = write.bytes().saturating_add(self.unused(&[path, top, above]));
        let older = self.older(write).and_then(|place| self.writes.get(place));
        let less = older.map_or_else(Used::default, |older| of(older.write.bytes()));
        (of(more), less)
    }

    /// Adds a write, which has been charged for; a value that is only written again takes the place of the older one.
    pub fn wrote(&mut self, write: &Write, top: u16) {
        self.name(write.path());
        let place = match self
            .older(write)
            .and_then(|place| Some((place, self.writes.get_mut(place)?)))
        {
            Some((place, older)) => {
                older.write = write.clone();
                place.saturating_add(1)
            }
            None => {
                self.writes.push(Written {
                    write: write.clone(),
                    top,
                });
                self.writes.len()
            }
        };
        let count = u32::try_from(place).unwrap_or(u32::MAX);
        let top = beginning(write.path().as_path(), top);
        let used = self.uses.entry(top.to_owned()).or_default();
        used.written = used.written.max(count);
        // Where the node is gone meanwhile, doing the write again makes it; only a list of permissions needs it there.
        if let Some(parent) = top.parent().filter(|_| write.lists()) {
            let used = self.uses.entry(parent.to_owned()).or_default();
            used.listed = used.listed.max(count);
        }
    }

    /// The place of the value that this one would replace: the newest written to its path, unless the node was removed since.
    pub fn older(&self, write: &Write) -> Option<usize> {
        let Write::Value(path, _) = write else { return None };
        for (place, older) in self.writes.iter().enumerate().rev() {
            match &older.write {
                Write::Value(written, _) if written == path => return Some(place),
                Write::Remove(removed) if removed.as_path().contains(path.as_path()) => return None,
                _ => {}
            }
        }
        None
    }
}
