//! A guest that stops in the middle. The server must wait for it without a word, and go on where it stopped.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xenstore_ring::{RING_SIZE, offset};
use xenstore_wire::MessageType;

use super::{Outcome, again, all_taken, hold, says};
use crate::store::{SECOND, Store, judge};

/// Bytes of the value that is read.
const VALUE: usize = 1500;
/// Enough requests to fill everything.
const REQUESTS: u32 = 200;
/// The default of the quota `outstanding`.
const OUTSTANDING: u32 = 20;

/// Sends `bytes`, sees them taken and nothing else happen for two seconds.
fn waits_in_silence(store: &mut Store, bytes: &[u8]) -> Result<(), String> {
    store.send(bytes).map_err(says)?;
    all_taken(store)?;
    let before = store.indices();
    store.sleep(2 * SECOND);
    if store.indices() != before || store.error() != 0 {
        return Err(format!(
            "half a header: error {}, indices before {before:?}",
            store.error()
        ));
    }
    Ok(())
}

pub fn half_header(store: &mut Store) -> Outcome {
    let request = store.encode(MessageType::GetDomainPath.to_wire(), 0, b"5\0");
    let (first, rest) = request.split_at(8);
    waits_in_silence(store, first)?;
    store.send(rest).map_err(says)?;
    let (header, answer) = store.reply().map_err(says)?;
    judge(
        header,
        store.last_request(),
        0,
        MessageType::GetDomainPath.to_wire(),
        answer,
    )
    .map_err(says)?;
    waits_in_silence(store, first)?;
    hold("taken and met with silence; an answer when the rest came")
}

/// Sends reads of a long value and reads no reply, until nothing moves any more. How many requests, and their bytes that are still
/// to be sent.
fn fill(store: &mut Store) -> Result<(u32, Vec<u8>), String> {
    store.write(0, "data/attack", &vec![b'v'; VALUE]).map_err(says)?;
    let first = store.last_request() + 1;
    let mut bytes = Vec::new();
    let mut length = 0;
    for _ in 0..REQUESTS {
        let request = store.encode(MessageType::Read.to_wire(), 0, b"data/attack\0");
        length = request.len() as u32;
        bytes.extend_from_slice(&request);
    }
    let start = store.load(offset::REQ_CONS);
    let sent = store.send_without_reading(&bytes).map_err(says)?;
    let [taken, written, read, answered] = store.indices();
    let accepted = taken.wrapping_sub(start) / length;
    if written.wrapping_sub(taken) <= RING_SIZE - length || answered.wrapping_sub(read) != RING_SIZE {
        return Err("the rings are not full".into());
    }
    if accepted > OUTSTANDING + 1 {
        return Err(format!("{accepted} requests were taken while no reply was read"));
    }
    if store.error() != 0 {
        return Err(format!("error {} instead of silence", store.error()));
    }
    bytes.drain(..sent);
    Ok((first, bytes))
}

pub fn never_reads(store: &mut Store) -> Outcome {
    let (first, rest) = fill(store)?;
    store.sleep(SECOND);
    store.send(&rest).map_err(says)?;
    for id in first..first + REQUESTS {
        let (header, answer) = store.reply().map_err(says)?;
        let value = judge(header, id, 0, MessageType::Read.to_wire(), answer).map_err(says)?;
        if value.len() != VALUE {
            return Err(format!("reply {id} has {} bytes", value.len()));
        }
    }
    again(format!(
        "stalled at the limit of outstanding requests; later {REQUESTS} replies, each once and in order"
    ))
}

pub fn full(store: &mut Store) -> Outcome {
    fill(store)?;
    hold("both rings are full, and stay so")
}
