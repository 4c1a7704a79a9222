//! What clients ask: whose turn it is, how much of its ring is taken, and what the bytes are.

use alloc::vec::Vec;

use xenstore_core::{Change, Connection, ConnectionId, CrashKind, Fault, Input, Record, Step, TraceSwitch};
use xenstore_recovery::Pages;
use xenstore_wire::{HEADER_SIZE, Header, PAYLOAD_MAX};

use super::{Client, Service, activate};
use crate::link::{Link, LinkState};
use crate::machine::Machine;
use crate::quiet::Subject;
use crate::trace;

/// What a connection may use up in one round: see [`cost`]. About sixteen small requests.
const QUANTUM: u64 = 4096;
/// The privileged domain carries all tools of the host over one ring.
const PRIVILEGED_QUANTA: u64 = 4;
/// The cost of a request besides its bytes.
const COST_OF_REQUEST: u64 = 128;
/// The cost of each change and each message that it makes.
const COST_OF_CHANGE: u64 = 64;
/// Bytes of a ring that are looked at first: more than most requests have.
const FIRST_LOOK: usize = 128;

impl<M: Machine, P: Pages> Service<M, P> {
    /// Takes what one client has sent, as far as its share reaches.
    pub(super) fn serve(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        let Some(state) = self.store.server().connection(connection) else {
            return;
        };
        if state.ignored.is_some() {
            // The one thing that is still listened to: the wish to begin anew.
            if client.link.look() == LinkState::Reconnect {
                match state.cut_off_until().filter(|until| *until > self.now) {
                    Some(until) => drop(self.returning.insert((until, connection))),
                    None => self.restart(connection, LinkState::Reconnect),
                }
            }
            return;
        }
        let privileged = state.domid == self.store.server().configuration().privileged;
        let looked = client.link.look();
        let (readable, writable) = match looked {
            LinkState::Open { readable, writable } => (readable, writable),
            LinkState::Reset | LinkState::Reconnect => return self.restart(connection, looked),
            LinkState::Broken(fault) => return self.take(Input::Misbehaved { connection, fault }),
            LinkState::Closed => return self.take(Input::Disconnected { connection }),
        };
        if !state.queue.is_empty() {
            if writable > 0 {
                self.touched.insert(connection);
                // What its requests wait for goes first, so that one notification is enough for that and for what they bring.
                if core::mem::take(&mut client.behind) {
                    let durable = self.store.seal();
                    self.publish(&durable, connection);
                }
            }
            if self.waits_for_reader(connection, readable) {
                return;
            }
        }
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        if readable == 0 {
            client.credit = 0;
            return;
        }
        let share = if privileged {
            QUANTUM.saturating_mul(PRIVILEGED_QUANTA)
        } else {
            QUANTUM
        };
        client.credit = client.credit.saturating_add(share);
        (client.behind, client.lacking) = (false, None);
        self.stalled.remove(&connection);
        self.held.remove(&connection);
        self.take_requests(connection, readable);
        self.touched.insert(connection);
        // Taken bytes become visible with the end of the round; then the client is looked at again, because what it wrote
        // while we worked may have come without an event. One that is over its limits is looked at when it is below them.
        let behind = self.clients.get(&connection).is_some_and(|client| client.behind);
        if !behind && !self.stalled.contains(&connection) && !self.held.contains_key(&connection) {
            activate(&mut self.clients, &mut self.active, connection);
        }
    }

    /// It has to read replies before these bytes of requests are taken: then its own publishing brings it back.
    fn waits_for_reader(&mut self, connection: ConnectionId, readable: u32) -> bool {
        let state = self.store.server().connection(connection);
        let behind = readable > 0 && state.is_some_and(Connection::is_behind);
        if let Some(client) = self.clients.get_mut(&connection) {
            client.behind = behind;
        }
        behind
    }

    fn take_requests(&mut self, connection: ConnectionId, readable: u32) {
        loop {
            let Some(client) = self.clients.get_mut(&connection) else {
                return;
            };
            let left = readable.saturating_sub(client.taken);
            if left == 0 || client.credit == 0 {
                self.cut_short |= left > 0;
                return;
            }
            if !self.store.server().may_read(connection) {
                if !self.waits_for_reader(connection, left) {
                    self.stalled.insert(connection);
                }
                return;
            }
            let mut message = core::mem::take(&mut self.message);
            let goes_on = self.take_one(connection, left, &mut message);
            self.message = message;
            if !goes_on {
                return;
            }
        }
    }

    /// Takes the next message, or as much of it as there is. False if nothing more can be taken in this turn.
    fn take_one(&mut self, connection: ConnectionId, left: u32, message: &mut Vec<u8>) -> bool {
        let (Some(client), Some(state)) = (
            self.clients.get_mut(&connection),
            self.store.server().connection(connection),
        ) else {
            return false;
        };
        let skipping = left.min(state.skipping());
        if skipping > 0 {
            client.taken = client.taken.saturating_add(skipping);
            client.credit = client.credit.saturating_sub(u64::from(skipping));
            self.take(Input::Skipped {
                connection,
                bytes: skipping,
            });
            return true;
        }
        let before = state.partial.len();
        let got = gather(message, client, state, left);
        if got == 0 {
            // The ring was started anew in the middle of this: an INTRODUCE of the one who sent it.
            return false;
        }
        let framed = frame(message);
        if let Framed::Whole(_, length) = framed {
            message.truncate(length);
        }
        self.store.about_to_decide(connection, message);
        self.store.reached(Step::BeforeDecide);
        match framed {
            Framed::Whole(header, length) => self.request(connection, header, message, length.saturating_sub(before)),
            Framed::Lacking(lacking) => {
                client.taken = client.taken.saturating_add(u32::try_from(got).unwrap_or(u32::MAX));
                client.lacking = lacking;
                let bytes = message.get(before..).unwrap_or_default();
                self.take(Input::Partial { connection, bytes });
                true
            }
            Framed::TooLong => {
                self.take(Input::Misbehaved {
                    connection,
                    fault: Fault::Protocol,
                });
                false
            }
        }
    }

    /// Decides a whole request, of which so many bytes are new. False if it has to wait.
    fn request(&mut self, connection: ConnectionId, header: Header, message: &[u8], new: usize) -> bool {
        let payload = message.get(HEADER_SIZE..).unwrap_or_default();
        let now = self.now;
        let lease = self.store.server().waits_for(now, connection, header, payload);
        if let Some(lease) = lease {
            self.held.insert(connection, lease);
            self.store.not_now();
            return false;
        }
        let consumed = u32::try_from(new).unwrap_or(u32::MAX);
        if let Some(client) = self.clients.get_mut(&connection) {
            client.taken = client.taken.saturating_add(consumed);
            client.lacking = None;
        }
        if self.store.server().settings().trace(TraceSwitch::InputOutput)
            && let Some(whose) = self.domain_of(connection)
        {
            self.log(Some(whose), Subject::Trace, trace::request(whose, header, payload));
        }
        self.end_where_ordered(connection, header, payload);
        let input = Input::Request {
            connection,
            consumed,
            header,
            payload,
        };
        let record = self.store.take(now, &self.machine, input);
        if let Some(client) = self.clients.get_mut(&connection) {
            client.credit = client.credit.saturating_sub(cost(&record, consumed));
        }
        self.after(record);
        if self.store.server().strikes_now() {
            self.take(Input::Strike);
        }
        true
    }

    /// With `--debug-crash`: the request that ends the life in its place, unless it is set aside already.
    fn end_where_ordered(&mut self, connection: ConnectionId, header: Header, payload: &[u8]) {
        let server = self.store.server();
        let aside = server.connection(connection).is_some_and(Connection::is_set_aside);
        if !aside && server.is_poison(header, payload) {
            self.machine.crash(CrashKind::Panic);
        }
    }

    /// The client begins anew: what the old stream meant is forgotten first, durably, then the ring goes on.
    pub(super) fn restart(&mut self, connection: ConnectionId, why: LinkState) {
        self.take(Input::Reset { connection });
        let _logged_first = self.store.seal();
        if let Some(client) = self.clients.get_mut(&connection) {
            client.taken = 0;
            client.lacking = None;
            client.link.restart(why);
        }
        self.touched.insert(connection);
        activate(&mut self.clients, &mut self.active, connection);
    }
}

/// Puts together what came of a message before and what the ring has of it now; says how many bytes the ring has.
fn gather<L: Link>(message: &mut Vec<u8>, client: &Client<L>, state: &Connection, left: u32) -> usize {
    message.clear();
    message.extend_from_slice(&state.partial);
    let whole = HEADER_SIZE.saturating_add(PAYLOAD_MAX);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let room = whole.saturating_sub(message.len()).min(left);
    // Not all that the ring has: most messages are short, and others follow.
    let got = peek_into(message, &client.link, client.taken, room.min(FIRST_LOOK));
    let Framed::Lacking(Some(lacking)) = frame(message) else {
        return got;
    };
    let skip = u32::try_from(got).map_or(client.taken, |got| client.taken.saturating_add(got));
    let lacking = usize::try_from(lacking).unwrap_or(usize::MAX);
    let more = lacking.min(room.saturating_sub(got));
    got.saturating_add(peek_into(message, &client.link, skip, more))
}

/// Adds bytes that the ring has `skip` bytes behind those that were consumed; says how many.
fn peek_into(message: &mut Vec<u8>, link: &impl Link, skip: u32, count: usize) -> usize {
    let before = message.len();
    message.resize(before.saturating_add(count), 0);
    let got = message.get_mut(before..).map_or(0, |out| link.peek(skip, out));
    message.truncate(before.saturating_add(got));
    got
}

/// What the bytes at hand are.
#[derive(Clone, Copy)]
enum Framed {
    /// A whole message with this header and length.
    Whole(Header, usize),
    /// Not all of it: so many bytes are lacking, if the header is complete and says so.
    Lacking(Option<u32>),
    /// It announces more than a payload may have.
    TooLong,
}

fn frame(bytes: &[u8]) -> Framed {
    let Some(head) = bytes.first_chunk::<HEADER_SIZE>() else {
        return Framed::Lacking(None);
    };
    let header = Header::parse(head);
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    if length > PAYLOAD_MAX {
        return Framed::TooLong;
    }
    let whole = HEADER_SIZE.saturating_add(length);
    match whole.checked_sub(bytes.len()) {
        None | Some(0) => Framed::Whole(header, whole),
        Some(lacking) => Framed::Lacking(u32::try_from(lacking).ok()),
    }
}

/// What a request uses up of its sender's share.
fn cost(record: &Record, bytes: u32) -> u64 {
    let nodes = record
        .changes
        .iter()
        .filter(|change| matches!(change, Change::Node { .. }))
        .count();
    let things = u64::try_from(nodes.saturating_add(record.outputs.len())).unwrap_or(u64::MAX);
    COST_OF_REQUEST
        .saturating_add(u64::from(bytes))
        .saturating_add(things.saturating_mul(COST_OF_CHANGE))
}
