//! Children of transactions, for those who use this crate as a library: the wire has no room for them.
//!
//! A child begins with [`crate::Input::Nested`]. From then on the requests of its transaction are the child's: it sees what
//! its parent wrote, and what it writes it alone has written until it ends. Committed, it has all been the parent's; aborted,
//! the parent is as it was when the child began, what the child observed included: who decides by what an aborted child has
//! seen must look again. Children may have children, up to [`NESTING_MAX`] open at once. TRANSACTION_END ends a transaction
//! together with its open children, which go the way it goes. A child needs no conflict check of its own: nobody else sees its
//! parent, and the whole is checked when the outermost transaction commits.

use serde::{Deserialize, Serialize};

use crate::apply::transaction;
use crate::connection::ConnectionId;
use crate::record::Change;
use crate::server::Server;
use crate::tree::Memory;

/// Children that one transaction may have open at once, each within the one before.
pub const NESTING_MAX: usize = 8;

/// What becomes of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Nesting {
    /// One begins, within those that are open.
    Begin,
    /// The innermost becomes part of the one around it.
    Commit,
    /// The innermost has never been.
    Abort,
}

impl<M: Memory> Server<M> {
    /// How many children the transaction has open; none if there is no such transaction.
    pub fn nesting(&self, connection: ConnectionId, transaction: u32) -> Option<usize> {
        let open = self.connections.get(&connection)?.transactions.get(&transaction)?;
        Some(open.outer.len())
    }

    /// What such a step changes.
    pub(crate) fn nested(
        &self,
        connection: ConnectionId,
        id: u32,
        step: Nesting,
    ) -> impl Iterator<Item = Change> + use<M> {
        let open = self
            .connections
            .get(&connection)
            .and_then(|state| state.transactions.get(&id));
        let fits = open.is_some_and(|open| match step {
            Nesting::Begin => open.outer.len() < NESTING_MAX,
            Nesting::Commit | Nesting::Abort => !open.outer.is_empty(),
        });
        // The parent sees the store as it is now, if it has not looked before.
        let fresh = open.is_some_and(|open| open.roots.is_none() && !open.snapshot_lost);
        let began = (fits && fresh).then_some(Change::TransactionBegan { connection, id });
        let nested = fits.then_some(Change::Nested { connection, id, step });
        began.into_iter().chain(nested)
    }

    /// The outer state is kept as a whole: its maps hold at most what the quota `transaction-nodes` allows, and are charged.
    pub(crate) fn nest(&mut self, connection: ConnectionId, id: u32, step: Nesting) {
        let Some(open) = transaction(&mut self.connections, connection, id) else {
            return;
        };
        let before = open.used();
        let released = match step {
            Nesting::Begin => {
                let mut copy = open.clone();
                copy.outer.clear();
                if let Some(roots) = copy.roots {
                    self.tree.retain(roots.own);
                }
                open.bytes = open.bytes.saturating_add(copy.bytes);
                open.items = open.items.saturating_add(copy.items);
                open.cost = open.cost.and(copy.cost);
                open.outer.push(copy);
                None
            }
            Nesting::Commit => open.outer.pop().and_then(|outer| {
                open.bytes = open.bytes.saturating_sub(outer.bytes);
                open.items = open.items.saturating_sub(outer.items);
                open.cost = open.cost.less(outer.cost);
                outer.roots
            }),
            Nesting::Abort => open.outer.pop().and_then(|outer| {
                let (rest, outdated, lost) = (core::mem::take(&mut open.outer), open.outdated, open.snapshot_lost);
                let aborted = core::mem::replace(open, outer);
                open.outer = rest;
                open.outdated |= outdated;
                open.snapshot_lost |= lost;
                aborted.roots
            }),
        };
        let after = open.used();
        if let Some(roots) = released {
            self.tree.release(roots.own);
        }
        self.charge_used(connection, after, before);
    }
}
