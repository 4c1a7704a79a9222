//! The guest's end of its ring: requests and replies, watch events, and the page itself for those who want to spoil it.
//!
//! One request at a time, each with a limit to its patience. Watch events that come meanwhile are kept.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xen_bindings::events::Events;
use xen_bindings::evtchn::{self, Port};
use xen_bindings::{Window, time};
use xenstore_ring::{ClientRing, ClientVisit, SharedPage, feature, offset};
use xenstore_wire::{Errno, HEADER_SIZE, Header, Message, MessageType};

use crate::failure::Failure;
use crate::latency::Latencies;
use crate::page::OwnPage;

/// One second, in Xen's unit of time.
pub const SECOND: u64 = 1_000_000_000;

/// How long an answer may take, seconds. Hundreds of guests may share an emulated processor, so this says only "never".
const PATIENCE: u64 = 200;

/// What a watch has seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    /// The path that changed.
    pub path: String,
    /// The watch's token.
    pub token: String,
}

/// The connection to the store.
pub struct Store {
    page: OwnPage,
    ring: ClientRing,
    events: Events,
    port: Port,
    /// What was received and is not a whole message yet.
    incoming: Vec<u8>,
    seen: VecDeque<WatchEvent>,
    last_request: u32,
    /// Times of the requests since somebody took them away.
    pub latencies: Latencies,
}

impl Store {
    /// Takes over the ring as it is.
    pub fn new(page: Window, port: Port, events: Events) -> Self {
        let page = OwnPage(page);
        evtchn::unmask(port);
        Store {
            ring: ClientRing::adopt(&page),
            page,
            events,
            port,
            incoming: Vec::new(),
            seen: VecDeque::new(),
            last_request: 0,
            latencies: Latencies::default(),
        }
    }

    /// What the server offers.
    pub fn features(&self) -> u32 {
        ClientRing::features(&self.page)
    }

    /// The error field.
    pub fn error(&self) -> u32 {
        self.load(offset::ERROR)
    }

    /// A word of the page.
    pub fn load(&self, offset: usize) -> u32 {
        self.page.load(offset)
    }

    /// Writes a word of the page, whoever it belongs to.
    pub fn spoil(&self, offset: usize, value: u32) {
        self.page.store(offset, value);
    }

    /// The four indices: requests read and written, replies read and written.
    pub fn indices(&self) -> [u32; 4] {
        [offset::REQ_CONS, offset::REQ_PROD, offset::RSP_CONS, offset::RSP_PROD].map(|index| self.load(index))
    }

    /// Sends an event to the server.
    pub fn notify(&self) {
        evtchn::notify(self.port);
    }

    /// Uses another event channel from now on.
    pub fn use_port(&mut self, port: Port) {
        evtchn::unmask(port);
        self.port = port;
    }

    /// Takes the ring over as the page says, forgetting what was under way.
    pub fn adopt(&mut self) {
        self.ring = ClientRing::adopt(&self.page);
        self.incoming.clear();
        self.seen.clear();
    }

    /// Zeroes all four indices without a word, as hvmloader does.
    pub fn reset_silently(&mut self) {
        self.ring.reset_silently(&self.page);
        self.incoming.clear();
        self.seen.clear();
    }

    /// Asks for a reconnect through the page, and waits until it is granted.
    pub fn reconnect(&mut self) -> Result<(), Failure> {
        if self.features() & feature::RECONNECTION == 0 {
            return Err(Failure::Strange("reconnection is not offered".into()));
        }
        self.ring.request_reconnect(&self.page);
        self.ring.take_notify();
        self.notify();
        self.until(PATIENCE, |store| store.load(offset::CONNECTION) == 0)?;
        self.adopt();
        Ok(())
    }

    /// Waits until the condition holds, at most so many seconds; it is looked at whenever the server sends an event, and ten times a
    /// second.
    pub fn until(&mut self, seconds: u64, mut condition: impl FnMut(&Store) -> bool) -> Result<(), Failure> {
        let deadline = time::now_ns() + seconds * SECOND;
        while !condition(self) {
            let now = time::now_ns();
            if now >= deadline {
                return Err(Failure::Silence(seconds));
            }
            self.wait_until(deadline.min(now + SECOND / 10));
        }
        Ok(())
    }

    /// Gives up the processor until an event comes, or this system time.
    fn wait_until(&mut self, deadline: u64) {
        self.events.wait(Some(deadline));
        self.events.drain(|_| {});
    }

    /// Waits, whatever comes.
    pub fn sleep(&mut self, nanoseconds: u64) {
        let deadline = time::now_ns() + nanoseconds;
        while time::now_ns() < deadline {
            self.wait_until(deadline);
        }
    }

    /// Reads whatever comes, for so long.
    pub fn listen(&mut self, nanoseconds: u64) -> Result<(), Failure> {
        let deadline = time::now_ns() + nanoseconds;
        loop {
            let moved = self.pump(&mut &[][..], true)?;
            if time::now_ns() >= deadline {
                return Ok(());
            }
            if !moved {
                self.wait_until(deadline);
            }
        }
    }

    /// Does nothing any more.
    pub fn sleep_for_ever(&mut self) -> ! {
        loop {
            self.events.wait(None);
            self.events.drain(|_| {});
        }
    }

    /// Writes what fits of `outgoing`, reads what there is if `reading`. Whether anything moved.
    fn pump(&mut self, outgoing: &mut &[u8], reading: bool) -> Result<bool, Failure> {
        let readable = match self.ring.visit(&self.page) {
            ClientVisit::Open { readable, .. } => readable as usize,
            ClientVisit::Reconnecting => return Ok(false),
            ClientVisit::GivenUp(error) => return Err(Failure::GivenUp(error)),
            ClientVisit::Misbehaved(fault) => return Err(Failure::Indices(fault)),
        };
        let sent = self.ring.send(&self.page, outgoing);
        *outgoing = outgoing.get(sent..).unwrap_or_default();
        let mut moved = sent > 0;
        if reading && readable > 0 {
            let before = self.incoming.len();
            self.incoming.resize(before + readable, 0);
            let got = self
                .ring
                .receive(&self.page, self.incoming.get_mut(before..).unwrap_or_default());
            self.incoming.truncate(before + got);
            moved |= got > 0;
        }
        if self.ring.take_notify() {
            self.notify();
        }
        Ok(moved)
    }

    /// Sends these bytes, reading what comes meanwhile.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        let deadline = time::now_ns() + PATIENCE * SECOND;
        while !bytes.is_empty() {
            if !self.pump(&mut bytes, true)? {
                self.wait_or_give_up(deadline)?;
            }
        }
        Ok(())
    }

    /// Sends as much as the server takes without reading any reply: until nothing has moved for a second. How many bytes were taken
    /// into the ring.
    pub fn send_without_reading(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut left = bytes;
        let mut quiet_since = time::now_ns();
        let mut taken = self.load(offset::REQ_CONS);
        while !left.is_empty() && time::now_ns() < quiet_since + SECOND {
            let moved = self.pump(&mut left, false)?;
            let now_taken = self.load(offset::REQ_CONS);
            if moved || now_taken != taken {
                (quiet_since, taken) = (time::now_ns(), now_taken);
            } else {
                self.wait_until(quiet_since + SECOND);
            }
        }
        Ok(bytes.len() - left.len())
    }

    fn wait_or_give_up(&mut self, deadline: u64) -> Result<(), Failure> {
        if time::now_ns() >= deadline {
            return Err(Failure::Silence(PATIENCE));
        }
        self.wait_until(deadline);
        Ok(())
    }

    /// The next message, an event or a reply.
    fn message(&mut self) -> Result<(Header, Vec<u8>), Failure> {
        let deadline = time::now_ns() + PATIENCE * SECOND;
        loop {
            if let Some((message, rest)) = Message::split(&self.incoming) {
                let (header, payload, rest) = (message.header, message.payload.to_vec(), rest.to_vec());
                self.incoming = rest;
                return Ok((header, payload));
            }
            if !self.pump(&mut &[][..], true)? {
                self.wait_or_give_up(deadline)?;
            }
        }
    }

    /// The next reply; events before it are kept.
    pub fn reply(&mut self) -> Result<(Header, Vec<u8>), Failure> {
        loop {
            let (header, payload) = self.message()?;
            if header.kind != MessageType::WatchEvent.to_wire() {
                return Ok((header, payload));
            }
            self.keep(&payload)?;
        }
    }

    /// The replies that have come whole, without waiting; events among them are kept.
    pub fn replies_so_far(&mut self) -> Result<u32, Failure> {
        let mut replies = 0;
        while Message::split(&self.incoming).is_some() {
            let (header, payload) = self.message()?;
            if header.kind == MessageType::WatchEvent.to_wire() {
                self.keep(&payload)?;
            } else {
                replies += 1;
            }
        }
        Ok(replies)
    }

    fn keep(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(payload);
        let mut parts = text.split('\0');
        let (Some(path), Some(token), Some("")) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Failure::Strange(format!("a watch event says {text:?}")));
        };
        self.seen.push_back(WatchEvent {
            path: path.into(),
            token: token.into(),
        });
        Ok(())
    }

    /// The next watch event; waits for it.
    pub fn watch_event(&mut self) -> Result<WatchEvent, Failure> {
        loop {
            if let Some(event) = self.seen.pop_front() {
                return Ok(event);
            }
            let (header, payload) = self.message()?;
            if header.kind != MessageType::WatchEvent.to_wire() {
                return Err(Failure::Strange(format!("a reply to nothing: {header:?}")));
            }
            self.keep(&payload)?;
        }
    }

    /// The next watch event, however long it takes.
    pub fn watch_event_some_day(&mut self) -> Result<WatchEvent, Failure> {
        loop {
            match self.watch_event() {
                Err(Failure::Silence(_)) => {}
                other => return other,
            }
        }
    }

    /// All watch events received so far.
    pub fn take_events(&mut self) -> Vec<WatchEvent> {
        self.seen.drain(..).collect()
    }

    /// The bytes of a request with the next request id.
    pub fn encode(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> Vec<u8> {
        self.last_request = self.last_request.wrapping_add(1);
        let header = Header {
            kind,
            request_id: self.last_request,
            transaction_id: transaction,
            length: payload.len() as u32,
        };
        [header.emit().as_slice(), payload].concat()
    }

    /// The id of the request encoded last.
    pub fn last_request(&self) -> u32 {
        self.last_request
    }

    /// A request of any kind, known or not, and its answer.
    pub fn ask(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let bytes = self.encode(kind, transaction, payload);
        let (began, id) = (time::now_ns(), self.last_request);
        self.send(&bytes)?;
        let (header, answer) = self.reply()?;
        self.latencies.add(time::now_ns().saturating_sub(began));
        judge(header, id, transaction, kind, answer)
    }

    fn request(&mut self, kind: MessageType, transaction: u32, parts: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut payload = Vec::new();
        for part in parts {
            payload.extend_from_slice(part.as_bytes());
            payload.push(0);
        }
        self.ask(kind.to_wire(), transaction, &payload)
    }

    /// READ.
    pub fn read(&mut self, transaction: u32, path: &str) -> Result<Vec<u8>, Failure> {
        self.request(MessageType::Read, transaction, &[path])
    }

    /// WRITE.
    pub fn write(&mut self, transaction: u32, path: &str, value: &[u8]) -> Result<(), Failure> {
        let payload = [path.as_bytes(), &[0], value].concat();
        done(self.ask(MessageType::Write.to_wire(), transaction, &payload)?)
    }

    /// RM.
    pub fn remove(&mut self, path: &str) -> Result<(), Failure> {
        done(self.request(MessageType::Rm, 0, &[path])?)
    }

    /// DIRECTORY: the names, in the server's order.
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>, Failure> {
        let names = self.request(MessageType::Directory, 0, &[path])?;
        let names = String::from_utf8_lossy(&names);
        Ok(names.split_terminator('\0').map(String::from).collect())
    }

    /// WATCH.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Failure> {
        done(self.request(MessageType::Watch, 0, &[path, token])?)
    }

    /// RESET_WATCHES.
    pub fn reset_watches(&mut self) -> Result<(), Failure> {
        done(self.request(MessageType::ResetWatches, 0, &[""])?)
    }

    /// TRANSACTION_START: its id.
    pub fn begin(&mut self) -> Result<u32, Failure> {
        let id = self.request(MessageType::TransactionStart, 0, &[""])?;
        let text = String::from_utf8_lossy(&id);
        let id = text.trim_end_matches('\0').parse();
        id.map_err(|_| Failure::Strange(format!("a transaction is called {text:?}")))
    }

    /// TRANSACTION_END with success.
    pub fn commit(&mut self, transaction: u32) -> Result<(), Failure> {
        done(self.request(MessageType::TransactionEnd, transaction, &["T"])?)
    }

    /// GET_DOMAIN_PATH: works for everyone at any time.
    pub fn domain_path(&mut self, domid: u16) -> Result<String, Failure> {
        let path = self.request(MessageType::GetDomainPath, 0, &[&format!("{domid}")])?;
        Ok(String::from_utf8_lossy(&path).trim_end_matches('\0').into())
    }
}

/// A reply belongs to its request, and is an error or has the request's type.
pub fn judge(header: Header, id: u32, transaction: u32, kind: u32, answer: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if (header.request_id, header.transaction_id) != (id, transaction) {
        return Err(Failure::Strange(format!("request {id} got the reply {header:?}")));
    }
    if header.kind == MessageType::Error.to_wire() {
        let name = String::from_utf8_lossy(&answer);
        let errno = Errno::from_name(name.trim_end_matches('\0'));
        return Err(errno.map_or_else(|| Failure::Strange(format!("the error {name:?}")), Failure::Refused));
    }
    if header.kind != kind {
        return Err(Failure::Strange(format!(
            "a request of type {kind} got the reply {header:?}"
        )));
    }
    Ok(answer)
}

fn done(answer: Vec<u8>) -> Result<(), Failure> {
    if answer == b"OK\0" {
        return Ok(());
    }
    Err(Failure::Strange(format!(
        "{:?} instead of OK",
        String::from_utf8_lossy(&answer)
    )))
}

const _: () = assert!(HEADER_SIZE == 16);
