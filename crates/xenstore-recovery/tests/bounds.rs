//! A hundred guests take all that they can get of everything at once, in the memory of the default domain: the heap stays within
//! its bounds at every moment, no record is without room in the durable pages, the privileged domain
//! gets every answer, and with the guests' end all is free again.
#![forbid(unsafe_code)]

mod bed;

use std::alloc::System;

use bed::{Bed, DOM0, GUESTS, guests};
use cap::Cap;
use xenstore_core::{ConnectionId, DomainState, Input, Quotas};
use xenstore_recovery::Store;
use xenstore_wire::DomId;
use xenstore_wire::MessageType::*;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Heap and durable pages of the default domain of 8 MiB: half each of what image and page tables leave (README, "Numbers").
const HEAP: usize = 3400 * 1024;
const PAGES: usize = 3456 * 1024;

/// Each kind of thing of which a guest can have much. None once it gets no more of it.
type Hoard = fn(&mut Bed, u16, ConnectionId, u32) -> bool;

fn granted(answer: Option<String>) -> bool {
    answer.is_some_and(|answer| !answer.starts_with('!'))
}

const HOARDS: [(&str, Hoard); 9] = [
    ("nodes with long names", |bed, _, id, turn| {
        granted(bed.ask(id, Mkdir, 0, &format!("nodes/{turn}-{}|", "n".repeat(60))))
    }),
    ("values", |bed, _, id, turn| {
        granted(bed.ask(id, Write, 0, &format!("value-{turn}|{}", "v".repeat(1900))))
    }),
    ("deep paths", |bed, _, id, turn| {
        granted(bed.ask(id, Write, 0, &format!("deep-{turn}{}|", "/d".repeat(60))))
    }),
    ("permissions", |bed, domid, id, turn| {
        let path = format!("perm-{turn}|");
        bed.ask(id, Mkdir, 0, &path);
        granted(bed.ask(id, SetPerms, 0, &format!("{path}n{domid}|r1|r2|r3|")))
    }),
    ("watches of long paths", |bed, _, id, turn| {
        granted(bed.ask(
            id,
            Watch,
            0,
            &format!("w{turn}{}|{}|", "x".repeat(1900), "t".repeat(1000)),
        ))
    }),
    ("watches", |bed, _, id, turn| {
        // Of what all of them change.
        granted(bed.ask(id, Watch, 0, &format!("/local/domain|token-{turn}|")))
    }),
    ("transactions", |bed, _, id, turn| {
        let opened = bed.ask(id, TransactionStart, 0, "|");
        let open = opened
            .as_deref()
            .and_then(|text| text.trim_end_matches('|').parse().ok());
        let transaction = open.unwrap_or(1 + turn % 9);
        let mut more = false;
        for number in 0..5 {
            let request = format!("t-{turn}-{number}|{}", "t".repeat(1000));
            more |= granted(bed.ask(id, Write, transaction, &request));
            more |= granted(bed.ask(id, Read, transaction, &format!("t-{turn}-{number}|")));
            let missing = format!("none-{turn}-{number}{}|", "p".repeat(1000));
            bed.ask(id, Read, transaction, &missing);
        }
        more
    }),
    ("replies not taken", |bed, domid, id, _| {
        granted(bed.ask(id, Read, 0, &format!("/local/domain/{domid}/big|")))
    }),
    ("beginnings of messages", |bed, _, id, _| {
        if !bed.store().server().may_read(id) {
            return false;
        }
        let state = bed.store().server().connection(id).unwrap();
        let more = state.partial.len() < 4000;
        if more {
            bed.take(Input::Partial {
                connection: id,
                bytes: &[1; 1000],
            });
        }
        more
    }),
];

/// How many kinds at the end of the list pile up only while nothing is taken.
const PILES: usize = 2;

/// At most so many turns for each guest; `XENSTORE_TURNS=n` for more.
fn turns() -> usize {
    let given = std::env::var("XENSTORE_TURNS").ok();
    given.and_then(|turns| turns.parse().ok()).unwrap_or(60)
}

#[test]
fn a_hundred_guests_at_all_their_limits_leave_memory_for_the_privileged_domain() {
    let mut bed = Bed::new(Quotas::default(), PAGES, HEAP);
    bed.connect(0);
    let before = ALLOCATOR.allocated();
    for (domid, id) in guests() {
        bed.connect(domid);
        for request in [
            (Mkdir, format!("/local/domain/{domid}|")),
            (SetPerms, format!("/local/domain/{domid}|b{domid}|")),
            (Write, format!("/local/domain/{domid}/big|{}", "b".repeat(1900))),
        ] {
            assert_eq!(bed.ask(DOM0, request.0, 0, &request.1).as_deref(), Some("OK|"));
            bed.drain(DOM0);
        }
        assert_eq!(id.0, u32::from(domid) + 1);
    }
    bed.dom0_works(0);
    let idle = (ALLOCATOR.allocated() - before) / usize::from(GUESTS);
    let tree = bed.store().server().tree().figures().live_bytes;

    // In turns, until nobody gets more of anything that stays. Whose turn it is rotates, so that all kinds compete.
    let mut hoards = [0u32; HOARDS.len()];
    let (mut most, mut round, mut idle_turns) = (0, 1usize, 0);
    let stays = HOARDS.len() - PILES;
    for turn in 0..turns() {
        let mut more = 0;
        for (domid, id) in guests() {
            bed.drain(id);
            let which = (usize::from(domid) + turn) % stays;
            if HOARDS[which].1(&mut bed, domid, id, u32::try_from(turn).unwrap()) {
                hoards[which] += 1;
                more += 1;
            }
            most = most.max(ALLOCATOR.allocated() - before);
            // What is told to the privileged domain is taken, as a kernel does.
            bed.drain(DOM0);
        }
        if turn % 20 == 0 {
            bed.dom0_works(round);
            round += 1;
        }
        idle_turns = if more == 0 { idle_turns + 1 } else { 0 };
        if idle_turns == stays {
            break;
        }
    }
    // Now nobody takes what it is told, while the privileged domain changes what all of them watch.
    for turn in 0..60 {
        for (domid, id) in guests() {
            if turn == 0 {
                bed.drain(id);
            }
            let which = stays + (usize::from(domid) + turn) % PILES;
            hoards[which] += u32::from(HOARDS[which].1(&mut bed, domid, id, u32::try_from(turn).unwrap()));
            let changed = format!("/local/domain/{domid}/{turn}-{}|", "e".repeat(200));
            assert_eq!(bed.ask(DOM0, Write, 0, &changed).as_deref(), Some("OK|"));
            assert_eq!(bed.ask(DOM0, Rm, 0, &changed).as_deref(), Some("OK|"));
            bed.drain(DOM0);
            most = most.max(ALLOCATOR.allocated() - before);
        }
    }
    round += 1;
    bed.dom0_works(round);
    let server = bed.store().server();
    let (held, saved) = (server.heap_held() as usize, server.saved_held());
    let now = ALLOCATOR.allocated() - before;
    println!(
        "{HOARDS:?}: {hoards:?}\nheap: {idle} bytes for each idle guest, {most} at most, {now} in the end, {held} charged; \
         {saved} bytes of a checkpoint charged; {:?}; {:?}",
        server.tree().figures(),
        bed.store().figures(),
        HOARDS = HOARDS.map(|(name, _)| name)
    );
    // The stated sum: three quarters of the heap for all clients together, and never more than all of it.
    assert!(most <= HEAP / 4 * 3, "{most} bytes");
    let peak = ALLOCATOR.max_allocated().saturating_sub(before);
    assert!(peak <= HEAP, "{peak} bytes at some moment");
    assert!(now <= held, "{now} bytes of heap, of which {held} are charged");
    assert_eq!(bed.store().figures().undurable, 0);
    let figures = bed.store().server().tree().figures();
    assert_eq!((figures.exhausted, figures.impossible), (0, 0));
    assert!(hoards.iter().all(|count| *count > 0), "{hoards:?}");

    // A crash: all of it is read back within the same heap, and the long answers since the last checkpoint, which the log only names.
    let made = bed.store().figures().checkpoints;
    for _ in 0..1000 {
        let big = bed.ask(DOM0, Read, 0, "/local/domain/1/big|");
        assert_eq!(big.map(|big| big.len()), Some(1900));
        bed.drain(DOM0);
    }
    println!(
        "{} checkpoints for long answers",
        bed.store().figures().checkpoints - made
    );
    let pages = bed.store.take().unwrap().into_pages();
    let recovered = Store::recover(pages).map_err(|(_, lost)| lost).unwrap();
    bed.store = Some(recovered.store);
    let peak = ALLOCATOR.max_allocated().saturating_sub(before);
    println!("{peak} bytes of heap at most, with the restart");
    assert!(peak <= HEAP, "{peak} bytes at some moment");
    bed.dom0_works(round + 1);
    assert_eq!(bed.store().server().heap_held() as usize, held);

    // All guests die at once.
    bed.host.dead = true;
    let gone: Vec<_> = guests().map(|(domid, _)| (DomId(domid), DomainState::ABSENT)).collect();
    bed.take(Input::DomainsChanged(&gone));
    bed.drain(DOM0);
    assert_eq!(bed.store().server().domains().count(), 1);
    bed.host.dead = false;
    // Both checkpoints still know the guests, and keep their trees until they are overwritten in their turn.
    let made = bed.store().figures().checkpoints;
    let mut round = round + 2;
    while bed.store().figures().checkpoints < made + 2 {
        bed.dom0_works(round);
        round += 1;
        assert!(round < 1000, "no new checkpoint");
    }
    bed.dom0_works(round);
    assert_eq!(bed.store().figures().undurable, 0);
    let (held, server) = (bed.store().server().heap_held(), bed.store().server());
    assert!(held < 8192, "{held} bytes of heap still charged");
    // Extents that checkpoints took stay theirs; of the tree nothing is left but what dom0 works with.
    let left = server.tree().figures().live_bytes;
    assert!(left < tree, "{left} bytes of nodes left, {tree} with idle guests");
    let heap = ALLOCATOR.allocated().saturating_sub(before);
    assert!(heap < HEAP / 16, "{heap} bytes of heap still taken");
}
