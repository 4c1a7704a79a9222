//! A guest that wants more than its share.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xenstore_wire::{Errno, MessageType};

use super::{Outcome, again, hold, says, works};
use crate::failure::Failure;
use crate::store::Store;

/// Watches that a domain can have: the quota is 128, and from Xen 4.22 on it cannot be reached.
const WATCHES: usize = 127;
/// Requests that fire all watches before an event is read.
const WRITES: u32 = 60;
/// The default of the quota `nodes`.
const NODES: u32 = 1000;
/// Bytes of a value that is below the quota `node-size` with everything that counts.
const VALUE: usize = 1900;
/// Values that a guest which has little gets in any case, whatever one other guest holds in a store of 8 MiB.
const OWN_SHARE: u32 = 32;
/// Events sent in one go.
const EVENTS: u32 = 20_000;

/// Repeats the request until it fails, which must be with ENOSPC. How often it worked.
fn until_no_space(mut request: impl FnMut(u32) -> Result<(), Failure>, at_most: u32) -> Result<u32, String> {
    for number in 0..=at_most {
        match request(number) {
            Ok(()) => {}
            Err(Failure::Refused(Errno::ENOSPC)) => return Ok(number),
            Err(failure) => return Err(format!("request {number}: {failure} instead of ENOSPC")),
        }
    }
    Err(format!("no limit at {at_most}"))
}

pub fn watches(store: &mut Store) -> Outcome {
    let made = until_no_space(|number| store.watch("data/attack", &format!("token-{number}")), 200)?;
    if made as usize != WATCHES {
        return Err(format!("{made} watches instead of {WATCHES}"));
    }
    let first = store.take_events().len();
    for _ in first..WATCHES {
        store.watch_event().map_err(says)?;
    }
    let first = store.last_request() + 1;
    let mut bytes = Vec::new();
    for _ in 0..WRITES {
        bytes.extend_from_slice(&store.encode(MessageType::Write.to_wire(), 0, b"data/attack\0v"));
    }
    let sent = store.send_without_reading(&bytes).map_err(says)?;
    if store.error() != 0 {
        return Err(format!("error {} instead of silence", store.error()));
    }
    store.send(bytes.get(sent..).unwrap_or_default()).map_err(says)?;
    for id in first..first + WRITES {
        let (header, _) = store.reply().map_err(says)?;
        if header.request_id != id || header.kind != MessageType::Write.to_wire() {
            return Err(format!("write {id} got the reply {header:?}"));
        }
    }
    // Each watch tells at least once, and never more often than there were writes.
    let events = store.take_events();
    for number in 0..made {
        let token = format!("token-{number}");
        let told = events.iter().filter(|event| event.token == token).count();
        if told == 0 || told > WRITES as usize {
            return Err(format!("watch {token} told {told} of {WRITES} writes"));
        }
    }
    store.reset_watches().map_err(says)?;
    works(store)?;
    again(format!(
        "ENOSPC after {made} watches; {} events for {WRITES} writes, and a reply to each",
        events.len()
    ))
}

pub fn events(store: &mut Store) -> Outcome {
    for _ in 0..EVENTS {
        store.notify();
    }
    works(store)?;
    if store.error() != 0 {
        return Err(format!("error {}", store.error()));
    }
    again(format!("{EVENTS} events, then an ordinary request"))
}

pub fn nodes(store: &mut Store) -> Outcome {
    // One request that would make more nodes than are allowed makes none.
    let deep = format!("data/attack{}", "/a".repeat(NODES as usize));
    match store.write(0, &deep, b"") {
        Err(Failure::Refused(Errno::ENOSPC)) => {}
        other => return Err(format!("{NODES} nodes in one request: {other:?} instead of ENOSPC")),
    }
    match store.directory("data/attack") {
        Err(Failure::Refused(Errno::ENOENT)) => {}
        other => return Err(format!("a request that failed left {other:?}")),
    }
    let made = until_no_space(
        |number| store.write(0, &format!("data/attack/{}/{number}", number % 10), b"value"),
        NODES,
    )?;
    store.remove("data/attack").map_err(says)?;
    works(store)?;
    again(format!(
        "ENOSPC for {NODES} nodes in one request, and after {made} one by one"
    ))
}

/// Writes values until there is no space. How many: the limit of nodes ends it, or the store's own memory, which may be smaller, but not
/// so small that others could take all of it.
fn fill(store: &mut Store) -> Result<u32, String> {
    let value = vec![b'v'; VALUE];
    let made = until_no_space(
        |number| store.write(0, &format!("data/attack/{}/{number}", number % 10), &value),
        NODES,
    )?;
    if made < OWN_SHARE {
        return Err(format!("ENOSPC after {made} values of {VALUE} bytes"));
    }
    let number = made - 1;
    let last = format!("data/attack/{}/{number}", number % 10);
    if store.read(0, &last).map_err(says)? != value {
        return Err(format!("{last} is not what was written"));
    }
    Ok(made)
}

/// As many bytes as fit into as many nodes as there may be: nearly two megabytes, written and removed without end.
pub fn values(store: &mut Store) -> Outcome {
    let made = fill(store)?;
    store.remove("data/attack").map_err(says)?;
    works(store)?;
    again(format!("ENOSPC after {made} values of {VALUE} bytes"))
}

/// As before, but everything stays.
pub fn values_kept(store: &mut Store) -> Outcome {
    let made = fill(store)?;
    works(store)?;
    hold(format!("ENOSPC after {made} values of {VALUE} bytes, which stay"))
}
