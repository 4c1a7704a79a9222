//! `restart-times`: how long clients wait when the store crashes, with few nodes and with very many.

use super::{Kind, PLAIN, Scenario};
use crate::ring_guests;

pub const SCENARIO: Scenario = Scenario {
    name: "restart-times",
    about: "measures the time from a crash to the next reply, with 1,000, 10,000 and 120,000 nodes",
    only_by_name: true,
    kind: Kind::Served(concat!(
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/restart-times.sh")
    )),
    store_options: "--debug-crash",
    // Nodes of this kind take about 100 bytes, the durable pages are half of the memory, and an eighth of them is for checkpoints.
    store_memory: 64,
    counts_instructions: true,
    extras: ring_guests::extras,
    ..PLAIN
};
