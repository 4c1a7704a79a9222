//! What a connection is charged covers what it takes of the heap.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "other tests need the rest")]
mod bed;

use std::alloc::System;

use bed::{Bed, DOM0, GUESTS, guests};
use cap::Cap;
use xenstore_core::Quotas;
use xenstore_wire::MessageType::{Mkdir, Read};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// More than they need: shortage is not the subject.
const MEMORY: usize = 64 << 20;

/// Domains come one after the other, so that the nodes of maps are half full, which is the most that they take for each.
#[test]
fn what_a_connection_is_charged_covers_what_it_takes() {
    let mut bed = Bed::new(Quotas::default(), MEMORY, MEMORY);
    bed.connect(0);
    bed.ask(DOM0, Mkdir, 0, "/x|");
    bed.drain(DOM0);
    let (before, charged) = (ALLOCATOR.allocated(), bed.store().server().heap_held());
    for (domid, id) in guests() {
        bed.connect(domid);
        // The first request makes its account and its queue.
        bed.ask(id, Read, 0, "/x|");
        bed.drain(id);
    }
    let taken = ALLOCATOR.allocated().saturating_sub(before) as u64 / u64::from(GUESTS);
    let charged = (bed.store().server().heap_held() - charged) / u64::from(GUESTS);
    println!("a connection takes {taken} bytes and is charged {charged}");
    // The loop and the machine keep something of each connection, too.
    assert!(taken * 4 <= charged * 3, "{taken} bytes taken, {charged} charged");
}
