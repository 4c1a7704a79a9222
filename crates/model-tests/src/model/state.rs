//! What happens to the model from outside, and what the test may ask it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::tree::{Caller, Entry};
use super::{Connection, Counts, Domain, Errno, Job, Life, Model, PRIVILEGED, Queued, Tree};
use xenstore_wire::Header;

/// What the test compares besides what clients see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Each domain: its features, what is counted, and the largest values.
    pub domains: BTreeMap<u16, (u32, Counts)>,
    /// The domains with a connection, in the order in which they were connected; whether they are ignored, and what they have still
    /// to be told.
    pub connections: Vec<(u16, bool, Vec<u8>)>,
}

impl Model {
    /// A client sends a request. It is taken if the client is below its limits; if not, it waits.
    pub fn request(&mut self, domid: u16, header: Header, payload: &[u8]) {
        if self.connection(domid).is_none_or(|connection| connection.ignored) {
            return;
        }
        if self.may_read(domid) {
            self.take(domid, header, payload);
        } else {
            self.pending = Some((domid, header, payload.to_vec()));
        }
        self.go_on();
    }

    /// The answer to the next request of an administrator, if it is one that is made for people: as long as the server made it,
    /// because its length is charged.
    pub fn dictate(&mut self, answer: Vec<u8>) {
        self.dictated = Some(answer);
    }

    /// A client announces more bytes than a message may have, or its ring has impossible indices: it is given up.
    pub fn misbehave(&mut self, domid: u16) {
        self.empty(domid);
        if let Some(connection) = self.connection_mut(domid) {
            connection.ignored = true;
        }
        self.go_on();
    }

    /// A client begins anew, `asking` to or silently. Who was given up must ask.
    pub fn reset(&mut self, domid: u16, asking: bool) {
        if self
            .connection(domid)
            .is_some_and(|connection| asking || !connection.ignored)
        {
            self.begin_anew(domid);
        }
        self.go_on();
    }

    /// The streams of a connection begin anew.
    pub(super) fn begin_anew(&mut self, domid: u16) {
        self.empty(domid);
        self.seen.remove(&domid);
        if let Some(connection) = self.connection_mut(domid) {
            connection.ignored = false;
            connection.used = false;
            connection.resets += 1;
        }
    }

    /// Watches, transactions, queue and what waits are gone.
    fn empty(&mut self, domid: u16) {
        if self.pending.as_ref().is_some_and(|(whose, _, _)| *whose == domid) {
            self.pending = None;
        }
        let Some(connection) = self.connection_mut(domid) else {
            return;
        };
        connection.watches.clear();
        connection.transactions.clear();
        connection.queue.clear();
        connection.begun = 0;
        let serial = connection.serial;
        for queued in self.connections.iter_mut().flat_map(|connection| &mut connection.queue) {
            queued.cause = queued.cause.filter(|(cause, _)| *cause != serial);
        }
    }

    /// How often the streams of a connection began anew.
    pub fn resets(&self, domid: u16) -> u64 {
        self.connection(domid).map_or(0, |connection| connection.resets)
    }

    /// The last reset of a connection was not counted.
    pub fn reset_was_not_counted(&mut self, domid: u16) {
        if let Some(connection) = self.connection_mut(domid) {
            connection.resets -= 1;
        }
    }

    /// Nothing was sent or shown since the client's streams began.
    pub fn is_unused(&self, domid: u16) -> bool {
        let connection = self.connection(domid);
        connection.is_some_and(|connection| !connection.used && !connection.ignored)
    }

    /// The client takes so many bytes more, or from now on everything, or from now on nothing more.
    pub fn room(&mut self, domid: u16, room: usize) {
        if let Some(connection) = self.connection_mut(domid) {
            connection.room = room;
        }
        self.go_on();
    }

    /// How many bytes the client takes.
    pub fn room_of(&self, domid: u16) -> usize {
        self.connection(domid).map_or(0, |connection| connection.room)
    }

    /// Time passes.
    pub fn pass(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
        let now = self.now;
        for connection in &mut self.connections {
            let mut begun = connection.begun > 0;
            let before = connection.queue.len();
            connection.queue.retain(|queued| {
                let stays = std::mem::take(&mut begun) || queued.deadline.is_none_or(|deadline| deadline > now);
                stays || !queued.event
            });
            self.figures.expired += (before - connection.queue.len()) as u64;
        }
        self.go_on();
    }

    /// The hypervisor says this of some domains and then that some changed.
    pub fn lives(&mut self, lives: &[(u16, Option<Life>)]) {
        for (domid, life) in lives {
            self.build(*domid, *life);
            self.changed.insert(*domid);
        }
        self.look_at_domains(!self.settings.lists_changes);
        self.go_on();
    }

    /// The hypervisor knows a domain, or does not, and says nothing.
    pub fn build(&mut self, domid: u16, life: Option<Life>) {
        match life {
            Some(life) => self.world.insert(domid, life),
            None => self.world.remove(&domid),
        };
    }

    /// A life of the server ends, and the next one asks for every domain.
    pub fn restart(&mut self) {
        self.restarted = true;
        self.look_at_domains(true);
        self.go_on();
    }

    /// The next life may have forgotten peaks of messages and memory, but not what there is.
    pub fn peaks_are_possible(&self, remembered: &BTreeMap<u16, (u64, u64)>) {
        for (domid, (outstanding, memory)) in remembered {
            let now = self.counts(*domid);
            let Some(domain) = self.domains.get(domid) else {
                continue;
            };
            assert!(
                (now.outstanding..=domain.most.outstanding).contains(outstanding),
                "{domid}: {outstanding} at most?"
            );
            assert!(
                (now.memory..=domain.most.memory).contains(memory),
                "{domid}: {memory} bytes at most?"
            );
        }
    }

    /// Peaks of messages and memory are what the server remembers.
    pub fn remember(&mut self, peaks: &BTreeMap<u16, (u64, u64)>) {
        for (domid, (outstanding, memory)) in peaks {
            if let Some(domain) = self.domains.get_mut(domid) {
                domain.most.outstanding = *outstanding;
                domain.most.memory = *memory;
            }
        }
    }

    fn look_at_domains(&mut self, all: bool) {
        let changed = std::mem::take(&mut self.changed);
        let known: Vec<u16> = self.domains.keys().copied().collect();
        let asked: Vec<u16> = known
            .into_iter()
            .filter(|domid| all || changed.contains(domid))
            .collect();
        let mut job = self.job(None);
        job.domains_changed(&asked);
        job.end();
    }

    /// Shows what can be shown, and takes the request that waits once it may be taken.
    fn go_on(&mut self) {
        self.publish();
        while let Some((domid, header, payload)) = self.pending.take() {
            if !self.may_read(domid) {
                self.pending = Some((domid, header, payload));
                return;
            }
            self.take(domid, header, &payload);
            self.publish();
        }
    }

    fn publish(&mut self) {
        for connection in &mut self.connections {
            let seen = self.seen.entry(connection.domid).or_default();
            while connection.room > 0
                && let Some(first) = connection.queue.front()
            {
                let rest = &first.bytes[connection.begun..];
                let count = rest.len().min(connection.room);
                seen.extend_from_slice(&rest[..count]);
                connection.used = true;
                if connection.room != usize::MAX {
                    connection.room -= count;
                }
                connection.begun += count;
                if connection.begun == first.bytes.len() {
                    connection.queue.pop_front();
                    connection.begun = 0;
                }
            }
        }
    }

    /// What clients have seen since [`Model::take_seen`].
    pub fn seen(&self) -> BTreeMap<u16, Vec<u8>> {
        let mut seen = self.seen.clone();
        seen.retain(|_, bytes| !bytes.is_empty());
        seen
    }

    /// What clients have seen since this was asked last.
    pub fn take_seen(&mut self) -> BTreeMap<u16, Vec<u8>> {
        let mut seen = std::mem::take(&mut self.seen);
        seen.retain(|_, bytes| !bytes.is_empty());
        seen
    }

    /// What became of requests since this was asked last.
    pub fn take_outcomes(&mut self) -> Vec<(u32, Errno)> {
        std::mem::take(&mut self.outcomes)
    }

    /// The client may be heard: it is below the limits that stop its ring from being read.
    pub fn may_read(&self, domid: u16) -> bool {
        let Some(connection) = self.connection(domid) else {
            return false;
        };
        let outstanding = self.outstanding(connection.serial);
        let reached = |limit, amount| self.limit_of(domid, limit).is_some_and(|limit| amount >= limit);
        // Ending transactions makes it less; what waits is taken without that.
        let can_free = !connection.transactions.is_empty() && connection.queue.is_empty();
        let full = reached("memory", self.memory(domid)) && !can_free;
        let stalled = reached("outstanding", outstanding) || full;
        !connection.ignored && (domid == PRIVILEGED || !stalled)
    }

    /// Whose request waits.
    pub fn pending(&self) -> Option<u16> {
        self.pending.as_ref().map(|(domid, _, _)| *domid)
    }

    /// The domain has a connection.
    pub fn is_connected(&self, domid: u16) -> bool {
        self.connection(domid).is_some()
    }

    /// The domain was given up.
    pub fn is_ignored(&self, domid: u16) -> bool {
        self.connection(domid).is_some_and(|connection| connection.ignored)
    }

    /// The ids of its open transactions.
    pub fn transactions(&self, domid: u16) -> Vec<u32> {
        let open = self.connection(domid).map(|connection| connection.transactions.keys());
        open.into_iter().flatten().copied().collect()
    }

    /// Who has something waiting to be seen.
    pub fn has_queue(&self, domid: u16) -> bool {
        self.connection(domid)
            .is_some_and(|connection| !connection.queue.is_empty())
    }

    /// The hypervisor knows the domain.
    pub fn life(&self, domid: u16) -> Option<Life> {
        self.world.get(&domid).copied()
    }

    /// All nodes.
    pub fn store(&self) -> &Tree {
        &self.store
    }

    /// The permissions of a special node.
    pub fn special(&self, name: &str) -> &[Entry] {
        &self.special[name]
    }

    /// What the test compares besides what clients see.
    pub fn known(&self) -> Known {
        let domains = self.domains.iter();
        Known {
            domains: domains
                .map(|(domid, domain)| (*domid, (domain.features, self.counts(*domid))))
                .collect(),
            connections: self
                .connections
                .iter()
                .map(|connection| {
                    let queue = connection.queue.iter().flat_map(|queued| &queued.bytes);
                    let waits = queue.skip(connection.begun).copied().collect();
                    (connection.domid, connection.ignored, waits)
                })
                .collect(),
        }
    }

    pub(super) fn connection(&self, domid: u16) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.domid == domid)
    }

    pub(super) fn connection_mut(&mut self, domid: u16) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.domid == domid)
    }

    pub(super) fn know(&mut self, domid: u16, unique: u64) {
        let domain = Domain {
            unique,
            introduced: false,
            shutdown_told: false,
            target: None,
            features: self.settings.features,
            limits: self.limits.clone(),
            most: Counts::default(),
        };
        self.domains.entry(domid).or_insert(domain);
    }

    pub(super) fn connect(&mut self, domid: u16) {
        self.connections.push(Connection {
            serial: self.next_serial,
            domid,
            queue: VecDeque::new(),
            begun: 0,
            used: false,
            room: usize::MAX,
            ignored: false,
            resets: 0,
            requests: 0,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
        });
        self.next_serial += 1;
        if let Some(domain) = self.domains.get_mut(&domid) {
            domain.introduced = true;
        }
    }

    /// The connection is gone with all that waits on it.
    pub(super) fn disconnect(&mut self, domid: u16) {
        self.empty(domid);
        self.connections.retain(|connection| connection.domid != domid);
        self.seen.remove(&domid);
    }

    pub(super) fn queue(&mut self, domid: u16, message: Queued) {
        let event = message.event;
        if let Some(connection) = self.connection_mut(domid)
            && !connection.ignored
        {
            connection.queue.push_back(message);
            self.figures.queued += u64::from(event);
        }
    }

    pub(super) fn caller(&self, domid: u16) -> Caller {
        Caller {
            domid,
            privileged: domid == PRIVILEGED,
            target: self.domains.get(&domid).and_then(|domain| domain.target),
        }
    }

    pub(super) fn job(&mut self, asker: Option<(u16, u64, u64)>) -> Job<'_> {
        let caller = self.caller(asker.map_or(PRIVILEGED, |(domid, _, _)| domid));
        Job {
            caller,
            asker: asker.map(|(_, serial, number)| (serial, number)),
            within: None,
            before: Rc::clone(&self.store),
            own_before: None,
            named: Vec::new(),
            told: Vec::new(),
            gathered: None,
            model: self,
        }
    }

    /// How many requests of a connection have messages that are not all seen.
    pub(super) fn outstanding(&self, serial: u64) -> u64 {
        let queued = self.connections.iter().flat_map(|connection| &connection.queue);
        let causes = queued
            .filter_map(|queued| queued.cause)
            .filter(|(cause, _)| *cause == serial);
        causes.collect::<BTreeSet<_>>().len() as u64
    }
}
