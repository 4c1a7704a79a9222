//! Changes of connections: their streams, queues and watches.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xenstore_wire::DomId;

use super::charges::watch_bytes;
use crate::connection::{Cause, Connection, ConnectionId, Epoch, Fault, QueuedMessage};
use crate::heap::{self, Cost};
use crate::input::Channel;
use crate::record::Output;
use crate::server::Server;
use crate::tree::Memory;
use crate::watch::Watch;

impl<M: Memory> Server<M> {
    pub(super) fn connected(&mut self, connection: ConnectionId, domid: DomId, channel: Channel, epoch: Epoch) {
        self.connections
            .insert(connection, Connection::new(domid, channel, epoch));
        self.next_connection = connection.0.saturating_add(1);
        self.charge_heap(connection, heap::CONNECTION, Cost::default());
        let ring = matches!(channel, Channel::Ring { .. });
        if ring && let Some(domain) = self.domains.get_mut(&domid) {
            domain.connection = Some(connection);
        }
    }

    pub(super) fn reset_connection(&mut self, connection: ConnectionId, channel: Channel) {
        self.empty(connection);
        self.change_connection(connection, |state| {
            state.channel = channel;
            // Who was given up gets a new chance with a new stream.
            state.ignored = None;
            state.resets = state.resets.saturating_add(1);
            state.epoch = Epoch::default();
            state.bytes_in = 0;
            state.bytes_out = 0;
        });
    }

    pub(super) fn ignore(&mut self, connection: ConnectionId, fault: Fault) {
        self.empty(connection);
        self.change_connection(connection, |state| state.ignored = Some(fault));
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.empty(connection);
        self.charge_heap(connection, Cost::default(), heap::CONNECTION);
        if let Some(state) = self.connections.remove(&connection)
            && let Some(domain) = self.domains.get_mut(&state.domid)
            && domain.connection == Some(connection)
        {
            domain.connection = None;
        }
    }

    pub(super) fn change_connection(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Connection)) {
        if let Some(state) = self.connections.get_mut(&connection) {
            change(state);
        }
    }

    /// A request was taken: so many bytes of the stream are behind it.
    pub(super) fn consumed_request(&mut self, connection: ConnectionId, bytes: u32) {
        self.requests = self.requests.saturating_add(1);
        self.charge_partial(connection, 0);
        self.change_connection(connection, |state| {
            state.bytes_in = state.bytes_in.saturating_add(u64::from(bytes));
            state.poisoner.kills = 0;
            state.requests = state.requests.saturating_add(1);
        });
    }

    pub(super) fn partial(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.change_connection(connection, |state| {
            state.bytes_in = state.bytes_in.saturating_add(bytes.len() as u64);
            state.poisoner.kills = 0;
            state.partial.extend_from_slice(bytes);
        });
        self.charge_partial(connection, bytes.len());
    }

    /// Bytes of a request that is left aside.
    pub(super) fn skipped(&mut self, connection: ConnectionId, bytes: u32) {
        self.change_connection(connection, |state| {
            state.bytes_in = state.bytes_in.saturating_add(u64::from(bytes));
            state.poisoner.skipping = state.poisoner.skipping.saturating_sub(bytes);
        });
    }

    pub(super) fn event_expired(&mut self, connection: ConnectionId, number: u64) {
        let removed = self
            .connections
            .get_mut(&connection)
            .and_then(|state| state.queue.remove(number));
        if let Some(message) = removed {
            self.events.expired = self.events.expired.saturating_add(1);
            self.uncharge_queue(connection, message.memory(), 1);
            self.refresh_deadline(connection);
            if let Some(cause) = message.cause {
                self.consumed(cause);
            }
        }
    }

    pub(super) fn queue(&mut self, output: &Output) {
        let Output {
            connection, message, ..
        } = output;
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

    pub(super) fn published(&mut self, connection: ConnectionId, bytes: u32) {
        let mut through: Vec<Cause> = Vec::new();
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let (before, messages) = (state.queue.bytes(), state.queue.len());
        state.bytes_out = state.bytes_out.saturating_add(u64::from(bytes));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let unconsumed = &mut state.unconsumed;
        state.queue.advance(bytes, |cause| {
            if cause.connection == connection {
                through_for(unconsumed, cause.request);
            } else {
                through.push(cause);
            }
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
    pub(super) fn refresh_deadline(&mut self, connection: ConnectionId) {
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
    pub(super) fn consumed(&mut self, cause: Cause) {
        self.change_connection(cause.connection, |state| {
            through_for(&mut state.unconsumed, cause.request)
        });
    }

    /// Queue, partial message, watches and transactions of a connection go; the connection stays.
    pub(super) fn empty(&mut self, connection: ConnectionId) {
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

    pub(super) fn add_watch(&mut self, connection: ConnectionId, watch: Watch) {
        let bytes = watch_bytes(&watch);
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let (domid, path) = (state.domid, watch.path.clone());
        let number = self.watches.add(connection, watch);
        state.watches.insert(number, path);
        self.charge_watch(domid, bytes, 1);
        self.raise_maxima(connection);
    }

    pub(super) fn remove_watch(&mut self, connection: ConnectionId, number: u64) {
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

    pub(super) fn remove_all_watches(&mut self, connection: ConnectionId) {
        let numbers: Vec<u64> = self
            .connections
            .get(&connection)
            .map(|state| state.watches.keys().copied().collect())
            .unwrap_or_default();
        for number in numbers {
            self.remove_watch(connection, number);
        }
    }
}

/// One message that this request caused is through, or dropped.
fn through_for(unconsumed: &mut BTreeMap<u64, u32>, request: u64) {
    if let Some(left) = unconsumed.get_mut(&request) {
        *left = left.saturating_sub(1);
        if *left == 0 {
            unconsumed.remove(&request);
        }
    }
}
