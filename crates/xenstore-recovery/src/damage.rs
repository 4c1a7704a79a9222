//! Tests: whatever byte of the pages changes by itself, what is read back is exactly the last state, or nothing is.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use xenstore_core::tree::Root;
use xenstore_core::{Channel, Configuration, ConnectionId, Epoch, Input, Record, Server, Shown, Time};
use xenstore_wire::{DomId, Header, MessageType, PathBuf};

use crate::encode::encoded;
use crate::extents::{DurablePages, EXTENT, NOTES_AT, NotOurs};
use crate::older_checkpoint::Alone;
use crate::pages::{Pages, SlicePages};
use crate::store::{LIVES_BEFORE_GIVING_UP, Lost, Recovered, Store};

extern crate std;

type Plain = Store<SlicePages<Vec<u8>>>;

/// A request of the only client; its replies are shown.
fn ask(store: &mut Plain, kind: MessageType, transaction: u32, payload: &str) {
    for output in request(store, kind, transaction, payload).outputs {
        let bytes = output.message.bytes.len() as u32;
        let durable = store.seal();
        store.publishing(&durable, output.connection, bytes);
        store.published(output.connection, bytes);
    }
}

/// The same, and they are not shown.
fn request(store: &mut Plain, kind: MessageType, transaction: u32, payload: &str) -> Record {
    let payload = payload.replace('|', "\0").into_bytes();
    let header = Header {
        kind: kind as u32,
        request_id: 1,
        transaction_id: transaction,
        length: payload.len() as u32,
    };
    let connection = ConnectionId(1);
    let input = Input::Request {
        connection,
        consumed: 16 + payload.len() as u32,
        header,
        payload: &payload,
    };
    let record = store.take(Time(0), &Alone, input);
    store.seal();
    record
}

/// A life with two checkpoints, a log behind each, an open transaction, a watch, a removed node, a reply that waits and a long one.
fn life() -> Plain {
    let Ok(mut store) = Store::cold(Configuration::default(), SlicePages(std::vec![0; 24 * EXTENT])) else {
        panic!("too small")
    };
    let channel = Channel::Ring { port: 1 };
    let (domid, epoch) = (DomId::DOM0, Epoch::default());
    store.take(Time(0), &Alone, Input::Connected { domid, channel, epoch });
    ask(&mut store, MessageType::Write, 0, "/a|one");
    store.checkpoint_now();
    ask(&mut store, MessageType::Write, 0, "/b|two");
    ask(&mut store, MessageType::TransactionStart, 0, "|");
    ask(&mut store, MessageType::Write, 1, "/a|changed");
    store.checkpoint_now();
    ask(&mut store, MessageType::Rm, 0, "/b|");
    ask(&mut store, MessageType::Watch, 0, "/a|token|");
    ask(&mut store, MessageType::Write, 0, "/c/d|three");
    request(&mut store, MessageType::Read, 0, "/c/d|");
    ask(
        &mut store,
        MessageType::Write,
        0,
        &format!("/c/long|{}", "long".repeat(40)),
    );
    request(&mut store, MessageType::Read, 0, "/c/long|");
    store
}

/// Everything that is remembered, but where in the memory it is, and peaks since the last checkpoint.
fn told<P: Pages>(server: &Server<DurablePages<P>>) -> String {
    let mut text = format!("{:?}", server.state());
    for (before, after) in [("Root(", ')'), ("Maxima {", '}')] {
        let parts = text.split(before).enumerate();
        let left = parts.map(|(number, part)| match number {
            0 => part,
            _ => part.split_once(after).map_or(part, |(_, rest)| rest),
        });
        text = left.collect();
    }
    server.roots().iter().for_each(|root| nodes(server, *root, &mut text));
    text
}

fn nodes<P: Pages>(server: &Server<DurablePages<P>>, root: Root, text: &mut String) {
    let mut stack = std::vec![server.tree().root_node(root)];
    while let Some(node) = stack.pop() {
        *text += &format!(
            "\n{} {:?} {} {:?}",
            node.name(),
            node.value(),
            node.generation(),
            node.permissions().iter().collect::<Vec<_>>()
        );
        stack.extend(server.tree().children(node));
    }
}

/// What is read back; what was being published is what the ring of the test shows: all of it.
fn recovered(bytes: Vec<u8>) -> Result<String, Lost> {
    let Recovered {
        mut store, publishing, ..
    } = Store::recover(SlicePages(bytes)).map_err(|(_, lost)| lost)?;
    for (connection, bytes) in publishing {
        store.published(connection, bytes);
    }
    Ok(told(store.server()))
}

#[test]
fn a_byte_that_changed_leaves_the_last_state_or_none() {
    let store = life();
    let expected = told(store.server());
    let bytes = store.into_pages().0;
    assert!(recovered(bytes.clone()).unwrap() == expected);
    let (mut same, mut refused, mut short) = (0, 0, 0);
    // Where nothing was ever written nothing is read: a few places there will do.
    let places = (0..bytes.len()).filter(|at| bytes[*at] != 0 || *at < 256 || at % 997 == 0);
    for at in places {
        for turned in [1u8 << (at % 8), 0xff, bytes[at]] {
            if turned == 0 {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= turned;
            match recovered(damaged) {
                Ok(told) => {
                    if told != expected {
                        let same = told.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
                        let from = same.saturating_sub(60);
                        let part = |text: &str| String::from(text.get(from..same + 40).unwrap_or_default());
                        panic!("byte {at} turned by {turned:#x}:\n{}\n{}", part(&told), part(&expected));
                    }
                    same += 1;
                }
                Err(lost) => {
                    refused += 1;
                    short += u32::from(matches!(lost, Lost::State { expected, reached } if reached < expected));
                }
            }
        }
    }
    std::println!("{same} times the last state, {refused} times none, of these {short} times a log that is too short");
    assert!(same > 1000 && refused > 500 && short > 100);
}

/// Where the notes are, and where in each its halves.
const NOTES: Range<usize> = NOTES_AT..NOTES_AT + 64;

/// The pages before and after one more request, what is told then, and the place of the note that was written for it.
fn before_and_after() -> (Vec<u8>, Vec<u8>, String, usize) {
    let mut store = life();
    let before = life().into_pages().0;
    request(&mut store, MessageType::Write, 0, "/last|one");
    let expected = told(store.server());
    let after = store.into_pages().0;
    let changed = NOTES.clone().find(|at| before[*at] != after[*at]).unwrap();
    (before, after, expected, NOTES_AT + (changed - NOTES_AT) / 32 * 32)
}

#[test]
fn a_torn_note_is_no_damage() {
    let (before, after, expected, note) = before_and_after();
    for length in 0..=32 {
        let mut torn = after.clone();
        torn[note + length..note + 32].copy_from_slice(&before[note + length..note + 32]);
        assert!(recovered(torn).unwrap() == expected, "{length} bytes of the note");
    }
}

#[test]
fn half_of_each_note_is_enough() {
    let (_, after, expected, _) = before_and_after();
    for half in [0, 16] {
        let mut damaged = after.clone();
        damaged[NOTES_AT + half..][..16].fill(0x55);
        damaged[NOTES_AT + 32 + (16 - half)..][..16].fill(0);
        assert!(recovered(damaged).unwrap() == expected);
    }
}

#[test]
fn a_note_that_says_nothing_does_not_hide_that_the_last_record_is_gone() {
    let (_, after, expected, note) = before_and_after();
    // In the log and in the tree, where only that record leads to it.
    let named = (0..after.len() - 4).filter(|at| after[*at..*at + 4] == *b"last");
    let named: Vec<usize> = named.collect();
    for with in [0, 0x55] {
        let mut damaged = after.clone();
        damaged[note..note + 32].fill(with);
        assert!(recovered(damaged.clone()).unwrap() == expected);
        named.iter().for_each(|at| damaged[*at] ^= 1);
        let lost = recovered(damaged).unwrap_err();
        assert!(
            matches!(lost, Lost::State { expected, reached } if reached < expected),
            "{lost:?}"
        );
    }
}

#[test]
fn without_any_note_nothing_is_read_back() {
    let mut damaged = life().into_pages().0;
    damaged[NOTES].fill(0);
    let lost = recovered(damaged).unwrap_err();
    assert!(
        matches!(
            lost,
            Lost::State {
                expected: None,
                reached: Some(_)
            }
        ),
        "{lost:?}"
    );
}

#[test]
fn damage_in_the_newest_checkpoint_leads_by_way_of_the_older_one_to_the_same_state() {
    let mut store = life();
    let expected = told(store.server());
    store.damage_newest_checkpoint();
    assert!(recovered(store.into_pages().0).unwrap() == expected);
}

#[test]
fn another_version_is_named() {
    for version in [0u32, 1, 2, u32::MAX] {
        let mut bytes = life().into_pages().0;
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        assert_eq!(recovered(bytes).unwrap_err(), Lost::Pages(NotOurs::Version(version)));
    }
}

#[test]
fn what_is_framed_and_is_no_record_is_not_taken_for_the_end_of_the_log() {
    let mut store = life();
    let before = store.figures().records;
    store.log_bytes(&[0xff; 5]);
    store.seal();
    let mut pages = store.into_pages();
    // However often it is tried: a refusal is no life that ended.
    for _ in 0..=LIVES_BEFORE_GIVING_UP {
        let (back, lost) = Store::recover(pages).err().unwrap();
        let expected = Lost::State {
            expected: Some(before + 1),
            reached: Some(before),
        };
        assert_eq!(lost, expected);
        pages = back;
    }
}

/// What waits for the only client.
fn waiting(store: &Plain) -> String {
    let mut bytes = std::vec![0; 1 << 16];
    let length = store
        .server()
        .connection(ConnectionId(1))
        .unwrap()
        .queue
        .copy_out(&mut bytes);
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn long_answers_are_not_written_down_and_come_back_as_they_were() {
    let mut store = life();
    let (first, second) = ("1st".repeat(600), "2nd".repeat(600));
    ask(&mut store, MessageType::Write, 0, &format!("/d/long|{first}"));
    let names: Vec<String> = (0..100).map(|number| format!("child-{number}")).collect();
    for name in &names {
        ask(&mut store, MessageType::Mkdir, 0, &format!("/d/many/{name}|"));
    }
    // What a transaction sees is no part of the store, and has to be written down.
    let third = "3rd".repeat(600);
    ask(&mut store, MessageType::Write, 1, &format!("/d/long|{third}"));
    request(&mut store, MessageType::Read, 1, "/d/long|");
    let before = store.log_length();
    request(&mut store, MessageType::Read, 0, "/d/long|");
    request(&mut store, MessageType::Directory, 0, "/d/many|");
    assert!(
        store.log_length() - before < 256,
        "{} bytes",
        store.log_length() - before
    );
    // What comes after them changes what they showed, or removes it.
    request(&mut store, MessageType::Write, 0, &format!("/d/long|{second}"));
    request(&mut store, MessageType::Read, 0, "/d/long|");
    request(&mut store, MessageType::Rm, 0, "/d|");
    let told = waiting(&store);
    for shown in [first, second, third, names.join("\0")] {
        assert!(told.contains(&shown));
    }
    let Ok(recovered) = Store::recover(store.into_pages()) else {
        panic!("not read back")
    };
    assert_eq!(waiting(&recovered.store), told);
}

fn path(text: &str) -> PathBuf {
    PathBuf::try_from(Box::from(text)).unwrap()
}

#[test]
fn an_answer_that_shows_what_is_not_there_is_of_another_store() {
    for shown in [
        Shown::Value(path("/c/nothing")),
        Shown::Children(path("/c/nothing")),
        Shown::Value(path("/c/d")),
    ] {
        let mut store = life();
        let reached = store.figures().records;
        let mut record = request(&mut store, MessageType::Read, 0, "/c/long|");
        record.outputs[0].shown = Some(shown);
        store.log_bytes(&encoded(&record, Vec::new()));
        store.seal();
        let lost = Store::recover(store.into_pages()).err().unwrap().1;
        let expected = Lost::State {
            expected: Some(reached + 2),
            reached: Some(reached + 1),
        };
        assert_eq!(lost, expected);
    }
}
