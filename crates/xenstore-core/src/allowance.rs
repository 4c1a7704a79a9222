//! What a request may still use: the limits of its domain, the memory charged to owners, and the room that the store has for everyone.
//!
//! Whatever is refused here is said in the log with its reason, because on the wire all limits look alike.

use alloc::format;

use xenstore_wire::{DomId, Errno, Header, MessageType, Path};

use crate::connection::ConnectionId;
use crate::decision::Decision;
use crate::quota::Limit;
use crate::record::{Action, Change, Place};
use crate::transaction::Transaction;
use crate::tree::Memory;

/// What a node takes besides name, value and permissions, at most: the head of its block (about 40 bytes), its entries in
/// both indexes of a large directory (about 30, in blocks that are at least half full) and in the table of ids (4).
const LASTING_OVERHEAD: usize = 128;

/// A domain that is charged with more than this part of the tree's capacity counts as a large one: 1/16.
const SHARE: usize = 16;
/// The part of the tree's capacity that large domains cannot have: 1/4.
const KEPT_FOR_SMALL: usize = 4;

/// Why a request was refused that was well-formed and allowed.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    /// By this limit of this domain.
    Limit(Limit, DomId),
    /// For want of memory in the store.
    NoRoom,
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
                let (room, kept) = (self.server.tree.room(), self.kept_from_the_largest());
                format!("the store has {room} bytes of room left, {kept} of them not for a domain that holds as much")
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

    pub fn touch(&mut self, connection: ConnectionId, id: u32, open: &Transaction) -> Result<(), Errno> {
        if self.over(Limit::TransactionNodes, (open.touched() as u64).saturating_add(1)) {
            self.keep(Change::TransactionFailed { connection, id });
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    pub fn charge(&mut self, domid: DomId, nodes: i64, bytes: i64) {
        let amounts = self.charged.entry(domid).or_default();
        amounts.0 = amounts.0.saturating_add(nodes);
        amounts.1 = amounts.1.saturating_add(bytes);
    }

    /// What `domid` has once this decision is applied: nodes (its transaction's own included) and bytes.
    pub fn charged_to(&self, domid: DomId) -> (i64, u64) {
        let account = self.domain(domid).map(|domain| domain.account).unwrap_or_default();
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
    pub fn room(&mut self, path: Path<'_>, value: usize, permissions: usize) -> Result<(), Errno> {
        let tree = &self.server.tree;
        let payload = value.saturating_add(permissions.saturating_mul(4));
        let needed = self.added.saturating_add(tree.cost_of(self.view.base(), path, payload));
        let room = if self.caller.exempt() {
            tree.room_with_reserve()
        } else {
            tree.room().saturating_sub(self.kept_from_the_largest())
        };
        if needed > room {
            self.refused.set(Some(Refused::NoRoom));
            return Err(Errno::ENOSPC);
        }
        let lasting = payload
            .saturating_add(path.name().len())
            .saturating_add(LASTING_OVERHEAD);
        self.added = self.added.saturating_add(lasting);
        Ok(())
    }

    /// Bytes that are not for the caller because it holds more than its share already: when room gets short, the largest accounts
    /// are refused first, so that one guest cannot take it all from the others.
    fn kept_from_the_largest(&self) -> usize {
        let capacity = self.server.tree.capacity();
        let (_, held) = self.charged_to(self.caller.domid());
        let share = capacity / SHARE;
        if held > u64::try_from(share).unwrap_or(u64::MAX) {
            capacity / KEPT_FOR_SMALL
        } else {
            0
        }
    }
}
