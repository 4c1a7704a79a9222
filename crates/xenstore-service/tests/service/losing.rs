//! Who waits because of others' transactions: a domain without conflict credit, and writes into a lease.

use xenstore_core::LEASE_TIME;
use xenstore_wire::MessageType::{Mkdir, Read, SetPerms, Watch, Write};

use crate::bed::{Bed, Message};

const MILLISECOND: u64 = 1_000_000;

fn bed() -> Bed {
    let mut bed = Bed::new();
    for domid in 1..=3 {
        bed.start(domid);
    }
    for path in ["/s", "/s/a", "/s/b"] {
        bed.ask(0, Mkdir, 0, &format!("{path}|"));
        bed.ask(0, SetPerms, 0, &format!("{path}|b0|"));
    }
    bed
}

fn pass(bed: &mut Bed, nanoseconds: u64) {
    bed.host.now.set(bed.host.now.get() + nanoseconds);
    bed.settle();
}

/// A transaction that loses to a plain write of `other`.
fn lose(bed: &mut Bed, domid: u16, path: &str, other: u16, value: u64) {
    let id = bed.begin(domid);
    bed.ask(domid, Read, id, &format!("{path}|"));
    bed.ask(domid, Write, id, "/s/own|");
    bed.ask(other, Write, 0, &format!("{path}|other{value}"));
    assert_eq!(bed.commit(domid, id), "!EAGAIN");
}

fn replies(bed: &mut Bed, domid: u16) -> Vec<String> {
    bed.settle();
    bed.messages(domid).iter().map(Message::text).collect()
}

#[test]
fn a_write_into_a_lease_waits_in_the_ring_while_everyone_else_is_served() {
    for restart in [false, true] {
        let mut bed = bed();
        for turn in 0..3 {
            lose(&mut bed, 1, "/s/a", 0, turn);
        }
        let id = bed.begin(1);
        assert_eq!(bed.ask(1, Read, id, "/s/a|"), "other2");
        bed.send(2, Write, 0, "/s/a|late");
        bed.send(2, Read, 0, "/s/a|");
        // This returns, so the loop found nothing to do.
        assert!(replies(&mut bed, 2).is_empty());
        if restart {
            bed.restart();
            assert!(replies(&mut bed, 2).is_empty());
        }
        assert_eq!(bed.ask(3, Write, 0, "/s/b|"), "OK|");
        assert_eq!(bed.ask(3, Read, 0, "/s/a|"), "other2");
        assert_eq!(bed.ask(0, Read, 0, "/s/a|"), "other2");
        bed.ask(1, Write, id, "/s/a|first");
        assert_eq!(bed.commit(1, id), "OK|");
        // The commit has ended it.
        assert_eq!(replies(&mut bed, 2), ["OK|", "late"]);
        bed.check();
    }
}

#[test]
fn what_is_remembered_of_a_loser_is_in_its_account() {
    let mut bed = bed();
    for turn in 0..5 {
        lose(&mut bed, 1, "/s/a", 0, turn);
        bed.check();
    }
    bed.restart();
    bed.check();
}

#[test]
fn a_lease_that_nobody_ends_keeps_a_write_waiting_only_for_its_time() {
    let mut bed = bed();
    for turn in 0..3 {
        lose(&mut bed, 1, "/s/a", 0, turn);
    }
    let id = bed.begin(1);
    bed.ask(1, Read, id, "/s/a|");
    bed.send(2, Write, 0, "/s/a|late");
    pass(&mut bed, LEASE_TIME - 1);
    assert!(replies(&mut bed, 2).is_empty());
    pass(&mut bed, 1);
    assert_eq!(replies(&mut bed, 2), ["OK|"]);
    assert_eq!(bed.service().server().next_deadline(), None);
    // A domain that ends while it waits leaves nothing behind, either.
    for turn in 0..3 {
        lose(&mut bed, 1, "/s/b", 0, turn);
    }
    pass(&mut bed, LEASE_TIME);
    let id = bed.begin(1);
    bed.ask(1, Read, id, "/s/b|");
    bed.send(2, Write, 0, "/s/b|never");
    bed.settle();
    bed.domain_is(2, xenstore_core::DomainState::ABSENT);
    pass(&mut bed, LEASE_TIME);
    assert_eq!(bed.ask(0, Read, 0, "/s/b|"), "other2");
}

#[test]
fn a_domain_without_credit_is_not_served_and_still_told_what_happens() {
    let mut bed = bed();
    bed.ask(1, Watch, 0, "/s/b|token|");
    bed.events(1);
    for turn in 0..5 {
        // Another path each time, so that nobody gets a lease.
        let path = ["/s/a", "/s/x", "/s/y", "/s/z", "/s/w"][turn as usize];
        lose(&mut bed, 0, path, 1, turn);
    }
    bed.send(1, Read, 0, "/s/b|");
    assert!(replies(&mut bed, 1).is_empty());
    assert_eq!(bed.ask(0, Write, 0, "/s/b|told"), "OK|");
    assert_eq!(bed.events(1), ["/s/b token"]);
    assert_eq!(bed.ask(2, Read, 0, "/s/b|"), "told");
    bed.restart();
    assert!(replies(&mut bed, 1).is_empty());
    pass(&mut bed, 50 * MILLISECOND);
    assert_eq!(replies(&mut bed, 1), ["told"]);
    let log = bed.host.log.borrow();
    assert_eq!(
        log.iter().filter(|line| line.contains("domain 1 is paused")).count(),
        1,
        "{log:?}"
    );
}
