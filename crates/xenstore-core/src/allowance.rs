//! What a request may still use: the limits of its domain, the memory charged to owners, and the room that the store has for everyone.
//!
//! Whatever is refused here is said in the log with its reason, because on the wire all limits look alike.

use alloc::format;

use xenstore_wire::{DomId, Errno, Header, MessageType, Path};

use crate::account::Account;
use crate::apply::Used;
use crate::connection::ConnectionId;
use crate::decision::Decision;
use crate::domain::{Domain, Warned};
use crate::heap::Cost;
use crate::quota::Limit;
use crate::record::{Action, Change, Place};
use crate::share;
use crate::transaction::Transaction;
use crate::tree::Memory;

/// What a node takes besides name, value and permissions, at most: the head of its block (about 40 bytes), its entries in
/// both indexes of a large directory (about 30, in blocks that are at least half full) and in the table of ids (4).
const LASTING_OVERHEAD: usize = 128;

/// A value of up to so many bytes may always take the place of another one where there is room at all, however large the
/// account is: it is what drivers tell each other (states, numbers), and lies within what a node is charged with anyway.
pub(crate) const SHORT_VALUE: usize = 32;

/// Why a request was refused that was well-formed and allowed.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    /// By this limit of this domain.
    Limit(Limit, DomId),
    /// For want of room in the tree.
    NoRoom,
    /// The account of this domain is too large for the room that is left.
    TooLarge(DomId),
    /// For want of memory for watches, queues and transactions.
    NoMemory,
}

impl<M: Memory> Decision<'_, M> {
    /// Says what a failed request met: on the wire all limits look alike.
    pub fn log_refusal(&mut self, header: Header) {
        let caller = self.caller.domid();
        let why = match self.refused.take() {
            None => return,
            Some(Refused::Limit(limit, domid)) => {
                let most = self.domain(domid).map_or(0, |domain| domain.quotas.get(limit));
                format!("domain {domid} has reached its limit {} of {most}", limit.name())
            }
            Some(Refused::NoRoom) => {
                let room = self.server.tree.room();
                format!("the store has {room} bytes of room left")
            }
            Some(Refused::TooLarge(domid)) => {
                let (room, held) = (self.server.tree.room(), self.tree_of(domid).0);
                let most = share::largest(room as u64, self.server.sums.tree);
                format!(
                    "the store has {room} bytes of room left, for domains that have up to {most}: domain {domid} has {held}"
                )
            }
            Some(Refused::NoMemory) => {
                let (held, heap) = (self.account_of(caller).cost(), self.server.heap());
                let (largest, headroom) = (heap.largest(), heap.headroom());
                format!(
                    "the store has {} bytes ({} saved) of memory left, to add to for domains that have up to {} ({}): domain \
                     {caller} has {} ({})",
                    headroom.heap, headroom.saved, largest.heap, largest.saved, held.heap, held.saved
                )
            }
        };
        let request = MessageType::from_wire(header.kind).map_or("request", MessageType::name);
        self.actions.push(Action::Log {
            about: Some(caller),
            line: format!("domain {caller}: {request} refused, {why}"),
        });
    }

    /// The limit of the caller, if it has any and `amount` is at it.
    pub fn over(&self, limit: Limit, amount: u64) -> bool {
        let domid = self.caller.domid();
        let reached = !self.caller.exempt()
            && self
                .domain(domid)
                .is_some_and(|domain| domain.quotas.reached(limit, amount));
        if reached {
            self.refused.set(Some(Refused::Limit(limit, domid)));
        }
        reached
    }

    /// The longest path (relative to its own) that the caller may name.
    pub fn path_limit(&self) -> Option<usize> {
        if self.caller.exempt() {
            return None;
        }
        let limit = self
            .domain(self.caller.domid())
            .map(|domain| domain.quotas.get(Limit::PathMax))
            .unwrap_or(0);
        (limit != 0).then(|| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// The transaction may observe or write one thing more.
    pub fn touch(&mut self, connection: ConnectionId, id: u32, open: &Transaction, more: Used) -> Result<(), Errno> {
        if self.over(Limit::TransactionNodes, (open.touched() as u64).saturating_add(1)) {
            self.keep(Change::TransactionFailed { connection, id });
            return Err(Errno::ENOSPC);
        }
        self.own_memory_allows(more.bytes)?;
        self.heap_allows(more.cost)
    }

    /// The caller may have so many bytes more for its watches and transactions: reaching its limit would stop its requests, and
    /// nobody but itself can give those bytes back.
    pub fn own_memory_allows(&self, more: usize) -> Result<(), Errno> {
        let memory = self.account_of(self.caller.domid()).memory();
        if self.over(Limit::Memory, memory.saturating_add(more as u64)) {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    /// The caller may add so many bytes to what it has in the server's heap.
    pub fn heap_allows(&self, more: Cost) -> Result<(), Errno> {
        let account = self.account_of(self.caller.domid());
        if self.caller.exempt() || self.server.heap().lets_grow(&account, more) {
            return Ok(());
        }
        self.refused.set(Some(Refused::NoMemory));
        Err(Errno::ENOMEM)
    }

    pub fn account_of(&self, domid: DomId) -> Account {
        self.domain(domid).map(|domain| domain.account).unwrap_or_default()
    }

    pub fn charge(&mut self, domid: DomId, nodes: i64, bytes: i64) {
        let amounts = self.charged.entry(domid).or_default();
        amounts.0 = amounts.0.saturating_add(nodes);
        amounts.1 = amounts.1.saturating_add(bytes);
    }

    /// What `domid` has once this decision is applied: nodes (its transaction's own included) and bytes.
    pub fn charged_to(&self, domid: DomId) -> (i64, u64) {
        let account = self.account_of(domid);
        let (nodes, bytes) = self.charged.get(&domid).copied().unwrap_or_default();
        let in_transaction = match (self.place, self.transaction) {
            (Place::Transaction { .. }, Some((_, open))) => open.nodes.get(&domid).copied().unwrap_or(0),
            _ => 0,
        };
        let memory = i64::try_from(account.memory())
            .unwrap_or(i64::MAX)
            .saturating_add(bytes);
        let nodes = account.nodes.saturating_add(in_transaction).saturating_add(nodes);
        (nodes, u64::try_from(memory).unwrap_or(0))
    }

    pub fn memory_allows(&self, owner: DomId) -> Result<(), Errno> {
        if self.caller.exempt() {
            return Ok(());
        }
        let Some(domain) = self.domain(owner) else {
            return Ok(());
        };
        let (_, bytes) = self.charged_to(owner);
        if !self.server.exempt(owner) && domain.quotas.reached(Limit::Memory, bytes) {
            self.refused.set(Some(Refused::Limit(Limit::Memory, owner)));
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// The tree's memory is for everyone: below its reserve only privileged callers may add to it. What this decision adds
    /// for good is counted together, because applying it must not fail; what one change needs while it is made is free
    /// again when the next one comes.
    ///
    /// A change that adds nothing (`grows` is false) may use half of that reserve: so everybody can change what it has, also
    /// where others have taken all the rest.
    pub fn room(&mut self, path: Path<'_>, value: usize, permissions: usize, grows: bool) -> Result<(), Errno> {
        let tree = &self.server.tree;
        let payload = value.saturating_add(permissions.saturating_mul(4));
        let room = if self.caller.exempt() {
            tree.room_with_reserve()
        } else if grows {
            tree.room()
        } else {
            tree.room().saturating_add(tree.room_with_reserve()) / 2
        };
        let fits = |cost: usize| self.added.saturating_add(cost) <= room;
        if !fits(tree.cost_at_most(path, payload)) && !fits(tree.cost_of(self.view.base(), path, payload)) {
            self.refused.set(Some(Refused::NoRoom));
            return Err(Errno::ENOSPC);
        }
        let lasting = payload
            .saturating_add(path.name().len())
            .saturating_add(LASTING_OVERHEAD);
        self.added = self.added.saturating_add(lasting);
        Ok(())
    }

    /// What has been charged so far leaves `owner`, and the caller that may write for it, small enough for the room that is
    /// left: the rule of `share`.
    pub fn share_allows(&self, owner: DomId) -> Result<(), Errno> {
        if self.caller.exempt() {
            return Ok(());
        }
        let server = self.server;
        let (mut more, mut less) = (0u64, 0u64);
        let guests = self.charged.keys().filter(|domid| !server.exempt(**domid));
        for (after, before) in guests.map(|domid| self.tree_of(*domid)) {
            more = more.saturating_add(after);
            less = less.saturating_add(before);
        }
        let held = server.sums.tree.saturating_add(more).saturating_sub(less);
        let room = (server.tree.room() as u64).saturating_sub(more.saturating_sub(less));
        let largest = share::largest(room, held);
        for domid in [owner, self.caller.domid()] {
            if !server.exempt(domid) && self.tree_of(domid).0 > largest {
                self.refused.set(Some(Refused::TooLarge(domid)));
                return Err(Errno::ENOSPC);
            }
        }
        Ok(())
    }

    /// What the nodes of `domid` take in the tree with what has been charged so far, and without.
    fn tree_of(&self, domid: DomId) -> (u64, u64) {
        let before = self.account_of(domid);
        let (nodes, bytes) = self.charged.get(&domid).copied().unwrap_or_default();
        let after = Account {
            nodes: before.nodes.saturating_add(nodes),
            node_bytes: before.node_bytes.saturating_add(bytes),
            ..before
        };
        (after.tree(), before.tree())
    }

    /// Each crossing of a memory limit is logged once, as C xenstored does; `told` are bytes that are told to the domain.
    pub fn warn_of_memory(&mut self, domid: DomId, domain: &Domain, told: u64) {
        let (_, charged) = self.charged_to(domid);
        let memory = charged.saturating_add(told);
        let quotas = &domain.quotas;
        let (now, what, limit) = if quotas.reached(Limit::Memory, memory) {
            (Warned::Hard, "its requests wait", Limit::Memory)
        } else if quotas.reached(Limit::SoftMemory, memory) {
            (Warned::Soft, "a warning", Limit::SoftMemory)
        } else {
            (Warned::No, "below it again", Limit::SoftMemory)
        };
        if now == domain.warned {
            return;
        }
        let (name, most) = (limit.name(), quotas.get(limit));
        self.keep(Change::MemoryWarned { domid, warned: now });
        self.actions.push(Action::Log {
            about: Some(domid),
            line: format!("domain {domid} has {memory} bytes, limit {name} of {most}: {what}"),
        });
    }
}
