//! What our server keeps in memory, for each node, connection, watch and transaction; prints JSON. A program of its own, because its heap is
//! counted, which costs time.
#![forbid(unsafe_code)]

use std::alloc::System;

use cap::Cap;
use cost_tests::memory::{of_clients, of_node};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Nodes of the store.
const NODES: usize = 100_000;

fn main() {
    let heap = || HEAP.allocated();
    let node = of_node(NODES, &heap);
    let mut rows = vec![
        ("a typical node", node.rested),
        ("the same right after it was made", node.at_once),
    ];
    rows.extend(of_clients(&heap));
    let rows: Vec<serde_json::Value> = rows
        .into_iter()
        .map(|(what, bytes)| serde_json::json!({ "what": what, "bytes": bytes }))
        .collect();
    println!("{}", serde_json::Value::from(rows));
}
