//! One request to one server, and all that came of it.

use std::collections::BTreeMap;

use xenstore_wire::Header;
use xenstore_wire::MessageType::*;

use crate::differences::{ANSWER, Told};
use crate::guests::{Message, Peer};

/// What came of one request on one side.
pub struct Outcome {
    /// The answer.
    pub answer: Message,
    /// What each domain got, with the answer's place marked.
    pub told: Told,
}

/// The request changes nodes if it succeeds.
pub fn is_change(kind: u32) -> bool {
    [Write, Mkdir, Rm, SetPerms].iter().any(|change| *change as u32 == kind)
}

/// The request changes domains if it succeeds.
pub fn changes_domains(kind: u32) -> bool {
    let changes = [Introduce, Release, SetTarget];
    changes.iter().any(|change| *change as u32 == kind)
}

/// The id that an answer to TRANSACTION_START carries.
pub fn id_of(start: &Message) -> Option<u32> {
    start.text().trim_end_matches('|').parse().ok()
}

/// One request to one server, and all that came of it. `Err`: not exactly one answer. The answer's transaction is not checked.
pub fn one(
    peer: &mut dyn Peer,
    domid: u16,
    request: u32,
    kind: u32,
    id: u32,
    payload: &[u8],
) -> Result<Outcome, String> {
    let header = Header {
        kind,
        request_id: request,
        transaction_id: id,
        length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
    };
    peer.send(domid, header, payload);
    let mut answer = None;
    let mut told = BTreeMap::new();
    for (to, messages) in peer.settle()? {
        let mut list = Vec::with_capacity(messages.len());
        for message in messages {
            if message.is_event() && (message.request, message.transaction) == (0, 0) {
                list.push(message.text());
            } else if to == domid && message.request == request && answer.is_none() {
                list.push(ANSWER.into());
                answer = Some(message);
            } else {
                return Err(format!("unexpected for d{to}: {message:?}"));
            }
        }
        told.insert(to, list);
    }
    match answer {
        Some(answer) => Ok(Outcome { answer, told }),
        None => Err(format!("none, but {told:?}")),
    }
}
