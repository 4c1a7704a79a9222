//! Trace lines, in the form that C xenstored writes them in, as far as it is a form.

use alloc::format;
use alloc::string::String;

use xenstore_core::{Change, ConnectionId, Output};
use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType};

/// More of a payload than this is not shown.
const SHOWN: usize = 200;

pub(crate) fn request(domid: DomId, header: Header, payload: &[u8]) -> String {
    format!(
        "io: IN d{domid} {} tx {} ({})",
        name(header.kind),
        header.transaction_id,
        readable(payload)
    )
}

pub(crate) fn output(domid: DomId, output: &Output) -> String {
    let (head, payload) = output.message.bytes.split_at_checked(HEADER_SIZE).unwrap_or_default();
    let kind = head
        .first_chunk::<HEADER_SIZE>()
        .map_or(u32::MAX, |head| Header::parse(head).kind);
    format!("io: OUT d{domid} {} ({})", name(kind), readable(payload))
}

/// Connections, watches and transactions that come and go.
pub(crate) fn object(change: &Change) -> Option<String> {
    let on = |connection: &ConnectionId| connection.0;
    Some(match change {
        Change::Connected { connection, domid, .. } => format!("obj: CREATE connection {} d{domid}", on(connection)),
        Change::Disconnected { connection } => format!("obj: DESTROY connection {}", on(connection)),
        Change::WatchAdded { connection, path, .. } => {
            format!(
                "obj: CREATE watch {} on connection {}",
                path.as_written(),
                on(connection)
            )
        }
        Change::WatchRemoved { connection, number } => {
            format!("obj: DESTROY watch number {number} on connection {}", on(connection))
        }
        Change::TransactionOpened { connection, id } => {
            format!("obj: CREATE transaction {id} on connection {}", on(connection))
        }
        Change::TransactionClosed { connection, id } => {
            format!("obj: DESTROY transaction {id} on connection {}", on(connection))
        }
        _ => return None,
    })
}

fn name(kind: u32) -> String {
    MessageType::from_wire(kind).map_or_else(|| format!("type {kind}"), |kind| String::from(kind.name()))
}

fn readable(payload: &[u8]) -> String {
    let shown = payload.get(..SHOWN).unwrap_or(payload);
    let mut text: String = shown
        .iter()
        .map(|byte| match byte {
            0 => ' ',
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        })
        .collect();
    if shown.len() < payload.len() {
        text.push_str("...");
    }
    text
}
