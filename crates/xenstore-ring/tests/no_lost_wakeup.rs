//! A server that sends few events and clients that sleep until they get one: nobody sleeps for ever.
//!
//! Both sides are state machines whose steps are interleaved by a seed. A client sleeps when it can do nothing, and
//! only an event wakes it; so does the server. The clients are those that exist: Linux (writes what fits), hvmloader
//! (leaves the last byte unused), MiniOS (waits for room for a whole message), and one that writes a header and then
//! waits for room for all of the rest. All of them send as few events as Linux does.

use proptest::prelude::*;
use xenstore_ring::{ClientRing, ClientVisit, MemoryPage, RING_SIZE, ServerRing, Visit};
use xenstore_wire::{HEADER_SIZE, Header, MESSAGE_MAX, MessageType};

/// A seeded generator (splitmix64), so that a seed is a bug report.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// How a client waits for room for its requests.
#[derive(Clone, Copy, Debug)]
enum Waits {
    /// Until one byte fits.
    Linux,
    /// Until one byte fits besides the one that it leaves unused.
    Hvmloader,
    /// Until the whole message fits; its messages are not longer than the ring.
    MiniOs,
    /// Writes a header, then waits until the whole payload fits.
    HeaderFirst,
}

struct Client {
    ring: ClientRing,
    waits: Waits,
    /// Requests not yet begun, as payload lengths.
    to_send: Vec<usize>,
    /// Bytes of the current request that were not written yet; what is written at once is decided by `waits`.
    current: Vec<u8>,
    /// Whole requests written.
    sent: u32,
    received: Vec<u8>,
    replies: u32,
    asleep: bool,
    /// Reads replies only when it has nothing more to write (hvmloader has one thread for both).
    writes_first: bool,
}

impl Client {
    /// One step; returns whether the server gets an event.
    fn step(&mut self, page: &MemoryPage) -> bool {
        let ClientVisit::Open { readable, writable } = self.ring.visit(page) else {
            panic!("client lost its ring")
        };
        if self.current.is_empty() {
            if let Some(length) = self.to_send.pop() {
                let header = Header {
                    kind: 2,
                    request_id: self.sent,
                    transaction_id: 0,
                    length: length as u32,
                };
                self.current = header.emit().to_vec();
                self.current.resize(HEADER_SIZE + length, b'x');
            }
        }
        let room = writable as usize;
        let left = self.current.len();
        let whole_header = self.current.get(4..8) == Some(&self.sent.to_le_bytes()[..]) && left >= HEADER_SIZE;
        let portion = match self.waits {
            Waits::Linux => left.min(room),
            Waits::Hvmloader => left.min(room.saturating_sub(1)),
            Waits::MiniOs if left <= room => left,
            Waits::HeaderFirst if whole_header && room >= HEADER_SIZE => HEADER_SIZE,
            Waits::HeaderFirst if !whole_header && left <= room => left,
            Waits::MiniOs | Waits::HeaderFirst => 0,
        };
        let may_read = readable > 0 && (!self.writes_first || self.current.is_empty());
        if portion > 0 {
            assert_eq!(self.ring.send(page, &self.current[..portion]), portion);
            self.current.drain(..portion);
            if self.current.is_empty() {
                self.sent += 1;
            }
        } else if may_read {
            let mut out = [0; 300];
            let got = self.ring.receive(page, &mut out);
            self.received.extend(&out[..got]);
            while let Some(length) = message_length(&self.received).filter(|&length| self.received.len() >= length) {
                self.received.drain(..length);
                self.replies += 1;
            }
        } else {
            self.asleep = true;
        }
        self.ring.take_notify()
    }

    fn is_done(&self) -> bool {
        self.to_send.is_empty() && self.current.is_empty() && self.replies == self.sent
    }
}

/// Bytes of the message that begins here, if its header is there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let header = Header::parse(bytes.first_chunk()?);
    Some(HEADER_SIZE + header.length as usize)
}

/// What the server does next. Between the steps of a round the client may do anything.
enum Phase {
    Look,
    /// A batch was read (and, one imagines, made durable): how many bytes to consume.
    Store {
        count: u32,
    },
    Tell,
}

struct Server {
    ring: ServerRing,
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Replies that come later (a request that had to wait), each of them whole.
    late: Vec<Vec<u8>>,
    consumed_whole: bool,
    asleep: bool,
}

impl Server {
    /// One step; returns whether the client gets an event.
    fn step(&mut self, page: &MemoryPage, dice: &mut Dice) -> bool {
        match self.phase {
            Phase::Look => {
                let Visit::Open { readable, writable } = self.ring.visit(page) else {
                    panic!("server lost its ring")
                };
                let budget = (dice.roll(2000) as u32).max(1);
                let count = readable.min(budget);
                let publishable = writable > 0 && !self.output.is_empty();
                if count == 0 && !publishable {
                    self.asleep = self.late.is_empty();
                    if let Some(reply) = self.late.pop() {
                        self.output.extend(reply);
                    }
                    return false;
                }
                let mut bytes = vec![0; count as usize];
                assert_eq!(self.ring.peek(page, 0, &mut bytes), bytes.len());
                self.input.extend(bytes);
                self.consumed_whole = false;
                while let Some(length) = message_length(&self.input).filter(|&length| self.input.len() >= length) {
                    self.answer(length, dice);
                    self.consumed_whole = true;
                }
                self.phase = Phase::Store { count };
                false
            }
            Phase::Store { count } => {
                self.ring.consume(page, count);
                let shown = self.ring.publish(page, &self.output);
                self.output.drain(..shown);
                self.phase = Phase::Tell;
                false
            }
            Phase::Tell => {
                self.phase = Phase::Look;
                let lacking = match message_length(&self.input) {
                    Some(length) if !self.consumed_whole => Some((length - self.input.len()) as u32),
                    _ => None,
                };
                self.ring.take_notify(lacking)
            }
        }
    }

    fn answer(&mut self, length: usize, dice: &mut Dice) {
        let request = Header::parse(self.input.first_chunk().unwrap());
        self.input.drain(..length);
        let payload = dice.roll(600) as usize;
        let mut reply = request.reply(MessageType::Read, payload as u32).emit().to_vec();
        reply.resize(HEADER_SIZE + payload, b'y');
        if dice.roll(8) == 0 {
            self.late.push(reply);
        } else {
            self.output.extend(reply);
        }
    }
}

/// Runs both until both sleep.
fn run(seed: u64, waits: Waits) {
    let mut dice = Dice(seed);
    let page = MemoryPage::new();
    let longest = match waits {
        Waits::Linux | Waits::Hvmloader => MESSAGE_MAX,
        Waits::MiniOs | Waits::HeaderFirst => RING_SIZE as usize,
    } - HEADER_SIZE;
    let count = 1 + dice.roll(20);
    let to_send = (0..count)
        .map(|_| {
            let range = if dice.roll(2) == 0 { 80 } else { longest as u64 + 1 };
            dice.roll(range) as usize
        })
        .collect();
    let mut server = Server {
        ring: ServerRing::fresh(&page, 0),
        phase: Phase::Look,
        input: Vec::new(),
        output: Vec::new(),
        late: Vec::new(),
        consumed_whole: false,
        asleep: false,
    };
    server.ring.take_notify(None);
    let mut client = Client {
        ring: ClientRing::adopt(&page),
        waits,
        to_send,
        current: Vec::new(),
        sent: 0,
        received: Vec::new(),
        replies: 0,
        asleep: false,
        // Whoever writes without reading can fill the reply ring, but replies then wait in the server.
        writes_first: dice.roll(2) == 0,
    };
    while !(client.asleep && server.asleep) {
        let client_runs = server.asleep || (!client.asleep && dice.roll(2) == 0);
        if client_runs {
            if client.step(&page) {
                server.asleep = false;
            }
        } else if server.step(&page, &mut dice) {
            client.asleep = false;
        }
    }
    assert!(
        client.is_done(),
        "seed {seed}, {waits:?}: asleep with {} bytes of a request unwritten, {} of {} replies, server has {} bytes to publish",
        client.current.len(),
        client.replies,
        client.sent,
        server.output.len(),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn nobody_sleeps_for_ever(
        seed: u64,
        waits in prop_oneof![Just(Waits::Linux), Just(Waits::Hvmloader), Just(Waits::MiniOs), Just(Waits::HeaderFirst)],
    ) {
        run(seed, waits);
    }
}
