//! The server does what the model does, whatever happens.
//!
//! `XENSTORE_SEED=n` runs one seed alone and makes a failure short; `XENSTORE_SEEDS=n` runs as many seeds.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model_tests::contest::{self, Difference};
use model_tests::coverage::Coverage;
use model_tests::maker;
use model_tests::model::Settings;
use model_tests::shrink::shrink;
use model_tests::step::Step;
use xenstore_wire::MessageType;

/// Steps of one stream.
const STEPS: usize = 6000;
/// Streams, so that there are more than a million requests.
const SEEDS: u64 = 240;
/// Streams of a lone client.
const LONE: u64 = 24;
/// Failing streams that are looked into before the test gives up.
const FAILURES: usize = 2;

/// The last steps of a failing stream that are shown.
const SHOWN: usize = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

type Maker = fn(u64, usize) -> (Settings, Vec<Step>);

fn explain(maker: Maker, seed: u64, index: usize, difference: &Difference) {
    let (settings, mut steps) = maker(seed, STEPS);
    println!("seed {seed}, step {index}: {difference}");
    steps.truncate(index + 1);
    let what = difference.what.clone();
    let steps = shrink(steps, |tried| match contest::run(&settings, tried) {
        Err((index, other)) if other.what == what => Some(index),
        _ => None,
    });
    println!("  the shortest stream found that fails like that, with {settings:?}:");
    for step in steps.iter().rev().take(SHOWN).rev() {
        println!("    {step}");
    }
    if let Err((_, difference)) = contest::run(&settings, &steps) {
        println!("  {difference}");
    }
    println!("  again: XENSTORE_SEED={seed} cargo test -p model-tests --test model -- --nocapture\n");
}

/// Runs these streams; what was met, if nothing was different.
fn run(maker: Maker, first: u64, last: u64) -> Coverage {
    let next = AtomicU64::new(first);
    let total = Mutex::new((Coverage::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let failures = total.lock().unwrap_or_else(PoisonError::into_inner).1.len();
            if seed > last || failures >= FAILURES {
                return;
            }
            let (settings, steps) = maker(seed, STEPS);
            let outcome = contest::run(&settings, &steps);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(coverage) => total.0.add(&coverage),
                Err((index, difference)) => total.1.push((seed, index, difference)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (coverage, failed) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("seeds {first} to {last}: {coverage}");
    for (seed, index, difference) in &failed {
        explain(maker, *seed, *index, difference);
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _, _)| *seed).collect();
    assert!(seeds.is_empty(), "seeds that fail: {seeds:?}");
    coverage
}

#[test]
fn the_server_does_what_the_model_does() {
    let one = number("XENSTORE_SEED");
    let (first, last) = one.map_or((1, number("XENSTORE_SEEDS").unwrap_or(SEEDS)), |seed| (seed, seed));
    let coverage = run(maker::stream, first, last);
    // Fewer streams than usual cannot meet everything.
    if last - first + 1 >= SEEDS {
        let gaps = coverage.gaps();
        assert!(gaps.is_empty(), "{gaps:#?}");
    }
}

/// Where only one client has transactions, credit changes nothing that it or anyone sees.
#[test]
fn a_lone_client_does_not_notice_credit() {
    let one = number("XENSTORE_SEED");
    let (first, last) = one.map_or((1, LONE), |seed| (seed, seed));
    let coverage = run(maker::stream_of_a_lone_client, first, last);
    // Its commits are lost, too, and nobody pays.
    assert!(
        one.is_some() || coverage.times(MessageType::TransactionEnd, "EAGAIN") > 10,
        "{coverage}"
    );
}
