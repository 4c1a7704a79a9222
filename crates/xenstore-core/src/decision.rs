//! A record being made. Every request leaves with exactly one reply or an action that will bring one.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use xenstore_wire::{DomId, Errno, HEADER_SIZE, Header, MessageType, PAYLOAD_MAX, PathBuf};

use crate::allowance::Refused;
use crate::connection::{Cause, Connection, ConnectionId, QueuedMessage};
use crate::domain::Domain;
use crate::events::Source;
use crate::heap::{self, Cost};
use crate::input::{Time, World};
use crate::overlay::View;
use crate::policy::Caller;
use crate::record::{Action, Change, NodeChange, Output, Place, Record, Shown, WORTH_NAMING};
use crate::server::Server;
use crate::told::Told;
use crate::transaction::{Facets, Transaction, Write};
use crate::tree::Memory;

/// The payload of a successful reply, or the news that it comes later.
pub(crate) enum Answer {
    /// Sent with the type of the request.
    Reply(Vec<u8>),
    /// "OK", and behind it the first event of a new watch: clients wait for the one to expect the other.
    OkThenEvent { path: String, token: Box<[u8]> },
    /// An action was recorded; its outcome brings the reply.
    Later,
}

impl Answer {
    pub const OK: &'static [u8] = b"OK\0";

    pub fn ok() -> Answer {
        Answer::bytes(Self::OK)
    }

    pub fn bytes(payload: &[u8]) -> Answer {
        let mut bytes = payload_of(payload.len());
        bytes.extend_from_slice(payload);
        Answer::Reply(bytes)
    }
}

pub(crate) type Outcome = Result<Answer, Errno>;

/// A record being made.
pub(crate) struct Decision<'s, M: Memory> {
    pub server: &'s Server<M>,
    pub now: Time,
    pub world: &'s dyn World,
    /// Who asks; none when the world itself does (a domain died).
    pub requester: Option<(ConnectionId, &'s Connection)>,
    pub caller: Caller<'s>,
    /// Where node changes go.
    pub place: Place,
    /// The open transaction that the request names.
    pub transaction: Option<(u32, &'s Transaction)>,
    pub view: View<'s, M>,
    generation: u64,
    /// Changes that stay when the request fails: bytes taken, observations.
    kept: Vec<Change>,
    changes: Vec<Change>,
    pub outputs: Vec<Output>,
    /// What the reply shows of the store, if it is long.
    pub shown: Option<Shown>,
    /// How many messages and bytes each connection is told.
    pub told: Told,
    /// Events that are not told because the same one waits.
    pub merged: u32,
    /// Events that are not told for want of memory, and whose memory that is.
    pub dropped: u32,
    pub short_of_memory: BTreeSet<DomId>,
    pub actions: Vec<Action>,
    /// Nodes and bytes charged so far by this decision.
    pub charged: BTreeMap<DomId, (i64, i64)>,
    /// Bytes of the tree's memory that this decision's changes take for good, at most.
    pub added: usize,
    /// Fingerprint of each event among the outputs, and its place there.
    pub events: BTreeSet<(ConnectionId, u64, usize)>,
    /// The memory of those events, for each connection that gets some.
    pub event_memory: BTreeMap<ConnectionId, usize>,
    /// Where events go while a commit collects them.
    pub collected: Option<Vec<Source>>,
    /// Lines for the log that stay when the request fails.
    pub lines: Vec<Action>,
    /// What this request met last, for the log.
    pub refused: Cell<Option<Refused>>,
}

impl<'s, M: Memory> Decision<'s, M> {
    /// A decision that no client asked for.
    pub fn new(server: &'s Server<M>, now: Time, world: &'s dyn World) -> Self {
        let caller = Caller::server(server.configuration.privileged);
        Decision {
            server,
            now,
            world,
            requester: None,
            caller,
            place: Place::Store,
            transaction: None,
            view: View::new(&server.tree, server.current()),
            generation: server.generation,
            kept: Vec::new(),
            changes: Vec::new(),
            outputs: Vec::new(),
            shown: None,
            told: Told::default(),
            merged: 0,
            dropped: 0,
            short_of_memory: BTreeSet::new(),
            actions: Vec::new(),
            charged: BTreeMap::new(),
            added: 0,
            events: BTreeSet::new(),
            event_memory: BTreeMap::new(),
            collected: None,
            lines: Vec::new(),
            refused: Cell::new(None),
        }
    }

    pub fn of(server: &'s Server<M>, now: Time, world: &'s dyn World, id: ConnectionId) -> Option<Self> {
        let connection = server.connections.get(&id)?;
        let mut decision = Self::new(server, now, world);
        decision.caller = server.caller(connection);
        decision.requester = Some((id, connection));
        Some(decision)
    }

    pub fn request(mut self, id: ConnectionId, header: Header, payload: &[u8]) -> Record {
        let outcome = self.dispatch(id, header, payload);
        self.answer(id, header, outcome)
    }

    /// Ends a request: with its reply, or waiting for its action.
    pub fn answer(mut self, id: ConnectionId, header: Header, outcome: Outcome) -> Record {
        let mut first_event = None;
        let outcome = match outcome {
            // XSA-72: nothing longer than a payload may be sent. What the request did stays done, as in C.
            Ok(Answer::Reply(payload)) if payload.len() > PAYLOAD_MAX => Ok((MessageType::Error, error(Errno::E2BIG))),
            Ok(Answer::Reply(payload)) => Ok((
                MessageType::from_wire(header.kind).unwrap_or(MessageType::Error),
                payload,
            )),
            Ok(Answer::OkThenEvent { path, token }) => {
                first_event = Some((path, token));
                Ok((
                    MessageType::from_wire(header.kind).unwrap_or(MessageType::Error),
                    Answer::OK.to_vec(),
                ))
            }
            Ok(Answer::Later) => return self.finish(),
            Err(errno) => Err(errno),
        };
        let outcome = outcome.and_then(|reply| self.others_may_be_told().map(|()| reply));
        let (kind, payload) = match outcome {
            Ok(reply) => reply,
            Err(errno) => {
                first_event = None;
                self.undo();
                self.log_refusal(header);
                (MessageType::Error, error(errno))
            }
        };
        self.reply(id, header, kind, payload);
        if let Some((path, token)) = first_event {
            // The request does not count as outstanding for it, as in C.
            self.requester = None;
            self.queue_event(id, &path, &token);
        }
        self.finish()
    }

    /// All or nothing: a request that fails changes nothing.
    fn undo(&mut self) {
        self.changes.clear();
        self.outputs.clear();
        self.told.clear();
        (self.merged, self.dropped) = (0, 0);
        self.short_of_memory.clear();
        self.events.clear();
        self.event_memory.clear();
        self.actions.clear();
        self.charged.clear();
        self.added = 0;
        self.collected = None;
        self.view.discard();
    }

    fn reply(&mut self, id: ConnectionId, request: Header, kind: MessageType, payload: Vec<u8>) {
        let header = Header {
            kind: kind as u32,
            request_id: request.request_id,
            transaction_id: request.transaction_id,
            length: u32::try_from(payload.len()).unwrap_or(0),
        };
        let cause = self.cause();
        let message = QueuedMessage {
            bytes: behind_header(header, payload),
            event: false,
            deadline: None,
            cause,
        };
        let shown = self.shown.take().filter(|_| kind != MessageType::Error);
        self.output_that_shows(id, message, shown);
    }

    /// A message for a client.
    pub fn output(&mut self, connection: ConnectionId, message: QueuedMessage) {
        self.output_that_shows(connection, message, None);
    }

    fn output_that_shows(&mut self, connection: ConnectionId, message: QueuedMessage, shown: Option<Shown>) {
        self.told.add(connection, message.memory() as u64);
        self.outputs.push(Output {
            connection,
            message,
            shown,
        });
    }

    /// The reply, of so many bytes, is what the store shows here: a record need not hold it. In a transaction it does.
    pub fn shows(&mut self, payload: usize, what: impl FnOnce() -> Shown) {
        if payload >= WORTH_NAMING && self.transaction.is_none() {
            self.shown = Some(what());
        }
    }

    /// What others are told of this request has room in the heap; only the privileged domain is told whatever it takes.
    fn others_may_be_told(&self) -> Result<(), Errno> {
        let told = self.told.iter();
        let told = told.map(|(_, amount)| heap::of_messages(amount.messages, amount.bytes));
        let told = told.fold(Cost::default(), Cost::and);
        if self.caller.exempt() || told == Cost::default() || self.server.heap().lets_tell(told) {
            return Ok(());
        }
        self.refused.set(Some(Refused::NoMemory));
        Err(Errno::ENOMEM)
    }

    /// What happened to the memory of domains and to events, as far as it is not in the changes.
    fn account_for_memory(&mut self) {
        for domid in core::mem::take(&mut self.short_of_memory) {
            self.actions.push(Action::Log {
                about: Some(domid),
                line: format!("domain {domid} is not told of events for want of memory"),
            });
        }
        if self.merged > 0 || self.dropped > 0 {
            self.keep(Change::EventsLeftOut {
                merged: self.merged,
                dropped: self.dropped,
            });
        }
        let server = self.server;
        if let (Some((id, state)), Some((only, told))) = (self.requester, self.told.only())
            && id == only
            && self.charged.keys().all(|domid| *domid == state.domid)
        {
            // Most requests concern nobody else.
            if let Some(domain) = server.domains.get(&state.domid).filter(|_| !self.caller.exempt()) {
                self.warn_of_memory(state.domid, domain, told.bytes);
            }
            return;
        }
        let mut concerned: BTreeMap<DomId, u64> = self.charged.keys().map(|domid| (*domid, 0)).collect();
        for (connection, told) in self.told.iter() {
            if let Some(state) = server.connections.get(&connection) {
                concerned.insert(state.domid, told.bytes);
            }
        }
        for (domid, told) in concerned {
            if let Some(domain) = server.domains.get(&domid).filter(|_| !server.exempt(domid)) {
                self.warn_of_memory(domid, domain, told);
            }
        }
    }

    /// The request as the cause of what it makes us say, if it counts.
    pub fn cause(&self) -> Option<Cause> {
        let (connection, state) = self.requester?;
        (!self.caller.exempt()).then_some(Cause {
            connection,
            request: state.requests,
        })
    }

    pub fn finish(mut self) -> Record {
        self.remember();
        self.account_for_memory();
        let place = self.place;
        self.actions.append(&mut self.lines);
        let mut changes = self.kept;
        changes.append(&mut self.changes);
        let charged = self.charged.into_iter().filter(|(_, amounts)| *amounts != (0, 0));
        changes.extend(charged.map(|(domid, (nodes, bytes))| Change::Charge {
            place,
            domid,
            nodes,
            bytes,
        }));
        Record {
            time: self.now,
            changes,
            outputs: self.outputs,
            actions: self.actions,
        }
    }

    fn dispatch(&mut self, id: ConnectionId, header: Header, payload: &[u8]) -> Outcome {
        use MessageType as T;
        let kind = MessageType::from_wire(header.kind).ok_or(Errno::ENOSYS)?;
        match kind {
            T::WatchEvent | T::Error | T::Restrict => return Err(Errno::ENOSYS),
            _ if !self.caller.may_request(kind, None) => return Err(Errno::EACCES),
            _ => {}
        }
        if header.transaction_id != 0 && !matches!(kind, T::Watch | T::Unwatch) {
            let open = self
                .requester
                .and_then(|(_, state)| state.transactions.get(&header.transaction_id));
            let open = open.ok_or(Errno::ENOENT)?;
            self.transaction = Some((header.transaction_id, open));
            // Only what is about nodes sees and changes the transaction's own tree; a domain that is released ends in the store.
            if matches!(
                kind,
                T::Directory | T::Read | T::GetPerms | T::Write | T::Mkdir | T::Rm | T::SetPerms | T::DirectoryPart
            ) {
                if open.snapshot_lost {
                    return Err(Errno::EAGAIN);
                }
                self.enter(id, header.transaction_id, open);
            }
        }
        match kind {
            T::Control => self.control(payload),
            T::Directory => self.directory(payload),
            T::Read => self.read(payload),
            T::GetPerms => self.get_permissions(payload),
            T::Watch => self.watch(id, payload),
            T::Unwatch => self.unwatch(id, payload),
            T::TransactionStart => self.transaction_start(id),
            T::TransactionEnd => self.transaction_end(id, payload),
            T::Introduce => self.introduce(id, header, payload),
            T::Release => self.release(payload),
            T::GetDomainPath => self.get_domain_path(payload),
            T::Write => self.write(payload),
            T::Mkdir => self.mkdir(payload),
            T::Rm => self.remove(payload),
            T::SetPerms => self.set_permissions(payload),
            T::IsDomainIntroduced => self.is_domain_introduced(payload),
            T::Resume => self.resume(payload),
            T::SetTarget => self.set_target(payload),
            T::ResetWatches => {
                self.change(Change::WatchesReset { connection: id });
                Ok(Answer::ok())
            }
            T::DirectoryPart => self.directory_part(payload),
            T::WatchEvent | T::Error | T::Restrict => Err(Errno::ENOSYS),
            T::GetFeature => self.get_feature(payload),
            T::SetFeature => self.set_feature(payload),
            T::GetQuota => self.get_quota(payload),
            T::SetQuota => self.set_quota(payload),
        }
    }

    /// From now on this decision looks at and changes the transaction's own tree.
    fn enter(&mut self, id: ConnectionId, transaction: u32, open: &'s Transaction) {
        self.place = Place::Transaction {
            connection: id,
            id: transaction,
        };
        match open.roots {
            Some(roots) => self.view = View::new(&self.server.tree, roots.own),
            // The store as it is now is the snapshot.
            None => self.kept.push(Change::TransactionBegan {
                connection: id,
                id: transaction,
            }),
        }
    }

    /// What it changes in the store.
    pub fn node_changes(&self) -> impl Iterator<Item = &NodeChange> {
        self.changes.iter().filter_map(|change| match change {
            Change::Node {
                place: Place::Store,
                change,
            } => Some(change),
            _ => None,
        })
    }

    /// The caller may send such a request about this domain.
    pub fn about(&self, kind: MessageType, domid: DomId) -> Result<(), Errno> {
        if self.caller.may_request(kind, Some(domid)) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    pub fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// A change that stays even if the request fails.
    pub fn keep(&mut self, change: Change) {
        self.kept.push(change);
    }

    pub fn log(&mut self, line: String) {
        self.actions.push(Action::Log { about: None, line });
    }

    pub fn next_generation(&mut self) -> u64 {
        self.generation = self.generation.saturating_add(1);
        self.generation
    }

    pub fn domain(&self, domid: DomId) -> Option<&'s Domain> {
        self.server.domains.get(&domid)
    }

    /// Notes that the transaction, if there is one, observed this of its view.
    pub fn observe(&mut self, path: &PathBuf, facets: Facets) -> Result<(), Errno> {
        let (Place::Transaction { connection, id }, Some((_, open))) = (self.place, self.transaction) else {
            return Ok(());
        };
        self.claim_lease(id, open, path);
        match open.seen(path) {
            Some(seen) if seen.include(facets) => return Ok(()),
            Some(_) => {}
            None => self.touch(connection, id, open, open.observing(path))?,
        }
        self.keep(Change::Observed {
            connection,
            id,
            path: path.clone(),
            facets,
        });
        Ok(())
    }

    /// Bytes of the path's beginning that name the topmost node that a write to it would change or make; only a transaction
    /// wants to know.
    pub fn top_of(&self, path: &PathBuf) -> u16 {
        if matches!(self.place, Place::Store) {
            return 0;
        }
        let mut top = path.as_path();
        while let Some(parent) = top.parent()
            && self.view.find(parent).is_none()
        {
            top = parent;
        }
        u16::try_from(top.as_str().len()).unwrap_or(u16::MAX)
    }

    /// Notes that the transaction, if there is one, wrote this; `top` is as it was before.
    pub fn wrote(&mut self, write: impl FnOnce() -> Write, top: u16) -> Result<(), Errno> {
        let (Place::Transaction { connection, id }, Some((_, open))) = (self.place, self.transaction) else {
            return Ok(());
        };
        let write = write();
        self.claim_lease(id, open, write.path());
        let (more, less) = open.writing(&write, top);
        if open.older(&write).is_none() {
            self.touch(connection, id, open, more)?;
        } else if more.bytes > less.bytes {
            self.own_memory_allows(more.bytes.saturating_sub(less.bytes))?;
        }
        self.change(Change::Wrote {
            connection,
            id,
            write,
            top,
        });
        Ok(())
    }
}

fn error(errno: Errno) -> Vec<u8> {
    let mut payload = errno.name().as_bytes().to_vec();
    payload.push(0);
    payload
}

/// [`message`] in the memory of its payload, if that has room for the header.
fn behind_header(header: Header, mut payload: Vec<u8>) -> Vec<u8> {
    let length = payload.len();
    payload.resize(length.saturating_add(HEADER_SIZE), 0);
    payload.copy_within(..length, HEADER_SIZE);
    if let Some(head) = payload.first_chunk_mut() {
        *head = header.emit();
    }
    payload
}

/// An empty payload for so many bytes, with room for the header.
pub(crate) fn payload_of(length: usize) -> Vec<u8> {
    Vec::with_capacity(length.saturating_add(HEADER_SIZE))
}

pub(crate) fn message(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload_of(payload.len());
    bytes.extend_from_slice(&header.emit());
    bytes.extend_from_slice(payload);
    bytes
}
