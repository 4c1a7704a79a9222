//! What domains are charged for, and the most that was seen: the only place where accounts change.

use alloc::vec::Vec;

use xenstore_wire::DomId;

use super::transactions::transaction;
use crate::account::{Account, signed};
use crate::connection::ConnectionId;
use crate::domain::Maxima;
use crate::heap::{self, Cost};
use crate::record::Place;
use crate::server::Server;
use crate::tree::Memory;
use crate::watch::Watch;

impl<M: Memory> Server<M> {
    pub(super) fn charge(&mut self, place: Place, domid: DomId, nodes: i64, bytes: i64) {
        match place {
            Place::Store => self.account(domid, |account| {
                account.nodes = account.nodes.saturating_add(nodes);
                account.node_bytes = account.node_bytes.saturating_add(bytes);
            }),
            Place::Transaction { connection, id } => {
                if let Some(open) = transaction(&mut self.connections, connection, id) {
                    let owned = open.nodes.entry(domid).or_default();
                    *owned = owned.saturating_add(nodes);
                    let made = Used {
                        items: u64::try_from(nodes).unwrap_or(0),
                        ..Used::default()
                    };
                    self.charge_transaction(connection, id, made, Used::default());
                }
            }
        }
    }

    /// What transactions use, charged to the domain.
    pub(crate) fn charge_used(&mut self, connection: ConnectionId, more: Used, less: Used) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let change = |more: u64, less: u64| signed(more).saturating_sub(signed(less));
        let bytes = change(more.bytes as u64, less.bytes as u64);
        let items = change(more.items, less.items);
        self.account(domid, |account| {
            account.transaction_bytes = account.transaction_bytes.saturating_add(bytes);
            account.transaction_items = account.transaction_items.saturating_add(items);
            account.add(more.cost);
            account.subtract(less.cost);
        });
    }

    pub(super) fn charge_watch(&mut self, domid: DomId, bytes: i64, sign: i64) {
        let cost = heap::of_watch(bytes.unsigned_abs());
        self.account(domid, |account| {
            account.watch_bytes = account.watch_bytes.saturating_add(bytes.saturating_mul(sign));
            if sign > 0 {
                account.add(cost);
            } else {
                account.subtract(cost);
            }
        });
    }

    /// The beginning of a message grew by `more`; 0: it is over and its memory is free.
    pub(super) fn charge_partial(&mut self, connection: ConnectionId, more: usize) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let over = if more == 0 {
            core::mem::take(&mut state.partial).len()
        } else {
            0
        };
        if more > 0 || over > 0 {
            let (more, less) = (heap::of_partial(more as u64), heap::of_partial(over as u64));
            self.charge_heap(connection, more, less);
        }
    }

    pub(super) fn charge_heap(&mut self, connection: ConnectionId, more: Cost, less: Cost) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        self.account(domid, |account| {
            account.add(more);
            account.subtract(less);
        });
    }

    pub(super) fn uncharge_queue(&mut self, connection: ConnectionId, bytes: usize, messages: usize) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let bytes = bytes as u64;
        self.account(domid, |account| {
            account.queue_bytes = account.queue_bytes.saturating_sub(signed(bytes));
            account.subtract(heap::of_messages(messages as u64, bytes));
        });
    }

    pub(super) fn account(&mut self, domid: DomId, change: impl FnOnce(&mut Account)) {
        let replaying = self.replaying;
        if let Some(domain) = self.domains.get_mut(&domid) {
            let before = domain.account;
            change(&mut domain.account);
            let privileged = domid == self.configuration.privileged;
            self.sums.change(privileged, &before, &domain.account);
            // Only what changes is seen: a queue becomes shorter in a recovery at another moment than it did.
            let nodes_changed = domain.account.nodes != before.nodes;
            let seen = Maxima {
                nodes: if nodes_changed { domain.account.node_count() } else { 0 },
                memory: if replaying { 0 } else { domain.account.memory() },
                ..Maxima::default()
            };
            domain.maxima.raise(&seen);
            if !privileged {
                self.maxima.raise(&seen);
            }
        }
    }

    /// As C xenstored (domain_reset_global_acc in domain.c): of all domains nothing was seen, of each what it has now.
    pub(super) fn forget_maxima(&mut self) {
        self.maxima = Maxima::default();
        let domids: Vec<DomId> = self.domains.keys().copied().collect();
        for domid in domids {
            let Some(domain) = self.domains.get_mut(&domid) else {
                continue;
            };
            let connection = domain.connection.and_then(|id| self.connections.get(&id));
            let seen = connection.map_or_else(Maxima::default, |state| state.seen(self.replaying));
            domain.maxima = Maxima {
                nodes: domain.account.node_count(),
                memory: if self.replaying { 0 } else { domain.account.memory() },
                ..seen
            };
        }
    }

    pub(super) fn raise_maxima(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get(&connection) else {
            return;
        };
        let seen = state.seen(self.replaying);
        if let Some(domain) = self.domains.get_mut(&state.domid) {
            domain.maxima.raise(&seen);
        }
        if state.domid != self.configuration.privileged {
            self.maxima.raise(&seen);
        }
    }
}

/// What a transaction uses.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub items: u64,
    pub bytes: usize,
    pub cost: Cost,
}

impl Used {
    /// One thing of so many bytes, of which `path` are its path.
    pub fn of(path: usize, bytes: usize) -> Used {
        Used {
            items: 1,
            bytes,
            cost: heap::of_item(path as u64, bytes.saturating_sub(path) as u64),
        }
    }
}

/// The path counts in full, however the client wrote it, as in C.
pub(crate) fn watch_bytes(watch: &Watch) -> i64 {
    let bytes = watch.path.key().len().saturating_add(watch.token.len());
    i64::try_from(bytes).unwrap_or(0)
}
