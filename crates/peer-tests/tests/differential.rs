//! Each of Debian's servers and ours get the same traces; see the crate.
//!
//! `XENSTORE_SEED=n` runs one seed alone, `XENSTORE_SEEDS=n` as many seeds.
#![forbid(unsafe_code)]

use native_rings::packages::{self, Product, Server};
use peer_tests::differences::{self, left_out};
use peer_tests::duel::{Duel, Figures};
use peer_tests::shrink::shrink;
use peer_tests::trace;
use xenstore_core::ConflictLimits;

const SEEDS: u64 = 24;
const STEPS: usize = 4000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Traces whose failures are looked into before the test gives up.
const FAILURES: usize = 6;

/// Runs one seed; a failure is made short and written out.
fn run(server: &Server, test: &str, seed: u64) -> Option<Figures> {
    let steps = trace::steps(seed, STEPS);
    // Where nobody interferes with a transaction, credit and leases are not noticed: then they are on.
    let conflicts = if trace::Style::of_seed(seed).interleaved {
        ConflictLimits::NONE
    } else {
        ConflictLimits::default()
    };
    let start = || Duel::with(server, conflicts);
    let mut duel = start().unwrap_or_else(|failure| panic!("{failure}"));
    let Err((index, mismatch)) = duel.run(&steps) else {
        return Some(duel.figures().clone());
    };
    println!("seed {seed}, step {index}: {mismatch}");
    let (steps, mismatch) = shrink(start, steps[..=index].to_vec(), mismatch);
    println!("  the shortest trace found that fails like that:");
    for step in &steps {
        println!("    {step}");
    }
    println!("  {mismatch}");
    println!("  again: XENSTORE_SEED={seed} cargo test -p peer-tests --test differential {test}\n");
    None
}

fn compare(product: Product, test: &str) {
    let name = differences::name_of(product);
    let server = packages::obtain(product).unwrap_or_else(|failure| panic!("no {name} to compare with: {failure}"));
    let one = number("XENSTORE_SEED");
    let seeds = one.map_or(1..=number("XENSTORE_SEEDS").unwrap_or(SEEDS), |seed| seed..=seed);
    println!("{name}, seeds {seeds:?}");
    let mut total = Figures::default();
    let mut failed = Vec::new();
    for (what, steps) in trace::rare() {
        let mut duel = Duel::start(&server).unwrap_or_else(|failure| panic!("{failure}"));
        if let Err((index, mismatch)) = duel.run(&steps) {
            println!("{what}, step {index}: {mismatch}");
            failed.push(0);
        }
        total.add(duel.figures());
    }
    for seed in seeds {
        match run(&server, test, seed) {
            Some(figures) => total.add(&figures),
            None => failed.push(seed),
        }
        if failed.len() >= FAILURES {
            break;
        }
    }
    println!(
        "{} requests, {} events, {} errors alike",
        total.requests, total.events, total.errors
    );
    println!("successes by type: {:?}", total.successes);
    let mut unused = Vec::new();
    for row in differences::rows(product) {
        let times = total.differences.get(&row.name).copied().unwrap_or(0);
        println!("{:?}: {times}", row.name);
        if times == 0 {
            unused.push(format!("{:?}", row.name));
        }
    }
    for row in left_out::TABLE.iter().filter(|row| row.peers.contains(&product)) {
        let times = total.left_out.get(row.what).copied().unwrap_or(0);
        println!("left out {times}: {}", row.what);
        if times == 0 {
            unused.push(row.what.to_owned());
        }
    }
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
    assert!(
        one.is_some() || unused.is_empty(),
        "rows that nothing needs: {unused:?}"
    );
}

#[test]
fn c_xenstored_4_17() {
    compare(Product::C417, "c_xenstored_4_17");
}

#[test]
fn c_xenstored_4_20() {
    compare(Product::C420, "c_xenstored_4_20");
}

#[test]
fn oxenstored_4_17() {
    compare(Product::OCaml417, "oxenstored_4_17");
}
