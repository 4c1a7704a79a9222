//! What a domain is charged with. There is one account per domain, and [`crate::Server::apply`] is the only place that
//! changes it.

use serde::{Deserialize, Serialize};

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
}

/// The bytes of one node that count against the `node-size` limit: a header of 16, 8 for each permission, the value and
/// the children's names with their NULs (C xenstored, `struct node_hdr`).
pub(crate) fn node_size(value: usize, permissions: usize, child_names: u64) -> u64 {
    16u64
        .saturating_add(8u64.saturating_mul(permissions as u64))
        .saturating_add(value as u64)
        .saturating_add(child_names)
}
