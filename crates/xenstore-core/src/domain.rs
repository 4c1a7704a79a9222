//! A domain as far as Xenstore knows it.

use serde::{Deserialize, Serialize};
use xenstore_wire::DomId;

use crate::account::Account;
use crate::connection::ConnectionId;
use crate::quota::Quotas;

/// One domain. Exists from the moment the server hears of it (INTRODUCE, or a permission that names it) until the
/// hypervisor says that it is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Domain {
    /// The number that no other domain of this host ever has, where the hypervisor gives one.
    pub unique_id: Option<u64>,
    /// Its connection, once introduced.
    pub connection: Option<ConnectionId>,
    /// Its shutdown has been told by `@releaseDomain`.
    pub shutdown_told: bool,
    /// It has the rights of this domain too (SET_TARGET).
    pub target: Option<DomId>,
    /// The bits of `server_features` that its ring page shows, or will show.
    pub features: u32,
    /// Its own limits.
    pub quotas: Quotas,
    /// What it is charged with.
    pub account: Account,
    /// What the log said of its memory last.
    pub warned: Warned,
    /// The largest values of its account so far.
    pub maxima: Maxima,
    /// Points of conflict credit that it lacks.
    pub lacking: u32,
    /// Commits of others that it made fail.
    pub conflicts: u64,
}

/// What was said of a domain's memory: each crossing of a limit is logged once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Warned {
    /// Nothing: it is below its limits.
    #[default]
    No,
    /// It is at or above the limit `soft-memory`.
    Soft,
    /// It is at or above the limit `memory`, and its requests wait.
    Hard,
}

/// The largest values seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Maxima {
    /// Nodes.
    pub nodes: u64,
    /// Watches.
    pub watches: u64,
    /// Requests not consumed.
    pub outstanding: u64,
    /// Bytes.
    pub memory: u64,
    /// Open transactions.
    pub transactions: u64,
}

impl Maxima {
    pub(crate) fn raise(&mut self, other: &Maxima) {
        self.nodes = self.nodes.max(other.nodes);
        self.watches = self.watches.max(other.watches);
        self.outstanding = self.outstanding.max(other.outstanding);
        self.memory = self.memory.max(other.memory);
        self.transactions = self.transactions.max(other.transactions);
    }
}

impl Domain {
    pub(crate) fn new(unique_id: Option<u64>, features: u32, quotas: Quotas) -> Self {
        Domain {
            unique_id,
            connection: None,
            shutdown_told: false,
            target: None,
            features,
            quotas,
            account: Account::default(),
            warned: Warned::default(),
            maxima: Maxima::default(),
            lacking: 0,
            conflicts: 0,
        }
    }
}
