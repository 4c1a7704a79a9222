//! Requests that end the server's life, again and again: they are set aside, and who keeps sending them is cut off.
//!
//! Before an input of a client is decided, the machine's durable memory says so (an [`InHand`]). If a life ends with such a mark
//! and the bytes that it names are not taken, the request is blamed: the next life counts that in the connection. A request that
//! was blamed [`KILLS_MOST`] times is not decided any more: its sender is told EIO. Taking bytes of the stream ends the blame, so
//! whatever ends a life after a request was committed (publishing, upkeep, an NMI while the server is idle) is blamed on nobody.
//! What comes from outside during a decision, an NMI say, is blamed on the request that is in hand; that the same request is hit
//! twice in a row is as good as impossible, and would cost it no more than an EIO.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::{Errno, HEADER_SIZE, Header, MessageType};

use crate::connection::{Connection, ConnectionId, Fault};
use crate::decide::misbehaved;
use crate::decision::Decision;
use crate::input::{Time, World};
use crate::record::{Action, Change, Record};
use crate::server::Server;
use crate::tree::Memory;

/// Lives that a request may end before it is set aside.
pub const KILLS_MOST: u8 = 2;

/// So many requests set aside within [`SET_ASIDE_WITHIN`] cost an unprivileged client its connection. Each has ended
/// [`KILLS_MOST`] lives.
pub const SET_ASIDE_MOST: usize = 3;

/// Nanoseconds after which a request that was set aside is no longer held against its sender: a minute.
pub const SET_ASIDE_WITHIN: u64 = 60_000_000_000;

/// With `--debug-crash`, the WRITE of exactly this value ends the life of the server in the place where it would be decided.
pub const POISON: &[u8] = b"xenstore-stubdom: crash now";

/// Bytes of a message that an [`InHand`] keeps: its header and the first 64 of its payload.
pub const IN_HAND_BYTES: usize = HEADER_SIZE + 64;

/// A path in a line of the log is not longer than this.
const PATH_SHOWN: usize = 200;

/// What a life was about to decide when it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InHand<'a> {
    /// The number of the life.
    pub life: u32,
    /// Whose input.
    pub connection: ConnectionId,
    /// The epoch of the connection's streams, by the number of resets before it.
    pub resets: u32,
    /// The bytes taken from the request stream before it.
    pub bytes_in: u64,
    /// The beginning of the message, at most [`IN_HAND_BYTES`].
    pub message: &'a [u8],
}

/// The requests of one connection that were set aside, and the one that may be next.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Poisoner {
    /// Lives that ended while the next bytes of its stream were in hand.
    pub kills: u8,
    /// Bytes of a message that was set aside before all of it had come; they are thrown away.
    pub skipping: u32,
    /// When the last requests were set aside, at most [`SET_ASIDE_MOST`].
    times: Vec<Time>,
}

impl Poisoner {
    /// Requests that are still held against the sender.
    fn recent(&self, now: Time) -> usize {
        self.times.iter().filter(|at| is_recent(**at, now)).count()
    }

    fn note(&mut self, now: Time) {
        self.times.retain(|at| is_recent(*at, now));
        if self.times.len() == SET_ASIDE_MOST {
            self.times.remove(0);
        }
        self.times.push(now);
    }
}

fn is_recent(at: Time, now: Time) -> bool {
    now.0.saturating_sub(at.0) < SET_ASIDE_WITHIN
}

impl Connection {
    /// Its next message ended so many lives of the server that it is not decided any more.
    pub fn is_set_aside(&self) -> bool {
        self.poisoner.kills >= KILLS_MOST
    }

    /// It was cut off for what it kept sending, and until then it may not begin anew either: each time would cost lives.
    pub fn cut_off_until(&self) -> Option<Time> {
        let last = self.poisoner.times.last();
        let last = last.filter(|_| self.ignored == Some(Fault::Poison))?;
        Some(Time(last.0.saturating_add(SET_ASIDE_WITHIN)))
    }

    /// So many bytes of its stream belong to a message that was set aside: they are taken by [`crate::Input::Skipped`].
    pub fn skipping(&self) -> u32 {
        self.poisoner.skipping
    }
}

impl<M: Memory> Server<M> {
    /// The request is the one that ends a life on purpose, and that is allowed.
    pub fn is_poison(&self, header: Header, payload: &[u8]) -> bool {
        if !self.configuration.debug_crash || header.kind != MessageType::Write as u32 {
            return false;
        }
        let value = payload.iter().position(|byte| *byte == 0);
        value.and_then(|nul| payload.get(nul.saturating_add(1)..)) == Some(POISON)
    }

    /// The connection whose next bytes were in hand when the last life ended, if they still wait.
    pub(crate) fn to_blame(&self, in_hand: Option<InHand<'_>>) -> Option<ConnectionId> {
        let in_hand = in_hand.filter(|mark| mark.life == self.lives.number)?;
        let state = self.connections.get(&in_hand.connection)?;
        let waits = state.resets == in_hand.resets && state.bytes_in == in_hand.bytes_in && state.ignored.is_none();
        waits.then_some(in_hand.connection)
    }

    /// The bytes that a connection's stream goes on with are set aside.
    pub(crate) fn apply_set_aside(&mut self, connection: ConnectionId, at: Time, left: u32) {
        self.lives.set_aside = self.lives.set_aside.saturating_add(1);
        if let Some(state) = self.connections.get_mut(&connection) {
            state.poisoner.skipping = left;
            state.poisoner.note(at);
        }
    }
}

impl<M: Memory> Decision<'_, M> {
    /// Answers a request that ended lives of the server, without looking at what it asks for. `left` bytes of it are still to
    /// come.
    pub fn set_aside(mut self, id: ConnectionId, header: Header, payload: &[u8], left: u32) -> Record {
        let (server, now) = (self.server, self.now);
        let Some((_, state)) = self.requester else {
            return self.finish();
        };
        let domid = state.domid;
        let recent = state.poisoner.recent(now).saturating_add(1);
        self.keep(Change::SetAside {
            connection: id,
            at: now,
            left,
        });
        self.lines.push(Action::Log {
            about: Some(domid),
            line: format!(
                "domain {domid}: request {} ended the server {} times and is set aside",
                described(header, payload),
                state.poisoner.kills
            ),
        });
        if recent < SET_ASIDE_MOST || server.exempt(domid) {
            return self.answer(id, header, Err(Errno::EIO));
        }
        let cut_off = misbehaved(server, now, id, Fault::Poison);
        let mut record = self.finish();
        record.changes.extend(cut_off.changes);
        record.actions.extend(cut_off.actions);
        record
    }
}

/// A piece of a message that has begun and is not complete. What would end a life again is set aside as soon as its header is there.
pub(crate) fn decide_partial<M: Memory>(
    server: &Server<M>,
    now: Time,
    world: &dyn World,
    connection: ConnectionId,
    bytes: &[u8],
) -> Option<Record> {
    let state = server
        .connections
        .get(&connection)
        .filter(|state| state.is_set_aside())?;
    let mut message = state.partial.clone();
    message.extend_from_slice(bytes);
    let Some((head, payload)) = message.split_first_chunk::<HEADER_SIZE>() else {
        // Not even a header, so nothing that could be answered.
        return (!server.exempt(state.domid)).then(|| {
            let mut record = misbehaved(server, now, connection, Fault::Poison);
            record.changes.push(Change::SetAside {
                connection,
                at: now,
                left: 0,
            });
            record
        });
    };
    let header = Header::parse(head);
    let left = header
        .length
        .saturating_sub(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    let mut decision = Decision::of(server, now, world, connection)?;
    decision.keep(Change::Consumed {
        connection,
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    });
    Some(decision.set_aside(connection, header, payload, left))
}

/// A request for the log: type and path, if there is one that can be shown.
pub(crate) fn described(header: Header, payload: &[u8]) -> String {
    let kind = MessageType::from_wire(header.kind).map_or("of unknown type", MessageType::name);
    let path = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    let shown = path.len() <= PATH_SHOWN && path.iter().all(|byte| (0x20..=0x7e).contains(byte));
    match core::str::from_utf8(path) {
        Ok(path) if shown && !path.is_empty() => format!("{kind} {path}"),
        _ => String::from(kind),
    }
}
