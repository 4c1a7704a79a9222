//! What durability costs a WRITE, in instructions: see `cost_tests::durability`.

use std::fs;
use std::path::Path;

use cost_tests::durability::filled;
use cost_tests::host::Size;
use cost_tests::instructions::{self, Scratch};

const SIZE: Size = Size {
    nodes: 100_000,
    watches: 0,
    wide: 0,
};
/// Requests: over some checkpoints.
const TIMES: usize = 2_000;
/// What a WRITE with durable pages may cost, in terms of one without.
const MOST: f64 = 1.3;

#[test]
fn durable_pages_cost_a_write_little() {
    let scratch = Scratch::new("durability").unwrap();
    let pages = scratch.file("pages");
    fs::write(&pages, filled(SIZE)).unwrap();
    let mut arguments = vec!["durability".to_owned(), pages.display().to_string()];
    arguments.extend([SIZE.nodes, SIZE.watches, SIZE.wide, TIMES].map(|number| number.to_string()));
    let counted = instructions::count(Path::new(env!("CARGO_BIN_EXE_measured")), &arguments, &scratch);
    let counted = counted.unwrap_or_else(|failure| panic!("{failure}"));
    let [(_, with), (_, without)] = counted.as_slice() else {
        panic!("{counted:?}");
    };
    let ratio = *with as f64 / *without as f64;
    let each = |sum: &u64| sum / TIMES as u64;
    println!(
        "a WRITE with one event at 100,000 nodes: {} instructions with durable pages, {} without: x {ratio:.2}",
        each(with),
        each(without)
    );
    assert!(ratio <= MOST, "x {ratio:.2}");
}
