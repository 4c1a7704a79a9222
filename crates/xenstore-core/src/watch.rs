//! Watches, found by path: an event costs the depth of its path and the watches that match, however many others there are.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::{Deserialize, Serialize};
use xenstore_wire::{Path, PathBuf, SpecialPath};

use crate::connection::ConnectionId;
use crate::tree::NameHash;

/// What is watched, in the client's words and in full.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum WatchPath {
    /// A node. `prefix` bytes of the full path were added by us, and are taken off again in events.
    Node {
        /// The full path.
        path: PathBuf,
        /// Length of `/local/domain/N/` if the client gave a relative path, else 0.
        prefix: usize,
    },
    /// `@` and a name.
    Special(SpecialPath),
}

impl WatchPath {
    /// As the client wrote it.
    pub fn as_written(&self) -> &str {
        match self {
            WatchPath::Node { path, prefix } => path.as_path().without_prefix(*prefix),
            WatchPath::Special(name) => name.as_str(),
        }
    }

    /// In full: the key of the index, and what is charged.
    pub(crate) fn key(&self) -> &str {
        match self {
            WatchPath::Node { path, .. } => path.as_path().as_str(),
            WatchPath::Special(name) => name.as_str(),
        }
    }
}

/// One watch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// On what.
    pub path: WatchPath,
    /// Returned with each event.
    #[serde(with = "crate::bytes")]
    pub token: Box<[u8]>,
    /// Levels below the path that count; none = all.
    pub depth: Option<u32>,
}

/// Orders the watches that match an event: connections as they were created, each one's watches as they were registered.
pub(crate) type WatchKey = (ConnectionId, u64);

/// The watches on one path, never none. Most paths have one, and a map's first node would take the room of eleven for it.
#[derive(Clone, Debug)]
enum At {
    One(WatchKey, Watch),
    More(BTreeMap<WatchKey, Watch>),
}

impl At {
    /// The path.
    fn key(&self) -> &str {
        self.iter().next().map_or("", |(_, watch)| watch.path.key())
    }

    /// All of them, in order.
    fn iter(&self) -> impl Iterator<Item = (WatchKey, &Watch)> {
        let (one, more) = match self {
            At::One(key, watch) => (Some((*key, watch)), None),
            At::More(watches) => (None, Some(watches)),
        };
        let more = more.into_iter().flatten().map(|(key, watch)| (*key, watch));
        one.into_iter().chain(more)
    }

    /// Those of one connection, in order.
    fn of(&self, connection: ConnectionId) -> impl Iterator<Item = (WatchKey, &Watch)> {
        let (one, more) = match self {
            At::One(key, watch) => (Some((*key, watch)), None),
            At::More(watches) => (None, Some(watches.range((connection, 0)..=(connection, u64::MAX)))),
        };
        let one = one.filter(|(key, _)| key.0 == connection);
        one.into_iter()
            .chain(more.into_iter().flatten().map(|(key, watch)| (*key, watch)))
    }

    fn insert(&mut self, key: WatchKey, watch: Watch) {
        let before = core::mem::replace(self, At::More(BTreeMap::new()));
        let mut watches = match before {
            At::One(one, first) => BTreeMap::from([(one, first)]),
            At::More(watches) => watches,
        };
        watches.insert(key, watch);
        *self = At::More(watches);
    }

    /// Takes one of several; the last one goes with the whole entry.
    fn remove(&mut self, key: WatchKey) -> Option<Watch> {
        let At::More(watches) = self else { return None };
        let removed = watches.remove(&key);
        if watches.len() == 1
            && let Some((key, watch)) = watches.pop_first()
        {
            *self = At::One(key, watch);
        }
        removed
    }
}

/// All watches of all connections.
#[derive(Clone, Debug)]
pub(crate) struct WatchIndex {
    by_path: HashTable<At>,
    hash: NameHash,
    /// Number of the next watch.
    next: u64,
    count: usize,
}

impl WatchIndex {
    /// Guests choose what they watch: the seed keeps them from choosing paths that collide.
    pub fn new(seed: u64) -> Self {
        WatchIndex {
            by_path: HashTable::new(),
            hash: NameHash::new(seed),
            next: 0,
            count: 0,
        }
    }

    /// An index with these watches; `next` is the number of the next one.
    pub fn restored(seed: u64, next: u64, watches: Vec<(WatchKey, Watch)>) -> Self {
        let mut index = WatchIndex::new(seed);
        for (key, watch) in watches {
            index.insert(key, watch);
        }
        index.next = next;
        index
    }

    /// All watches, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = (WatchKey, &Watch)> {
        self.by_path.iter().flat_map(At::iter)
    }

    /// The number of the next watch.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    fn at(&self, key: &str) -> Option<&At> {
        self.by_path.find(u64::from(self.hash.of(key)), |at| at.key() == key)
    }

    /// The watch of this connection with this path and token. A relative and an absolute spelling of one path are the
    /// same watch, as in C.
    pub fn find(&self, connection: ConnectionId, path: &WatchPath, token: &[u8]) -> Option<u64> {
        let mut known = self.at(path.key())?.of(connection);
        known
            .find(|(_, watch)| watch.token.as_ref() == token)
            .map(|((_, number), _)| number)
    }

    pub fn add(&mut self, connection: ConnectionId, watch: Watch) -> u64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.insert((connection, number), watch);
        number
    }

    fn insert(&mut self, place: WatchKey, watch: Watch) {
        self.count = self.count.saturating_add(1);
        let hash = self.hash;
        let of = |key: &str| u64::from(hash.of(key));
        let found = self.by_path.entry(
            of(watch.path.key()),
            |at| at.key() == watch.path.key(),
            |at| of(at.key()),
        );
        match found {
            Entry::Occupied(mut at) => at.get_mut().insert(place, watch),
            Entry::Vacant(place_for_it) => {
                place_for_it.insert(At::One(place, watch));
            }
        }
    }

    pub fn remove(&mut self, connection: ConnectionId, path: &WatchPath, number: u64) -> Option<Watch> {
        let hash = u64::from(self.hash.of(path.key()));
        let mut entry = self.by_path.find_entry(hash, |at| at.key() == path.key()).ok()?;
        let place = (connection, number);
        let removed = match entry.get_mut() {
            At::One(key, _) if *key == place => match entry.remove().0 {
                At::One(_, watch) => Some(watch),
                At::More(_) => None,
            },
            at => at.remove(place),
        };
        self.count = self.count.saturating_sub(usize::from(removed.is_some()));
        removed
    }

    /// The watches exactly on `key`, in order.
    pub fn exactly(&self, key: &str) -> impl Iterator<Item = (WatchKey, &Watch)> {
        self.at(key).into_iter().flat_map(At::iter)
    }

    /// The watches on `path` or on a node above it whose depth reaches down to it, in order.
    pub fn reaching<'s>(&'s self, path: Path<'_>) -> Vec<(WatchKey, &'s Watch)> {
        let mut found: Vec<(WatchKey, &Watch)> = Vec::new();
        if self.by_path.is_empty() {
            return found;
        }
        for (levels, ancestor) in (0u32..).zip(path.ancestors()) {
            let at = self.exactly(ancestor.as_str());
            found.extend(at.filter(|(_, watch)| watch.depth.is_none_or(|depth| levels <= depth)));
        }
        found.sort_by_key(|(key, _)| *key);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(path: &str) -> WatchPath {
        WatchPath::Node {
            path: Path::new(path).unwrap().to_owned(),
            prefix: 0,
        }
    }

    fn watch(path: &str, depth: Option<u32>) -> Watch {
        Watch {
            path: on(path),
            token: Box::from(*b"t"),
            depth,
        }
    }

    #[test]
    fn an_event_reaches_watches_above_it_within_their_depth_in_order_of_connections() {
        let mut index = WatchIndex::new(7);
        let far = index.add(ConnectionId(2), watch("/", None));
        let near = index.add(ConnectionId(1), watch("/a", Some(1)));
        let exact = index.add(ConnectionId(1), watch("/a/b", Some(0)));
        let keys = |path: &str| -> Vec<u64> {
            index
                .reaching(Path::new(path).unwrap())
                .into_iter()
                .map(|((_, number), _)| number)
                .collect()
        };
        assert_eq!(keys("/a/b"), [near, exact, far]);
        assert_eq!(keys("/a/b/c"), [far]);
        assert_eq!(keys("/b"), [far]);
    }

    #[test]
    fn a_removed_watch_is_gone_from_index_and_count() {
        let mut index = WatchIndex::new(7);
        let number = index.add(ConnectionId(1), watch("/a", None));
        assert_eq!(index.find(ConnectionId(1), &on("/a"), b"t"), Some(number));
        assert_eq!(index.find(ConnectionId(2), &on("/a"), b"t"), None);
        assert!(index.remove(ConnectionId(1), &on("/a"), number).is_some());
        assert_eq!(index.len(), 0);
        assert!(index.reaching(Path::new("/a").unwrap()).is_empty());
    }
}
