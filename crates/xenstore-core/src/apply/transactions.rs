//! Changes of transactions.

use xenstore_wire::PathBuf;

use super::Used;
use crate::account::signed;
use crate::connection::{Connection, ConnectionId};
use crate::heap::{self, Cost};
use crate::numbered::Numbered;
use crate::server::Server;
use crate::transaction::{Facets, Roots, Transaction, Write};
use crate::tree::Memory;

impl<M: Memory> Server<M> {
    pub(super) fn transaction_opened(&mut self, connection: ConnectionId, id: u32) {
        if let Some(state) = self.connections.get_mut(&connection) {
            state.last_transaction = id;
            state.transactions.insert(id, Transaction::default());
            self.transactions = self.transactions.saturating_add(1);
        }
        self.charge_heap(connection, heap::TRANSACTION, Cost::default());
        self.raise_maxima(connection);
    }

    pub(super) fn transaction_began(&mut self, connection: ConnectionId, id: u32) {
        let (root, generation) = (self.tree.current(), self.generation);
        if let Some(open) = transaction(&mut self.connections, connection, id) {
            self.tree.retain(root);
            self.tree.retain(root);
            open.began = generation;
            open.roots = Some(Roots {
                snapshot: root,
                own: root,
            });
        }
    }

    pub(super) fn observed(&mut self, connection: ConnectionId, id: u32, path: &PathBuf, facets: Facets) {
        if let Some(open) = transaction(&mut self.connections, connection, id) {
            let more = open.observing(path);
            open.observe(path, facets);
            self.charge_transaction(connection, id, more, Used::default());
        }
    }

    pub(super) fn wrote(&mut self, connection: ConnectionId, id: u32, write: &Write, top: u16) {
        if let Some(open) = transaction(&mut self.connections, connection, id) {
            let (more, less) = open.writing(write, top);
            open.wrote(write, top);
            self.charge_transaction(connection, id, more, less);
        }
    }

    pub(super) fn change_transaction(
        &mut self,
        connection: ConnectionId,
        id: u32,
        change: impl FnOnce(&mut Transaction),
    ) {
        if let Some(open) = transaction(&mut self.connections, connection, id) {
            change(open);
        }
    }

    pub(super) fn transaction_lost(&mut self, connection: ConnectionId, id: u32) {
        if let Some(open) = transaction(&mut self.connections, connection, id) {
            for root in open.held() {
                self.tree.release(root);
            }
            open.lose_snapshot();
        }
    }

    pub(super) fn transaction_closed(&mut self, connection: ConnectionId, id: u32) {
        let closed = self
            .connections
            .get_mut(&connection)
            .and_then(|state| state.transactions.remove(&id));
        if let Some(closed) = closed {
            self.leases.end_of(connection, Some(id));
            self.forget_transaction(connection, &closed);
        }
    }

    pub(super) fn close_all_transactions(&mut self, connection: ConnectionId) {
        self.leases.end_of(connection, None);
        self.set_losing(connection, None);
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        for closed in core::mem::take(&mut state.transactions).into_values() {
            self.forget_transaction(connection, &closed);
        }
    }

    pub(super) fn forget_transaction(&mut self, connection: ConnectionId, closed: &Transaction) {
        self.transactions = self.transactions.saturating_sub(1);
        for root in closed.held() {
            self.tree.release(root);
        }
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let (items, bytes) = (closed.items, closed.bytes as u64);
        let cost = closed.cost.and(heap::TRANSACTION);
        self.account(domid, |account| {
            account.transaction_bytes = account.transaction_bytes.saturating_sub(signed(bytes));
            account.transaction_items = account.transaction_items.saturating_sub(signed(items));
            account.subtract(cost);
        });
    }

    /// A transaction uses `more`, and `less` no longer.
    pub(super) fn charge_transaction(&mut self, connection: ConnectionId, id: u32, more: Used, less: Used) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let Some(open) = state.transactions.get_mut(&id) else {
            return;
        };
        open.bytes = open.bytes.saturating_add(more.bytes).saturating_sub(less.bytes);
        open.items = open.items.saturating_add(more.items).saturating_sub(less.items);
        open.cost = open.cost.and(more.cost).less(less.cost);
        self.charge_used(connection, more, less);
    }
}

/// The open transaction of this connection and id.
pub(crate) fn transaction(
    connections: &mut Numbered<ConnectionId, Connection>,
    connection: ConnectionId,
    id: u32,
) -> Option<&mut Transaction> {
    connections.get_mut(&connection)?.transactions.get_mut(&id)
}
