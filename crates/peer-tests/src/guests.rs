//! The domains' side: rings, requests on their way, and what came back.

use std::collections::{BTreeMap, VecDeque};

use xenstore_ring::{ClientRing, ClientVisit, SharedPage};
use xenstore_wire::{HEADER_SIZE, Header};

/// A message from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of its type; 16 is an error, 15 an event.
    pub kind: u32,
    /// The request that it answers; 0 for events.
    pub request: u32,
    /// The transaction of that request.
    pub transaction: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Message {
    /// A watch event.
    pub fn is_event(&self) -> bool {
        self.kind == 15
    }

    /// The payload for people: `|` for each NUL, `!` before the name of an error.
    pub fn text(&self) -> String {
        let text = readable(&self.payload);
        if self.kind == 16 {
            format!("!{}", text.trim_end_matches('|'))
        } else {
            text
        }
    }
}

/// Bytes for people: `|` for each NUL, long runs shortened.
pub fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\0', "|");
    let count = text.chars().count();
    if count <= 300 {
        return text.escape_debug().to_string();
    }
    let begin: String = text.chars().take(140).collect();
    let end: String = text.chars().skip(count - 60).collect();
    format!("{}…({count})…{}", begin.escape_debug(), end.escape_debug())
}

struct Guest<P> {
    page: P,
    ring: ClientRing,
    outgoing: VecDeque<u8>,
    incoming: Vec<u8>,
}

/// All domains of one host.
pub struct Guests<P>(BTreeMap<u16, Guest<P>>);

impl<P> Default for Guests<P> {
    fn default() -> Self {
        Guests(BTreeMap::new())
    }
}

impl<P: SharedPage> Guests<P> {
    /// A domain with a new page, in place of what it was.
    pub fn build(&mut self, domid: u16, page: P) {
        let ring = ClientRing::adopt(&page);
        self.0.insert(
            domid,
            Guest {
                page,
                ring,
                outgoing: VecDeque::new(),
                incoming: Vec::new(),
            },
        );
    }

    /// The server has started the domain's ring from zero.
    pub fn restart(&mut self, domid: u16) {
        if let Some(guest) = self.0.get_mut(&domid) {
            guest.ring = ClientRing::adopt(&guest.page);
            guest.outgoing.clear();
            guest.incoming.clear();
        }
    }

    /// Queues a request.
    pub fn send(&mut self, domid: u16, header: Header, payload: &[u8]) {
        if let Some(guest) = self.0.get_mut(&domid) {
            guest.outgoing.extend(header.emit());
            guest.outgoing.extend(payload);
        }
    }

    /// Moves what can be moved between guests and rings; adds to `kicks` those whose event channel must fire.
    pub fn pump(&mut self, kicks: &mut Vec<u16>) -> bool {
        let mut moved = false;
        for (domid, guest) in &mut self.0 {
            let ClientVisit::Open { writable, readable } = guest.ring.visit(&guest.page) else {
                continue;
            };
            if writable > 0 && !guest.outgoing.is_empty() {
                let sent = guest.ring.send(&guest.page, guest.outgoing.make_contiguous());
                guest.outgoing.drain(..sent);
                moved |= sent > 0;
            }
            if readable > 0 {
                let mut bytes = [0; 1024];
                let got = guest.ring.receive(&guest.page, &mut bytes);
                guest.incoming.extend_from_slice(&bytes[..got]);
                moved |= got > 0;
            }
            if guest.ring.take_notify() {
                kicks.push(*domid);
            }
        }
        moved
    }

    /// The whole messages that each domain has got since the last call.
    pub fn take(&mut self) -> BTreeMap<u16, Vec<Message>> {
        let mut all = BTreeMap::new();
        for (domid, guest) in &mut self.0 {
            let messages = parse(&mut guest.incoming);
            if !messages.is_empty() {
                all.insert(*domid, messages);
            }
        }
        all
    }
}

fn parse(bytes: &mut Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes[at..].first_chunk::<HEADER_SIZE>() {
        let header = Header::parse(head);
        let begin = at + HEADER_SIZE;
        let Some(payload) = bytes.get(begin..begin + header.length as usize) else {
            break;
        };
        messages.push(Message {
            kind: header.kind,
            request: header.request_id,
            transaction: header.transaction_id,
            payload: payload.to_vec(),
        });
        at = begin + payload.len();
    }
    bytes.drain(..at);
    messages
}

/// A server with its guests, on a host of its own.
pub trait Peer {
    /// A domain comes to life with a new page. Nobody tells the server.
    fn build(&mut self, domid: u16);
    /// The hypervisor says this of a domain, and that something changed.
    fn domain_is(&mut self, domid: u16, life: native_rings::Life);
    /// The server has started the domain's ring from zero.
    fn restart(&mut self, domid: u16);
    /// Queues a request.
    fn send(&mut self, domid: u16, header: Header, payload: &[u8]);
    /// Lets everyone go on until nothing moves any more, and gives what came. `Err`: why the server cannot go on.
    fn settle(&mut self) -> Result<BTreeMap<u16, Vec<Message>>, String>;
}
