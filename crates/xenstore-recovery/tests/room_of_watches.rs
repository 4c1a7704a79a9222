//! What a watch is charged covers what it takes of the heap, however watches are spread over paths and clients.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "other tests need the rest")]
mod bed;

use std::alloc::System;

use bed::{Bed, DOM0, guests};
use cap::Cap;
use xenstore_core::Quotas;
use xenstore_wire::MessageType::{Mkdir, Watch};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// More than they need: shortage is not the subject.
const MEMORY: usize = 64 << 20;

/// What the n-th watch of a domain is on, and its token.
type Spread = fn(u16, u32) -> (String, String);

const SPREADS: [(&str, u32, Spread); 5] = [
    ("each client one, each on its own path", 1, |domid, _| {
        (format!("/own/{domid}"), "t".into())
    }),
    ("each client one, all on one path", 1, |_, _| {
        ("/one".into(), "t".into())
    }),
    ("many on their own paths", 100, |domid, number| {
        (format!("/{domid}/{number}"), "t".into())
    }),
    ("two on each path", 100, |domid, number| {
        (format!("/{domid}/{}", number / 2), number.to_string())
    }),
    ("many on one path", 100, |domid, number| {
        (format!("/{domid}"), format!("{number}{}", "t".repeat(64)))
    }),
];

#[test]
fn what_a_watch_is_charged_covers_what_it_takes() {
    for (name, count, spread) in SPREADS {
        let mut bed = Bed::new(Quotas::default(), MEMORY, MEMORY);
        bed.connect(0);
        for (domid, id) in guests() {
            bed.connect(domid);
            bed.ask(DOM0, Mkdir, 0, &format!("/{domid}|"));
            bed.drain(DOM0);
            // The first watch of all may make room for more of the log.
            bed.ask(id, Mkdir, 0, "x|");
            bed.drain(id);
        }
        let (before, charged) = (ALLOCATOR.allocated(), bed.store().server().heap_held());
        let mut watches = 0;
        for (domid, id) in guests() {
            for number in 0..count {
                let (path, token) = spread(domid, number);
                let answer = bed.ask(id, Watch, 0, &format!("{path}|{token}|"));
                assert_eq!(answer.as_deref(), Some("OK|"));
                bed.drain(id);
                watches += 1;
            }
        }
        let taken = ALLOCATOR.allocated().saturating_sub(before) as u64;
        let charged = bed.store().server().heap_held() - charged;
        println!(
            "{name}: a watch takes {} bytes and is charged {}",
            taken / watches,
            charged / watches
        );
        assert!(taken <= charged, "{name}: {taken} bytes taken, {charged} charged");
    }
}
