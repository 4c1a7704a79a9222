//! One client: bytes on their way, and whole messages that came back; and one domain's side of its ring that carries them.

use std::collections::VecDeque;

use native_rings::Page;
use xenstore_ring::{ClientRing, ClientVisit};
use xenstore_wire::{HEADER_SIZE, Header, MessageType};

/// A message from a server.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it says of itself.
    pub header: Header,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Message {
    /// It is a watch event, so nobody's reply.
    pub fn is_event(&self) -> bool {
        self.header.kind == MessageType::WatchEvent as u32
    }

    /// The name of the error that it is.
    pub fn error(&self) -> Option<String> {
        let is_error = self.header.kind == MessageType::Error as u32;
        is_error.then(|| String::from_utf8_lossy(&self.payload).trim_end_matches('\0').to_owned())
    }
}

/// Messages of a client, as bytes.
#[derive(Default)]
pub struct Messages {
    /// Not sent yet.
    pub outgoing: VecDeque<u8>,
    /// Came, and not taken yet.
    pub incoming: Vec<u8>,
    requests: u32,
}

impl Messages {
    /// Queues a request and says its number. `|` in a payload stands for NUL.
    pub fn queue(&mut self, kind: MessageType, transaction: u32, payload: &str) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        let header = Header {
            kind: kind as u32,
            request_id: self.requests,
            transaction_id: transaction,
            length: payload.len() as u32,
        };
        self.outgoing.extend(header.emit());
        self.outgoing
            .extend(payload.bytes().map(|byte| if byte == b'|' { 0 } else { byte }));
        self.requests
    }

    /// The next whole message that came.
    pub fn take(&mut self) -> Option<Message> {
        let header = Header::parse(self.incoming.first_chunk::<HEADER_SIZE>()?);
        let end = HEADER_SIZE + header.length as usize;
        let payload = self.incoming.get(HEADER_SIZE..end)?.to_vec();
        self.incoming.drain(..end);
        Some(Message { header, payload })
    }
}

/// The client in one domain.
pub struct Client {
    page: Page,
    ring: ClientRing,
    messages: Messages,
}

impl Client {
    /// A client on a page that the server does not know yet.
    pub fn new(page: Page) -> Client {
        Client {
            ring: ClientRing::adopt(&page),
            page,
            messages: Messages::default(),
        }
    }

    /// The server has started the ring from zero.
    pub fn restart(&mut self) {
        self.ring = ClientRing::adopt(&self.page);
    }

    /// [`Messages::queue`].
    pub fn queue(&mut self, kind: MessageType, transaction: u32, payload: &str) -> u32 {
        self.messages.queue(kind, transaction, payload)
    }

    /// Moves what can be moved between here and the ring. True if the server must get an event.
    pub fn pump(&mut self) -> anyhow::Result<bool> {
        let Messages { outgoing, incoming, .. } = &mut self.messages;
        loop {
            let (writable, readable) = match self.ring.visit(&self.page) {
                ClientVisit::Open { writable, readable } => (writable, readable),
                other => anyhow::bail!("a ring is {other:?}"),
            };
            let mut moved = false;
            if writable > 0 && !outgoing.is_empty() {
                let sent = self.ring.send(&self.page, outgoing.make_contiguous());
                outgoing.drain(..sent);
                moved |= sent > 0;
            }
            if readable > 0 {
                let mut bytes = [0; 1024];
                let got = self.ring.receive(&self.page, &mut bytes);
                incoming.extend_from_slice(&bytes[..got]);
                moved |= got > 0;
            }
            if !moved {
                return Ok(self.ring.take_notify());
            }
        }
    }

    /// [`Messages::take`].
    pub fn take(&mut self) -> Option<Message> {
        self.messages.take()
    }
}
