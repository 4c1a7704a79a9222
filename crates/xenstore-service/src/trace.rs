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
pub(crate) fn object(change: &Change) -> Option<(ConnectionId, String)> {
    let (connection, line) = match change {
        Change::Connected { connection, domid, .. } => {
            (connection, format!("CREATE connection {} d{domid}", connection.0))
        }
        Change::Disconnected { connection } => (connection, format!("DESTROY connection {}", connection.0)),
        Change::WatchAdded { connection, path, .. } => {
            let path = path.as_written();
            (
                connection,
                format!("CREATE watch {path} on connection {}", connection.0),
            )
        }
        Change::WatchRemoved { connection, number } => (
            connection,
            format!("DESTROY watch number {number} on connection {}", connection.0),
        ),
        Change::TransactionOpened { connection, id } => (
            connection,
            format!("CREATE transaction {id} on connection {}", connection.0),
        ),
        Change::TransactionClosed { connection, id } => (
            connection,
            format!("DESTROY transaction {id} on connection {}", connection.0),
        ),
        _ => return None,
    };
    Some((*connection, format!("obj: {line}")))
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
