//! Who is told of a change: the watches that match, filtered by what their owners may see.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType, PAYLOAD_MAX, Path, PathBuf, Permissions};

use crate::connection::{Connection, ConnectionId, QueuedMessage};
use crate::decision::{Decision, message};
use crate::heap;
use crate::node_requests::special_object;
use crate::policy::{Caller, Entries, Object, Rights};
use crate::quota::Limit;
use crate::record::{Place, SpecialName};
use crate::transaction::Transaction;
use crate::tree::{Memory, fingerprint};
use crate::watch::{Watch, WatchKey, WatchPath};

/// The part of the tree's capacity that may wait as events for one domain: 1/16. What waits is in the heap, in the log and in both
/// checkpoints.
const EVENT_SHARE: usize = 16;

/// A change that watches may match, kept until a commit is complete.
pub(crate) struct Source {
    path: PathBuf,
    /// Watches above the node match too.
    subtree: bool,
}

impl<M: Memory> Decision<'_, M> {
    /// WRITE, MKDIR and SET_PERMS: told once the change is in the view. `before` counts when permissions changed.
    pub fn tell(&mut self, path: &PathBuf, before: Option<Permissions>) {
        if matches!(self.place, Place::Transaction { .. }) {
            return;
        }
        if let Some(collected) = &mut self.collected {
            collected.push(Source {
                path: path.clone(),
                subtree: true,
            });
            return;
        }
        self.fire(path, true, before.as_ref(), true);
    }

    /// RM: told while the node is still in the view. `top`: the node that the request named.
    pub fn tell_removal(&mut self, path: &PathBuf, top: bool) {
        if matches!(self.place, Place::Transaction { .. }) {
            return;
        }
        if let Some(collected) = &mut self.collected {
            collected.push(Source {
                path: path.clone(),
                subtree: top,
            });
            return;
        }
        self.fire(path, top, None, true);
    }

    /// A commit is complete: what it changed in the end is told, each path once, in the order in which the
    /// transaction first used them. A node that was made and removed by the same transaction was never there, and who might have
    /// seen it in between hears nothing: what counts is the store before and after.
    pub fn tell_collected(&mut self, open: &Transaction) {
        let mut sources = self.collected.take().unwrap_or_default();
        sources.sort_by_cached_key(|source| open.first_access(&source.path));
        let mut by_path: BTreeMap<&PathBuf, Vec<&Source>> = BTreeMap::new();
        for source in &sources {
            by_path.entry(&source.path).or_default().push(source);
        }
        for source in &sources {
            let Some(all) = by_path.remove(&source.path) else {
                continue;
            };
            let subtree = all.iter().any(|other| other.subtree);
            let existed = self.server.tree.find(self.server.current(), source.path.as_path());
            let before = existed.map(|node| node.permissions().to_owned());
            let exists = self.view.find(source.path.as_path()).is_some();
            if !exists && before.is_none() {
                continue;
            }
            self.fire(&source.path, subtree, before.as_ref(), exists);
        }
    }

    /// Queues the event for every watch that matches and whose owner may see the node, or may see its parent
    /// (`parent_counts`), or could see it before.
    fn fire(&mut self, path: &PathBuf, subtree: bool, before: Option<&Permissions>, parent_counts: bool) {
        let server = self.server;
        let matching: Vec<(WatchKey, &Watch)> = if subtree {
            server.watches.reaching(path.as_path())
        } else {
            server.watches.exactly(path.as_path().as_str()).collect()
        };
        if matching.is_empty() {
            return;
        }
        let mut permitted: Option<(ConnectionId, bool)> = None;
        for ((connection, _), watch) in matching {
            let allowed = match permitted {
                Some((known, allowed)) if known == connection => allowed,
                _ => {
                    let Some(state) = server.connections.get(&connection) else {
                        continue;
                    };
                    let caller = server.caller(state);
                    self.may_see(&caller, path.as_path(), before, parent_counts)
                }
            };
            permitted = Some((connection, allowed));
            if allowed {
                let prefix = match &watch.path {
                    WatchPath::Node { prefix, .. } => *prefix,
                    WatchPath::Special(_) => 0,
                };
                let seen = path.as_path().as_str().get(prefix..).unwrap_or_default();
                self.queue_event(connection, seen, &watch.token);
            }
        }
    }

    fn may_see(&self, caller: &Caller<'_>, path: Path<'_>, before: Option<&Permissions>, parent_counts: bool) -> bool {
        let now = |path| self.view.find(path).map(|found| found.object(path));
        let before = before.map(|list| Object {
            name: path.as_str(),
            permissions: Entries::List(list.entries()),
            label: self.label_of(path),
        });
        let present = [Some(path), path.parent()]
            .into_iter()
            .flatten()
            .filter(|_| parent_counts);
        caller.may_see(&mut before.into_iter().chain(present.filter_map(now)))
    }

    /// The label of a node that is there, or was until this change.
    fn label_of(&self, path: Path<'_>) -> u32 {
        match self.view.find(path) {
            Some(found) => found.label(),
            None => (self.server.tree.find(self.server.current(), path)).map_or(0, |node| node.label()),
        }
    }

    /// Puts an event into a connection's queue, unless the same one still waits there, or its owner's memory is used up.
    pub fn queue_event(&mut self, connection: ConnectionId, path: &str, token: &[u8]) {
        let server = self.server;
        let Some(state) = server.connections.get(&connection) else {
            return;
        };
        if state.ignored.is_some() {
            return;
        }
        let length = path.len().saturating_add(token.len()).saturating_add(2);
        // XSA-324: never an event longer than a payload.
        if length > PAYLOAD_MAX {
            return;
        }
        if !self.memory_allows_event(state, connection, length) {
            return self.drop_event(state.domid);
        }
        let mut payload = Vec::with_capacity(length);
        payload.extend_from_slice(path.as_bytes());
        payload.push(0);
        payload.extend_from_slice(token);
        payload.push(0);
        let header = Header {
            kind: MessageType::WatchEvent as u32,
            request_id: 0,
            transaction_id: 0,
            length: u32::try_from(length).unwrap_or(0),
        };
        let bytes = message(header, &payload);
        let print = fingerprint(&bytes);
        if !path.starts_with('@') && (state.queue.holds_event(&bytes) || self.makes_event(connection, print, &bytes)) {
            self.merged = self.merged.saturating_add(1);
            return;
        }
        let exempt = server.caller(state).exempt();
        let timeout = server.configuration.event_timeout;
        let deadline = (!exempt && timeout != 0).then(|| self.now.after_seconds(timeout));
        let cause = self.cause();
        let message = QueuedMessage {
            bytes,
            event: true,
            deadline,
            cause,
        };
        self.events.insert((connection, print, self.outputs.len()));
        let memory = self.event_memory.entry(connection).or_default();
        *memory = memory.saturating_add(message.memory());
        self.output(connection, message);
    }

    /// An event is not told for want of memory. Said once for each request, and of each domain only so often as the log bears.
    fn drop_event(&mut self, domid: DomId) {
        self.dropped = self.dropped.saturating_add(1);
        self.short_of_memory.insert(domid);
    }

    /// This decision itself makes the same event already.
    fn makes_event(&self, connection: ConnectionId, print: u64, bytes: &[u8]) -> bool {
        let mut alike = self
            .events
            .range((connection, print, 0)..=(connection, print, usize::MAX));
        alike.any(|(_, _, place)| {
            let made = self.outputs.get(*place);
            made.is_some_and(|output| output.message.bytes == bytes)
        })
    }

    /// One request can make as many events as its sender can name paths and the receiver has watches. Together they must stay
    /// within the receiver's memory (XSA-326), and within its share of a store that is small.
    fn memory_allows_event(&self, receiver: &Connection, connection: ConnectionId, length: usize) -> bool {
        let server = self.server;
        if server.caller(receiver).exempt() {
            return true;
        }
        let made = self.event_memory.get(&connection).copied().unwrap_or(0);
        let more = made.saturating_add(QueuedMessage::memory_of(HEADER_SIZE.saturating_add(length)));
        let waiting = receiver.queue.bytes().saturating_add(more);
        let account = server.domains.get(&receiver.domid);
        let over_limit = account.is_some_and(|domain| {
            let memory = domain.account.memory().saturating_add(more as u64);
            let count = self.told.to(connection).messages;
            let cost = heap::of_messages(count.saturating_add(1), more as u64);
            domain.quotas.reached(Limit::Memory, memory) || !server.heap().lets_grow(&domain.account, cost)
        });
        !over_limit && waiting <= server.tree.capacity() / EVENT_SHARE
    }

    /// The permissions of a special node are others now: told, as for any node, to who may read it by one of the two lists. Every
    /// watch on it matches, whatever its depth (C xenstored, is_child in watch.c).
    pub fn tell_special_permissions(&mut self, name: SpecialName, lists: [&Permissions; 2]) {
        let server = self.server;
        for ((connection, _), watch) in server.watches.exactly(name.as_str()) {
            let Some(state) = server.connections.get(&connection) else {
                continue;
            };
            let caller = server.caller(state);
            let reads = |list| caller.rights(&special_object(name, list)).include(Rights::READ);
            if lists.into_iter().any(reads) {
                self.queue_event(connection, name.as_str(), &watch.token);
            }
        }
    }

    /// `@introduceDomain` or `@releaseDomain`: `plain` for the watches that want to know that something happened,
    /// `domid` for those that want to know to whom.
    pub fn tell_special(&mut self, name: SpecialName, plain: bool, domid: Option<DomId>) {
        let server = self.server;
        let permissions = server.special.get(&name);
        let mut matching: Vec<(WatchKey, String, &Watch)> = Vec::new();
        if plain {
            let watches = server
                .watches
                .exactly(name.as_str())
                .filter(|(_, watch)| watch.depth.is_none());
            matching.extend(watches.map(|(key, watch)| (key, String::from(name.as_str()), watch)));
        }
        if let Some(domid) = domid {
            let full = alloc::format!("{}/{domid}", name.as_str());
            let deep = server.watches.exactly(name.as_str());
            let deep = deep.filter(|(_, watch)| watch.depth.is_some_and(|depth| depth >= 1));
            matching.extend(deep.map(|(key, watch)| (key, full.clone(), watch)));
            let exact = server.watches.exactly(&full);
            matching.extend(exact.map(|(key, watch)| (key, full.clone(), watch)));
        }
        matching.sort_by_key(|(key, _, _)| *key);
        for ((connection, _), path, watch) in matching {
            let Some(state) = server.connections.get(&connection) else {
                continue;
            };
            let caller = server.caller(state);
            let allowed =
                permissions.is_some_and(|list| caller.rights(&special_object(name, list)).include(Rights::READ));
            if allowed {
                self.queue_event(connection, &path, &watch.token);
            }
        }
    }
}
