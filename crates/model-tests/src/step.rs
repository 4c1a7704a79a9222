//! What may happen: steps that stand for themselves, so that a stream stays a stream when some are left out.

use std::fmt;

use xenstore_wire::MessageType;

use crate::engine::LinkEvent;

/// The transaction that a request names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Within {
    /// None.
    Outside,
    /// One of the sender's open ones, counted round; none if it has none.
    Open(u8),
    /// One that is not open.
    Unknown,
}

/// What the hypervisor says of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It lives.
    Alive,
    /// It waits for its toolstack.
    Shutdown,
    /// It is all but gone.
    Dying,
    /// There is none with its number.
    Absent,
    /// Another has its number.
    Replaced,
}

/// One thing that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A domain sends a request; left out if it is not connected, or may not be heard and someone else waits already.
    Request {
        /// Who.
        domid: u16,
        /// In which transaction.
        within: Within,
        /// The number of the type, known or not.
        kind: u32,
        /// What it carries.
        payload: Vec<u8>,
        /// It arrives in two parts, the first of so many bytes.
        first: Option<u16>,
    },
    /// A domain that is not known is built, introduced and given a home; one that is there is introduced again.
    Start {
        /// Who.
        domid: u16,
    },
    /// The hypervisor says that these domains changed.
    Fates(Vec<(u16, Fate)>),
    /// The same happens to these domains, and the hypervisor has not said so yet.
    Unheard(Vec<(u16, Fate)>),
    /// A client takes so many bytes more and then nothing; or all that comes.
    Room {
        /// Who.
        domid: u16,
        /// None: all that comes.
        bytes: Option<u16>,
    },
    /// Something happens to a client's link, in the middle of a message that has begun with so many bytes.
    Link {
        /// Whose.
        domid: u16,
        /// What.
        event: LinkEvent,
        /// Bytes of a message that is never complete.
        torn: u8,
    },
    /// A client announces a message that is too long.
    TooLong {
        /// Who.
        domid: u16,
    },
    /// Milliseconds pass.
    Pass(u32),
    /// The life of the server ends and another begins.
    Restart,
    /// Everything that can be compared is.
    Compare,
}

/// A payload as text.
fn readable(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload).replace('\0', "|");
    if text.len() > 300 {
        format!(
            "{}... ({} bytes)",
            text.chars().take(300).collect::<String>(),
            payload.len()
        )
    } else {
        text
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Request {
                domid,
                within,
                kind,
                payload,
                first,
            } => {
                let kind =
                    MessageType::from_wire(*kind).map_or_else(|| format!("type {kind}"), |kind| kind.to_string());
                write!(f, "d{domid} {kind} {within:?} {}", readable(payload))?;
                match first {
                    Some(first) => write!(f, " (the first {first} bytes alone)"),
                    None => Ok(()),
                }
            }
            other => write!(f, "{other:?}"),
        }
    }
}
