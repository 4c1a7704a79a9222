//! Several requests in the ring at once, one of them in two halves with an event and some time between.
//!
//! Knows how many answers are due and which; does not know what the requests are for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xen_bindings::time;
use xenstore_wire::MessageType;

use crate::failure::Failure;
use crate::store::{Store, judge};

/// One request, and what it must be answered.
pub struct Request {
    kind: MessageType,
    transaction: u32,
    payload: Vec<u8>,
    expected: Option<Vec<u8>>,
}

impl Request {
    fn new(kind: MessageType, transaction: u32, payload: Vec<u8>, expected: &[u8]) -> Request {
        Request {
            kind,
            transaction,
            payload,
            expected: Some(expected.to_vec()),
        }
    }

    /// READ, which must find this value.
    pub fn read(transaction: u32, path: &str, value: u32) -> Request {
        let expected = format!("{value}").into_bytes();
        Request::new(MessageType::Read, transaction, string(path), &expected)
    }

    /// WRITE.
    pub fn write(transaction: u32, path: &str, value: u32) -> Request {
        let payload = format!("{path}\0{value}").into_bytes();
        Request::new(MessageType::Write, transaction, payload, b"OK\0")
    }

    /// RM.
    pub fn remove(path: &str) -> Request {
        Request::new(MessageType::Rm, 0, string(path), b"OK\0")
    }

    /// TRANSACTION_START; the answer is its id, which nobody knows before.
    pub fn begin() -> Request {
        Request {
            expected: None,
            ..Request::new(MessageType::TransactionStart, 0, string(""), b"")
        }
    }

    /// TRANSACTION_END with success: nobody else writes here, so there is no conflict.
    pub fn commit(transaction: u32) -> Request {
        Request::new(MessageType::TransactionEnd, transaction, string("T"), b"OK\0")
    }

    /// A READ whose value nobody knows exactly.
    pub fn look(path: &str) -> Request {
        Request {
            expected: None,
            ..Request::new(MessageType::Read, 0, string(path), b"")
        }
    }
}

fn string(text: &str) -> Vec<u8> {
    format!("{text}\0").into_bytes()
}

/// Where a batch is cut in two: how far into it, in thousandths of its bytes, and for how long nothing more is sent, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub at: u32,
    pub pause: u64,
}

/// Sends the requests as one stream of bytes, as much at once as the ring takes, and checks the answers, which must come in the same
/// order. The answers, and how long the last of them took after everything was sent, nanoseconds.
pub fn exchange(store: &mut Store, requests: &[Request], cut: Cut) -> Result<(Vec<Vec<u8>>, u64), Failure> {
    let mut bytes = Vec::new();
    let mut ids = Vec::new();
    for request in requests {
        bytes.extend(store.encode(request.kind.to_wire(), request.transaction, &request.payload));
        ids.push(store.last_request());
    }
    let (first, second) = bytes.split_at(bytes.len() * cut.at as usize / 1000);
    store.send(first)?;
    // Whatever the protocol says about notifications: here the server must look, and finds a message that is not all there.
    store.notify();
    store.listen(cut.pause)?;
    let sent = time::now_ns();
    store.send(second)?;
    let mut answers = Vec::new();
    for (request, id) in requests.iter().zip(ids) {
        let (header, answer) = store.reply()?;
        let answer = judge(header, id, request.transaction, request.kind.to_wire(), answer)?;
        if let Some(expected) = request.expected.as_ref().filter(|expected| **expected != answer) {
            return Err(Failure::Strange(format!(
                "{:?} {} is answered {:?} and not {:?}",
                request.kind,
                text(&request.payload),
                text(&answer),
                text(expected)
            )));
        }
        answers.push(answer);
    }
    let took = time::now_ns().saturating_sub(sent);
    store.latencies.add(took);
    Ok((answers, took))
}

/// As it can be printed.
fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).replace('\0', "|")
}
