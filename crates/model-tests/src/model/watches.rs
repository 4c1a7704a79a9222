//! WATCH, UNWATCH, RESET_WATCHES, and who is told of what.

use super::arguments::{Named, atoi, strings};
use super::requests::{Answer, message, ok};
use super::tree::{Caller, Entry, Wish, parent, upwards};
use super::{Job, MESSAGE, Model, PAYLOAD_MAX, PRIVILEGED, Queued, Transaction};
use xenstore_wire::{Header, MessageType};

/// A watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    pub(super) named: Named,
    pub(super) token: Vec<u8>,
    /// Levels below the path that count.
    depth: Option<usize>,
}

impl Watch {
    /// The path as the client wrote it.
    fn written(&self) -> &str {
        &self.named.path[self.named.added..]
    }

    /// An event on this path, and with `below` also on one above it, concerns the watch.
    fn concerns(&self, path: &str, subtree: bool) -> bool {
        let levels = upwards(path).iter().position(|above| *above == self.named.path);
        match levels {
            Some(0) => true,
            Some(levels) => subtree && self.depth.is_none_or(|depth| levels <= depth),
            None => false,
        }
    }
}

/// A change that someone may be told of.
#[derive(Clone, Debug)]
pub struct Change {
    path: String,
    /// Watches above it are concerned.
    subtree: bool,
    /// Its permissions before, where they were changed.
    before: Option<Vec<Entry>>,
}

impl Change {
    pub(super) fn of(path: &str, subtree: bool) -> Change {
        Change {
            path: path.to_owned(),
            subtree,
            before: None,
        }
    }

    pub(super) fn of_permissions(path: &str, before: Vec<Entry>) -> Change {
        Change {
            before: Some(before),
            ..Change::of(path, true)
        }
    }
}

impl Job<'_> {
    pub(super) fn watch(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let (path, token, depth) = match arguments.as_slice() {
            [path, token] => (path, token, None),
            [path, token, depth] if self.features_of(self.caller.domid) & super::domains::WATCH_DEPTH != 0 => {
                (path, token, Some(usize::try_from(atoi(depth)).map_err(|_| "EINVAL")?))
            }
            _ => return Err("EINVAL"),
        };
        let named = self.any_path(path)?;
        let (limit, domid) = (self.model.limit_of(self.caller.domid, "watches"), self.caller.domid);
        let connection = self.model.connection_mut(domid).ok_or("EINVAL")?;
        let mut own = connection.watches.iter();
        if own.any(|watch| watch.named.path == named.path && watch.token == *token) {
            return Err("EEXIST");
        }
        if limit.is_some_and(|limit| connection.watches.len() as u64 + 1 >= limit) {
            return Err("ENOSPC");
        }
        self.may_hold(named.path.len() + token.len())?;
        let connection = self.model.connection_mut(domid).ok_or("EINVAL")?;
        connection.watches.push(Watch {
            named,
            token: token.clone(),
            depth,
        });
        ok()
    }

    pub(super) fn unwatch(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let [path, token] = arguments.as_slice() else {
            return Err("EINVAL");
        };
        let named = self.any_path(path)?;
        let domid = self.caller.domid;
        let connection = self.model.connection_mut(domid).ok_or("EINVAL")?;
        let mut own = connection.watches.iter();
        let found = own.position(|watch| watch.named.path == named.path && watch.token == *token);
        connection.watches.remove(found.ok_or("ENOENT")?);
        ok()
    }

    /// All watches and all transactions of the caller are gone.
    pub(super) fn reset_watches(&mut self) -> Answer {
        let domid = self.caller.domid;
        if let Some(connection) = self.model.connection_mut(domid) {
            connection.watches.clear();
            connection.transactions.clear();
        }
        ok()
    }

    /// Tells of a change, unless it was made in a transaction or a commit is not complete.
    pub(super) fn tell(&mut self, change: Change) {
        if self.within.is_some() {
            return;
        }
        match &mut self.gathered {
            Some(gathered) => gathered.push(change),
            None => self.fire(&change, true),
        }
    }

    /// Tells of a commit, when all of it is done: each path once, in the order in which the transaction first named them.
    /// What was not there before and is not there now was never there.
    pub(super) fn tell_gathered(&mut self, open: &Transaction) {
        let mut changes = self.gathered.take().unwrap_or_default();
        changes.sort_by_key(|change| open.place(&change.path));
        let mut done: Vec<String> = Vec::new();
        for change in changes.clone() {
            if done.contains(&change.path) {
                continue;
            }
            done.push(change.path.clone());
            let mut same = changes.iter().filter(|other| other.path == change.path);
            let before = self.before.get(&change.path).map(|node| node.permissions.clone());
            let there = self.model.store.get(&change.path).is_some();
            if there || before.is_some() {
                let told = Change {
                    subtree: same.any(|other| other.subtree),
                    before,
                    ..change
                };
                self.fire(&told, there);
            }
        }
    }

    /// An event for every watch that the change concerns and whose owner may know of it: the privileged domain; who could read
    /// the node before; and, if it is there, who can read it or the node above it.
    fn fire(&mut self, change: &Change, there: bool) {
        for index in 0..self.model.connections.len() {
            let connection = &self.model.connections[index];
            let caller = self.model.caller(connection.domid);
            let tree = self.tree();
            let reads = |path: &str| {
                tree.get(path)
                    .is_some_and(|node| caller.may(&node.permissions, Wish::Read))
            };
            let before = change.before.as_ref();
            let knew = before.is_some_and(|list| caller.may(list, Wish::Read));
            let sees = there && (reads(&change.path) || parent(&change.path).is_some_and(reads));
            if !(caller.privileged || knew || sees) {
                continue;
            }
            let concerned = connection.watches.iter();
            let concerned = concerned.filter(|watch| watch.concerns(&change.path, change.subtree));
            let events: Vec<(String, Vec<u8>)> = concerned
                .map(|watch| (change.path[watch.named.added..].to_owned(), watch.token.clone()))
                .collect();
            for (path, token) in events {
                self.event(caller, &path, &token, 0);
            }
        }
    }

    /// Puts an event behind what this job tells already. The same event does not wait twice, except for special ones. Who has no
    /// memory left for it, by what was charged before and what is told already, is not told; `free` bytes do not count yet.
    fn event(&mut self, receiver: Caller, path: &str, token: &[u8], free: usize) {
        let payload = [path.as_bytes(), &[0], token, &[0]].concat();
        let Some(connection) = self
            .model
            .connection(receiver.domid)
            .filter(|connection| !connection.ignored)
        else {
            return;
        };
        if payload.len() > PAYLOAD_MAX {
            return;
        }
        let no_ids = Header {
            kind: 0,
            request_id: 0,
            transaction_id: 0,
            length: 0,
        };
        let bytes = message(no_ids, MessageType::WatchEvent as u32, &payload);
        let not_begun = connection.queue.iter().skip(usize::from(connection.begun > 0));
        let here = self.told.iter().filter(|(domid, _)| *domid == receiver.domid);
        let here: Vec<&Queued> = here.map(|(_, queued)| queued).collect();
        let mut waiting = not_begun.chain(here.iter().copied());
        if !path.starts_with('@') && waiting.any(|queued| queued.event && queued.bytes == bytes) {
            return;
        }
        let nodes = u64::try_from(self.before.bytes_of(receiver.domid)).unwrap_or(0);
        let held = nodes + self.model.bytes_besides_nodes(receiver.domid) - free as u64;
        let more = here.iter().map(|queued| queued.memory()).sum::<usize>() + bytes.len() + MESSAGE;
        let limit = self.model.limit_of(receiver.domid, "memory");
        if limit.is_some_and(|limit| held + more as u64 >= limit) {
            return;
        }
        let event = Queued {
            bytes,
            event: true,
            deadline: self.model.deadline(receiver.domid),
            cause: self.cause(),
        };
        self.told.push((receiver.domid, event));
    }

    /// A special node has another list of permissions: for who may read it by one of the two.
    pub(super) fn tell_of_special_permissions(&mut self, name: &str, lists: [&[Entry]; 2]) {
        for index in 0..self.model.connections.len() {
            let connection = &self.model.connections[index];
            let caller = self.model.caller(connection.domid);
            let own = connection.watches.iter().filter(|watch| watch.named.path == name);
            let tokens: Vec<Vec<u8>> = own.map(|watch| watch.token.clone()).collect();
            if lists.iter().any(|list| caller.may(list, Wish::Read)) {
                for token in tokens {
                    self.event(caller, name, &token, 0);
                }
            }
        }
    }

    /// `@introduceDomain` or `@releaseDomain`. `plain`: something of the kind happened; `domid`: to this domain.
    pub(super) fn tell_special(&mut self, name: &str, plain: bool, domid: Option<u16>) {
        let full = domid.map(|domid| format!("{name}/{domid}"));
        for index in 0..self.model.connections.len() {
            let connection = &self.model.connections[index];
            let caller = self.model.caller(connection.domid);
            if !caller.may(&self.model.special[name], Wish::Read) {
                continue;
            }
            let mut events = Vec::new();
            for watch in &connection.watches {
                let on_all = watch.named.path == name;
                let path = match (&full, watch.depth) {
                    (_, None) if on_all && plain => name,
                    (Some(full), Some(1..)) if on_all => full,
                    (Some(full), _) if watch.named.path == *full => full,
                    _ => continue,
                };
                events.push((path.to_owned(), watch.token.clone()));
            }
            for (path, token) in events {
                self.event(caller, &path, &token, 0);
            }
        }
    }
}

impl Model {
    fn deadline(&self, domid: u16) -> Option<u64> {
        let seconds = self.settings.timeout;
        (domid != PRIVILEGED && seconds != 0).then(|| self.now + seconds * 1_000_000_000)
    }

    /// The event that follows the answer to WATCH, with the path as the client wrote it.
    pub(super) fn tell_first_event(&mut self, domid: u16) {
        let Some(connection) = self.connection(domid) else {
            return;
        };
        let Some(watch) = connection.watches.last() else { return };
        let (path, token) = (watch.written().to_owned(), watch.token.clone());
        // What the request itself has brought: its answer, which waits last, and the watch.
        let answer = connection.queue.back().map_or(0, Queued::memory);
        let bytes = answer + watch.named.path.len() + token.len();
        let mut job = self.job(None);
        let receiver = job.model.caller(domid);
        job.event(receiver, &path, &token, bytes);
        job.end();
    }
}
