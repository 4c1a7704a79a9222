//! Requests that end the server: answered EIO and set aside after the second time, while everyone else goes on; who keeps sending
//! them is cut off, alone. And what ends a life without being a request's fault is blamed on nobody.

use crate::bed::Bed;
use xenstore_core::{Configuration, POISON, SET_ASIDE_WITHIN, Step};
use xenstore_ring::{SharedPage, offset};
use xenstore_wire::MessageType::*;

pub fn crashing() -> Bed {
    Bed::with(
        Configuration {
            debug_crash: true,
            features: 3,
            ..Configuration::default()
        },
        8 << 20,
    )
}

fn poison(path: &str) -> String {
    format!("{path}|{}", std::str::from_utf8(POISON).unwrap())
}

fn said(bed: &Bed, what: &str) -> usize {
    bed.host.log.borrow().iter().filter(|line| line.contains(what)).count()
}

#[test]
fn a_request_that_ends_two_lives_is_answered_eio_and_others_notice_nothing() {
    let mut bed = crashing();
    bed.start(1);
    bed.start(2);
    bed.ask(2, Watch, 0, "x|token|");
    bed.send(1, Write, 0, "before|1");
    bed.send(1, Write, 0, &poison("here"));
    bed.send(1, Write, 0, "after|2");
    for value in 0..5 {
        bed.send(2, Write, 0, &format!("x|{value}"));
    }
    bed.settle();
    assert_eq!(bed.crashes, 2);
    let told: Vec<_> = bed.messages(1).iter().map(|m| (m.kind, m.request, m.text())).collect();
    let expected = [(Write, 1, "OK|"), (Error, 2, "EIO|"), (Write, 3, "OK|")];
    assert_eq!(
        told,
        expected.map(|(kind, request, text)| (kind, request, text.to_string()))
    );
    let replies = bed.messages(2).into_iter().filter(|m| m.kind == Write).count();
    assert_eq!(replies, 5);
    assert_eq!(bed.ask(1, Read, 0, "here|"), "!ENOENT");
    assert_eq!(bed.ask(1, Read, 0, "after|"), "2");
    assert_eq!(
        said(
            &bed,
            "domain 1: request WRITE here ended the server 2 times and is set aside"
        ),
        1,
        "{:?}",
        bed.host.log.borrow()
    );
    bed.check();
}

#[test]
fn the_poison_is_an_ordinary_value_without_the_option() {
    let mut bed = Bed::new();
    assert_eq!(bed.ask(0, Write, 0, &poison("/x")), "OK|");
    assert_eq!(bed.crashes, 0);
    // And with it only that value alone is poison.
    let mut bed = crashing();
    assert_eq!(bed.ask(0, Write, 0, &(poison("/x") + "!")), "OK|");
    assert_eq!(bed.crashes, 0);
}

#[test]
fn who_keeps_ending_the_server_is_cut_off_alone() {
    let mut bed = crashing();
    bed.start(1);
    bed.start(2);
    assert_eq!(bed.ask(1, Write, 0, &poison("a")), "!EIO");
    assert_eq!(bed.ask(1, Write, 0, &poison("b")), "!EIO");
    bed.send(1, Write, 0, &poison("c"));
    bed.settle();
    assert_eq!(bed.messages(1), []);
    assert_eq!(bed.guests[&1].page.load(offset::ERROR), 3);
    assert_eq!(bed.crashes, 6);
    assert_eq!(bed.ask(2, Write, 0, "x|1"), "OK|");
    // It may begin anew, as after any other fault, but not at once: else it could go on so without end.
    bed.reconnect(1);
    assert_eq!(bed.guests[&1].page.load(offset::CONNECTION), 1);
    bed.restart();
    bed.settle();
    bed.host.now.set(bed.host.now.get() + SET_ASIDE_WITHIN - 1);
    bed.settle();
    assert_eq!(bed.guests[&1].page.load(offset::CONNECTION), 1);
    assert_eq!(bed.deadline(), Some(SET_ASIDE_WITHIN));
    bed.host.now.set(bed.host.now.get() + 1);
    bed.settle();
    assert_eq!(bed.guests[&1].page.load(offset::CONNECTION), 0);
    assert_eq!(bed.ask(1, Read, 0, "nothing|"), "!ENOENT");
    assert_eq!(bed.crashes, 7);
    assert_eq!(bed.ask(0, Read, 0, "/local/domain/2/x|"), "1");
    bed.check();
}

#[test]
fn time_heals_and_the_privileged_domain_is_never_cut_off() {
    let mut bed = crashing();
    bed.start(1);
    for _ in 0..6 {
        assert_eq!(bed.ask(1, Write, 0, &poison("a")), "!EIO");
        bed.host.now.set(bed.host.now.get() + SET_ASIDE_WITHIN / 2);
    }
    for _ in 0..6 {
        assert_eq!(bed.ask(0, Write, 0, &poison("/a")), "!EIO");
    }
    assert_eq!(bed.ask(0, Read, 0, "/tool|"), "");
}

#[test]
fn two_guests_that_take_turns_do_not_hide_behind_each_other() {
    let mut bed = crashing();
    for domid in 1..=4 {
        bed.start(domid);
        bed.send(domid, Write, 0, &poison("x"));
    }
    bed.settle();
    for domid in 1..=4 {
        let told: Vec<_> = bed.messages(domid).iter().map(|m| m.text()).collect();
        assert_eq!(told, ["EIO|"], "domain {domid}");
    }
    assert_eq!(bed.crashes, 8);
}

#[test]
fn poison_in_a_transaction_and_behind_a_partial_message_is_set_aside_too() {
    let mut bed = crashing();
    bed.start(1);
    let transaction = bed.begin(1);
    assert_eq!(bed.ask(1, Write, transaction, "y|1"), "OK|");
    assert_eq!(bed.ask(1, Write, transaction, &poison("x")), "!EIO");
    assert_eq!(bed.commit(1, transaction), "OK|");
    assert_eq!(bed.ask(1, Read, 0, "y|"), "1");
    // The message comes in two pieces; only the second shows what it is.
    let payload = poison("late").replace('|', "\0");
    let mut message = xenstore_wire::Header {
        kind: Write as u32,
        request_id: 77,
        transaction_id: 0,
        length: u32::try_from(payload.len()).unwrap(),
    }
    .emit()
    .to_vec();
    message.extend_from_slice(payload.as_bytes());
    let guest = bed.guests.get_mut(&1).unwrap();
    guest.send_bytes(&message[..20]);
    bed.settle();
    let guest = bed.guests.get_mut(&1).unwrap();
    guest.send_bytes(&message[20..]);
    bed.settle();
    let told: Vec<_> = bed.messages(1).iter().map(|m| (m.request, m.text())).collect();
    assert_eq!(told, [(77, "EIO|".to_string())]);
    assert_eq!(bed.ask(1, Read, 0, "y|"), "1");
    bed.check();
}

/// A guest has begun to send this, and the server ended before this store of its first life and before that of its second. None if the message was not
/// in hand both times.
fn killed_twice_by(bytes: &[u8], (first, second): (u64, u64)) -> Option<Bed> {
    let mut bed = crashing();
    bed.start(1);
    bed.guests.get_mut(&1)?.send_bytes(bytes);
    bed.pump();
    bed.host.fuse.arm(first);
    bed.crash_every = Some(second);
    while bed.crashes < 2 && bed.round() {}
    bed.host.fuse.arm(0);
    bed.crash_every = None;
    let connection = bed.connection_of(1)?;
    let aside = bed.service().server().connection(connection)?.is_set_aside();
    (bed.crashes == 2 && aside).then_some(bed)
}

/// Where a second life may have the message in hand.
const STORES: std::ops::Range<u64> = 1..12;

#[test]
fn a_message_that_kills_before_all_of_it_came_is_answered_and_the_rest_is_thrown_away() {
    let long = format!("long\0{}", "z".repeat(3000));
    let header = |request_id, length: usize| xenstore_wire::Header {
        kind: Write as u32,
        request_id,
        transaction_id: 0,
        length: u32::try_from(length).unwrap(),
    };
    let mut stream = header(5, long.len()).emit().to_vec();
    stream.extend_from_slice(long.as_bytes());
    stream.extend_from_slice(&header(6, 6).emit());
    stream.extend_from_slice(b"next\x001");
    let mut found = 0;
    for mut bed in STORES.filter_map(|stores| killed_twice_by(&stream, (2, stores))) {
        bed.settle();
        let told: Vec<_> = bed.messages(1).iter().map(|m| (m.request, m.text())).collect();
        assert_eq!(told, [(5, "EIO|".to_string()), (6, "OK|".to_string())]);
        assert_eq!(bed.ask(1, Read, 0, "long|"), "!ENOENT");
        assert_eq!(bed.ask(1, Read, 0, "next|"), "1");
        assert_eq!(said(&bed, "request WRITE long ended the server 2 times"), 1);
        bed.check();
        found += 1;
    }
    assert!(found > 0);
    // Without a header there is nothing to answer.
    let mut found = 0;
    for mut bed in STORES.filter_map(|stores| killed_twice_by(&stream[..9], (2, stores))) {
        bed.settle();
        assert_eq!(bed.guests[&1].page.load(offset::ERROR), 3);
        bed.reconnect(1);
        bed.host.now.set(bed.host.now.get() + SET_ASIDE_WITHIN);
        bed.settle();
        assert_eq!(bed.ask(1, Read, 0, "long|"), "!ENOENT");
        found += 1;
    }
    assert!(found > 0);
}

#[test]
fn what_comes_from_outside_is_blamed_on_nobody() {
    // Once a request is committed, whatever ends the life is not its fault; before, one end is not enough.
    for step in Step::ALL {
        let mut bed = crashing();
        bed.start(1);
        for round in 0..3 {
            assert_eq!(
                bed.ask(0, Control, 0, &format!("crash|at|{step}|after|0|")),
                "OK|",
                "{step}"
            );
            assert_eq!(bed.ask(1, Write, 0, &format!("x|{round}")), "OK|", "{step}");
            assert_eq!(bed.ask(1, Read, 0, "x|"), round.to_string(), "{step}");
        }
        assert_eq!(said(&bed, "set aside"), 0, "{step}");
    }
}

#[test]
fn an_end_after_a_request_is_not_held_against_the_next_one() {
    let mut bed = crashing();
    bed.start(1);
    assert_eq!(bed.ask(1, Write, 0, "x|1"), "OK|");
    // What was in hand last is done.
    bed.restart();
    // The guest's next request is in hand when the life ends once more.
    assert_eq!(bed.ask(0, Control, 0, "crash|at|before-decide|after|0|"), "OK|");
    assert_eq!(bed.ask(1, Write, 0, "x|2"), "OK|");
    assert_eq!(bed.crashes, 2);
    assert_eq!(bed.ask(1, Read, 0, "x|"), "2");
}
