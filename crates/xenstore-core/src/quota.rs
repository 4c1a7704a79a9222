//! The limits of a domain: names, defaults and meaning (C xenstored 4.22, `domain.c`, quota_adm[]).

use serde::{Deserialize, Serialize};

/// One limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Limit {
    /// Nodes that the domain owns.
    Nodes,
    /// Watches of its connection.
    Watches,
    /// Requests whose reply or events are not consumed.
    Outstanding,
    /// Bytes of nodes, watches, transactions and queues: the limit that stalls the domain.
    Memory,
    /// Bytes at which a warning is logged.
    SoftMemory,
    /// Open transactions.
    Transactions,
    /// Paths that one transaction observes or writes.
    TransactionNodes,
    /// Entries of a permission list.
    NodePermissions,
    /// Length of a path relative to the domain's own, in bytes.
    PathMax,
    /// Bytes of one node: 16, its value, its children's names, 8 for each permission.
    NodeSize,
}

impl Limit {
    /// All limits in the order in which GET_QUOTA lists them.
    pub const ALL: [Limit; 10] = [
        Limit::Nodes,
        Limit::Watches,
        Limit::Outstanding,
        Limit::Memory,
        Limit::SoftMemory,
        Limit::Transactions,
        Limit::TransactionNodes,
        Limit::NodePermissions,
        Limit::PathMax,
        Limit::NodeSize,
    ];

    /// The name on the wire. Soft limits carry `soft-` there.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Nodes => "nodes",
            Limit::Watches => "watches",
            Limit::Outstanding => "outstanding",
            Limit::Memory => "memory",
            Limit::SoftMemory => "soft-memory",
            Limit::Transactions => "transactions",
            Limit::TransactionNodes => "transaction-nodes",
            Limit::NodePermissions => "node-permissions",
            Limit::PathMax => "path-max",
            Limit::NodeSize => "node-size",
        }
    }

    /// The name as `xenstore-control quota` and `quota-soft` print and take it.
    pub fn control_name(self) -> &'static str {
        match self {
            Limit::SoftMemory => "memory",
            other => other.name(),
        }
    }

    /// Only warns.
    pub fn is_soft(self) -> bool {
        matches!(self, Limit::SoftMemory)
    }

    /// What it limits, in a few words for an administrator.
    pub fn description(self) -> &'static str {
        match self {
            Limit::Nodes => "nodes owned by the domain",
            Limit::Watches => "watches of the domain",
            Limit::Outstanding => "requests whose replies and events are not taken yet",
            Limit::Memory => "bytes held for the domain, hard limit",
            Limit::SoftMemory => "bytes held for the domain, warning",
            Limit::Transactions => "open transactions of the domain",
            Limit::TransactionNodes => "nodes touched by one transaction",
            Limit::NodePermissions => "permission entries of one node",
            Limit::PathMax => "bytes of a relative path",
            Limit::NodeSize => "bytes of one node",
        }
    }

    /// C xenstored's default (4.22).
    pub fn default_value(self) -> u32 {
        match self {
            Limit::Nodes => 1000,
            Limit::Watches => 128,
            Limit::Outstanding => 20,
            Limit::Memory => 2_621_440,
            Limit::SoftMemory => 2_097_152,
            Limit::Transactions => 10,
            Limit::TransactionNodes => 1024,
            Limit::NodePermissions => 5,
            Limit::PathMax => 2048,
            Limit::NodeSize => 2048,
        }
    }

    /// The limit with this name on the wire.
    pub fn from_name(name: &[u8]) -> Option<Limit> {
        Limit::ALL.into_iter().find(|limit| limit.name().as_bytes() == name)
    }
}

/// A value for each limit; 0 means no limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quotas([u32; Limit::ALL.len()]);

impl Default for Quotas {
    fn default() -> Self {
        Quotas(Limit::ALL.map(Limit::default_value))
    }
}

impl Quotas {
    /// The value; 0 means no limit.
    pub fn get(&self, limit: Limit) -> u32 {
        self.0.get(limit as usize).copied().unwrap_or(0)
    }

    /// Another value; 0 means no limit.
    pub fn set(&mut self, limit: Limit, value: u32) {
        if let Some(place) = self.0.get_mut(limit as usize) {
            *place = value;
        }
    }

    /// `amount` is at the limit or above. C xenstored 4.22 tests with `>=` throughout, so a limit of 1000 nodes lets a
    /// domain have 999.
    pub fn reached(&self, limit: Limit, amount: u64) -> bool {
        let value = self.get(limit);
        value != 0 && amount >= u64::from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_by_their_own_names_and_places() {
        let mut quotas = Quotas::default();
        for limit in Limit::ALL {
            assert_eq!(Limit::from_name(limit.name().as_bytes()), Some(limit));
            assert_eq!(quotas.get(limit), limit.default_value());
        }
        quotas.set(Limit::NodeSize, 7);
        assert_eq!(quotas.get(Limit::NodeSize), 7);
        assert!(Limit::from_name(b"memory ").is_none());
    }

    #[test]
    fn a_limit_is_reached_at_its_value_and_zero_never() {
        let mut quotas = Quotas::default();
        assert!(!quotas.reached(Limit::Nodes, 999));
        assert!(quotas.reached(Limit::Nodes, 1000));
        quotas.set(Limit::Nodes, 0);
        assert!(!quotas.reached(Limit::Nodes, u64::MAX));
    }
}
