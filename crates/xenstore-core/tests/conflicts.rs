//! Who makes others lose, and who keeps losing: conflict credit and leases.

mod oracle;

use oracle::{DOM0, Host};
use xenstore_core::{Configuration, ConflictLimits, ConnectionId, Input, LEASE_SPACING, LEASE_TIME, LOSSES, Time};
use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType, MessageType::*};

const ONE: u32 = DOM0 + 1;
const TWO: u32 = DOM0 + 2;
const THREE: u32 = DOM0 + 3;
const MILLISECOND: u64 = 1_000_000;

/// dom0 and three guests who may all write below `/s`.
fn host(conflicts: ConflictLimits) -> Host {
    let configuration = Configuration {
        conflicts,
        ..Configuration::default()
    };
    let mut host = Host::with(configuration, 3);
    host.ask(DOM0, Mkdir, 0, "/s|");
    host.ask(DOM0, SetPerms, 0, "/s|b0|");
    for path in ["/s/a", "/s/b", "/s/own"] {
        host.ask(DOM0, Write, 0, &format!("{path}|"));
        host.ask(DOM0, SetPerms, 0, &format!("{path}|b0|"));
    }
    host
}

fn pass(host: &mut Host, nanoseconds: u64) {
    host.now = Time(host.now.0 + nanoseconds);
    while host.server.next_deadline().is_some_and(|due| due <= host.now) {
        host.take(Input::Timeout);
    }
}

fn may_read(host: &Host, connection: u32) -> bool {
    host.server.may_read(ConnectionId(connection))
}

fn caused(host: &Host, domid: u16) -> u64 {
    let mut domains = host.server.domains();
    domains.find(|(known, _)| *known == DomId(domid)).unwrap().1.conflicts
}

/// A transaction of `victim` that reads and writes, and loses or not.
fn attempt(host: &mut Host, victim: u32, path: &str, between: impl FnOnce(&mut Host)) -> String {
    let id = host.begin(victim);
    host.ask(victim, Read, id, &format!("{path}|"));
    host.ask(victim, Write, id, "/s/own|mine");
    between(host);
    host.commit(victim, id)
}

/// The writer sends a write if its requests are taken.
fn write_if_taken(host: &mut Host, connection: u32, path: &str, value: u64) -> bool {
    let taken = may_read(host, connection) && waits(host, connection, Write, 0, &format!("{path}|{value}")).is_none();
    if taken {
        assert_eq!(host.ask(connection, Write, 0, &format!("{path}|{value}")).reply, "OK|");
    }
    taken
}

fn waits(host: &Host, connection: u32, kind: MessageType, transaction: u32, payload: &str) -> Option<u64> {
    let payload = payload.replace('|', "\0");
    let header = Header {
        kind: kind as u32,
        request_id: 0,
        transaction_id: transaction,
        length: u32::try_from(payload.len() + HEADER_SIZE).unwrap(),
    };
    host.server
        .waits_for(host.now, ConnectionId(connection), header, payload.as_bytes())
}

#[test]
fn xsa_206_a_guest_that_writes_what_a_transaction_reads_cannot_make_it_lose_for_ever() {
    let mut host = host(ConflictLimits::default());
    let (mut writes, mut lost) = (0, 0);
    // One write between any two requests of the victim, as long as they are taken. The victim is a guest, too.
    loop {
        let reply = attempt(&mut host, TWO, "/s/a", |host| {
            writes += u64::from(write_if_taken(host, ONE, "/s/a", writes));
            pass(host, MILLISECOND);
        });
        if reply == "OK|" {
            break;
        }
        assert_eq!(reply, "!EAGAIN");
        lost += 1;
        assert!(lost < 100, "it loses for ever");
    }
    // It lost no more often than the writer has points, and by then it would have had a lease, too.
    assert_eq!((lost, caused(&host, 1)), (u64::from(LOSSES), u64::from(LOSSES)));
}

/// The same by credit alone: each attempt begins with another path, so that there is no lease.
#[test]
fn xsa_206_credit_alone_leaves_the_victim_time() {
    let mut host = host(ConflictLimits::default());
    let (mut writes, mut lost) = (0, 0);
    loop {
        let id = host.begin(TWO);
        host.ask(TWO, Read, id, &format!("/s/another{lost}|"));
        host.ask(TWO, Read, id, "/s/a|");
        host.ask(TWO, Write, id, "/s/own|mine");
        writes += u64::from(write_if_taken(&mut host, ONE, "/s/a", writes));
        pass(&mut host, MILLISECOND);
        if host.commit(TWO, id) == "OK|" {
            break;
        }
        lost += 1;
        assert!(lost < 100, "it loses for ever");
    }
    assert_eq!((lost, writes, caused(&host, 1)), (5, 5, 5));
    assert_eq!(host.server.conflict_figures().leases, 0);
}

#[test]
fn who_makes_others_lose_is_paused_and_gets_a_point_back_with_time() {
    let mut host = host(ConflictLimits::default());
    for turn in 0..5 {
        assert!(may_read(&host, ONE));
        // Each time another path first, so that nobody gets a lease.
        let path = format!("/s/{}|", ["a", "b", "x", "y", "z"][turn]);
        let id = host.begin(DOM0);
        host.ask(DOM0, Read, id, &path);
        host.ask(DOM0, Write, id, "/s/own|mine");
        host.ask(ONE, Write, 0, &format!("{path}other{turn}"));
        assert_eq!(host.commit(DOM0, id), "!EAGAIN");
    }
    assert!(!may_read(&host, ONE) && may_read(&host, TWO) && may_read(&host, DOM0));
    let status = host.ask(DOM0, Control, 0, "status|").reply;
    for line in [
        "conflicts: 5",
        "conflict-points-taken: 5",
        "domains-paused: 1",
        "conflict-burst-limit: 5",
    ] {
        assert!(status.lines().any(|known| known == line), "{status}");
    }
    // It is still told what happens.
    host.ask(ONE, Watch, 0, "/s/b|token|");
    assert_eq!(host.ask(DOM0, Write, 0, "/s/b|").events, [(ONE, "/s/b token".into())]);
    pass(&mut host, 49 * MILLISECOND);
    assert!(!may_read(&host, ONE));
    pass(&mut host, MILLISECOND);
    assert!(may_read(&host, ONE));
    // With all points back nothing is due any more.
    assert!(host.server.next_deadline().is_some());
    pass(&mut host, 4 * 50 * MILLISECOND);
    assert_eq!(host.server.next_deadline(), None);
}

#[test]
fn points_come_back_to_one_domain_at_a_time_or_to_each() {
    for (aggregate, expected) in [(true, [true, false]), (false, [true, true])] {
        let mut host = host(ConflictLimits {
            burst: 1,
            history_ms: 50,
            aggregate,
            ..ConflictLimits::default()
        });
        for (culprit, path) in [(ONE, "/s/a"), (TWO, "/s/b")] {
            attempt(&mut host, DOM0, path, |host| {
                write_if_taken(host, culprit, path, 1);
            });
        }
        assert!(!may_read(&host, ONE) && !may_read(&host, TWO));
        pass(&mut host, 50 * MILLISECOND);
        assert_eq!([may_read(&host, ONE), may_read(&host, TWO)], expected, "{aggregate}");
        pass(&mut host, 50 * MILLISECOND);
        assert!(may_read(&host, ONE) && may_read(&host, TWO));
    }
}

#[test]
fn only_who_changed_what_was_observed_pays() {
    let mut host = host(ConflictLimits::default());
    let reply = attempt(&mut host, DOM0, "/s/a", |host| {
        host.ask(ONE, Write, 0, "/s/b|elsewhere");
        host.ask(TWO, Write, 0, "/s/a|here");
        host.ask(THREE, Write, 0, "/s/a/below|");
    });
    assert_eq!(reply, "!EAGAIN");
    assert_eq!([1, 2, 3].map(|domid| caused(&host, domid)), [0, 1, 0]);
    // Nor who did it before the transaction looked, nor long ago, nor oneself, nor dom0.
    host.ask(TWO, Write, 0, "/s/b|before");
    let reply = attempt(&mut host, DOM0, "/s/b", |host| {
        host.ask(ONE, Write, 0, "/s/b|long ago");
        pass(host, 51 * MILLISECOND);
    });
    assert_eq!(reply, "!EAGAIN");
    let reply = attempt(&mut host, THREE, "/s/b", |host| {
        host.ask(DOM0, Write, 0, "/s/b|by dom0");
        host.ask(THREE, Write, 0, "/s/b|by itself");
    });
    assert_eq!(reply, "!EAGAIN");
    assert_eq!([0, 1, 2, 3].map(|domid| caused(&host, domid)), [0, 0, 1, 0]);
    assert_eq!(host.server.conflict_figures().without_culprit, 2);
    // A commit counts like a plain write.
    let reply = attempt(&mut host, DOM0, "/s/a", |host| {
        let id = host.begin(THREE);
        host.ask(THREE, Write, id, "/s/a|by commit");
        assert_eq!(host.commit(THREE, id), "OK|");
    });
    assert_eq!(reply, "!EAGAIN");
    assert_eq!(caused(&host, 3), 1);
}

/// A guest cannot hide a change behind many others.
#[test]
fn what_is_not_remembered_one_by_one_is_blamed_by_what_it_has_in_common() {
    let mut host = host(ConflictLimits::default());
    let reply = attempt(&mut host, DOM0, "/s/a", |host| {
        host.ask(ONE, Write, 0, "/s/a|hidden");
        for number in 0..200 {
            host.ask(ONE, Write, 0, &format!("/s/b/{number}|"));
            host.ask(TWO, Write, 0, &format!("/s/b/{number}|"));
        }
    });
    assert_eq!(reply, "!EAGAIN");
    assert_eq!([caused(&host, 1), caused(&host, 2)], [1, 0]);
}

#[test]
fn a_domain_that_ends_takes_its_debt_along() {
    let mut host = host(ConflictLimits {
        burst: 1,
        ..ConflictLimits::default()
    });
    attempt(&mut host, DOM0, "/s/a", |host| {
        write_if_taken(host, ONE, "/s/a", 1);
    });
    assert!(!may_read(&host, ONE));
    assert_eq!(host.ask(DOM0, Release, 0, "1|").reply, "OK|");
    assert_eq!(host.server.next_deadline(), None);
}

/// Loses as often as it takes to get a lease, to plain writes of dom0, which cost nobody anything.
fn lose_to_dom0(host: &mut Host, victim: u32, path: &str) {
    for turn in 0..LOSSES {
        let reply = attempt(host, victim, path, |host| {
            host.ask(DOM0, Write, 0, &format!("{path}|{turn}{}", host.now.0));
        });
        assert_eq!(reply, "!EAGAIN");
    }
}

#[test]
fn who_keeps_losing_is_left_alone_for_once() {
    let mut host = host(ConflictLimits::default());
    lose_to_dom0(&mut host, ONE, "/s/a");
    // Another guest wants to commit and to write in between, again and again.
    let reply = attempt(&mut host, ONE, "/s/a", |host| {
        let id = host.begin(TWO);
        host.ask(TWO, Write, id, "/s/a|by commit");
        assert_eq!(host.commit(TWO, id), "!EAGAIN");
        assert!(waits(host, TWO, Write, 0, "/s/a|plainly").is_some());
        assert!(waits(host, TWO, Rm, 0, "/s/a|").is_some() && waits(host, TWO, SetPerms, 0, "/s|b0|").is_some());
        // What it has not observed is free, so is reading, so is what the commit checks itself.
        assert_eq!(waits(host, TWO, Write, 0, "/s/b|"), None);
        assert_eq!(waits(host, TWO, Mkdir, 0, "/s/a|"), None);
        assert_eq!(waits(host, TWO, Read, 0, "/s/a|"), None);
        assert_eq!(waits(host, TWO, Write, 5, "/s/a|"), None);
        let lease = waits(host, THREE, Write, 0, "/s/a|").unwrap();
        assert!(host.server.lease_lasts(host.now, lease));
    });
    assert_eq!(reply, "OK|");
    // It has ended with the commit.
    assert_eq!(waits(&host, TWO, Write, 0, "/s/a|plainly"), None);
    let figures = host.server.conflict_figures();
    assert_eq!((figures.leases, figures.by_lease), (1, 1));
}

#[test]
fn a_lease_ends_with_its_time() {
    let mut host = host(ConflictLimits::default());
    lose_to_dom0(&mut host, ONE, "/s/a");
    let reply = attempt(&mut host, ONE, "/s/a", |host| {
        let lease = waits(host, TWO, Write, 0, "/s/a|x").unwrap();
        pass(host, LEASE_TIME - 1);
        assert!(host.server.lease_lasts(host.now, lease));
        assert_eq!(host.server.next_deadline(), Some(Time(host.now.0 + 1)));
        pass(host, 1);
        assert!(!host.server.lease_lasts(host.now, lease));
        assert_eq!(host.server.next_deadline(), None);
        assert!(write_if_taken(host, TWO, "/s/a", 7));
    });
    assert_eq!(reply, "!EAGAIN");
}

#[test]
fn a_lease_of_a_guest_never_binds_dom0() {
    let mut host = host(ConflictLimits::default());
    lose_to_dom0(&mut host, ONE, "/s/a");
    let id = host.begin(ONE);
    host.ask(ONE, Read, id, "/s/a|");
    assert!(waits(&host, TWO, Write, 0, "/s/a|").is_some());
    assert_eq!(waits(&host, DOM0, Write, 0, "/s/a|"), None);
    let of_dom0 = host.begin(DOM0);
    host.ask(DOM0, Write, of_dom0, "/s/a|by dom0");
    assert_eq!(host.commit(DOM0, of_dom0), "OK|");
    // One of dom0 binds all guests, but not its own plain writes.
    for _ in 0..LOSSES {
        let reply = attempt(&mut host, DOM0, "/s/b", |host| {
            let now = host.now.0;
            host.ask(DOM0, Write, 0, &format!("/s/b|{now}"));
            pass(host, 1);
        });
        assert_eq!(reply, "!EAGAIN");
    }
    let id = host.begin(DOM0);
    host.ask(DOM0, Read, id, "/s/b|");
    assert!(waits(&host, ONE, Write, 0, "/s/b|").is_some());
    assert_eq!(waits(&host, DOM0, Write, 0, "/s/b|"), None);
}

/// However guests play together, each write of another guest is free half of the time.
#[test]
fn leases_of_guests_come_one_at_a_time_and_apart() {
    let mut host = host(ConflictLimits::default());
    lose_to_dom0(&mut host, ONE, "/s/a");
    lose_to_dom0(&mut host, TWO, "/s/a");
    let first = host.begin(ONE);
    host.ask(ONE, Read, first, "/s/a|");
    let second = host.begin(TWO);
    host.ask(TWO, Read, second, "/s/a|");
    // Two losers: one lease. The other tries, and neither waits for ever.
    host.ask(TWO, Write, second, "/s/a|second");
    host.ask(ONE, Write, first, "/s/a|first");
    assert_eq!(host.commit(TWO, second), "!EAGAIN");
    assert_eq!(host.commit(ONE, first), "OK|");
    // Its turn comes, but not at once.
    let id = host.begin(TWO);
    host.ask(TWO, Read, id, "/s/a|");
    assert_eq!(waits(&host, THREE, Write, 0, "/s/a|"), None);
    host.ask(TWO, TransactionEnd, id, "F|");
    pass(&mut host, LEASE_SPACING);
    let id = host.begin(TWO);
    host.ask(TWO, Read, id, "/s/a|");
    assert!(waits(&host, THREE, Write, 0, "/s/a|").is_some());
    host.ask(TWO, TransactionEnd, id, "F|");
    assert_eq!(waits(&host, THREE, Write, 0, "/s/a|"), None);
}

#[test]
fn what_a_guest_may_not_see_it_cannot_lease() {
    let mut host = host(ConflictLimits::default());
    host.ask(DOM0, Mkdir, 0, "/s/secret|");
    host.ask(DOM0, SetPerms, 0, "/s/secret|n2|");
    for turn in 0..=LOSSES {
        let id = host.begin(ONE);
        host.ask(ONE, Read, id, "/s/a|");
        assert_eq!(host.ask(ONE, Read, id, "/s/secret/hidden|").reply, "!EACCES");
        host.ask(ONE, Write, id, "/s/own|mine");
        if turn == LOSSES {
            break;
        }
        host.ask(DOM0, Write, 0, &format!("/s/a|{turn}"));
        assert_eq!(host.commit(ONE, id), "!EAGAIN");
    }
    assert!(waits(&host, TWO, Write, 0, "/s/a|").is_some());
    assert_eq!(waits(&host, TWO, Write, 0, "/s/secret/hidden|"), None);
}

#[test]
fn a_client_that_goes_leaves_no_lease_behind() {
    let mut host = host(ConflictLimits::default());
    lose_to_dom0(&mut host, ONE, "/s/a");
    let id = host.begin(ONE);
    host.ask(ONE, Read, id, "/s/a|");
    assert!(waits(&host, TWO, Write, 0, "/s/a|").is_some());
    host.ask(ONE, ResetWatches, 0, "|");
    assert_eq!(waits(&host, TWO, Write, 0, "/s/a|"), None);
}

#[test]
fn credit_and_leases_survive_being_saved() {
    let mut host = host(ConflictLimits::default());
    let id = host.begin(THREE);
    host.ask(THREE, Read, id, "/s/b|");
    host.ask(THREE, Write, id, "/s/own|");
    host.ask(TWO, Write, 0, "/s/b|remembered");
    host.save_and_restore();
    assert_eq!(host.commit(THREE, id), "!EAGAIN");
    assert_eq!(caused(&host, 2), 1);
    lose_to_dom0(&mut host, ONE, "/s/a");
    host.save_and_restore();
    let id = host.begin(ONE);
    host.ask(ONE, Read, id, "/s/a|");
    host.save_and_restore();
    let lease = waits(&host, TWO, Write, 0, "/s/a|").unwrap();
    let due = host.server.next_deadline();
    host.save_and_restore();
    assert_eq!(host.server.next_deadline(), due);
    pass(&mut host, LEASE_TIME);
    assert!(!host.server.lease_lasts(host.now, lease));
    assert_eq!(host.server.next_deadline(), None);
}
