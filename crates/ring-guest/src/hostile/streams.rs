//! A guest that begins anew without end.

use alloc::format;

use xenstore_wire::{Errno, MessageType};

use super::{Outcome, again, all_taken, reconnects, refused, says, works};
use crate::store::Store;

pub fn silent_reset(store: &mut Store) -> Outcome {
    for round in 0..20 {
        let value = format!("{round}");
        store.write(0, "data/attack", value.as_bytes()).map_err(says)?;
        store.reset_silently();
        let found = store.read(0, "data/attack").map_err(says)?;
        if found != value.as_bytes() || store.error() != 0 {
            return Err(format!("after a silent reset: {found:?}, error {}", store.error()));
        }
    }
    again("the next request is answered as if nothing had been")
}

pub fn reconnect(store: &mut Store) -> Outcome {
    for _ in 0..10 {
        store
            .watch("data/attack", "token")
            .map_err(|failure| format!("the watch of before the reconnect is still there: {failure}"))?;
        let transaction = store.begin().map_err(says)?;
        store.write(transaction, "data/attack/inside", b"").map_err(says)?;
        // A request whose reply nobody reads, and the beginning of another.
        let unread = store.encode(MessageType::Read.to_wire(), 0, b"data\0");
        store.send(&unread).map_err(says)?;
        store.send(&[1, 2, 3]).map_err(says)?;
        all_taken(store)?;
        reconnects(store)?;
        refused(
            store.read(transaction, "data"),
            Errno::ENOENT,
            "a transaction of before the reconnect",
        )?;
        refused(
            store.read(0, "data/attack/inside"),
            Errno::ENOENT,
            "what an open transaction wrote",
        )?;
    }
    works(store)?;
    again("queues, half messages, watches and transactions are forgotten each time")
}
