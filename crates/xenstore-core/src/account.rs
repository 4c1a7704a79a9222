//! What a domain is charged with. There is one account per domain, and [`crate::Server::apply`] is the only place that
//! changes it.

use serde::{Deserialize, Serialize};

use crate::heap::Cost;

/// What a node takes in the tree's memory besides what it is charged with as in C xenstored, at most: its entries in both indexes
/// of a large directory (about 30, in blocks that are at least half full) and in the table of ids (4), and the head of its block,
/// which is about 16 bytes longer than C's.
const NODE_OVERHEAD: u64 = 96;

/// The account of one domain. It begins empty when the domain becomes known and ends with it, so a reused domid starts
/// clean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// Nodes it owns in the store.
    pub nodes: i64,
    /// Bytes of those nodes.
    pub node_bytes: i64,
    /// Bytes of its watches: path and token.
    pub watch_bytes: i64,
    /// Bytes of messages queued for it.
    pub queue_bytes: i64,
    /// Bytes of what its open transactions observed and wrote.
    pub transaction_bytes: i64,
    /// How many things its open transactions observed, wrote and made.
    pub transaction_items: i64,
    /// Bytes of the server's heap for its connection, watches, queue and transactions, rounded up.
    pub heap_bytes: i64,
    /// Bytes of the same in a checkpoint, rounded up.
    pub saved_bytes: i64,
}

impl Account {
    /// Everything together, as the `memory` limit counts.
    pub fn memory(&self) -> u64 {
        let sum = self
            .node_bytes
            .saturating_add(self.watch_bytes)
            .saturating_add(self.queue_bytes)
            .saturating_add(self.transaction_bytes);
        u64::try_from(sum).unwrap_or(0)
    }

    /// Nodes, never negative.
    pub fn node_count(&self) -> u64 {
        u64::try_from(self.nodes).unwrap_or(0)
    }

    /// Bytes of the tree's room that its nodes take, and those of its open transactions: rounded up, with the unused ends of
    /// chunks (three eighths of blocks that are large).
    pub fn tree(&self) -> u64 {
        let bytes = self.node_bytes.saturating_add(self.transaction_bytes);
        let things = self.nodes.saturating_add(self.transaction_items);
        let bytes = u64::try_from(bytes).unwrap_or(0);
        let overhead = u64::try_from(things).unwrap_or(0).saturating_mul(NODE_OVERHEAD);
        bytes
            .saturating_add(bytes.saturating_mul(3) / 8)
            .saturating_add(overhead)
    }

    /// What it takes of the heap and of a checkpoint.
    pub(crate) fn cost(&self) -> Cost {
        Cost {
            heap: u64::try_from(self.heap_bytes).unwrap_or(0),
            saved: u64::try_from(self.saved_bytes).unwrap_or(0),
        }
    }

    pub(crate) fn add(&mut self, more: Cost) {
        self.heap_bytes = self.heap_bytes.saturating_add(signed(more.heap));
        self.saved_bytes = self.saved_bytes.saturating_add(signed(more.saved));
    }

    pub(crate) fn subtract(&mut self, less: Cost) {
        self.heap_bytes = self.heap_bytes.saturating_sub(signed(less.heap));
        self.saved_bytes = self.saved_bytes.saturating_sub(signed(less.saved));
    }
}

pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The sums of all accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sums {
    /// Of [`Account::tree`], without the privileged domain's.
    pub tree: u64,
    /// Of the heap and of a checkpoint, without the privileged domain's.
    pub cost: Cost,
    /// The privileged domain's.
    pub privileged: Cost,
}

impl Sums {
    /// An account is another now, or begins, or ends.
    pub fn change(&mut self, privileged: bool, before: &Account, after: &Account) {
        let cost = if privileged {
            &mut self.privileged
        } else {
            self.tree = self.tree.saturating_sub(before.tree()).saturating_add(after.tree());
            &mut self.cost
        };
        *cost = cost.less(before.cost()).and(after.cost());
    }
}

/// The bytes of one node that count against the `node-size` limit: a header of 16, 8 for each permission, the value and
/// the children's names with their NULs (C xenstored, `struct node_hdr`).
pub(crate) fn node_size(value: usize, permissions: usize, child_names: u64) -> u64 {
    16u64
        .saturating_add(8u64.saturating_mul(permissions as u64))
        .saturating_add(value as u64)
        .saturating_add(child_names)
}
