//! Guests that keep all they can get, in the default domain's durable pages: they leave room for each other and for who comes
//! later, and the privileged domain goes on whatever they do.

use crate::bed::Bed;
use xenstore_core::{Configuration, DomainState};
use xenstore_wire::MessageType::{Mkdir, Read, ResetWatches, Rm, Watch, Write};

/// What the default domain of 8 MiB has for the store (README, "Numbers").
const DEFAULT_PAGES: usize = 3456 * 1024;
/// And for its heap.
const DEFAULT_HEAP: u64 = 3400 * 1024;
const VALUE: usize = 1900;

/// Writes values until there is no space. How many.
fn hoard(bed: &mut Bed, domid: u16) -> u32 {
    let value = "v".repeat(VALUE);
    for number in 0..1000 {
        let request = format!("x/{}/{number}|{value}", number / 100);
        match bed.ask(domid, Write, 0, &request).as_str() {
            "OK|" => {}
            "!ENOSPC" => return number,
            other => panic!("{other}"),
        }
    }
    panic!("no end");
}

/// What dom0 does when it starts a guest: about 3.5 KiB of nodes of which some are the guest's.
fn start_as_xl_does(bed: &mut Bed, domid: u16) {
    bed.start(domid);
    for number in 0..24 {
        let device = format!("/local/domain/0/backend/vbd/{domid}/{number}/params|/dev/vg/disk-{domid}-{number}");
        assert_eq!(bed.ask(0, Write, 0, &device), "OK|");
    }
}

fn dom0_works(bed: &mut Bed) {
    bed.ask(0, ResetWatches, 0, "");
    for round in 0..3 {
        let value = "w".repeat(VALUE);
        assert_eq!(bed.ask(0, Write, 0, &format!("/tool/busy/{round}|{value}")), "OK|");
        let transaction = bed.begin(0);
        assert_eq!(bed.ask(0, Mkdir, transaction, "/tool/busy/deep/er|"), "OK|");
        assert_eq!(bed.commit(0, transaction), "OK|");
        assert_eq!(bed.ask(0, Read, 0, &format!("/tool/busy/{round}|")), value);
        assert_eq!(bed.ask(0, Watch, 0, &format!("/tool/busy|{round}|")), "OK|");
    }
    assert_eq!(bed.ask(0, Rm, 0, "/tool/busy|"), "OK|");
    let _told = bed.events(0);
}

#[test]
fn one_after_the_other_hoards_and_the_next_guest_gets_its_share() {
    let mut bed = Bed::with(Configuration::default(), DEFAULT_PAGES);
    let mut had = Vec::new();
    for domid in 1..=101 {
        start_as_xl_does(&mut bed, domid);
        had.push(hoard(&mut bed, domid));
        if domid % 20 == 0 {
            dom0_works(&mut bed);
        }
    }
    assert!(had[0] > 120, "{had:?}");
    // qemu-tests (hoarders-leave-room) asks for as much of the second one.
    assert!(had[1] >= 32, "{had:?}");
    assert!(had[50] >= 1, "{had:?}");
    // The last one can still work: short values, which is what drivers write, beside a hundred that hoard.
    bed.start(200);
    for number in 0..4 {
        assert_eq!(
            bed.ask(200, Write, 0, &format!("device/{number}/state|1")),
            "OK|",
            "{number}"
        );
    }
    // And everybody can change what it has already.
    for domid in [1, 2, 20, 51] {
        assert_eq!(
            bed.ask(domid, Write, 0, &format!("x/0/0|{}", "u".repeat(VALUE))),
            "OK|",
            "{domid}"
        );
    }
    let figures = bed.service().server().tree().figures();
    assert_eq!((figures.exhausted, figures.impossible), (0, 0));
    assert_eq!(bed.service().store_figures().undurable, 0);
    for domid in (1..=101).chain([200]) {
        bed.domain_is(domid, DomainState::ABSENT);
        bed.ask(0, Rm, 0, &format!("/local/domain/0/backend/vbd/{domid}|"));
    }
    dom0_works(&mut bed);
    bed.check();
    bed.restart();
    bed.settle();
    bed.check();
}

#[test]
fn guests_that_hoard_at_the_same_time_get_about_the_same() {
    let mut bed = Bed::with(Configuration::default(), DEFAULT_PAGES);
    let value = "v".repeat(VALUE);
    let guests = 1..=10;
    for domid in guests.clone() {
        bed.start(domid);
    }
    let mut had = [0u32; 11];
    for round in 0..200 {
        for domid in guests.clone() {
            let answer = bed.ask(domid, Write, 0, &format!("x/{}/{round}|{value}", round / 50));
            had[usize::from(domid)] += u32::from(answer == "OK|");
        }
    }
    let (least, most) = (had[1..].iter().min().unwrap(), had.iter().max().unwrap());
    assert!(*least >= 15 && *most <= least + 2, "{had:?}");
    dom0_works(&mut bed);
    bed.check();
}

#[test]
fn snapshots_cannot_keep_the_room_that_others_need() {
    let mut bed = Bed::with(Configuration::default(), DEFAULT_PAGES);
    let value = "v".repeat(VALUE);
    bed.start(5);
    bed.start(6);
    // Each snapshot keeps what dom0 writes anew after it.
    let mut open = Vec::new();
    for round in 0..9 {
        let transaction = bed.begin(5);
        assert_eq!(bed.ask(5, Read, transaction, "nothing|"), "!ENOENT");
        open.push(transaction);
        for number in 0..100 {
            let request = format!("/tool/data/{number}|{round}{value}");
            assert_eq!(bed.ask(0, Write, 0, &request), "OK|", "round {round}, {number}");
        }
    }
    for number in 0..32 {
        assert_eq!(bed.ask(6, Write, 0, &format!("x/{number}|{value}")), "OK|", "{number}");
    }
    let lost = "domain 5: its transaction 1 had to give up its snapshot for want of room";
    assert!(bed.host.log.borrow().iter().any(|line| line == lost));
    // What was given up is a conflict, as if the store had gone on too far.
    assert_eq!(bed.ask(5, Write, open[0], "a|"), "!EAGAIN");
    assert_eq!(bed.commit(5, open[0]), "OK|");
    let last = open[8];
    assert_eq!(bed.ask(5, Write, last, "a|"), "OK|");
    assert_eq!(bed.commit(5, last), "OK|");
    assert_eq!(bed.service().server().tree().figures().exhausted, 0);
    bed.check();
}

#[test]
fn a_transaction_that_wrote_and_gave_up_its_snapshot_cannot_be_committed() {
    let mut bed = Bed::with(Configuration::default(), DEFAULT_PAGES);
    let value = "v".repeat(VALUE);
    bed.start(5);
    let transaction = bed.begin(5);
    assert_eq!(bed.ask(5, Write, transaction, "a|mine"), "OK|");
    let lost = "domain 5: its transaction 1 had to give up its snapshot for want of room";
    let mut number = 0;
    while !bed.host.log.borrow().iter().any(|line| line == lost) {
        let request = format!("/tool/data/{number}|{value}");
        assert_eq!(bed.ask(0, Write, 0, &request), "OK|");
        number += 1;
    }
    bed.restart();
    bed.settle();
    assert_eq!(bed.ask(5, Read, transaction, "a|"), "!EAGAIN");
    assert_eq!(bed.commit(5, transaction), "!EAGAIN");
    assert_eq!(bed.ask(5, Read, 0, "a|"), "!ENOENT");
    assert_eq!(bed.ask(5, Write, 0, "a|mine"), "OK|");
    bed.check();
}

#[test]
fn three_hundred_guests_have_a_watch_each_and_are_told() {
    let mut bed = Bed::with(Configuration::default(), DEFAULT_PAGES);
    bed.host.heap.set(DEFAULT_HEAP);
    let guests = 1..=300;
    for domid in guests.clone() {
        bed.start(domid);
        // What programs in dom0 watch of it.
        for token in ["console", "devices"] {
            let watch = format!("/local/domain/{domid}|{token}-{domid}|");
            assert_eq!(bed.ask(0, Watch, 0, &watch), "OK|");
        }
        assert_eq!(bed.ask(domid, Watch, 0, "go|t|"), "OK|", "{domid}");
    }
    for domid in guests {
        let _first = bed.events(domid);
        assert_eq!(bed.ask(0, Write, 0, &format!("/local/domain/{domid}/go|1")), "OK|");
        assert_eq!(bed.events(domid), ["go t"]);
    }
    bed.check();
}
