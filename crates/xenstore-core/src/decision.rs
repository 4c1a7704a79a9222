//! Deciding: from the state and one input to a record. Every input comes through here, and every request leaves with
//! exactly one reply or an action that will bring one.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use xenstore_wire::{DomId, Errno, Header, MessageType, PAYLOAD_MAX, Path, PathBuf, Permissions};

use crate::account::node_size;
use crate::connection::{Cause, Connection, ConnectionId, Fault, QueuedMessage};
use crate::domain::Domain;
use crate::events::Source;
use crate::input::{Channel, Input, Time, World};
use crate::overlay::{ChangedNode, View};
use crate::policy::Caller;
use crate::quota::Limit;
use crate::record::{Action, Change, NodeChange, Output, Place, Record};
use crate::server::Server;
use crate::transaction::{Facets, Transaction, Write};
use crate::tree::Memory;

/// What a node takes besides name, value and permissions, at most: the head of its block (about 40 bytes), its entries in
/// both indexes of a large directory (about 30, in blocks that are at least half full) and in the table of ids (4).
const LASTING_OVERHEAD: usize = 128;

/// A domain that is charged with more than this part of the tree's capacity counts as a large one: 1/16.
const SHARE: usize = 16;
/// The part of the tree's capacity that large domains cannot have: 1/4.
const KEPT_FOR_SMALL: usize = 4;

/// Why a request was refused that was well-formed and allowed.
#[derive(Clone, Copy)]
enum Refused {
    /// By this limit of this domain.
    Limit(Limit, DomId),
    /// For want of memory in the store.
    NoRoom,
}

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
        Answer::Reply(Self::OK.to_vec())
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
    pub caller: Caller,
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
    pub actions: Vec<Action>,
    /// Nodes and bytes charged so far by this decision.
    charged: BTreeMap<DomId, (i64, i64)>,
    /// Bytes of the tree's memory that this decision's changes take for good, at most.
    added: usize,
    /// Where events go while a commit collects them.
    pub collected: Option<Vec<Source>>,
    /// What this request met last, for the log.
    refused: Cell<Option<Refused>>,
}

/// Decides one input.
pub(crate) fn decide<'s, M: Memory>(
    server: &'s Server<M>,
    now: Time,
    world: &'s dyn World,
    input: Input<'_>,
) -> Record {
    match input {
        Input::Request {
            connection,
            consumed,
            header,
            payload,
        } => {
            let Some(mut decision) = Decision::of(server, now, world, connection) else {
                return Record {
                    time: now,
                    ..Record::default()
                };
            };
            decision.kept.push(Change::Consumed {
                connection,
                bytes: consumed,
            });
            decision.request(connection, header, payload)
        }
        Input::Partial { connection, bytes } => simple(
            now,
            [Change::Partial {
                connection,
                bytes: bytes.to_vec(),
            }],
            [],
        ),
        Input::Published { connection, bytes } => simple(now, [Change::Published { connection, bytes }], []),
        Input::Misbehaved { connection, fault } => misbehaved(server, now, connection, fault),
        Input::Reset { connection } => {
            let changes = server
                .connections
                .get(&connection)
                .map(|known| Change::ConnectionReset {
                    connection,
                    channel: known.channel,
                });
            simple(now, changes, [])
        }
        Input::Connected { domid, channel, epoch } => {
            let mut decision = Decision::new(server, now, world);
            decision.connect(domid, channel, epoch);
            decision.finish()
        }
        Input::Disconnected { connection } => simple(
            now,
            [Change::Disconnected { connection }],
            [Action::Disconnect { connection }],
        ),
        Input::ActionDone { requester, outcome } => {
            let Some(decision) = Decision::of(server, now, world, requester) else {
                return Record {
                    time: now,
                    ..Record::default()
                };
            };
            decision.action_done(requester, outcome)
        }
        Input::DomainsChanged(states) => {
            let mut decision = Decision::new(server, now, world);
            decision.domains_changed(states);
            decision.finish()
        }
        Input::Timeout => {
            let due = server.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
            let mut expired = Vec::new();
            let mut lines = Vec::new();
            for (_, id) in due {
                let Some(connection) = server.connections.get(id) else {
                    continue;
                };
                let before = expired.len();
                expired.extend(connection.queue.expired(now).map(|number| Change::EventExpired {
                    connection: *id,
                    number,
                }));
                let (domid, dropped) = (connection.domid, expired.len().saturating_sub(before));
                lines.push(Action::Log {
                    about: Some(domid),
                    line: format!(
                        "domain {domid}: {dropped} events dropped that it did not take within {} s",
                        server.configuration.event_timeout
                    ),
                });
            }
            simple(now, expired, lines)
        }
    }
}

fn simple(time: Time, changes: impl IntoIterator<Item = Change>, actions: impl IntoIterator<Item = Action>) -> Record {
    Record {
        time,
        changes: changes.into_iter().collect(),
        outputs: Vec::new(),
        actions: actions.into_iter().collect(),
    }
}

/// A ring client is ignored but stays known, so that its death is still told (XSA-325); a socket client is cut off.
fn misbehaved<M: Memory>(server: &Server<M>, now: Time, connection: ConnectionId, fault: Fault) -> Record {
    match server.connections.get(&connection) {
        Some(Connection {
            channel: Channel::Ring { .. },
            domid,
            ..
        }) => simple(
            now,
            [Change::Ignored { connection, fault }],
            [
                Action::SetError { connection, fault },
                Action::Log {
                    about: Some(*domid),
                    line: format!("domain {domid} is ignored from now on: {fault:?} fault on its ring"),
                },
            ],
        ),
        Some(Connection {
            channel: Channel::Socket,
            ..
        }) => simple(
            now,
            [Change::Disconnected { connection }],
            [Action::Disconnect { connection }],
        ),
        None => Record {
            time: now,
            ..Record::default()
        },
    }
}

impl<'s, M: Memory> Decision<'s, M> {
    /// A decision that no client asked for.
    pub fn new(server: &'s Server<M>, now: Time, world: &'s dyn World) -> Self {
        let caller = Caller {
            domid: server.configuration.privileged,
            privileged: true,
            target: None,
        };
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
            actions: Vec::new(),
            charged: BTreeMap::new(),
            added: 0,
            collected: None,
            refused: Cell::new(None),
        }
    }

    fn of(server: &'s Server<M>, now: Time, world: &'s dyn World, id: ConnectionId) -> Option<Self> {
        let connection = server.connections.get(&id)?;
        let mut decision = Self::new(server, now, world);
        decision.caller = server.caller(connection);
        decision.requester = Some((id, connection));
        Some(decision)
    }

    fn request(mut self, id: ConnectionId, header: Header, payload: &[u8]) -> Record {
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
        let (kind, payload) = match outcome {
            Ok(reply) => reply,
            Err(errno) => {
                self.undo();
                self.log_refusal(header);
                (MessageType::Error, error(errno))
            }
        };
        self.reply(id, header, kind, &payload);
        if let Some((path, token)) = first_event {
            self.queue_event(id, &path, &token);
        }
        self.finish()
    }

    /// Says what a failed request met: on the wire all limits look alike.
    fn log_refusal(&mut self, header: Header) {
        let caller = self.caller.domid;
        let why = match self.refused.take() {
            None => return,
            Some(Refused::Limit(limit, domid)) => {
                let most = self.domain(domid).map_or(0, |domain| domain.quotas.get(limit));
                format!("domain {domid} has reached its limit {} of {most}", limit.name())
            }
            Some(Refused::NoRoom) => {
                let tree = &self.server.tree;
                format!(
                    "the store has {} bytes of room left of {}",
                    tree.room(),
                    tree.capacity()
                )
            }
        };
        let request = MessageType::from_wire(header.kind).map_or("request", MessageType::name);
        self.actions.push(Action::Log {
            about: Some(caller),
            line: format!("domain {caller}: {request} refused, {why}"),
        });
    }

    /// All or nothing: a request that fails changes nothing.
    fn undo(&mut self) {
        self.changes.clear();
        self.outputs.clear();
        self.actions.clear();
        self.charged.clear();
        self.added = 0;
        self.collected = None;
        self.view.discard();
    }

    fn reply(&mut self, id: ConnectionId, request: Header, kind: MessageType, payload: &[u8]) {
        let header = Header {
            kind: kind as u32,
            request_id: request.request_id,
            transaction_id: request.transaction_id,
            length: u32::try_from(payload.len()).unwrap_or(0),
        };
        let cause = self.cause();
        let message = QueuedMessage {
            bytes: message(header, payload),
            event: false,
            deadline: None,
            cause,
        };
        self.outputs.push(Output {
            connection: id,
            message,
        });
    }

    /// The request as the cause of what it makes us say, if it counts.
    pub fn cause(&self) -> Option<Cause> {
        let (connection, state) = self.requester?;
        (!self.caller.privileged).then_some(Cause {
            connection,
            request: state.requests,
        })
    }

    pub fn finish(mut self) -> Record {
        let place = self.place;
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
            T::Control
            | T::Introduce
            | T::Release
            | T::IsDomainIntroduced
            | T::Resume
            | T::SetTarget
            | T::SetFeature
            | T::GetQuota
            | T::SetQuota
                if !self.caller.privileged =>
            {
                return Err(Errno::EACCES);
            }
            _ => {}
        }
        if header.transaction_id != 0 && !matches!(kind, T::Watch | T::Unwatch) {
            let open = self
                .requester
                .and_then(|(_, state)| state.transactions.get(&header.transaction_id));
            let open = open.ok_or(Errno::ENOENT)?;
            self.transaction = Some((header.transaction_id, open));
            if !matches!(
                kind,
                T::TransactionStart | T::TransactionEnd | T::ResetWatches | T::Control
            ) {
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

    /// The limit of the caller, if it has any and `amount` is at it.
    pub fn over(&self, limit: Limit, amount: u64) -> bool {
        let domid = self.caller.domid;
        let reached = !self.caller.privileged
            && self
                .domain(domid)
                .is_some_and(|domain| domain.quotas.reached(limit, amount));
        if reached {
            self.refused.set(Some(Refused::Limit(limit, domid)));
        }
        reached
    }

    /// The longest path (relative to its own) that the caller may name.
    pub fn path_limit(&self) -> Option<usize> {
        if self.caller.privileged {
            return None;
        }
        let limit = self
            .domain(self.caller.domid)
            .map(|domain| domain.quotas.get(Limit::PathMax))
            .unwrap_or(0);
        (limit != 0).then(|| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Notes that the transaction, if there is one, observed this of its snapshot.
    pub fn observe(&mut self, path: &PathBuf, facets: Facets) -> Result<(), Errno> {
        let (Place::Transaction { connection, id }, Some((_, open))) = (self.place, self.transaction) else {
            return Ok(());
        };
        if open.observed.get(path).is_some_and(|seen| seen.include(facets)) {
            return Ok(());
        }
        if !open.observed.contains_key(path) {
            self.touch(connection, id, open)?;
        }
        self.keep(Change::Observed {
            connection,
            id,
            path: path.clone(),
            facets,
        });
        Ok(())
    }

    /// Notes that the transaction, if there is one, wrote this.
    pub fn wrote(&mut self, write: Write) -> Result<(), Errno> {
        let (Place::Transaction { connection, id }, Some((_, open))) = (self.place, self.transaction) else {
            return Ok(());
        };
        self.touch(connection, id, open)?;
        self.change(Change::Wrote { connection, id, write });
        Ok(())
    }

    fn touch(&mut self, connection: ConnectionId, id: u32, open: &Transaction) -> Result<(), Errno> {
        if self.over(Limit::TransactionNodes, (open.touched() as u64).saturating_add(1)) {
            self.keep(Change::TransactionFailed { connection, id });
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn charge(&mut self, domid: DomId, nodes: i64, bytes: i64) {
        let amounts = self.charged.entry(domid).or_default();
        amounts.0 = amounts.0.saturating_add(nodes);
        amounts.1 = amounts.1.saturating_add(bytes);
    }

    /// What `domid` has once this decision is applied: nodes (its transaction's own included) and bytes.
    fn charged_to(&self, domid: DomId) -> (i64, u64) {
        let account = self.domain(domid).map(|domain| domain.account).unwrap_or_default();
        let (nodes, bytes) = self.charged.get(&domid).copied().unwrap_or_default();
        let in_transaction = match (self.place, self.transaction) {
            (Place::Transaction { .. }, Some((_, open))) => open.nodes.get(&domid).copied().unwrap_or(0),
            _ => 0,
        };
        let memory = i64::try_from(account.memory())
            .unwrap_or(i64::MAX)
            .saturating_add(bytes);
        let nodes = account.nodes.saturating_add(in_transaction).saturating_add(nodes);
        (nodes, u64::try_from(memory).unwrap_or(0))
    }

    fn memory_allows(&self, owner: DomId) -> Result<(), Errno> {
        if self.caller.privileged {
            return Ok(());
        }
        let Some(domain) = self.domain(owner) else {
            return Ok(());
        };
        let (_, bytes) = self.charged_to(owner);
        if owner != self.server.configuration.privileged && domain.quotas.reached(Limit::Memory, bytes) {
            self.refused.set(Some(Refused::Limit(Limit::Memory, owner)));
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// The tree's memory is for everyone: below its reserve only privileged callers may add to it. What this decision adds
    /// for good is counted together, because applying it must not fail; what one change needs while it is made is free
    /// again when the next one comes.
    fn room(&mut self, path: Path<'_>, value: usize, permissions: usize) -> Result<(), Errno> {
        let tree = &self.server.tree;
        let payload = value.saturating_add(permissions.saturating_mul(4));
        let needed = self.added.saturating_add(tree.cost_of(self.view.base(), path, payload));
        let room = if self.caller.privileged {
            tree.room_with_reserve()
        } else {
            tree.room().saturating_sub(self.kept_from_the_largest())
        };
        if needed > room {
            self.refused.set(Some(Refused::NoRoom));
            return Err(Errno::ENOSPC);
        }
        let lasting = payload
            .saturating_add(path.name().len())
            .saturating_add(LASTING_OVERHEAD);
        self.added = self.added.saturating_add(lasting);
        Ok(())
    }

    /// Bytes that are not for the caller because it holds more than its share already: when room gets short, the largest accounts
    /// are refused first, so that one guest cannot take it all from the others.
    fn kept_from_the_largest(&self) -> usize {
        let capacity = self.server.tree.capacity();
        let (_, held) = self.charged_to(self.caller.domid);
        let share = capacity / SHARE;
        if held > u64::try_from(share).unwrap_or(u64::MAX) {
            capacity / KEPT_FOR_SMALL
        } else {
            0
        }
    }

    /// Makes one node whose parent exists.
    pub fn create_node(&mut self, path: &PathBuf, value: &[u8], permissions: Permissions) -> Result<(), Errno> {
        let owner = permissions.owner();
        let entries = permissions.entries().len();
        self.room(path.as_path(), value.len(), entries)?;
        let (nodes, _) = self.charged_to(self.caller.domid);
        if self.over(Limit::Nodes, u64::try_from(nodes).unwrap_or(0).saturating_add(1))
            || self.over(Limit::NodeSize, node_size(value.len(), entries, 0))
        {
            return Err(Errno::ENOSPC);
        }
        if let Some(parent) = path.as_path().parent()
            && let Some(found) = self.view.find(parent)
        {
            let name = (path.as_path().name().len() as u64).saturating_add(1);
            let names = found.child_names().saturating_add(name);
            let parent_owner = found.permissions().owner();
            let size = node_size(found.value().len(), found.entries().count(), names);
            if self.over(Limit::NodeSize, size) {
                return Err(Errno::ENOSPC);
            }
            self.charge(parent_owner, 0, i64::try_from(name).unwrap_or(0));
        }
        let size = node_size(value.len(), entries, 0).saturating_add(path.as_path().as_str().len() as u64);
        self.charge(owner, 1, i64::try_from(size).unwrap_or(i64::MAX));
        self.memory_allows(owner)?;
        let node = ChangedNode {
            value: Box::from(value),
            permissions: permissions.clone(),
            child_names: 0,
        };
        self.view.create(path, node);
        let generation = self.next_generation();
        let change = NodeChange::Create {
            path: path.clone(),
            value: Box::from(value),
            permissions,
            generation,
        };
        self.node(change);
        Ok(())
    }

    pub fn set_value(&mut self, path: &PathBuf, value: &[u8]) -> Result<(), Errno> {
        let Some(mut node) = self.view.find(path.as_path()).map(|found| found.to_changed()) else {
            return Err(Errno::ENOENT);
        };
        let entries = node.permissions.entries().len();
        self.room(path.as_path(), value.len(), entries)?;
        if self.over(Limit::NodeSize, node_size(value.len(), entries, node.child_names)) {
            return Err(Errno::ENOSPC);
        }
        let owner = node.permissions.owner();
        let more = length(value.len()).saturating_sub(length(node.value.len()));
        self.charge(owner, 0, more);
        if more > 0 {
            self.memory_allows(owner)?;
        }
        node.value = Box::from(value);
        self.view.put(path, node);
        let generation = self.next_generation();
        self.node(NodeChange::SetValue {
            path: path.clone(),
            value: Box::from(value),
            generation,
        });
        Ok(())
    }

    pub fn replace_permissions(&mut self, path: &PathBuf, permissions: &Permissions) -> Result<(), Errno> {
        let Some(mut node) = self.view.find(path.as_path()).map(|found| found.to_changed()) else {
            return Err(Errno::ENOENT);
        };
        self.room(path.as_path(), node.value.len(), permissions.entries().len())?;
        let size = |list: &Permissions| {
            let node = node_size(node.value.len(), list.entries().len(), node.child_names);
            i64::try_from(node.saturating_add(path.as_path().as_str().len() as u64)).unwrap_or(i64::MAX)
        };
        let (before, after) = (size(&node.permissions), size(permissions));
        self.charge(node.permissions.owner(), -1, before.saturating_neg());
        self.charge(permissions.owner(), 1, after);
        node.permissions = permissions.clone();
        self.view.put(path, node);
        let generation = self.next_generation();
        let change = NodeChange::SetPermissions {
            path: path.clone(),
            permissions: permissions.clone(),
            generation,
        };
        self.node(change);
        Ok(())
    }

    /// Removes a node and all below it; the events of each are told while it can still be seen, deepest first.
    pub fn remove_node(&mut self, path: &PathBuf) {
        // A list of (path, visited), not recursion: a guest chooses how deep its tree is (XSA-418).
        let mut stack: Vec<(PathBuf, bool)> = Vec::from([(path.clone(), false)]);
        while let Some((node, visited)) = stack.pop() {
            if !visited {
                // A commit tells a subtree from its root down, a plain removal from its leaves up.
                if self.collected.is_some() {
                    self.tell_removal(&node, node == *path);
                }
                let children = self.view.children(node.as_path());
                stack.push((node, true));
                stack.extend(children.into_iter().rev().map(|child| (child, false)));
                continue;
            }
            if let Some(found) = self.view.find(node.as_path()) {
                let owner = found.permissions().owner();
                let size = node_size(found.value().len(), found.entries().count(), found.child_names())
                    .saturating_add(node.as_path().as_str().len() as u64);
                self.charge(owner, -1, i64::try_from(size).unwrap_or(i64::MAX).saturating_neg());
            }
            if self.collected.is_none() {
                self.tell_removal(&node, node == *path);
            }
        }
        if let Some(parent) = path.as_path().parent()
            && let Some(owner) = self.view.find(parent).map(|found| found.permissions().owner())
        {
            self.charge(
                owner,
                0,
                length(path.as_path().name().len()).saturating_add(1).saturating_neg(),
            );
        }
        self.view.remove(path);
        let generation = self.next_generation();
        self.node(NodeChange::Remove {
            path: path.clone(),
            generation,
        });
    }

    fn node(&mut self, change: NodeChange) {
        let place = self.place;
        self.change(Change::Node { place, change });
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn error(errno: Errno) -> Vec<u8> {
    let mut payload = errno.name().as_bytes().to_vec();
    payload.push(0);
    payload
}

pub(crate) fn message(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(xenstore_wire::HEADER_SIZE.saturating_add(payload.len()));
    bytes.extend_from_slice(&header.emit());
    bytes.extend_from_slice(payload);
    bytes
}
