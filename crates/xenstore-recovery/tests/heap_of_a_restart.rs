//! What a restart takes of the heap, in the default domain.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "other tests need the rest")]
mod bed;

use std::alloc::System;

use bed::{Bed, DOM0};
use cap::Cap;
use xenstore_core::Quotas;
use xenstore_recovery::Store;
use xenstore_wire::HEADER_SIZE;
use xenstore_wire::MessageType::{Directory, Mkdir, Read, Write};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Heap and durable pages of the default domain of 8 MiB.
const HEAP: usize = 3400 * 1024;
const PAGES: usize = 3456 * 1024;

/// What clients have read since the last checkpoint is not in the log, so that all answers since then wait once more for a moment. The
/// longest ones take fewest bytes of the log.
#[test]
fn answers_that_were_read_do_not_fill_the_heap_of_a_restart() {
    let mut bed = Bed::new(Quotas::default(), PAGES, HEAP);
    bed.connect(0);
    let ask = |bed: &mut Bed, kind, payload: &str| {
        let answer = bed.ask(DOM0, kind, 0, payload).unwrap();
        let length = u32::try_from(HEADER_SIZE + answer.len()).unwrap();
        bed.store().published(DOM0, length);
        answer
    };
    let value = "v".repeat(4000);
    ask(&mut bed, Write, &format!("/long|{value}"));
    for number in 0..30 {
        ask(&mut bed, Mkdir, &format!("/many/{number}-{}|", "n".repeat(120)));
    }
    let before = ALLOCATOR.allocated();
    // Wherever in the log a life ends.
    for requests in (0..100).chain([200, 500, 999]) {
        for _ in 0..requests {
            assert_eq!(ask(&mut bed, Read, "/long|"), value);
            assert!(ask(&mut bed, Directory, "/many|").len() > 3600);
        }
        assert!(bed.store().server().connection(DOM0).unwrap().queue.is_empty());
        let pages = bed.store.take().unwrap().into_pages();
        bed.store = Store::recover(pages).ok().map(|recovered| recovered.store);
    }
    let most = ALLOCATOR.max_allocated() - before;
    println!("a restart takes up to {most} bytes");
    assert!(most < HEAP / 8, "{most} bytes");
}
