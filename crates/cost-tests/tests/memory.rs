//! What a node costs in memory: see `cost_tests::memory`.

use std::alloc::System;

use cap::Cap;
use cost_tests::memory::{OfNode, of_node};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const NODES: usize = 100_000;
/// Bytes for each node.
const MOST: usize = 160;

#[test]
fn a_typical_node_takes_at_most_160_bytes_all_in() {
    let OfNode { at_once, rested } = of_node(NODES, &|| HEAP.allocated());
    println!("{rested} bytes for each of {NODES} nodes, {at_once} right after they were made");
    assert!(rested <= MOST && at_once <= MOST, "{rested} and {at_once} bytes");
}
