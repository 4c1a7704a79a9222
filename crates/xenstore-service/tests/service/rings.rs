//! What a client's ring sees: notifications, long and broken messages, new beginnings, misbehaviour, other clients' delays.

use crate::bed::Bed;
use xenstore_core::RING_UNREAD_REPLIES;
use xenstore_ring::{SharedPage, offset};
use xenstore_wire::MessageType::{Read, Rm, TransactionStart, Watch, Write};

fn notified(bed: &Bed, domid: u16) -> u32 {
    bed.host.notified.borrow().get(&domid).copied().unwrap_or(0)
}

#[test]
fn a_lone_request_costs_one_notification_and_a_batch_one_too() {
    let mut bed = Bed::new();
    bed.ask(0, Write, 0, "/n|v");
    let before = notified(&bed, 0);
    bed.ask(0, Read, 0, "/n|");
    assert_eq!(notified(&bed, 0) - before, 1);
    let before = notified(&bed, 0);
    for _ in 0..20 {
        bed.send(0, Read, 0, "/n|");
    }
    bed.settle();
    assert_eq!(bed.messages(0).len(), 20);
    assert_eq!(notified(&bed, 0) - before, 1);
}

#[test]
fn others_may_run_before_a_client_gets_more_than_its_share() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    let yields = bed.host.yields.get();
    // A few requests of everyone are nobody's more than its share.
    for domid in [5, 6] {
        for _ in 0..5 {
            bed.send(domid, Read, 0, "x|");
        }
    }
    bed.settle();
    assert_eq!((bed.messages(5).len(), bed.messages(6).len()), (5, 5));
    assert_eq!(bed.host.yields.get(), yields);
    for _ in 0..40 {
        bed.send(5, Read, 0, "x|");
    }
    bed.send(6, Read, 0, "x|");
    bed.pump();
    bed.round();
    assert_eq!(bed.host.yields.get(), yields + 1);
    bed.pump();
    assert_eq!(bed.messages(6).len(), 1);
    assert!(bed.messages(5).len() < 40);
}

#[test]
fn an_idle_server_sends_nothing() {
    let mut bed = Bed::new();
    bed.ask(0, Write, 0, "/n|v");
    let before = notified(&bed, 0);
    for _ in 0..10 {
        assert!(!bed.round());
    }
    assert_eq!(notified(&bed, 0), before);
}

#[test]
fn a_message_longer_than_the_ring_arrives_in_parts_and_its_answer_leaves_in_parts() {
    let mut bed = Bed::new();
    bed.start(5);
    let value = "0123456789abcdef".repeat(250);
    bed.ask(0, Write, 0, &format!("/local/domain/5/x|{value}"));
    assert_eq!(bed.ask(5, Read, 0, "x|"), value);
    bed.check();
}

#[test]
fn a_guest_that_announces_too_much_is_ignored_alone() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    let transaction: u32 = bed.begin(5);
    bed.ask(5, Watch, 0, "x|t|");
    bed.send_raw(5, 2, transaction, &[0; 4097]);
    bed.settle();
    assert!(bed.messages(5).is_empty());
    let page = bed.guests[&5].page.clone();
    assert_eq!(page.load(offset::ERROR), 3);
    assert_eq!(bed.ask(6, Write, 0, "x|"), "OK|");
    // Its end is still noticed (XSA-325).
    bed.ask(0, Watch, 0, "@releaseDomain|t|");
    bed.events(0);
    bed.domain_is(5, xenstore_core::DomainState::ABSENT);
    assert_eq!(bed.events(0), ["@releaseDomain t"]);
    bed.check();
}

#[test]
fn impossible_indices_are_answered_in_the_error_field_and_by_silence() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Write, 0, "x|");
    let page = bed.guests[&5].page.clone();
    page.store(offset::REQ_PROD, page.load(offset::REQ_CONS).wrapping_add(5000));
    bed.kick(5);
    while bed.round() {}
    assert_eq!(page.load(offset::ERROR), 2);
    assert_eq!(bed.ask(0, Read, 0, "/local/domain/5/x|"), "");
}

#[test]
fn a_silent_reset_begins_a_new_stream() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Write, 0, "x|v");
    bed.ask(5, Watch, 0, "x|t|");
    bed.reset_silently(5);
    assert_eq!(bed.ask(5, Read, 0, "x|"), "v");
    // The old watch is gone with the old stream.
    bed.ask(0, Write, 0, "/local/domain/5/x|w");
    assert!(bed.events(5).is_empty());
}

#[test]
fn a_reconnect_drops_what_was_half_done() {
    let mut bed = Bed::new();
    bed.start(5);
    assert_eq!(bed.ask(5, TransactionStart, 0, "|"), "1|");
    bed.ask(5, Watch, 0, "x|t|");
    // Half a header.
    bed.guests.get_mut(&5).unwrap().send_bytes(&[1, 2, 3]);
    bed.settle();
    bed.reconnect(5);
    assert_eq!(bed.ask(5, Read, 1, "x|"), "!ENOENT");
    assert_eq!(bed.ask(5, Write, 0, "x|v"), "OK|");
    assert!(bed.events(5).is_empty());
}

#[test]
fn a_guest_that_was_given_up_may_reconnect() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Watch, 0, "x|t|");
    let page = bed.guests[&5].page.clone();
    for error in [2, 3, 2] {
        if error == 2 {
            page.store(offset::REQ_PROD, page.load(offset::REQ_CONS).wrapping_add(5000));
            bed.kick(5);
        } else {
            bed.send_raw(5, 2, 0, &[0; 4097]);
        }
        bed.settle();
        assert_eq!(page.load(offset::ERROR), error);
        bed.reconnect(5);
        assert_eq!(page.load(offset::ERROR), 0);
        assert_eq!(bed.ask(5, Write, 0, "x|v"), "OK|");
        assert!(bed.events(5).is_empty());
    }
    bed.check();
}

#[test]
fn a_second_introduce_revives_a_guest_that_was_given_up() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.send_raw(5, 2, 0, &[0; 4097]);
    bed.settle();
    bed.introduce_again(5);
    assert_eq!(bed.guests[&5].page.load(offset::ERROR), 0);
    assert_eq!(bed.ask(5, Write, 0, "x|v"), "OK|");
}

#[test]
fn a_second_introduce_starts_the_ring_anew() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Watch, 0, "x|t|");
    bed.introduce_again(5);
    assert_eq!(bed.ask(5, Write, 0, "x|v"), "OK|");
    assert!(bed.events(5).is_empty());
}

#[test]
fn a_guest_that_reads_nothing_stalls_itself_alone() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.ask(0, Write, 0, &format!("/local/domain/5/big|{}", "x".repeat(1500)));
    bed.guests.get_mut(&5).unwrap().deaf = true;
    for _ in 0..200 {
        bed.send(5, Read, 0, "big|");
    }
    bed.settle();
    let id = bed.connection_of(5).unwrap();
    let outstanding = bed.service().server().connection(id).unwrap().outstanding();
    assert!(outstanding <= 20, "{outstanding} requests outstanding");
    assert_eq!(bed.ask(6, Write, 0, "x|"), "OK|");
    assert_eq!(bed.ask(0, Rm, 0, "/local/domain/6/x|"), "OK|");
    bed.guests.get_mut(&5).unwrap().deaf = false;
    bed.settle();
    assert_eq!(bed.messages(5).len(), 200);
}

#[test]
fn answers_that_nobody_takes_are_not_made() {
    let mut bed = Bed::new();
    bed.start(5);
    let big = "x".repeat(1500);
    bed.ask(0, Write, 0, &format!("/local/domain/5/big|{big}"));
    bed.guests.get_mut(&5).unwrap().deaf = true;
    for number in 0..12 {
        bed.send(5, Read, 0, "big|");
        bed.send(5, Write, 0, &format!("number|{number}"));
    }
    bed.settle();
    let id = bed.connection_of(5).unwrap();
    let waiting = |bed: &Bed| bed.service().server().connection(id).unwrap().queue.bytes();
    // The ring's kilobyte of the first one is counted until all of it is there.
    let some = RING_UNREAD_REPLIES..2 * RING_UNREAD_REPLIES;
    assert!(some.contains(&waiting(&bed)), "{}", waiting(&bed));
    // The rest is still asked in the ring, and a life later, too.
    bed.restart();
    bed.settle();
    assert!(some.contains(&waiting(&bed)), "{}", waiting(&bed));
    bed.guests.get_mut(&5).unwrap().deaf = false;
    let before = notified(&bed, 5);
    bed.settle();
    let answers = bed.messages(5);
    assert!(answers.iter().map(|answer| answer.request).is_sorted());
    let texts: Vec<String> = answers.iter().map(|answer| answer.text()).collect();
    assert_eq!(texts, [big.as_str(), "OK|"].repeat(12));
    assert_eq!(bed.ask(0, Read, 0, "/local/domain/5/number|"), "11");
    // One for each kilobyte of the ring, as if all of it had lain ready.
    let kilobytes = 12 * (1500 + 16 + 3 + 16) / 1024 + 1;
    assert!(
        notified(&bed, 5) - before <= kilobytes,
        "{}",
        notified(&bed, 5) - before
    );
}

#[test]
fn events_that_nobody_takes_do_not_keep_a_client_from_being_heard() {
    let mut bed = Bed::new();
    bed.start(5);
    assert_eq!(bed.ask(5, Watch, 0, "x|t|"), "OK|");
    bed.guests.get_mut(&5).unwrap().deaf = true;
    for number in 0..100 {
        bed.ask(0, Write, 0, &format!("/local/domain/5/x/{number}|{}", "v".repeat(60)));
    }
    bed.send(5, Write, 0, "heard|yes");
    bed.settle();
    assert_eq!(bed.ask(0, Read, 0, "/local/domain/5/heard|"), "yes");
}

#[test]
fn what_dom0_queued_before_the_server_started_is_answered() {
    let mut bed = Bed::with_request_waiting("/early|v");
    bed.settle();
    let texts: Vec<String> = bed.messages(0).iter().map(|message| message.text()).collect();
    assert_eq!(texts, ["OK|"]);
    assert_eq!(bed.ask(0, Read, 0, "/early|"), "v");
}

#[test]
fn a_ring_that_its_client_zeroed_is_not_taken_for_one_that_lags_behind() {
    let mut bed = Bed::new();
    bed.start(5);
    // Less than a ring was sent so far: an index of zero could also be one that the last life did not move.
    bed.ask(5, Write, 0, "x|v");
    bed.reset_silently(5);
    bed.restart();
    assert_eq!(bed.ask(5, Read, 0, "x|"), "v");
    // The same with the end of the life between the client's stores.
    bed.ask(5, Write, 0, "x|w");
    let page = bed.guests[&5].page.clone();
    page.store(offset::REQ_PROD, 0);
    page.store(offset::REQ_CONS, 0);
    bed.restart();
    bed.settle();
    bed.reset_silently(5);
    assert_eq!(bed.ask(5, Read, 0, "x|"), "w");
    bed.check();
}
