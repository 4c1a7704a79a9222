//! Messages that no honest guest sends.

use alloc::format;
use alloc::vec;

use xen_bindings::time;
use xenstore_wire::{Errno, Header, MessageType, PAYLOAD_MAX};

use super::{Outcome, again, given_up, reconnects, refused, says, works};
use crate::failure::Failure;
use crate::store::{SECOND, Store};

/// `XENSTORE_ERROR_PROTO` in `xs_wire.h`.
const PROTOCOL: u32 = 3;

/// A WRITE of this value ends the life of a server that was started with `--debug-crash`.
const POISON: &[u8] = b"data/attack\0xenstore-stubdom: crash now";

/// Times that it may be answered: the next time the guest is cut off.
const ANSWERED_MOST: u32 = 2;

pub fn too_long(store: &mut Store) -> Outcome {
    // The longest that is allowed is answered: a node that large is beyond its own limit.
    let mut payload = vec![b'x'; PAYLOAD_MAX];
    payload
        .get_mut(..12)
        .unwrap_or_default()
        .copy_from_slice(b"data/attack\0");
    let answer = store.ask(MessageType::Write.to_wire(), 0, &payload);
    refused(answer, Errno::ENOSPC, "a value of 4084 bytes")?;
    for length in [PAYLOAD_MAX as u32 + 1, u32::MAX, 0x8000_0000] {
        let header = Header {
            kind: MessageType::Read.to_wire(),
            request_id: 1,
            transaction_id: 0,
            length,
        };
        store.send(&header.emit()).map_err(says)?;
        given_up(store, PROTOCOL, &format!("a length of {length:#x}"))?;
        reconnects(store)?;
    }
    again("4096 bytes are answered; beyond that error 3, silence after it, and a reconnect that works")
}

pub fn types(store: &mut Store) -> Outcome {
    for kind in [15, 16, 20, 27, 28, 1000, 0x8000_0000, u32::MAX] {
        refused(store.ask(kind, 0, b"data\0"), Errno::ENOSYS, &format!("type {kind}"))?;
    }
    // CONTROL, INTRODUCE, RELEASE, IS_DOMAIN_INTRODUCED, RESUME, SET_TARGET are dom0's.
    for kind in [0, 8, 9, 17, 18, 19] {
        refused(
            store.ask(kind, 0, b"0\x001\x002\x00"),
            Errno::EACCES,
            &format!("type {kind}"),
        )?;
    }
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise
    };
    for _ in 0..100 {
        let length = (random() % 60) as usize;
        let payload: alloc::vec::Vec<u8> = (0..length).map(|_| random() as u8).collect();
        // One reply to each, whatever it says.
        match store.ask((random() % 23) as u32, (random() % 3) as u32, &payload) {
            Ok(_) | Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(format!("noise: {failure}")),
        }
    }
    store.reset_watches().map_err(says)?;
    works(store)?;
    again("ENOSYS, EACCES, and exactly one reply to each piece of noise")
}

pub fn poison(store: &mut Store) -> Outcome {
    let mut answered = 0;
    loop {
        match store.ask(MessageType::Write.to_wire(), 0, POISON) {
            Err(Failure::Refused(Errno::EIO)) if answered < ANSWERED_MOST => answered += 1,
            Err(Failure::GivenUp(_)) => break,
            other => return Err(format!("poison number {answered}: {other:?}")),
        }
    }
    given_up(store, PROTOCOL, "poison")?;
    let start = time::now_ns();
    reconnects(store)?;
    let waited = (time::now_ns() - start) / SECOND;
    again(format!(
        "EIO {answered} times, then error 3 and silence after it, and {waited} s later a reconnect that works"
    ))
}
