//! The longest requests in instructions: in a small and in a large store, and with upkeep going on and without.

use std::fs;
use std::path::Path;

use cost_tests::host::Size;
use cost_tests::instructions::{self, Scratch};
use cost_tests::longest::{Pass, Upkeep, filled};
use cost_tests::operations::Operation;

/// How often each operation is.
const TIMES: usize = 100;
/// The same where upkeep has to outlast them.
const TIMES_BESIDE_UPKEEP: usize = 50;
/// What the longest request may cost while upkeep goes on, in terms of the longest without.
const MOST: f64 = 2.0;

/// Instructions of the longest request of each operation.
fn longest(pages: &[u8], pass: Pass<'_>) -> Vec<u64> {
    let name = format!("longest-{}-{}", pass.upkeep.name(), pass.size.nodes);
    let scratch = Scratch::new(&name).unwrap();
    let file = scratch.file("pages");
    fs::write(&file, pages).unwrap();
    let mut arguments = vec![pass.upkeep.name().to_owned(), file.display().to_string()];
    arguments.extend([pass.size.nodes, pass.size.watches, pass.size.wide, pass.times].map(|number| number.to_string()));
    let slowest = pass.slowest(pages);
    for operation in pass.operations {
        let numbers = &slowest[operation.name()];
        arguments.extend(numbers.iter().map(|number| format!("{}={number}", operation.name())));
    }
    let counted = instructions::count(Path::new(env!("CARGO_BIN_EXE_measured")), &arguments, &scratch);
    let counted = counted.unwrap_or_else(|failure| panic!("{failure}"));
    let of = |operation: &Operation| {
        let sums = counted.iter().filter(|(name, _)| *name == operation.name());
        sums.map(|(_, sum)| *sum).max().unwrap_or(0)
    };
    pass.operations.iter().map(of).collect()
}

/// For people to read: which request is the longest is chance, and a checkpoint's length is that of what clients have open.
#[test]
#[ignore = "takes minutes; `make test-long` runs it"]
fn the_longest_requests_in_a_small_and_in_a_large_store() {
    let sizes = [(100, 1, 100), (100_000, 10_000, 100_000)].map(|(nodes, watches, wide)| Size { nodes, watches, wide });
    let rows = sizes.map(|size| {
        let pages = filled(size);
        longest(
            &pages,
            Pass {
                size,
                times: TIMES,
                upkeep: Upkeep::Done,
                operations: &Operation::ALL,
            },
        )
    });
    println!(
        "instructions of the longest request, of {} and {} nodes",
        sizes[0].nodes, sizes[1].nodes
    );
    for ((operation, small), large) in Operation::ALL.iter().zip(&rows[0]).zip(&rows[1]) {
        println!("  {:<36}{small:>12}{large:>12}", operation.name());
    }
}

/// Operations whose requests are short by themselves.
const SHORT: [Operation; 5] = [
    Operation::Read,
    Operation::GetPerms,
    Operation::Write,
    Operation::MkdirAndRm,
    Operation::SetPerms,
];

#[test]
#[ignore = "takes minutes; `make test-long` runs it"]
fn upkeep_makes_no_request_much_longer_in_a_store_of_a_million_nodes() {
    let size = Size {
        nodes: 1_000_000,
        watches: 100,
        wide: 100,
    };
    let pages = filled(size);
    let pass = |upkeep| Pass {
        size,
        times: TIMES_BESIDE_UPKEEP,
        upkeep,
        operations: &SHORT,
    };
    let [done, going] = [Upkeep::Done, Upkeep::Going].map(|upkeep| longest(&pages, pass(upkeep)));
    println!("instructions of the longest request, without upkeep and while it goes on");
    for ((operation, done), going) in SHORT.iter().zip(&done).zip(&going) {
        println!(
            "  {:<36}{done:>12}{going:>12}  x {:.2}",
            operation.name(),
            *going as f64 / *done as f64
        );
    }
    let longest = [&done, &going].map(|sums| sums.iter().max().copied().unwrap_or(0) as f64);
    let ratio = longest[1] / longest[0];
    println!("  the longest of all: x {ratio:.2}");
    assert!(ratio <= MOST, "x {ratio:.2}");
}
