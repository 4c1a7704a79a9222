//! Which events a commit must tell: from the requests of the transaction, done one by one, and what they left.
//!
//! Each path that was changed is told once, in the order in which the requests named paths first; what was removed along with
//! a node above it follows that one. A node that is neither there before nor after is not told. A watch is told if its owner
//! may read the node or the node above as they are in the end, or could read it before its permissions changed or it went.

use std::collections::{BTreeMap, BTreeSet};

use xenstore_wire::MessageType;
use xenstore_wire::{Access, Permission};

use super::{DOM0, Host, parent};

/// A watch of the test.
#[derive(Clone)]
pub struct Watcher {
    pub connection: u32,
    pub path: &'static str,
    pub token: &'static str,
}

/// A change of one node.
struct Source {
    path: String,
    /// Watches above the node are told, too.
    reaches_up: bool,
}

/// What one transaction names and changes, noted request by request.
#[derive(Default)]
pub struct Expected {
    named: Vec<String>,
    sources: Vec<Source>,
}

/// Permissions of the whole store.
pub type Seen = BTreeMap<String, Vec<Permission>>;

/// The permissions of every node.
pub fn seen(host: &Host) -> Seen {
    let paths = host.below("/").into_iter();
    paths
        .map(|path| path.replace("//", "/"))
        .map(|path| (path.clone(), host.permissions(&path).unwrap()))
        .collect()
}

impl Expected {
    /// A request that is about to be done again on `host`.
    pub fn named(&mut self, host: &Host, kind: MessageType, path: &str, succeeds: bool) {
        if !self.named.iter().any(|known| known == path) {
            self.named.push(path.into());
        }
        if !succeeds {
            return;
        }
        let there = host.node(path).is_some();
        match kind {
            MessageType::Write | MessageType::SetPerms => self.source(path, true),
            MessageType::Mkdir if !there => self.source(path, true),
            MessageType::Rm if there => {
                for below in host.below(path) {
                    self.source(&below, below == path);
                }
            }
            _ => {}
        }
    }

    fn source(&mut self, path: &str, reaches_up: bool) {
        self.sources.push(Source {
            path: path.into(),
            reaches_up,
        });
    }

    /// When the path, or the nearest above it, was named first.
    fn place(&self, path: &str) -> usize {
        let mut here = Some(path);
        while let Some(path) = here {
            if let Some(place) = self.named.iter().position(|known| known == path) {
                return place;
            }
            here = parent(path);
        }
        usize::MAX
    }

    /// The events of the commit.
    pub fn told(&self, watchers: &[Watcher], before: &Seen, after: &Seen) -> Vec<(u32, String)> {
        let mut order: Vec<&Source> = self.sources.iter().collect();
        order.sort_by_key(|source| self.place(&source.path));
        let mut done = BTreeSet::new();
        let mut told = Vec::new();
        for source in order {
            let path = source.path.as_str();
            if !done.insert(path) || (!before.contains_key(path) && !after.contains_key(path)) {
                continue;
            }
            let mut same = self.sources.iter().filter(|other| other.path == path);
            let gone = !after.contains_key(path);
            let old = before.get(path);
            let reaches_up = same.any(|other| other.reaches_up);
            for watcher in watchers {
                let reads =
                    |list: Option<&Vec<Permission>>| list.is_some_and(|list| may_read(watcher.connection, list));
                let visible = reads(old)
                    || (!gone && (reads(after.get(path)) || parent(path).is_some_and(|above| reads(after.get(above)))));
                let matches = if reaches_up {
                    watcher.path == "/" || path == watcher.path || path.starts_with(&format!("{}/", watcher.path))
                } else {
                    path == watcher.path
                };
                if matches && (visible || watcher.connection == DOM0) {
                    told.push((watcher.connection, format!("{path} {}", watcher.token)));
                }
            }
        }
        told
    }
}

/// The rule of permission lists: the owner may, then the first entry that names the domain, then everybody's. Connection 3 is
/// guest 2, which has the rights of guest 1, too.
fn may_read(connection: u32, list: &[Permission]) -> bool {
    let reads = |domid: u16| {
        let entry = list.iter().find(|entry| entry.domid.0 == domid).unwrap_or(&list[0]);
        list[0].domid.0 == domid || matches!(entry.access, Access::Read | Access::Both)
    };
    let domid = u16::try_from(connection - DOM0).unwrap();
    domid == 0 || reads(domid) || (domid == 2 && reads(1))
}
