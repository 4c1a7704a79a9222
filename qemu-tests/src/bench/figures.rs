//! What is measured, as `bench-client` says it on the serial line and as the harness reads it: one line of JSON each.

use serde::{Deserialize, Serialize};

/// One operation over one way, by one client or several at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub operation: String,
    /// `ring`: dom0's, through Linux' driver. `socket`: a daemon's.
    pub way: String,
    /// Clients with one request under way each.
    pub at_once: u32,
    /// Requests that were measured.
    pub requests: u64,
    /// Microseconds that passed for each request: the median of pieces of the measurement.
    pub wall_us: f64,
    /// Microseconds of the server's processor time for each request, likewise.
    pub server_us: f64,
    /// The same of dom0, without a server in it.
    pub dom0_us: f64,
    /// Commits that were answered EAGAIN.
    pub conflicts: u64,
    /// What the store says of itself, if it is a domain that counts.
    pub counted: Option<Counted>,
}

/// For each request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Hypercalls of every kind but blocking.
    pub hypercalls: f64,
    /// Events sent.
    pub notifies: f64,
    /// Times it gave up the processor.
    pub blocks: f64,
}

/// Guests of our own that ask at the same time for some seconds, each one request after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    /// How many, the greedy one included.
    pub guests: u32,
    /// One of them has as many requests under way as its ring takes.
    pub greedy: bool,
    pub seconds: f64,
    /// Requests of all guests but the greedy one, in a second.
    pub per_second: f64,
    /// Requests of the greedy one, in a second.
    pub greedy_per_second: f64,
    /// Requests of the guest that had fewest and of the one that had most; not the greedy one.
    pub least: u64,
    pub most: u64,
    /// Microseconds of a request, the median of the guests' medians and of their 99 of 100; and the longest of the latter.
    pub p50_us: f64,
    pub p99_us: f64,
    pub worst_p99_us: f64,
    /// Microseconds of processor time for each request of anyone.
    pub server_us: f64,
    pub dom0_us: f64,
    pub guests_us: f64,
    pub counted: Option<Counted>,
}

/// The middle one of `values`; of an even number the lower one. 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or(0.0)
}
