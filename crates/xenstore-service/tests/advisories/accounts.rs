//! How much a domain may have, and who pays for it.

use xenstore_core::{Configuration, DomainState};
use xenstore_wire::MessageType::{
    Control, Directory, GetQuota, Mkdir, Read, ResetWatches, Rm, SetPerms, SetQuota, TransactionEnd, Unwatch, Watch,
    Write,
};

use crate::bed::Bed;
use crate::{account, limit};

/// What the default of the limit `memory` allows, and a few messages that were under way when it was reached.
const MEMORY: u64 = 2_621_440 + 8192;

/// oxenstored looked at the count before it was up to date.
#[test]
fn xsa_272_nodes_are_counted_as_they_are_made() {
    let mut bed = Bed::new();
    limit(&mut bed, "nodes", 6);
    bed.start(5);
    for round in 0..3 {
        assert_eq!(bed.ask(5, Write, 0, "a/b/c/d/e|"), "!ENOSPC", "round {round}");
        assert_eq!(bed.ask(5, Write, 0, "a/b/c/d|"), "OK|");
        assert_eq!(bed.ask(5, Mkdir, 0, "f|"), "!ENOSPC");
        assert_eq!(account(&bed, 5).nodes, 5);
        let transaction = bed.begin(5);
        assert_eq!(bed.ask(5, Rm, transaction, "a/b/c|"), "OK|");
        assert_eq!(bed.ask(5, Mkdir, transaction, "g|"), "OK|");
        assert_eq!(bed.ask(5, Mkdir, transaction, "h|"), "OK|");
        assert_eq!(bed.ask(5, Mkdir, transaction, "i|"), "!ENOSPC");
        assert_eq!(bed.commit(5, transaction), "OK|");
        assert_eq!(account(&bed, 5).nodes, 5);
        for name in ["a", "g", "h"] {
            bed.ask(5, Rm, 0, &format!("{name}|"));
        }
        assert_eq!(account(&bed, 5).nodes, 1);
    }
    bed.check();
}

/// Replies that nobody reads were kept without limit.
#[test]
fn xsa_326_unread_replies_stop_their_reader() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.ask(5, Write, 0, &format!("big|{}", "x".repeat(1900)));
    bed.guests.get_mut(&5).unwrap().deaf = true;
    for _ in 0..300 {
        bed.send(5, Read, 0, "big|");
    }
    bed.settle();
    let queued = account(&bed, 5).queue_bytes;
    assert!(queued < 21 * 2100, "{queued} bytes of replies wait");
    assert_eq!(bed.ask(6, Write, 0, "x|"), "OK|");
    bed.guests.get_mut(&5).unwrap().deaf = false;
    bed.settle();
    assert_eq!(bed.messages(5).len(), 300, "none is lost");
    assert_eq!(account(&bed, 5).queue_bytes, 0);
}

/// Events that nobody reads were kept without limit: with many watches each change makes many. In a small store its share,
/// which counts the watches too, ends them, in a large one the limit `memory`.
#[test]
fn xsa_326_unread_events_end_at_the_memory_limit() {
    for (bytes, token, least, most) in [(4 << 20, 500, 4_000, 4 << 16), (128 << 20, 1000, 2_400_000, 2_600_000)] {
        let mut bed = Bed::with(Configuration::default(), bytes);
        bed.start(5);
        bed.start(6);
        watch_home(&mut bed, &"t".repeat(token));
        bed.guests.get_mut(&5).unwrap().deaf = true;
        for number in 0..30 {
            // Another path each time, so that the events are not the same ones.
            assert_eq!(bed.ask(0, Write, 0, &format!("/local/domain/5/d/{number}|")), "OK|");
        }
        let queued = account(&bed, 5).queue_bytes;
        assert!(queued > least && queued < most, "{queued} bytes of events wait");
        assert!(account(&bed, 5).memory() < MEMORY);
        assert_eq!(bed.ask(6, Write, 0, "x|"), "OK|");
        // The time-out gives the memory back, though the guest still sleeps.
        bed.host.now.set(bed.host.now.get() + 21_000_000_000);
        bed.settle();
        assert!(account(&bed, 5).queue_bytes < 5000);
        bed.check();
    }
}

/// A commit changes a thousand nodes below a hundred watches at once: what it makes must not be more than what fits.
#[test]
fn xsa_326_one_request_makes_no_more_events_than_its_receiver_may_hold() {
    let mut bed = Bed::new();
    bed.start(5);
    for token in ["", &"t".repeat(500)] {
        watch_home(&mut bed, token);
        let transaction = bed.begin(5);
        for number in 0..400 {
            assert_eq!(bed.ask(5, Write, transaction, &format!("d/{number}|")), "OK|");
        }
        bed.guests.get_mut(&5).unwrap().deaf = true;
        bed.send(5, TransactionEnd, transaction, "T|");
        bed.settle();
        let queued = account(&bed, 5).queue_bytes;
        assert!(queued > 100_000 && queued < 8 << 16, "{queued} bytes of events wait");
        bed.guests.get_mut(&5).unwrap().deaf = false;
        let told = bed.events(5);
        assert!(told.len() > 100 && told.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(bed.ask(5, ResetWatches, 0, "|"), "OK|");
    }
    bed.check();
}

fn watch_home(bed: &mut Bed, token: &str) {
    for number in 0..120 {
        let watch = format!("/local/domain/5|{number}{token}|");
        assert_eq!(bed.ask(5, Watch, 0, &watch), "OK|");
    }
    bed.events(5);
}

/// The same event again and again was kept again and again.
#[test]
fn xsa_326_an_event_that_waits_already_is_not_kept_twice() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Watch, 0, &format!("x|{}|", "t".repeat(1100)));
    bed.events(5);
    bed.guests.get_mut(&5).unwrap().deaf = true;
    for number in 0..500 {
        bed.ask(0, Write, 0, &format!("/local/domain/5/x|{number}"));
    }
    let queued = account(&bed, 5).queue_bytes;
    assert!(queued < 4 * 1400, "{queued} bytes of events wait");
}

/// Nodes in open transactions were not counted: neither their number nor their bytes.
#[test]
fn xsa_326_open_transactions_pay_for_what_they_hold() {
    let mut bed = Bed::new();
    limit(&mut bed, "transaction-nodes", 50);
    limit(&mut bed, "memory", 200_000);
    bed.start(5);
    bed.start(6);
    let many = bed.begin(5);
    let written = (0..100).filter(|number| bed.ask(5, Write, many, &format!("n{number}|")) == "OK|");
    assert_eq!(written.count(), 49);
    assert_eq!(bed.commit(5, many), "!ENOMEM");

    let value = "v".repeat(1900);
    let mut held = 0;
    for _ in 0..8 {
        let transaction = bed.begin(5);
        for number in 0..40 {
            // Over its limit a guest is refused, or not read any more. Nobody else is concerned.
            bed.send(5, Write, transaction, &format!("n{number}|{value}"));
            bed.settle();
            held += usize::from(bed.messages(5).iter().any(|reply| reply.text() == "OK|"));
        }
    }
    let memory = account(&bed, 5).memory();
    assert!(
        held > 80 && held < 110 && memory < 210_000,
        "{held} values, {memory} bytes"
    );
    assert_eq!(bed.ask(6, Write, 0, "x|"), "OK|");
    // Beginning anew is its way out.
    bed.reconnect(5);
    assert_eq!(bed.ask(5, Write, 0, "x|"), "OK|");
    assert_eq!(account(&bed, 5).transaction_bytes, 0);
    bed.check();
}

/// Nodes of the largest size, as many as there may be: bytes count, not only numbers. In a smaller store its share ends them.
#[test]
fn xsa_326_bytes_of_nodes_end_at_the_memory_limit() {
    let mut bed = Bed::with(Configuration::default(), 40 << 20);
    bed.start(5);
    bed.start(6);
    limit(&mut bed, "nodes", 100_000);
    assert_eq!(bed.ask(0, SetQuota, 0, "5|nodes|100000|"), "OK|");
    let value = "v".repeat(2000);
    let written =
        (0..2000).take_while(|number| bed.ask(5, Write, 0, &format!("d{}/{number}|{value}", number / 100)) == "OK|");
    let written = written.count();
    assert!(written > 1000 && written < 1400, "{written} nodes");
    assert!(account(&bed, 5).memory() < MEMORY);
    assert_eq!(bed.ask(6, Write, 0, &format!("n|{value}")), "OK|");
    bed.check();
}

/// RESET_WATCHES took the watches out of one of two indexes.
#[test]
fn xsa_330_reset_watches_leaves_nothing_behind() {
    let mut bed = Bed::new();
    bed.start(5);
    let before = bed.ask(0, Control, 0, "status|");
    let watches = |status: &str| {
        let line = status.split('\n').find(|line| line.starts_with("watches: "));
        line.map(String::from)
    };
    for _ in 0..20 {
        for number in 0..127 {
            assert_eq!(bed.ask(5, Watch, 0, &format!("x/{number}|t|")), "OK|");
        }
        assert_eq!(bed.ask(5, Watch, 0, "y|t|"), "!ENOSPC");
        assert_eq!(bed.ask(5, ResetWatches, 0, "|"), "OK|");
        assert_eq!(account(&bed, 5).watch_bytes, 0);
        assert_eq!(watches(&bed.ask(0, Control, 0, "status|")), watches(&before));
        assert_eq!(bed.ask(5, Unwatch, 0, "x/1|t|"), "!ENOENT");
    }
    bed.ask(5, Write, 0, "x/1|");
    assert!(bed.events(5).is_empty());
}

/// C xenstored kept the memory that a request had needed until its reply was read.
#[test]
fn xsa_416_what_a_request_needed_is_gone_when_it_is_answered() {
    let mut bed = Bed::new();
    bed.start(5);
    // Replies stay behind an unread one of more than a ring.
    bed.ask(5, Write, 0, &format!("big|{}", "x".repeat(1900)));
    bed.guests.get_mut(&5).unwrap().deaf = true;
    bed.send(5, Read, 0, "big|");
    bed.settle();
    let before = account(&bed, 5).memory();
    let value = "v".repeat(1900);
    for number in 0..18 {
        // Longer than the ring, so each is put together from parts.
        bed.send(5, Write, 0, &format!("n{}|{value}", number % 2));
        bed.settle();
    }
    let id = bed.connection_of(5).unwrap();
    let state = bed.service().server().connection(id).unwrap();
    assert_eq!(state.outstanding(), 19, "all are answered and none is read");
    assert!(state.partial.is_empty(), "{} bytes", state.partial.len());
    let grown = account(&bed, 5).memory().saturating_sub(before);
    assert!(
        grown < 2 * 2000 + 18 * 160,
        "{grown} bytes for two nodes and eighteen short replies"
    );
    bed.guests.get_mut(&5).unwrap().deaf = false;
    bed.settle();
    assert_eq!(bed.messages(5).len(), 19);
}

/// Nodes of dead domains became dom0's, who has no limit: a guest that reboots often enough filled the memory.
#[test]
fn xsa_419_what_a_dead_domain_owned_is_gone() {
    let mut bed = Bed::new();
    bed.ask(0, Mkdir, 0, "/shared|");
    let (nodes, mut live) = (account(&bed, 0).nodes, None);
    for reboot in 0..30 {
        bed.start(5);
        assert_eq!(bed.ask(0, SetPerms, 0, "/shared|b0|"), "OK|");
        for number in 0..20 {
            assert_eq!(bed.ask(5, Write, 0, &format!("d{number}/x|v")), "OK|");
            assert_eq!(bed.ask(5, Write, 0, &format!("/shared/d{number}/x|v")), "OK|");
        }
        bed.domain_is(5, DomainState::ABSENT);
        assert_eq!(bed.ask(0, Directory, 0, "/shared|"), "", "reboot {reboot}");
        assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
        // "/local" and "/local/domain" stay from the first time on.
        assert_eq!(account(&bed, 0).nodes, nodes + 2);
        while bed.service().server().tree().figures().dead_bytes > 64 * 1024 {
            bed.round();
        }
        let now = bed.service().server().tree().figures().live_bytes;
        let limit = *live.get_or_insert(2 * now + 64 * 1024);
        assert!(now < limit, "{now} bytes after {reboot} reboots");
    }
    bed.check();
}

/// oxenstored kept the counts of a number: the next domain with it began over its limit.
#[test]
fn xsa_483_a_new_domain_begins_with_an_empty_account_and_the_limits_of_all() {
    let mut bed = Bed::new();
    limit(&mut bed, "nodes", 20);
    bed.start(5);
    assert_eq!(bed.ask(0, SetQuota, 0, "5|nodes|10|"), "OK|");
    for _ in 0..3 {
        let made = (0..30).filter(|number| bed.ask(5, Mkdir, 0, &format!("n{number}|")) == "OK|");
        let made = made.count();
        assert!(made == 8 || made == 18, "{made}");
        bed.domain_is(5, DomainState::ABSENT);
        bed.start(5);
        assert_eq!(account(&bed, 5).nodes, 1);
        assert_eq!(bed.ask(0, GetQuota, 0, "5|nodes|"), "20|");
    }
    bed.check();
}
