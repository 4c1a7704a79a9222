//! What a run gave: figures, or the first thing that nothing explains.

use std::collections::BTreeMap;
use std::fmt;

use crate::differences::Difference;

/// The two gave different things and nothing explains it.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What was asked.
    pub request: String,
    /// What differs.
    pub what: &'static str,
    /// The peer's side of it.
    pub peer: String,
    /// Our side of it.
    pub ours: String,
}

impl Mismatch {
    /// The same differs, after a request of the same type.
    pub fn is_like(&self, other: &Mismatch) -> bool {
        let kind = |request: &str| request.split(' ').nth(1).map(str::to_owned);
        self.what == other.what && kind(&self.request) == kind(&other.request)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} differ after {}\n    peer: {}\n    ours: {}",
            self.what, self.request, self.peer, self.ours
        )
    }
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests to each of the two.
    pub requests: u64,
    /// Events that both sent.
    pub events: u64,
    /// Answers that were errors on both.
    pub errors: u64,
    /// How often each request type was answered with success by both.
    pub successes: BTreeMap<u32, u64>,
    /// How often each intended difference was met.
    pub differences: BTreeMap<Difference, u64>,
    /// How often a request was left out, by what.
    pub left_out: BTreeMap<&'static str, u64>,
}

impl Figures {
    /// Counts one.
    pub fn met(&mut self, difference: Difference) {
        *self.differences.entry(difference).or_default() += 1;
    }

    /// How often it was met.
    pub fn times(&self, difference: Difference) -> u64 {
        self.differences.get(&difference).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Figures) {
        self.requests += other.requests;
        self.events += other.events;
        self.errors += other.errors;
        for (kind, count) in &other.successes {
            *self.successes.entry(*kind).or_default() += count;
        }
        for (difference, count) in &other.differences {
            *self.differences.entry(*difference).or_default() += count;
        }
        for (what, count) in &other.left_out {
            *self.left_out.entry(what).or_default() += count;
        }
    }
}
