//! Limits: what is counted, of whom, and when it is too much.

use super::{Counts, Domain, Errno, Job, Model, PRIVILEGED};

/// The limits in the order in which GET_QUOTA lists them.
pub const LIMITS: [&str; 10] = [
    "nodes",
    "watches",
    "outstanding",
    "memory",
    "soft-memory",
    "transactions",
    "transaction-nodes",
    "node-permissions",
    "path-max",
    "node-size",
];

/// The place of a limit.
pub fn place(name: &str) -> usize {
    let place = LIMITS.iter().position(|limit| *limit == name);
    place.unwrap_or_else(|| unreachable!("no limit {name}"))
}

impl Domain {
    fn limit(&self, name: &str) -> Option<u64> {
        Some(u64::from(self.limits[place(name)])).filter(|value| *value != 0)
    }
}

impl Model {
    /// The limit that a domain must stay below; none for the privileged one, and for a value of 0.
    pub(super) fn limit_of(&self, domid: u16, name: &str) -> Option<u64> {
        let domain = self.domains.get(&domid).filter(|_| domid != PRIVILEGED)?;
        domain.limit(name)
    }

    /// Bytes that are charged to a domain: its nodes, and what its connection has watched, waiting and open.
    pub(super) fn memory(&self, domid: u16) -> u64 {
        u64::try_from(self.store.bytes_of(domid)).unwrap_or(0) + self.bytes_besides_nodes(domid)
    }

    pub(super) fn bytes_besides_nodes(&self, domid: u16) -> u64 {
        let Some(connection) = self.connection(domid) else {
            return 0;
        };
        let watches = connection
            .watches
            .iter()
            .map(|watch| watch.named.path.len() + watch.token.len());
        let queue = connection.queue.iter().map(super::Queued::memory);
        let transactions = connection.transactions.values().map(|open| open.bytes());
        (watches.sum::<usize>() + queue.sum::<usize>() + transactions.sum::<usize>()) as u64
    }

    /// What a domain has now.
    pub(super) fn counts(&self, domid: u16) -> Counts {
        let connection = self.connection(domid);
        Counts {
            nodes: u64::try_from(self.store.owned_by(domid)).unwrap_or(0),
            watches: connection.map_or(0, |connection| connection.watches.len() as u64),
            transactions: connection.map_or(0, |connection| connection.transactions.len() as u64),
            outstanding: connection.map_or(0, |connection| self.outstanding(connection.serial)),
            memory: self.memory(domid),
        }
    }

    /// Nothing was seen so far but what each domain has now.
    pub(super) fn forget_most(&mut self) {
        let domids: Vec<u16> = self.domains.keys().copied().collect();
        for domid in domids {
            let counts = self.counts(domid);
            if let Some(domain) = self.domains.get_mut(&domid) {
                domain.most = counts;
            }
        }
        self.most = Counts::default();
        self.most_is_forgotten = true;
    }

    /// Remembers the largest values.
    pub(super) fn raise(&mut self) {
        let domids: Vec<u16> = self.domains.keys().copied().collect();
        for domid in domids {
            let counts = self.counts(domid);
            if let Some(domain) = self.domains.get_mut(&domid) {
                domain.most.raise(&counts);
            }
            if domid != PRIVILEGED {
                self.most.raise(&counts);
            }
        }
    }
}

impl Counts {
    fn raise(&mut self, other: &Counts) {
        self.nodes = self.nodes.max(other.nodes);
        self.watches = self.watches.max(other.watches);
        self.transactions = self.transactions.max(other.transactions);
        self.outstanding = self.outstanding.max(other.outstanding);
        self.memory = self.memory.max(other.memory);
    }
}

impl Job<'_> {
    /// The caller has a limit and `amount` is at it.
    pub(super) fn over(&self, limit: &str, amount: usize) -> bool {
        let limit = self.model.limit_of(self.caller.domid, limit);
        limit.is_some_and(|limit| amount as u64 >= limit)
    }

    /// One node more for the caller: the store's nodes count, and in a transaction those that it made.
    pub(super) fn may_have_another_node(&self) -> Result<(), Errno> {
        let domid = self.caller.domid;
        let mut nodes = self.model.store.owned_by(domid);
        if let Some(open) = self.open() {
            nodes += open.own().owned_by(domid) - open.snapshot().owned_by(domid);
        }
        if self.over("nodes", usize::try_from(nodes + 1).unwrap_or(0)) {
            return Err("ENOSPC");
        }
        Ok(())
    }

    /// The caller stays below its limit with so many bytes more for watches and transactions.
    pub(super) fn may_hold(&self, more: usize) -> Result<(), Errno> {
        let held = self.model.memory(self.caller.domid);
        if self.over("memory", usize::try_from(held).unwrap_or(0) + more) {
            return Err("ENOMEM");
        }
        Ok(())
    }

    /// What an owner is charged with, with what this request has done to its nodes so far, is below its limit.
    pub(super) fn memory_allows(&self, owner: u16) -> Result<(), Errno> {
        if self.caller.privileged {
            return Ok(());
        }
        let mut bytes = i64::try_from(self.model.memory(owner)).unwrap_or(i64::MAX);
        if let Some(before) = &self.own_before {
            bytes += self.tree().bytes_of(owner) - before.bytes_of(owner);
        }
        let limit = self.model.limit_of(owner, "memory");
        if limit.is_some_and(|limit| u64::try_from(bytes).unwrap_or(0) >= limit) {
            return Err("ENOMEM");
        }
        Ok(())
    }
}
