//! Applying: the only place where the server's state changes. It decides nothing and cannot fail; what does not fit the
//! state (a change for a connection that the same record closed) is of no consequence.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xenstore_wire::DomId;

use crate::account::{Account, node_size};
use crate::connection::{Cause, Connection, ConnectionId, Epoch, QueuedMessage};
use crate::domain::{Domain, Maxima};
use crate::record::{Change, NodeChange, Output, Place, Record};
use crate::server::Server;
use crate::transaction::{Roots, Transaction};
use crate::tree::{Memory, NewNode, Root};
use crate::watch::Watch;

impl<M: Memory> Server<M> {
    /// Makes a record's changes and queues its outputs. The same call serves live and in recovery.
    pub fn apply(&mut self, record: &Record) {
        for change in &record.changes {
            self.apply_change(change);
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
    /// requests between the last checkpoint and now are not known.
    pub fn end_of_replay(&mut self) {
        let domids: Vec<DomId> = self.domains.keys().copied().collect();
        for domid in domids {
            self.account(domid, |_| {});
            if let Some(connection) = self.domains.get(&domid).and_then(|domain| domain.connection) {
                self.raise_maxima(connection);
            }
        }
    }

    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Consumed { connection, bytes } => {
                self.requests = self.requests.saturating_add(1);
                if let Some(state) = self.connections.get_mut(connection) {
                    state.bytes_in = state.bytes_in.saturating_add(u64::from(*bytes));
                    state.partial.clear();
                    state.requests = state.requests.saturating_add(1);
                }
            }
            Change::Partial { connection, bytes } => {
                if let Some(state) = self.connections.get_mut(connection) {
                    state.bytes_in = state.bytes_in.saturating_add(bytes.len() as u64);
                    state.partial.extend_from_slice(bytes);
                }
            }
            Change::Published { connection, bytes } => self.published(*connection, *bytes),
            Change::EventExpired { connection, number } => {
                let removed = self
                    .connections
                    .get_mut(connection)
                    .and_then(|state| state.queue.remove(*number));
                if let Some(message) = removed {
                    self.events.expired = self.events.expired.saturating_add(1);
                    self.uncharge_queue(*connection, message.memory());
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
                self.account(domid, |account| {
                    account.watch_bytes = account.watch_bytes.saturating_add(bytes)
                });
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
                }
                self.raise_maxima(*connection);
            }
            Change::TransactionBegan { connection, id } => {
                let root = self.tree.current();
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    self.tree.retain(root);
                    self.tree.retain(root);
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
                    let grown = open.observe(path, *facets);
                    open.bytes = open.bytes.saturating_add(grown);
                    self.charge_transaction(*connection, grown, 0);
                }
            }
            Change::Wrote {
                connection,
                id,
                write,
                top,
            } => {
                if let Some(open) = transaction(&mut self.connections, *connection, *id) {
                    let (more, less) = open.wrote(write, *top);
                    open.bytes = open.bytes.saturating_add(more).saturating_sub(less);
                    self.charge_transaction(*connection, more, less);
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
            Change::TransactionClosed { connection, id } => {
                let closed = self
                    .connections
                    .get_mut(connection)
                    .and_then(|state| state.transactions.remove(id));
                if let Some(closed) = closed {
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
                self.domains.remove(domid);
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
            Change::MaximaReset => self.maxima = Maxima::default(),
            Change::DebugCrash { allowed } => self.configuration.debug_crash = *allowed,
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
            account.queue_bytes = account.queue_bytes.saturating_add(size)
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
        let before = state.queue.bytes();
        state.bytes_out = state.bytes_out.saturating_add(u64::from(bytes));
        state
            .queue
            .advance(usize::try_from(bytes).unwrap_or(usize::MAX), |cause| {
                through.push(cause)
            });
        let freed = before.saturating_sub(state.queue.bytes());
        self.uncharge_queue(connection, freed);
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
        let freed = state.queue.bytes();
        state.queue.clear(|cause| through.push(cause));
        state.partial.clear();
        state.waiting = None;
        self.uncharge_queue(connection, freed);
        self.refresh_deadline(connection);
        for cause in through {
            self.consumed(cause);
        }
        if let Some(state) = self.connections.get_mut(&connection) {
            state.unconsumed.clear();
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
            let bytes = watch_bytes(&watch);
            self.account(domid, |account| {
                account.watch_bytes = account.watch_bytes.saturating_sub(bytes)
            });
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
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        for closed in core::mem::take(&mut state.transactions).into_values() {
            self.forget_transaction(connection, &closed);
        }
    }

    fn forget_transaction(&mut self, connection: ConnectionId, closed: &Transaction) {
        if let Some(Roots { snapshot, own }) = closed.roots {
            self.tree.release(own);
            self.tree.release(snapshot);
        }
        self.charge_transaction(connection, 0, closed.bytes);
    }

    fn charge_transaction(&mut self, connection: ConnectionId, more: usize, less: usize) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let change = i64::try_from(more)
            .unwrap_or(0)
            .saturating_sub(i64::try_from(less).unwrap_or(0));
        self.account(domid, |account| {
            account.transaction_bytes = account.transaction_bytes.saturating_add(change);
        });
    }

    fn uncharge_queue(&mut self, connection: ConnectionId, bytes: usize) {
        let Some(domid) = self.connections.get(&connection).map(|state| state.domid) else {
            return;
        };
        let bytes = i64::try_from(bytes).unwrap_or(0);
        self.account(domid, |account| {
            account.queue_bytes = account.queue_bytes.saturating_sub(bytes)
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
                }
            }
        }
    }

    fn account(&mut self, domid: DomId, change: impl FnOnce(&mut Account)) {
        let replaying = self.replaying;
        if let Some(domain) = self.domains.get_mut(&domid) {
            change(&mut domain.account);
            let seen = Maxima {
                nodes: domain.account.node_count(),
                memory: if replaying { 0 } else { domain.account.memory() },
                ..Maxima::default()
            };
            domain.maxima.raise(&seen);
            if domid != self.configuration.privileged {
                self.maxima.raise(&seen);
            }
        }
    }

    fn raise_maxima(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get(&connection) else {
            return;
        };
        let seen = Maxima {
            watches: state.watches.len() as u64,
            outstanding: if self.replaying { 0 } else { state.outstanding() as u64 },
            transactions: state.transactions.len() as u64,
            ..Maxima::default()
        };
        if let Some(domain) = self.domains.get_mut(&state.domid) {
            domain.maxima.raise(&seen);
        }
        if state.domid != self.configuration.privileged {
            self.maxima.raise(&seen);
        }
    }

    /// What every domain owns, counted anew from the tree.
    pub(crate) fn charges(&self) -> BTreeMap<DomId, Account> {
        let mut charges: BTreeMap<DomId, Account> = BTreeMap::new();
        let root = self.tree.root_node(self.tree.current());
        // Each with the length of its path.
        let mut stack = Vec::from([(root, 0usize)]);
        while let Some((node, length)) = stack.pop() {
            let permissions = node.permissions();
            let account = charges.entry(permissions.owner()).or_default();
            let size = node_size(node.value().len(), permissions.iter().count(), node.child_names_len())
                .saturating_add(length.max(1) as u64);
            account.nodes = account.nodes.saturating_add(1);
            account.node_bytes = account.node_bytes.saturating_add(i64::try_from(size).unwrap_or(0));
            for child in self.tree.children(node) {
                stack.push((child, length.saturating_add(child.name().len()).saturating_add(1)));
            }
        }
        charges
    }
}

fn transaction(
    connections: &mut BTreeMap<ConnectionId, Connection>,
    connection: ConnectionId,
    id: u32,
) -> Option<&mut Transaction> {
    connections.get_mut(&connection)?.transactions.get_mut(&id)
}

/// The path counts in full, however the client wrote it, as in C.
fn watch_bytes(watch: &Watch) -> i64 {
    let bytes = watch.path.key().len().saturating_add(watch.token.len());
    i64::try_from(bytes).unwrap_or(0)
}
