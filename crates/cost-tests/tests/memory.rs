//! What a node costs in memory with everything that belongs to it: its block, its part of its parent's directory, of the table of ids and
//! of what is derived from them, of logs and checkpoints, and of chunks that are not full.

use std::alloc::System;

use cap::Cap;
use cost_tests::desk::Desk;
use cost_tests::host::{Host, Size};
use xenstore_recovery::EXTENT;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const NODES: usize = 100_000;
/// Bytes for each node.
const MOST: usize = 160;

/// Bytes in use: the heap without the durable pages, and the extents of those that are used.
fn in_use(desk: &Desk) -> usize {
    let figures = desk.server().pages().figures();
    HEAP.allocated() - figures.extents * EXTENT + (figures.extents - figures.free) * EXTENT
}

#[test]
fn a_typical_node_takes_at_most_160_bytes_all_in() {
    let empty = Size {
        nodes: 0,
        watches: 1,
        wide: 0,
    };
    let size = Size { nodes: NODES, ..empty };
    // Whole extents, so that the pages are all that the vector has.
    let bytes = Host::bytes_for(size).next_multiple_of(EXTENT);
    let mut desk = Desk::new(bytes);
    let before = in_use(&desk);
    let host = Host::fill(&mut desk, size);
    let nodes = host.domains() * cost_tests::host::NODES_OF_A_DOMAIN;
    let at_once = (in_use(&desk) - before) / nodes;
    desk.rest();
    let rested = (in_use(&desk) - before) / nodes;
    let figures = desk.server().tree().figures();
    println!("{rested} bytes for each of {nodes} nodes, {at_once} right after they were made; {figures:?}");
    assert!(rested <= MOST && at_once <= MOST, "{rested} and {at_once} bytes");
    drop(desk);
}
