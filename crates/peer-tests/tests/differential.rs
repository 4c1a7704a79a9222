//! C xenstored and ours get the same traces; see the crate.
//!
//! `XENSTORE_SEED=n` runs one seed alone, `XENSTORE_SEEDS=n` as many seeds.
#![forbid(unsafe_code)]

use native_rings::packages::{self, Xenstored};
use peer_tests::differences::Difference;
use peer_tests::duel::{Duel, Figures};
use peer_tests::shrink::shrink;
use peer_tests::trace;

const SEEDS: u64 = 24;
const STEPS: usize = 4000;

fn xenstored() -> Xenstored {
    packages::xenstored().unwrap_or_else(|failure| panic!("no C xenstored to compare with: {failure}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Traces whose failures are looked into before the test gives up.
const FAILURES: usize = 6;

/// Runs one seed; a failure is made short and written out.
fn run(xenstored: &Xenstored, seed: u64) -> Option<Figures> {
    let steps = trace::steps(seed, STEPS);
    let mut duel = Duel::start(xenstored).unwrap_or_else(|failure| panic!("{failure}"));
    let Err((index, mismatch)) = duel.run(&steps) else {
        return Some(duel.figures().clone());
    };
    println!("seed {seed}, step {index}: {mismatch}");
    let (steps, mismatch) = shrink(xenstored, steps[..=index].to_vec(), mismatch);
    println!("  the shortest trace found that fails like that:");
    for step in &steps {
        println!("    {step}");
    }
    println!("  {mismatch}");
    println!("  again: XENSTORE_SEED={seed} cargo test -p peer-tests --test differential\n");
    None
}

#[test]
fn random_traces_are_answered_as_c_xenstored_answers_them() {
    let xenstored = xenstored();
    let seeds = number("XENSTORE_SEED").map_or(1..=number("XENSTORE_SEEDS").unwrap_or(SEEDS), |seed| seed..=seed);
    let mut total = Figures::default();
    let mut failed = Vec::new();
    for seed in seeds {
        match run(&xenstored, seed) {
            Some(figures) => total.add(&figures),
            None => failed.push(seed),
        }
        if failed.len() == FAILURES {
            break;
        }
    }
    println!(
        "{} requests, {} events, {} errors alike",
        total.requests, total.events, total.errors
    );
    println!("successes by type: {:?}", total.successes);
    for difference in Difference::ALL {
        println!(
            "{difference:?}: {}",
            total.differences.get(&difference).copied().unwrap_or(0)
        );
    }
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
}
