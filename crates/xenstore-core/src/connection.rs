//! A connection: one client's stream of requests and the queue of what it has still to be told.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::DomId;

use crate::domain::Maxima;
use crate::input::{Channel, Time};
use crate::lease::Losing;
use crate::poison::Poisoner;
use crate::record::Waiting;
use crate::transaction::Transaction;
use crate::tree::fingerprint;
use crate::watch::WatchPath;

/// What a message in a queue takes besides its bytes, at most: its place in the queue (about 80 bytes), in the index of events
/// (about 30), and what the allocator adds.
const MESSAGE_OVERHEAD: usize = 128;

/// Names a connection. Given out in the order of creation and never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConnectionId(pub u32);

/// What a client did to be ignored; the numbers are those of the ring page's `error` field (xs_wire.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// The ring's indices are impossible (2, RINGIDX).
    RingIndex,
    /// A message announced more than 4096 bytes (3, PROTO).
    Protocol,
    /// Its requests ended the server's life again and again (3, PROTO: there is no number of its own).
    Poison,
}

impl Fault {
    /// The value of the `error` field.
    pub fn wire_value(self) -> u32 {
        match self {
            Fault::RingIndex => 2,
            Fault::Protocol | Fault::Poison => 3,
        }
    }
}

/// Where the two byte streams of a connection began: the ring indices at that moment. Offsets count from here, so they say
/// after a crash what the indices in the page must be. A new epoch begins when the ring is taken over, introduced, reset or
/// reconnected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// `req_cons` at the beginning.
    pub base_in: u32,
    /// `rsp_prod` at the beginning.
    pub base_out: u32,
}

/// A request whose reply or events are not all consumed: it counts against its sender's `outstanding` quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// Who sent the request.
    pub connection: ConnectionId,
    /// Its number on that connection.
    pub request: u64,
}

/// One message that waits for room in the client's ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Header and payload as the client will see them.
    #[serde(with = "crate::bytes")]
    pub bytes: Vec<u8>,
    /// A watch event (replies are never merged nor dropped).
    pub event: bool,
    /// When an event that nobody takes is dropped.
    pub deadline: Option<Time>,
    /// The request that caused it.
    pub cause: Option<Cause>,
}

impl QueuedMessage {
    /// The memory that it is charged with, in bytes, if its content has this length.
    pub(crate) fn memory_of(content: usize) -> usize {
        content.saturating_add(MESSAGE_OVERHEAD)
    }

    /// The memory that it is charged with, in bytes.
    pub(crate) fn memory(&self) -> usize {
        Self::memory_of(self.bytes.len())
    }

    /// Its length, if it is a reply.
    fn reply_bytes(&self) -> usize {
        if self.event { 0 } else { self.bytes.len() }
    }
}

/// What a client has still to be told, first things first. Replies are bounded by the limit `outstanding`, events by the limit
/// `memory` and a share of the store (see `Decision::queue_event`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "SavedQueue")]
pub struct OutQueue {
    /// Each with its number, in growing order; events that were dropped leave gaps.
    messages: VecDeque<(u64, QueuedMessage)>,
    /// The number of the next message.
    next: u64,
    /// Bytes of the head that are visible already.
    head_sent: usize,
    /// The memory of all messages, the visible part of the head included.
    bytes: usize,
    /// Bytes of the replies among them.
    #[serde(skip)]
    replies: usize,
    /// Fingerprint and number of each event: of each new one it is asked whether it waits already, and there may be thousands.
    #[serde(skip)]
    events: BTreeSet<(u64, u64)>,
}

/// A queue as it is saved: the index of events is made anew.
#[derive(Deserialize)]
struct SavedQueue {
    messages: VecDeque<(u64, QueuedMessage)>,
    next: u64,
    head_sent: usize,
    bytes: usize,
}

impl From<SavedQueue> for OutQueue {
    fn from(saved: SavedQueue) -> Self {
        let SavedQueue {
            messages,
            next,
            head_sent,
            bytes,
        } = saved;
        let events = messages.iter().filter(|(_, message)| message.event);
        let replies = messages.iter().map(|(_, message)| message.reply_bytes());
        OutQueue {
            replies: replies.fold(0, usize::saturating_add),
            events: events
                .map(|(number, message)| (fingerprint(&message.bytes), *number))
                .collect(),
            messages,
            next,
            head_sent,
            bytes,
        }
    }
}

impl OutQueue {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The memory they are charged with, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of replies that are not visible yet.
    pub(crate) fn unread_replies(&self) -> usize {
        let head_is_reply = self.messages.front().is_some_and(|(_, message)| !message.event);
        self.replies
            .saturating_sub(if head_is_reply { self.head_sent } else { 0 })
    }

    /// Copies the next bytes of the stream into `out` and says how many there were.
    pub fn copy_out(&self, out: &mut [u8]) -> usize {
        let mut done = 0usize;
        let mut skip = self.head_sent;
        for (_, message) in &self.messages {
            let rest = message.bytes.get(skip..).unwrap_or_default();
            skip = 0;
            let Some(room) = out.get_mut(done..) else { break };
            let count = rest.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            done = done.saturating_add(count);
            if count < rest.len() {
                break;
            }
        }
        done
    }

    /// An event with these bytes waits and has not begun to be visible.
    pub fn holds_event(&self, bytes: &[u8]) -> bool {
        let started = self.messages.front().filter(|_| self.head_sent > 0);
        let started = started.map(|(number, _)| *number);
        let print = fingerprint(bytes);
        let mut alike = self.events.range((print, 0)..=(print, u64::MAX));
        alike.any(|(_, number)| {
            let found = self.index_of(*number).and_then(|index| self.messages.get(index));
            Some(*number) != started && found.is_some_and(|(_, message)| message.bytes == bytes)
        })
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.messages.binary_search_by_key(&number, |(number, _)| *number).ok()
    }

    /// The numbers of events whose time is up and that have not begun to be visible.
    pub fn expired(&self, now: Time) -> impl Iterator<Item = u64> + '_ {
        let started = usize::from(self.head_sent > 0);
        self.messages
            .iter()
            .skip(started)
            .filter(move |(_, message)| message.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(number, _)| *number)
    }

    /// The earliest time at which an event is dropped. Time only grows, so it is the first event that has one.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let started = usize::from(self.head_sent > 0);
        self.messages
            .iter()
            .skip(started)
            .find_map(|(_, message)| message.deadline)
    }

    /// The requests that each message is a consequence of.
    pub(crate) fn causes(&self) -> impl Iterator<Item = Cause> + '_ {
        self.messages.iter().filter_map(|(_, message)| message.cause)
    }

    /// What is kept of the messages' sizes is what they come to.
    pub(crate) fn adds_up(&self) -> bool {
        let mut sums = (0usize, 0usize);
        for (_, message) in &self.messages {
            sums.0 = sums.0.saturating_add(message.memory());
            sums.1 = sums.1.saturating_add(message.reply_bytes());
        }
        sums == (self.bytes, self.replies)
    }

    pub(crate) fn push(&mut self, message: QueuedMessage) {
        self.bytes = self.bytes.saturating_add(message.memory());
        self.replies = self.replies.saturating_add(message.reply_bytes());
        if message.event {
            self.events.insert((fingerprint(&message.bytes), self.next));
        }
        self.messages.push_back((self.next, message));
        self.next = self.next.saturating_add(1);
    }

    /// Advances by `count` visible bytes; the causes of the messages that are through come out.
    pub(crate) fn advance(&mut self, count: usize, mut through: impl FnMut(Cause)) {
        let mut left = count;
        while let Some((_, message)) = self.messages.front() {
            let rest = message.bytes.len().saturating_sub(self.head_sent);
            if rest > left {
                self.head_sent = self.head_sent.saturating_add(left);
                return;
            }
            left = left.saturating_sub(rest);
            self.head_sent = 0;
            if let Some(cause) = self.take_out(0).and_then(|message| message.cause) {
                through(cause);
            }
        }
    }

    /// Takes out the message with this number; its cause comes out.
    pub(crate) fn remove(&mut self, number: u64) -> Option<QueuedMessage> {
        self.take_out(self.index_of(number)?)
    }

    fn take_out(&mut self, index: usize) -> Option<QueuedMessage> {
        let (number, message) = self.messages.remove(index)?;
        self.bytes = self.bytes.saturating_sub(message.memory());
        self.replies = self.replies.saturating_sub(message.reply_bytes());
        if message.event {
            self.events.remove(&(fingerprint(&message.bytes), number));
        }
        Some(message)
    }

    /// Empties the queue; the causes come out.
    pub(crate) fn clear(&mut self, mut through: impl FnMut(Cause)) {
        for (_, message) in self.messages.drain(..) {
            if let Some(cause) = message.cause {
                through(cause);
            }
        }
        self.head_sent = 0;
        (self.bytes, self.replies) = (0, 0);
        self.events.clear();
    }
}

/// Bytes that may wait for a socket client before its further requests are left unread, and with them its replies unmade:
/// about sixteen of the longest replies.
pub const SOCKET_UNREAD_REPLIES: usize = 64 * 1024;

/// Bytes of replies that may wait for a ring client before its further requests are left in its ring: about one of the longest, or two
/// hundred short ones. The ring has room for a kilobyte, so what is made beyond that only waits here, beside that of a thousand others. What it
/// is told of unasked does not count: a client that takes no events is still heard, as far as the quotas of its domain let it.
pub const RING_UNREAD_REPLIES: usize = 4096;

/// Bytes that may wait for a socket client at all. Events come without being asked for, so a client that watches and does not
/// read would take all memory; it is cut off instead. About 17,000 events.
pub const SOCKET_UNREAD_MOST: usize = 1 << 20;

/// One client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// The domain on whose behalf it speaks. A socket client speaks for the privileged domain.
    pub domid: DomId,
    /// How it is reached.
    pub channel: Channel,
    /// How often its streams began anew.
    pub resets: u32,
    /// Where its streams began.
    pub epoch: Epoch,
    /// Bytes taken from its request stream in this epoch.
    pub bytes_in: u64,
    /// Bytes of replies and events that became visible in this epoch.
    pub bytes_out: u64,
    /// The beginning of a message that is not complete yet.
    #[serde(with = "crate::bytes")]
    pub partial: Vec<u8>,
    /// What it has still to be told.
    pub queue: OutQueue,
    /// It broke the rules and is neither read nor written any more.
    pub ignored: Option<Fault>,
    /// The request that waits for an action.
    pub waiting: Option<Waiting>,
    /// When the first of its events is dropped.
    pub(crate) deadline: Option<Time>,
    /// Requests received since the connection began.
    pub requests: u64,
    pub(crate) transactions: BTreeMap<u32, Transaction>,
    /// Its transaction that keeps losing.
    pub(crate) losing: Option<Losing>,
    /// The highest transaction id given out.
    pub(crate) last_transaction: u32,
    /// Its watches in the order of registration: number and path (the index holds the rest).
    pub(crate) watches: BTreeMap<u64, WatchPath>,
    /// Messages still queued for each request that is not consumed yet.
    pub(crate) unconsumed: BTreeMap<u64, u32>,
    /// Which of its requests ended lives of the server.
    pub(crate) poisoner: Poisoner,
}

impl Connection {
    pub(crate) fn new(domid: DomId, channel: Channel, epoch: Epoch) -> Self {
        Connection {
            domid,
            channel,
            resets: 0,
            epoch,
            bytes_in: 0,
            bytes_out: 0,
            partial: Vec::new(),
            queue: OutQueue::default(),
            ignored: None,
            waiting: None,
            deadline: None,
            requests: 0,
            transactions: BTreeMap::new(),
            losing: None,
            last_transaction: 0,
            watches: BTreeMap::new(),
            unconsumed: BTreeMap::new(),
            poisoner: Poisoner::default(),
        }
    }

    /// Requests whose reply or events the clients concerned have not taken yet (quota `outstanding`).
    pub fn outstanding(&self) -> usize {
        self.unconsumed.len()
    }

    /// What it has of what maxima are kept of. What waits for it is not known while records of an earlier life are `replayed`.
    pub(crate) fn seen(&self, replayed: bool) -> Maxima {
        Maxima {
            watches: self.watches.len() as u64,
            outstanding: if replayed { 0 } else { self.outstanding() as u64 },
            transactions: self.transactions.len() as u64,
            ..Maxima::default()
        }
    }

    /// Its requests can make what it is charged with less, and nothing else will: transactions are open, and nothing waits to be
    /// taken.
    pub(crate) fn can_free_memory(&self) -> bool {
        !self.transactions.is_empty() && self.queue.is_empty()
    }

    /// It has left so much unread that its requests wait until it has read some of it.
    pub fn is_behind(&self) -> bool {
        match self.channel {
            Channel::Ring { .. } => self.queue.unread_replies() >= RING_UNREAD_REPLIES,
            Channel::Socket => self.queue.bytes >= SOCKET_UNREAD_REPLIES,
        }
    }

    /// Lives of the server that ended while the next bytes of this client were in hand: see [`crate::InHand`].
    pub fn kills(&self) -> u8 {
        self.poisoner.kills
    }

    /// A socket client that has left so much unread that it is given up.
    pub fn is_lost(&self) -> bool {
        self.channel == Channel::Socket && self.queue.bytes() > SOCKET_UNREAD_MOST
    }

    /// How many watches it has (quota `watches`).
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// How many transactions it has open (quota `transactions`).
    pub fn transaction_count(&self) -> usize {
        self.transactions.len()
    }
}
