//! What a request costs does not grow with the store: neither with its nodes, nor with watches elsewhere, nor with the width of a
//! directory. The gates are instructions and blocks of the tree that are looked at; times are printed, because machines differ.
//!
//! What is inherently in proportion to what a request asks for is not gated: RM of a subtree looks at every node of it (events and
//! accounts), a domain's end at what it had and at the children of directories that name it, DIRECTORY and DIRECTORY_PART at the names
//! that they return, an event at each watch that matches.

use std::fs;
use std::path::Path;
use std::time::Instant;

use cost_tests::desk::Desk;
use cost_tests::dice::Dice;
use cost_tests::host::{Host, Size};
use cost_tests::instructions::{self, Scratch};
use cost_tests::operations::Operation;

/// What the largest store may cost, in terms of the smallest.
const MOST: f64 = 2.0;
/// The same for a domain's life: some twenty requests, and an end that looks at every node that the domain is named in.
const MOST_OF_A_LIFE: f64 = 2.5;
/// Blocks from the root to a node that is three names deep, and one more for the index of a large directory.
const A_SHORT_WAY: f64 = 5.0;
/// How often each operation is done: over several checkpoints.
const TIMES: usize = 400;

/// A life of the server begins with a checkpoint. So many operations of [`TIMES`] requests fit into its log before the next one, which
/// costs as much as thousands of requests and would be charged to the few in whose time it falls.
const OPERATIONS_IN_ONE_LIFE: usize = 4;

const fn size(nodes: usize, watches: usize, wide: usize) -> Size {
    Size { nodes, watches, wide }
}

const SMALL: Size = size(100, 1, 100);
const MIDDLE: Size = size(10_000, 100, 1_000);
const LARGE: Size = size(100_000, 10_000, 100_000);
const LARGEST: Size = size(1_000_000, 10_000, 100_000);

/// The cost of each operation for stores of some sizes.
struct Table {
    unit: &'static str,
    /// What any store may cost: a small one whose nodes are all known from before costs less.
    least: f64,
    sizes: Vec<Size>,
    rows: Vec<(&'static str, Vec<f64>)>,
}

impl Table {
    /// Prints it. Gives the rows that have grown too much.
    fn print(&self) -> Vec<String> {
        println!("{} for each operation, with", self.unit);
        for size in &self.sizes {
            println!(
                "  {} nodes, {} watches, {} children",
                size.nodes, size.watches, size.wide
            );
        }
        let mut grown = Vec::new();
        for (name, costs) in &self.rows {
            let cells: String = costs.iter().map(|cost| format!("{cost:>12.0}")).collect();
            let growth = costs
                .last()
                .zip(costs.first())
                .map_or(0.0, |(last, first)| last / first.max(self.least));
            println!("  {name:<36}{cells}  x {growth:.2}");
            let life = *name == Operation::LifeOfADomain.name();
            if growth > if life { MOST_OF_A_LIFE } else { MOST } {
                grown.push(format!("{name}: {} grow {growth:.2} times", self.unit));
            }
        }
        grown
    }
}

fn by_operation((unit, least): (&'static str, f64), sizes: &[Size], costs: Vec<Vec<f64>>) -> Table {
    let row = |at: usize| costs.iter().map(|of_size| of_size[at]).collect();
    Table {
        unit,
        least,
        sizes: sizes.to_vec(),
        rows: Operation::ALL
            .iter()
            .enumerate()
            .map(|(at, operation)| (operation.name(), row(at)))
            .collect(),
    }
}

fn filled(size: Size) -> Desk {
    let mut desk = Desk::new(Host::bytes_for(size));
    Host::fill(&mut desk, size);
    desk.rest();
    desk
}

/// Instructions of each operation, counted under callgrind.
fn instructions_of(size: Size) -> Vec<f64> {
    let scratch = Scratch::new(&format!("cost-{}", size.nodes)).unwrap();
    let pages = scratch.file("pages");
    fs::write(&pages, filled(size).into_bytes()).unwrap();
    let mut costs = Vec::new();
    for operations in Operation::ALL.chunks(OPERATIONS_IN_ONE_LIFE) {
        let mut arguments = vec![pages.display().to_string()];
        arguments.extend([size.nodes, size.watches, size.wide, TIMES].map(|number| number.to_string()));
        arguments.extend(operations.iter().map(|operation| operation.name().to_owned()));
        let counted = instructions::count(Path::new(env!("CARGO_BIN_EXE_measured")), &arguments, &scratch);
        let counted = counted.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(counted.len(), operations.len());
        costs.extend(counted.iter().map(|(_, sum)| *sum as f64 / TIMES as f64));
    }
    costs
}

fn gate_instructions(sizes: &[Size]) {
    let costs = sizes.iter().map(|size| instructions_of(*size)).collect();
    let grown = by_operation(("instructions", 1.0), sizes, costs).print();
    assert!(grown.is_empty(), "{grown:#?}");
}

#[test]
fn instructions_do_not_grow_with_the_store() {
    gate_instructions(&[SMALL, LARGE]);
}

#[test]
#[ignore = "takes minutes; `make test-long` runs it"]
fn instructions_do_not_grow_up_to_a_million_nodes() {
    gate_instructions(&[SMALL, MIDDLE, LARGE, LARGEST]);
}

#[test]
fn blocks_looked_at_do_not_grow_up_to_a_million_nodes() {
    let sizes = [SMALL, MIDDLE, LARGEST];
    let (mut visits, mut times, mut longest) = (Vec::new(), Vec::new(), Vec::new());
    for size in sizes {
        let mut desk = filled(size);
        let host = Host::again(size);
        let mut dice = Dice::new(1);
        let (mut of_size, mut took, mut most) = (Vec::new(), Vec::new(), Vec::new());
        for operation in Operation::ALL {
            let mut work = operation.prepare(&mut desk, &host, TIMES, &mut dice);
            desk.rest();
            let (before, start) = (desk.visits(), Instant::now());
            let (mut last, mut slowest) = (start, 0);
            work.run_each(&mut desk, |_, _| {
                let now = Instant::now();
                slowest = slowest.max(now.duration_since(last).as_nanos());
                last = now;
            });
            took.push(start.elapsed().as_nanos() as f64 / TIMES as f64);
            of_size.push((desk.visits() - before) as f64 / TIMES as f64);
            most.push(slowest as f64);
        }
        visits.push(of_size);
        times.push(took);
        longest.push(most);
    }
    // What times are depends on the machine and on what else it does: for people to read.
    let _not_gated = by_operation(("nanoseconds", 1.0), &sizes, times).print();
    let _not_gated = by_operation(("nanoseconds of the longest request", 1.0), &sizes, longest).print();
    let grown = by_operation(("blocks looked at", A_SHORT_WAY), &sizes, visits).print();
    assert!(grown.is_empty(), "{grown:#?}");
}
