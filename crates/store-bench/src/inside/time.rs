//! How long the work takes.

use std::time::Instant;

use cost_tests::bare::Bare;
use rustix::time::{ClockId, clock_gettime};

use super::store::{self, Bed};
use super::{Row, Setting, Work};

/// Passes of each row; the median counts.
const PASSES: usize = 7;
/// How often it is done in a pass: long enough for the clock, and about as many nodes as a processor's cache does not hold.
const TIMES: usize = 10_000;
/// The same of transactions of ten writes.
const TRANSACTIONS: usize = 1_000;

/// Nanoseconds that this thread has run.
pub fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// All rows of one store. `share`: the part of the usual number of requests that is done, for a trial.
pub fn rows(setting: Setting, works: &[Work], share: f64, bytes: Vec<u8>) -> Vec<Row> {
    let mut bed = store::durable(setting, bytes);
    let mut plain = bed.plain(setting);
    let mut rows = Vec::new();
    for work in works {
        rows.push(row(&mut bed, setting, *work, share, true));
        if work.also_plain() && setting.open == 0 {
            rows.push(row(&mut plain, setting, *work, share, false));
        }
    }
    rows
}

fn row<B: Bare>(bed: &mut Bed<B>, setting: Setting, work: Work, share: f64, durable: bool) -> Row {
    let each = match work {
        Work::Of(cost_tests::operations::Operation::Transaction) | Work::Commit => TRANSACTIONS,
        _ => TIMES,
    };
    let times = ((each as f64 * share) as usize).max(1);
    let listener = bed.prepare(work);
    let passes: Vec<f64> = (0..PASSES).map(|_| pass(bed, listener, work, times)).collect();
    bed.clear(listener);
    Row {
        work: work.name().to_owned(),
        durable,
        setting,
        least_ns: passes.iter().copied().fold(f64::INFINITY, f64::min),
        ns: median(passes),
        instructions: None,
    }
}

/// Nanoseconds for each. A commit alone is too short for the thread's clock, so of its times the median counts.
fn pass<B: Bare>(bed: &mut Bed<B>, listener: Option<xenstore_core::ConnectionId>, work: Work, times: usize) -> f64 {
    let mut requests = bed.requests(work, times);
    if work == Work::Commit {
        let mut commits = Vec::with_capacity(times);
        bed.run(listener, &mut requests, |commit| {
            let began = Instant::now();
            commit();
            commits.push(began.elapsed().as_nanos() as f64);
        });
        return median(commits);
    }
    let before = thread_ns();
    bed.run(listener, &mut requests, |commit| commit());
    (thread_ns() - before) as f64 / times as f64
}
