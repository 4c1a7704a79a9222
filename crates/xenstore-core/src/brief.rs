//! Records in short, for whoever looks for the reason of a crash: whose input it was, and of what kind.

use xenstore_wire::{HEADER_SIZE, Header, MessageType};

use crate::connection::ConnectionId;
use crate::record::{Change, Record};

impl Record {
    /// The connection that it is about, if there is one, and a word for what happened. A request is named by its reply.
    pub fn in_short(&self) -> (Option<ConnectionId>, &'static str) {
        let Some(first) = self.changes.first() else {
            return (None, "nothing");
        };
        match first {
            Change::Consumed { connection, .. } => (Some(*connection), self.reply_to(*connection)),
            Change::Partial { connection, .. } => (Some(*connection), "part"),
            Change::Skipped { connection, .. } => (Some(*connection), "skip"),
            Change::Connected { connection, .. } => (Some(*connection), "connected"),
            Change::Disconnected { connection } => (Some(*connection), "disconnected"),
            Change::ConnectionReset { connection, .. } => (Some(*connection), "reset"),
            Change::Ignored { connection, .. } => (Some(*connection), "ignored"),
            Change::NoLongerWaiting { connection } => (Some(*connection), "action-done"),
            Change::EventExpired { connection, .. } => (Some(*connection), "event-expired"),
            Change::Restarted(_) => (None, "restart"),
            Change::DomainKnown { .. } | Change::DomainForgotten { .. } | Change::ShutdownTold { .. } => {
                (None, "domains")
            }
            _ => (None, "other"),
        }
    }

    fn reply_to(&self, connection: ConnectionId) -> &'static str {
        let mut replies = self.outputs.iter();
        let reply = replies.find(|output| output.connection == connection && !output.message.event);
        let head = reply.and_then(|output| output.message.bytes.first_chunk::<HEADER_SIZE>());
        let kind = head.and_then(|head| MessageType::from_wire(Header::parse(head).kind));
        kind.map_or("request", MessageType::name)
    }
}
