//! Applying: the only place where the server's state changes. It decides nothing and cannot fail; what does not fit the
//! state (a change for a connection that the same record closed) is of no consequence.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xenstore_wire::DomId;

use crate::account::{Account, signed};
use crate::connection::{Cause, Connection, ConnectionId, Epoch, QueuedMessage};
use crate::domain::{Domain, Maxima};
use crate::heap::{self, Cost};
use crate::record::{Change, NodeChange, Output, Place, Record};
use crate::server::Server;
use crate::transaction::{Roots, Transaction};
use crate::tree::{Memory, NewNode, Root};
use crate::watch::Watch;

impl<M: Memory> Server<M> {
    /// Makes a record's changes and queues its outputs. The same call serves live and in recovery.
    pub fn apply(&mut self, record: &Record) {
        self.lives.note_time(record.time);
        for change in &record.changes {
            match change {
                Change::Remembered { domid } => self.remember(*domid, record),
                Change::Lost { .. } | Change::Leased { .. } | Change::LeasesEnded => {
                    self.apply_loss(change, record.time);
                }
                _ => self.apply_change(change),
            }
        }
        for output in &record.outputs {
            self.queue(output);
        }
    }

    /// As [`Server::apply`], for a record of an earlier life. What became visible between two records is not in the log, so
    /// that queues grow meanwhile; [`Server::end_of_replay`] ends that.
    pub fn replay(&mut self, record: &Record) {
        self.replaying = true;
        self.apply(record);
        self.replaying = false;
    }

    /// All records are replayed, and the queues are what they were at the end of that life. Peaks of memory and of outstanding
    /// requests between the last checkpoint and now are not known: what there is now counts. All other peaks are.
    pub fn end_of_replay(&mut self) {
        for (domid, domain) in &mut self.domains {
            let connection = domain.connection.and_then(|id| self.connections.get(&id));
            let seen = Maxima {
                memory: domain.account.memory(),
                outstanding: connection.map_or(0, |state| state.outstanding() as u64),
                ..Maxima::default()
            };
            domain.maxima.raise(&seen);
            if *domid != self.configuration.privileged {
                self.maxima.raise(&seen);
            }
        }
    }

    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Consumed { connection, bytes } => {
                self.requests = self.requests.saturating_add(1);
                self.charge_partial(*connection, 0);
                if let Some(state) = self.connections.get_mut(connection) {
                    state.bytes_in = state.bytes_in.saturating_add(u64::from(*bytes));
                    state.poisoner.kills = 0;
                    state.requests = state.requests.saturating_add(1);
                }
            }
            Change::Partial { connection, bytes } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.bytes_in = state.bytes_in.saturating_add(bytes.len() as u64);
                    state.poisoner.kills = 0;
                    state.partial.extend_from_slice(bytes);
                }
                self.charge_partial(*connection, bytes.len());
            }
            Change::Published { connection, bytes } => self.published(*connection, *bytes),
            Change::EventExpired { connection, number } => {
                let removed = self
                    .connections
                    .get_mut(connection)
                    .and_then(|state| state.queue.remove(*number));
                if let Some(message) = removed {
                    self.events.expired = self.events.expired.saturating_add(1);
                    self.uncharge_queue(*connection, message.memory(), 1);
                    self.refresh_deadline(*connection);
                    if let Some(cause) = message.cause {
                        self.consumed(cause);
                    }
                }
            }
            Change::Node { place, change } => self.apply_node(*place, change),
            Change::SpecialPermissions { name, permissions } => {
                self.special.insert(*name, permissions.clone());
            }
            Change::Charge {
                place,
                domid,
                nodes,
                bytes,
            } => self.charge(*place, *domid, *nodes, *bytes),
            Change::WatchAdded {
                connection,
                path,
                token,
                depth,
            } => {
                let watch = Watch {
                    path: path.clone(),
                    token: token.clone(),
                    depth: *depth,
                };
                let bytes = watch_bytes(&watch);
                let Some(state) = self.connections.get_mut(connection) else {
                    return;
                };
                let domid = state.domid;
                let number = self.watches.add(*connection, watch);
                state.watches.insert(number, path.clone());
                self.charge_watch(domid, bytes, 1);
                self.raise_maxima(*connection);
            }
            Change::WatchRemoved { connection, number } => self.remove_watch(*connection, *number),
            Change::WatchesReset { connection } => {
                self.remove_all_watches(*connection);
                self.close_all_transactions(*connection);
            }
            Change::TransactionOpened { connection, id } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.last_transaction = *id;
                    state.transactions.insert(*id, Transaction::default());
                    self.transactions = self.transactions.saturating_add(1);
                }
                self.charge_heap(*connection, heap::TRANSACTION, Cost::default());
                self.raise_maxima(*connection);
            }
            Change::TransactionBegan { connection, id } => {
                let (root, generation) = (self.tree.current(), self.generation);
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    self.tree.retain(root);
                    self.tree.retain(root);
                    open.began = generation;
                    open.roots = Some(Roots {
                        snapshot: root,
                        own: root,
                    });
                }
            }
            Change::Observed {
                connection,
                id,
                path,
                facets,
            } => {
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    let more = open.observing(path);
                    open.observe(path, *facets);
                    self.charge_transaction(*connection, *id, more, Used::default());
                }
            }
            Change::Wrote {
                connection,
                id,
                write,
                top,
            } => {
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    let (more, less) = open.writing(write, *top);
                    open.wrote(write, *top);
                    self.charge_transaction(*connection, *id, more, less);
                }
            }
            Change::TransactionFailed { connection, id } => {
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    open.failed = true;
                }
            }
            Change::TransactionOutdated { connection, id } => {
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    open.outdated = true;
                }
            }
            Change::TransactionLost { connection, id } => {
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    for root in open.held() {
                        self.tree.release(root);
                    }
                    open.lose_snapshot();
                }
            }
            Change::TransactionClosed { connection, id } => {
                let closed = self
                    .connections
                    .get_mut(connection)
                    .and_then(|state| state.transactions.remove(id));
                if let Some(closed) = closed {
                    self.leases.end_of(*connection, Some(*id));
                    self.forget_transaction(*connection, &closed);
                }
            }
            Change::Waiting { connection, waiting } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.waiting = Some(waiting.clone());
                }
            }
            Change::NoLongerWaiting { connection } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.waiting = None;
                }
            }
            Change::Connected {
                connection,
                domid,
                channel,
                epoch,
            } => {
                self.connections
                    .insert(*connection, Connection::new(*domid, *channel, *epoch));
                self.next_connection = connection.0.saturating_add(1);
                self.charge_heap(*connection, heap::CONNECTION, Cost::default());
                let ring = matches!(channel, crate::Channel::Ring { .. });
                if ring && let Some(domain) = self.domains.get_mut(domid) {
                    domain.connection = Some(*connection);
                }
            }
            Change::ConnectionReset { connection, channel } => {
                self.empty(*connection);
                if let Some(state) = self.connections.get_mut(connection) {
                    state.channel = *channel;
                    // Who was given up gets a new chance with a new stream.
                    state.ignored = None;
                    state.resets = state.resets.saturating_add(1);
                    state.epoch = Epoch::default();
                    state.bytes_in = 0;
                    state.bytes_out = 0;
                }
            }
            Change::Ignored { connection, fault } => {
                self.empty(*connection);
                if let Some(state) = self.connections.get_mut(connection) {
                    state.ignored = Some(*fault);
                }
            }
            Change::Disconnected { connection } => {
                self.empty(*connection);
                self.charge_heap(*connection, Cost::default(), heap::CONNECTION);
                if let Some(state) = self.connections.remove(connection)
                    && let Some(domain) = self.domains.get_mut(&state.domid)
                    && domain.connection == Some(*connection)
                {
                    domain.connection = None;
                }
            }
            Change::DomainKnown { domid, unique_id } => {
                let (features, quotas) = (self.configuration.features, self.settings.quotas.clone());
                self.domains
                    .entry(*domid)
                    .or_insert_with(|| Domain::new(*unique_id, features, quotas));
            }
            Change::DomainForgotten { domid } => {
                self.conflicts.forget(*domid);
                if let Some(gone) = self.domains.remove(domid) {
                    let privileged = *domid == self.configuration.privileged;
                    self.sums.change(privileged, &gone.account, &Account::default());
                }
                self.mentions.domain_gone(*domid);
                for domain in self.domains.values_mut() {
                    if domain.target == Some(*domid) {
                        domain.target = None;
                    }
                }
            }
            Change::ShutdownTold { domid, told } => {
                if let Some(domain) = self.domains.get_mut(domid) {
                    domain.shutdown_told = *told;
                }
            }
            Change::TargetSet { domid, target } => {
                if let Some(domain) = self.domains.get_mut(domid) {
                    domain.target = Some(*target);
                }
            }
            Change::FeaturesSet { domid, features } => {
                if let Some(domain) = self.domains.get_mut(domid) {
                    domain.features = *features;
                }
            }
            Change::DomainLimit { domid, limit, value } => {
                if let Some(domain) = self.domains.get_mut(domid) {
                    domain.quotas.set(*limit, *value);
                }
            }
            Change::DefaultLimit { limit, value } => self.settings.quotas.set(*limit, *value),
            Change::Trace { switch, on } => self.settings.set_trace(*switch, *on),
            Change::MaximaReset => self.forget_maxima(),
            Change::Nested { connection, id, step } => self.nest(*connection, *id, *step),
            Change::Won { connection } => self.set_losing(*connection, None),
            Change::CreditReturned { points, next } => self.conflicts.give_back(points, *next, &mut self.domains),
            // These need the whole record.
            Change::Remembered { .. } | Change::Lost { .. } | Change::Leased { .. } | Change::LeasesEnded => {}
            Change::EventsLeftOut { merged, dropped } => {
                self.events.merged = self.events.merged.saturating_add(u64::from(*merged));
                self.events.dropped = self.events.dropped.saturating_add(u64::from(*dropped));
            }
            Change::MemoryWarned { domid, warned } => {
                if let Some(domain) = self.domains.get_mut(domid) {
                    domain.warned = *warned;
                }
            }
            Change::DebugCrash { allowed } => self.configuration.debug_crash = *allowed,
            Change::Restarted(restart) => self.lives.restarted(restart),
            Change::Killed { connection } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.poisoner.kills = state.poisoner.kills.saturating_add(1);
                }
            }
            Change::SetAside { connection, at, left } => self.apply_set_aside(*connection, *at, *left),
            Change::Skipped { connection, bytes } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.bytes_in = state.bytes_in.saturating_add(u64::from(*bytes));
                    state.poisoner.skipping = state.poisoner.skipping.saturating_sub(*bytes);
                }
            }
            Change::CrashArmed { armed } => self.armed = *armed,
        }
    }

    /// Changes one node of the store, or of a transaction's own view.
    pub(crate) fn apply_node(&mut self, place: Place, change: &NodeChange) {
        let root = match place {
            Place::Store => Some(self.tree.current()),
            Place::Transaction { connection, id } => transaction(&mut self.connections, connection, id)
                .and_then(|open| open.roots)
                .map(|roots| roots.own),
        };
        let Some(root) = root else { return };
        if place == Place::Store {
            self.note_mentions(change);
        }
        let (new, generation) = self.changed_root(root, change);
        self.generation = self.generation.max(generation);
        match place {
            Place::Store => self.tree.set_current(new),
            Place::Transaction { connection, id } => {
                if let Some(open) = transaction(&mut self.connections, connection, id)
                    && let Some(roots) = &mut open.roots
                {
                    roots.own = new;
                    self.tree.release(root);
                }
            }
        }
    }

    /// Before the store's tree changes: where it mentions domains from then on.
    fn note_mentions(&mut self, change: &NodeChange) {
        match change {
            NodeChange::Create { path, permissions, .. } => {
                self.mentions.created(&self.tree, path.as_path(), permissions);
            }
            NodeChange::SetPermissions { path, permissions, .. } => {
                self.mentions
                    .permissions_changed(&self.tree, path.as_path(), permissions);
            }
            NodeChange::Remove { path, .. } => self.mentions.removed(path.as_path()),
            NodeChange::SetValue { .. } => {}
        }
    }

    fn changed_root(&mut self, root: Root, change: &NodeChange) -> (Root, u64) {
        match change {
            NodeChange::Create {
                path,
                value,
                permissions,
                label,
                generation,
            } => {
                let node = NewNode {
                    value,
                    permissions,
                    label: *label,
                    generation: *generation,
                    // Generations only grow, so they order siblings by creation, whichever transaction made them.
                    order: *generation,
                };
                (self.tree.create_node(root, path.as_path(), node), *generation)
            }
            NodeChange::SetValue {
                path,
                value,
                generation,
            } => (
                self.tree.set_value(root, path.as_path(), value, *generation),
                *generation,
            ),
            NodeChange::SetPermissions {
                path,
                permissions,
                generation,
            } => (
                self.tree
                    .set_permissions(root, path.as_path(), permissions, *generation),
                *generation,
            ),
            NodeChange::Remove { path, generation } => {
                (self.tree.remove(root, path.as_path(), *generation), *generation)
            }
        }
    }

    fn queue(&mut self, output: &Output) {
        let Output { connection, message } = output;
        let Some(state) = self.connections.get_mut(connection) else {
            return;
        };
        if state.ignored.is_some() {
            return;
        }
        let QueuedMessage { event, cause, .. } = message;
        let size = i64::try_from(message.memory()).unwrap_or(0);
        let domid = state.domid;
        state.queue.push(message.clone());
        if let (None, Some(deadline)) = (state.deadline, message.deadline) {
            state.deadline = Some(deadline);
            self.deadlines.insert((deadline, *connection));
        }
        if *event {
            self.events.queued = self.events.queued.saturating_add(1);
        }
        self.account(domid, |account| {
            account.queue_bytes = account.queue_bytes.saturating_add(size);
            account.add(heap::of_message(size.unsigned_abs()));
        });
        if let Some(cause) = cause
            && let Some(requester) = self.connections.get_mut(&cause.connection)
        {
            let left = requester.unconsumed.entry(cause.request).or_default();
            *left = left.saturating_add(1);
        }
        self.raise_maxima(*connection);
    }

    fn published(&mut self, connection: ConnectionId, bytes: u32) {
        let mut through: Vec<Cause> = Vec::new();
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let (before, messages) = (state.queue.bytes(), state.queue.len());
        state.bytes_out = state.bytes_out.saturating_add(u64::from(bytes));
        state
            .queue
            .advance(usize::try_from(bytes).unwrap_or(usize::MAX), |cause| {
                through.push(cause)
            });
        let freed = before.saturating_sub(state.queue.bytes());
        let messages = messages.saturating_sub(state.queue.len());
        self.uncharge_queue(connection, freed, messages);
        self.refresh_deadline(connection);
        for cause in through {
            self.consumed(cause);
        }
    }

    /// Something left the queue: its first event may be another now.
    fn refresh_deadline(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let Some(known) = state.deadline else { return };
        let deadline = state.queue.next_deadline();
        if deadline != Some(known) {
            state.deadline = deadline;
            self.deadlines.remove(&(known, connection));
            self.deadlines.extend(deadline.map(|deadline| (deadline, connection)));
        }
    }

    /// One message caused by this request is through, or dropped.
    fn consumed(&mut self, cause: Cause) {
        let Some(state) = self.connections.get_mut(&cause.connection) else {
            return;
        };
        if let Some(left) = state.unconsumed.get_mut(&cause.request) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.unconsumed.remove(&cause.request);
            }
        }
    }

    /// Queue, partial message, watches and transactions of a connection go; the connection stays.
    fn empty(&mut self, connection: ConnectionId) {
        self.remove_all_watches(connection);
        self.close_all_transactions(connection);
        let mut through: Vec<Cause> = Vec::new();
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let (freed, messages) = (state.queue.bytes(), state.queue.len());
        state.queue.clear(|cause| through.push(cause));
        state.waiting = None;
        self.charge_partial(connection, 0);
        self.uncharge_queue(connection, freed, messages);
        self.refresh_deadline(connection);
        for cause in through {
            self.consumed(cause);
        }
        if let Some(state) = self.connections.get_mut(&connection) {
            state.unconsumed.clear();
            (state.poisoner.kills, state.poisoner.skipping) = (0, 0);
        }
    }

    fn remove_watch(&mut self, connection: ConnectionId, number: u64) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let Some(path) = state.watches.remove(&number) else {
            return;
        };
        let domid = state.domid;
        if let Some(watch) = self.watches.remove(connection, &path, number) {
            self.charge_watch(domid, watch_bytes(&watch), -1);
        }
    }

    fn remove_all_watches(&mut self, connection: ConnectionId) {
        let numbers: Vec<u64> = self
            .connections
            .get(&connection)
            .map(|state| state.watches.keys().copied().collect())
            .unwrap_or_default();
        for number in numbers {
            self.remove_watch(connection, number);
        }
    }

    fn close_all_transactions(&mut self, connection: ConnectionId) {
        self.leases.end_of(connection, None);
        self.set_losing(connection, None);
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        for closed in core::mem::take(&mut state.transactions).into_values() {
            self.forget_transaction(connection, &closed);
        }
    }

    fn forget_transaction(&mut self, connection: ConnectionId, closed: &Transaction) {
        self.transactions = self.transactions.saturating_sub(1);
        for root in closed.held() {
            self.tree.release(root);
        }
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let (items, bytes) = (closed.items, closed.bytes as u64);
        let cost = closed.cost.and(heap::TRANSACTION);
        self.account(domid, |account| {
            account.transaction_bytes = account.transaction_bytes.saturating_sub(signed(bytes));
            account.transaction_items = account.transaction_items.saturating_sub(signed(items));
            account.subtract(cost);
        });
    }

    /// A transaction uses `more`, and `less` no longer.
    fn charge_transaction(&mut self, connection: ConnectionId, id: u32, more: Used, less: Used) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let Some(open) = state.transactions.get_mut(&id) else {
            return;
        };
        open.bytes = open.bytes.saturating_add(more.bytes).saturating_sub(less.bytes);
        open.items = open.items.saturating_add(more.items).saturating_sub(less.items);
        open.cost = open.cost.and(more.cost).less(less.cost);
        self.charge_used(connection, more, less);
    }

    /// What transactions use, charged to the domain.
    pub(crate) fn charge_used(&mut self, connection: ConnectionId, more: Used, less: Used) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let change = |more: u64, less: u64| signed(more).saturating_sub(signed(less));
        let bytes = change(more.bytes as u64, less.bytes as u64);
        let items = change(more.items, less.items);
        self.account(domid, |account| {
            account.transaction_bytes = account.transaction_bytes.saturating_add(bytes);
            account.transaction_items = account.transaction_items.saturating_add(items);
            account.add(more.cost);
            account.subtract(less.cost);
        });
    }

    fn charge_watch(&mut self, domid: DomId, bytes: i64, sign: i64) {
        let cost = heap::of_watch(bytes.unsigned_abs());
        self.account(domid, |account| {
            account.watch_bytes = account.watch_bytes.saturating_add(bytes.saturating_mul(sign));
            if sign > 0 {
                account.add(cost);
            } else {
                account.subtract(cost);
            }
        });
    }

    /// The beginning of a message grew by `more`; 0: it is over and its memory is free.
    fn charge_partial(&mut self, connection: ConnectionId, more: usize) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let over = if more == 0 {
            core::mem::take(&mut state.partial).len()
        } else {
            0
        };
        if more > 0 || over > 0 {
            let (more, less) = (heap::of_partial(more as u64), heap::of_partial(over as u64));
            self.charge_heap(connection, more, less);
        }
    }

    fn charge_heap(&mut self, connection: ConnectionId, more: Cost, less: Cost) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        self.account(domid, |account| {
            account.add(more);
            account.subtract(less);
        });
    }

    fn uncharge_queue(&mut self, connection: ConnectionId, bytes: usize, messages: usize) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let bytes = bytes as u64;
        self.account(domid, |account| {
            account.queue_bytes = account.queue_bytes.saturating_sub(signed(bytes));
            account.subtract(heap::of_messages(messages as u64, bytes));
        });
    }

    fn charge(&mut self, place: Place, domid: DomId, nodes: i64, bytes: i64) {
        match place {
            Place::Store => self.account(domid, |account| {
                account.nodes = account.nodes.saturating_add(nodes);
                account.node_bytes = account.node_bytes.saturating_add(bytes);
            }),
            Place::Transaction { connection, id } => {
                if let Some(open) = transaction(&mut self.connections, connection, id) {
                    let owned = open.nodes.entry(domid).or_default();
                    *owned = owned.saturating_add(nodes);
                    let made = Used {
                        items: u64::try_from(nodes).unwrap_or(0),
                        ..Used::default()
                    };
                    self.charge_transaction(connection, id, made, Used::default());
                }
            }
        }
    }

    fn account(&mut self, domid: DomId, change: impl FnOnce(&mut Account)) {
        let replaying = self.replaying;
        if let Some(domain) = self.domains.get_mut(&domid) {
            let before = domain.account;
            change(&mut domain.account);
            let privileged = domid == self.configuration.privileged;
            self.sums.change(privileged, &before, &domain.account);
            // Only what changes is seen: a queue becomes shorter in a recovery at another moment than it did.
            let nodes_changed = domain.account.nodes != before.nodes;
            let seen = Maxima {
                nodes: if nodes_changed { domain.account.node_count() } else { 0 },
                memory: if replaying { 0 } else { domain.account.memory() },
                ..Maxima::default()
            };
            domain.maxima.raise(&seen);
            if !privileged {
                self.maxima.raise(&seen);
            }
        }
    }

    /// As C xenstored (domain_reset_global_acc in domain.c): of all domains nothing was seen, of each what it has now.
    fn forget_maxima(&mut self) {
        self.maxima = Maxima::default();
        let domids: Vec<DomId> = self.domains.keys().copied().collect();
        for domid in domids {
            let Some(domain) = self.domains.get_mut(&domid) else {
                continue;
            };
            let connection = domain.connection.and_then(|id| self.connections.get(&id));
            let seen = connection.map_or_else(Maxima::default, |state| state.seen(self.replaying));
            domain.maxima = Maxima {
                nodes: domain.account.node_count(),
                memory: if self.replaying { 0 } else { domain.account.memory() },
                ..seen
            };
        }
    }

    fn raise_maxima(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get(&connection) else {
            return;
        };
        let seen = state.seen(self.replaying);
        if let Some(domain) = self.domains.get_mut(&state.domid) {
            domain.maxima.raise(&seen);
        }
        if state.domid != self.configuration.privileged {
            self.maxima.raise(&seen);
        }
    }
}

/// What a transaction uses.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub items: u64,
    pub bytes: usize,
    pub cost: Cost,
}

impl Used {
    /// One thing of so many bytes, of which `path` are its path.
    pub fn of(path: usize, bytes: usize) -> Used {
        Used {
            items: 1,
            bytes,
            cost: heap::of_item(path as u64, bytes.saturating_sub(path) as u64),
        }
    }
}

pub(crate) fn transaction(
    connections: &mut BTreeMap<ConnectionId, Connection>,
    connection: ConnectionId,
    id: u32,
) -> Option<&mut Transaction> {
    connections.get_mut(&connection)?.transactions.get_mut(&id)
}

/// The path counts in full, however the client wrote it, as in C.
pub(crate) fn watch_bytes(watch: &Watch) -> i64 {
    let bytes = watch.path.key().len().saturating_add(watch.token.len());
    i64::try_from(bytes).unwrap_or(0)
}
