//! Connections and domains that end in the middle of something.

use xenstore_core::{Configuration, DomainState};
use xenstore_wire::MessageType::{
    Control, Directory, Introduce, IsDomainIntroduced, Mkdir, Read, Release, ResetWatches, Rm, SetPerms, SetTarget,
    TransactionEnd, Watch, Write,
};

use crate::bed::Bed;
use crate::{account, header_announcing};

/// A guest and its stub domain died together, and the guest's connection was freed twice.
#[test]
fn xsa_233_a_guest_and_its_device_model_die_together() {
    let mut bed = Bed::new();
    bed.ask(0, Watch, 0, "@releaseDomain|gone|");
    for order in [[5, 6], [6, 5]] {
        for domid in order {
            bed.start(domid);
        }
        assert_eq!(bed.ask(0, SetTarget, 0, "6|5|"), "OK|");
        bed.ask(6, Write, 0, "/local/domain/5/x|");
        bed.ask(6, Watch, 0, "/local/domain/5|t|");
        bed.ask(5, Watch, 0, "/local/domain/6|t|");
        let transaction = bed.begin(6);
        bed.ask(6, Write, transaction, "/local/domain/5/y|");
        bed.events(0);
        bed.host.domains.borrow_mut().insert(order[0], DomainState::ABSENT);
        bed.domain_is(order[1], DomainState::ABSENT);
        // Both ends are told, each once, and each connection is closed once.
        assert_eq!(bed.events(0), ["@releaseDomain gone", "@releaseDomain gone"]);
        assert!(bed.host.mapped.borrow().is_empty());
        assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
        bed.domain_is(order[1], DomainState::ABSENT);
        assert!(bed.events(0).is_empty());
        // The next stub domain has no target.
        bed.start(5);
        bed.start(6);
        assert_eq!(bed.ask(6, Read, 0, "/local/domain/5|"), "!EACCES");
        for domid in order {
            bed.domain_is(domid, DomainState::ABSENT);
        }
    }
    bed.check();
}

/// The deepest trees that requests can make, a guest's and dom0's, worked on with a small stack.
#[test]
fn xsa_418_a_deep_tree_needs_no_deep_stack() {
    let make = |bed: &mut Bed, domid: u16, home: &str, levels: usize| {
        // A step at a time: room for the whole way at once would be refused.
        for depth in (20..=levels).step_by(20) {
            let path = format!("{home}{}a|", "a/".repeat(depth - 1));
            assert_eq!(bed.ask(domid, Mkdir, 0, &path), "OK|", "{depth} levels");
        }
    };
    let work = move || {
        let mut bed = Bed::with(Configuration::default(), 32 << 20);
        bed.ask(0, Control, 0, "quota|set|nodes|5000|");
        bed.start(5);
        make(&mut bed, 0, "/", 2000);
        make(&mut bed, 5, "", 1000);
        assert_eq!(account(&bed, 5).nodes, 1001);
        bed.check();
        bed.restart();
        bed.settle();
        assert_eq!(bed.ask(0, Rm, 0, "/a|"), "OK|");
        let transaction = bed.begin(5);
        assert_eq!(bed.ask(5, Rm, transaction, "a|"), "OK|");
        assert_eq!(bed.commit(5, transaction), "OK|");
        assert_eq!(account(&bed, 5).nodes, 1);
        make(&mut bed, 5, "", 1000);
        bed.domain_is(5, DomainState::ABSENT);
        assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
        for _ in 0..100 {
            bed.round();
        }
        bed.check();
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(work).unwrap();
    thread.join().unwrap();
}

/// C xenstored went through its connections while a request or an end took some of them away.
#[test]
fn xsa_425_connections_end_while_all_of_them_are_served() {
    let mut bed = Bed::new();
    bed.ask(0, Mkdir, 0, "/shared|");
    for round in 0..6u16 {
        let domids: Vec<u16> = (1..=12).collect();
        for domid in &domids {
            bed.start(*domid);
            bed.ask(0, SetPerms, 0, "/shared|b0|");
            bed.ask(*domid, Watch, 0, "/shared|t|");
        }
        // Everyone has work in the ring; dom0 releases every third and the hypervisor ends every fourth in the same round.
        for domid in &domids {
            for number in 0..10 {
                bed.send(*domid, Write, 0, &format!("/shared/{domid}-{number}|"));
            }
        }
        let released: Vec<u16> = domids
            .iter()
            .copied()
            .filter(|domid| (domid + round) % 3 == 0)
            .collect();
        let died: Vec<u16> = domids
            .iter()
            .copied()
            .filter(|domid| (domid + round) % 4 == 0)
            .collect();
        for domid in &released {
            bed.send(0, Release, 0, &format!("{domid}|"));
        }
        // One that was released is introduced again at once.
        bed.send(0, Introduce, 0, &format!("{}|1|1|", released[0]));
        for domid in domids.iter().filter(|domid| (**domid + round) % 5 == 0) {
            bed.reset_silently(*domid);
        }
        bed.pump();
        for domid in &died {
            bed.host.domains.borrow_mut().insert(*domid, DomainState::ABSENT);
        }
        bed.domain_is(died[0], DomainState::ABSENT);
        for domid in &domids {
            let introduced = bed.ask(0, IsDomainIntroduced, 0, &format!("{domid}|"));
            let gone = died.contains(domid) || released[1..].contains(domid);
            assert!(introduced == "F|" || !gone, "domain {domid} in round {round}");
            assert_eq!(
                introduced == "T|",
                bed.host.mapped.borrow().contains(domid),
                "domain {domid}"
            );
        }
        for domid in &domids {
            bed.domain_is(*domid, DomainState::ABSENT);
        }
        assert!(bed.host.mapped.borrow().is_empty());
        assert_eq!(bed.ask(0, Directory, 0, "/shared|"), "");
        bed.check();
    }
}

/// RESET_WATCHES in a transaction, or a ring that died in one, made C xenstored assert.
#[test]
fn xsa_484_a_transaction_ends_in_every_way_that_a_connection_can_end() {
    let mut bed = Bed::new();
    bed.start(5);
    let open = |bed: &mut Bed| {
        let transaction = bed.begin(5);
        assert_eq!(bed.ask(5, Write, transaction, "x|v"), "OK|");
        bed.ask(5, Watch, transaction, "x|t|");
        transaction
    };
    let ended = |bed: &mut Bed, transaction: u32, how: &str| {
        assert_eq!(bed.ask(5, Read, transaction, "x|"), "!ENOENT", "{how}");
        assert_eq!(bed.ask(5, TransactionEnd, transaction, "T|"), "!ENOENT", "{how}");
        assert_eq!(bed.ask(5, Read, 0, "x|"), "!ENOENT", "{how}");
        let left = account(bed, 5);
        assert_eq!(
            (left.transaction_bytes, left.watch_bytes, left.nodes),
            (0, 0, 1),
            "{how}"
        );
        bed.check();
    };
    let transaction = open(&mut bed);
    assert_eq!(bed.ask(5, ResetWatches, transaction, "|"), "OK|");
    assert_eq!(bed.ask(5, ResetWatches, transaction, "|"), "!ENOENT");
    assert_eq!(bed.ask(5, ResetWatches, 0, "|"), "OK|");
    ended(&mut bed, transaction, "RESET_WATCHES");

    let transaction = open(&mut bed);
    bed.guests.get_mut(&5).unwrap().send_bytes(&header_announcing(u32::MAX));
    bed.settle();
    bed.reconnect(5);
    ended(&mut bed, transaction, "a frame that cannot be");

    let transaction = open(&mut bed);
    bed.reset_silently(5);
    ended(&mut bed, transaction, "a silent reset");

    let transaction = open(&mut bed);
    bed.introduce_again(5);
    ended(&mut bed, transaction, "INTRODUCE");

    let transaction = open(&mut bed);
    assert_eq!(bed.ask(0, Release, 0, "5|"), "OK|");
    bed.start(5);
    ended(&mut bed, transaction, "RELEASE");

    let transaction = open(&mut bed);
    bed.domain_is(5, DomainState::ABSENT);
    bed.start(5);
    ended(&mut bed, transaction, "its death");
}
