//! Indices that no honest guest has. The server must give the connection up with error 2 and let the guest begin anew.

use alloc::format;
use alloc::string::String;

use xenstore_ring::{RING_SIZE, offset};
use xenstore_wire::Errno;

use super::{Outcome, again, given_up, reconnects, refused, says, works};
use crate::store::Store;

/// `XENSTORE_ERROR_RINGIDX` in `xs_wire.h`.
const RING_INDEX: u32 = 2;

/// One word of the page is moved by `by`, and the server told; it must give up.
fn moved(store: &mut Store, word: usize, from: usize, by: u32, what: &str) -> Result<(), String> {
    works(store)?;
    store.spoil(word, store.load(from).wrapping_add(by));
    store.notify();
    given_up(store, RING_INDEX, what)
}

pub fn apart(store: &mut Store) -> Outcome {
    store.watch("data/attack", "left").map_err(says)?;
    let transaction = store.begin().map_err(says)?;
    moved(
        store,
        offset::REQ_PROD,
        offset::REQ_CONS,
        RING_SIZE + 1,
        "one byte too many",
    )?;
    reconnects(store)?;
    // Nothing of before is left: neither the transaction nor the watch.
    refused(
        store.read(transaction, "data"),
        Errno::ENOENT,
        "a transaction of before the reconnect",
    )?;
    store
        .watch("data/attack", "left")
        .map_err(|failure| format!("the watch of before the reconnect is still there: {failure}"))?;
    store.reset_watches().map_err(says)?;
    for (word, from, by, what) in [
        (offset::REQ_PROD, offset::REQ_CONS, 0x8000_0000, "half the world ahead"),
        (
            offset::RSP_CONS,
            offset::RSP_PROD,
            1,
            "replies read that were not written",
        ),
        (
            offset::RSP_CONS,
            offset::RSP_PROD,
            0x7fff_ffff,
            "replies read of the far future",
        ),
    ] {
        moved(store, word, from, by, what)?;
        reconnects(store)?;
    }
    again("error 2 each time, silence after it, and a reconnect that forgets watches and transactions")
}

pub fn back(store: &mut Store) -> Outcome {
    for (word, from, by, what) in [
        (
            offset::REQ_PROD,
            offset::REQ_CONS,
            1_u32.wrapping_neg(),
            "requests taken back",
        ),
        (
            offset::REQ_PROD,
            offset::REQ_CONS,
            5000_u32.wrapping_neg(),
            "requests far back",
        ),
        (
            offset::RSP_CONS,
            offset::RSP_PROD,
            1025_u32.wrapping_neg(),
            "replies unread again",
        ),
        (
            offset::REQ_CONS,
            offset::REQ_CONS,
            1_u32.wrapping_neg(),
            "the server's index of requests",
        ),
        (offset::RSP_PROD, offset::RSP_PROD, 1, "the server's index of replies"),
    ] {
        moved(store, word, from, by, what)?;
        reconnects(store)?;
    }
    again("error 2 each time, silence after it, and a reconnect that works")
}
