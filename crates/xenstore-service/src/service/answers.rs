//! What clients are shown: answers and events, once they are durable.

use alloc::format;

use xenstore_core::{Channel, Connection, ConnectionId, Input, SOCKET_UNREAD_MOST, Step};
use xenstore_recovery::{Durable, Pages};

use super::{Service, activate};
use crate::link::{Link, LinkState};
use crate::machine::Machine;
use crate::quiet::Subject;

impl<M: Machine, P: Pages> Service<M, P> {
    /// A client gets its answers when it is served: it goes on while others are. What others are told because of it waits for the end
    /// of the round, and one notification is enough for all of it.
    pub(super) fn answer(&mut self, connection: ConnectionId) {
        if self.touched.remove(&connection) {
            let durable = self.store.seal();
            self.show_to(&durable, connection);
        }
    }

    /// Everything of the round is durable: clients may see it.
    pub(super) fn show(&mut self, durable: &Durable) {
        while let Some(connection) = self.touched.pop_first() {
            self.show_to(durable, connection);
        }
    }

    fn show_to(&mut self, durable: &Durable, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        if client.taken > 0 {
            client.link.consume(core::mem::take(&mut client.taken));
        }
        self.publish(durable, connection);
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        if client.link.take_notify(client.lacking) {
            self.store.reached(Step::BeforeNotify);
            self.machine.notify(client.channel);
        }
    }

    /// Fills the client's ring from its queue, until one is full or the other empty.
    pub(super) fn publish(&mut self, durable: &Durable, connection: ConnectionId) {
        let mut buffer = core::mem::take(&mut self.outgoing);
        self.publish_through(&mut buffer, durable, connection);
        self.outgoing = buffer;
    }

    fn publish_through(&mut self, buffer: &mut [u8], durable: &Durable, connection: ConnectionId) {
        loop {
            let Some(client) = self.clients.get_mut(&connection) else {
                return;
            };
            let Some(state) = self.store.server().connection(connection) else {
                return;
            };
            if state.queue.is_empty() {
                return;
            }
            // Looked at anew each time: a client that makes room while we write may not tell us.
            let LinkState::Open { writable, .. } = client.link.look() else {
                return activate(&mut self.clients, &mut self.active, connection);
            };
            if writable == 0 {
                if client.channel == Channel::Socket {
                    self.full.push(connection);
                }
                return;
            }
            let room = usize::try_from(writable).unwrap_or(usize::MAX).min(buffer.len());
            let Some(out) = buffer.get_mut(..room) else { return };
            let ready = state.queue.copy_out(out);
            let Some(bytes) = out.get(..ready).filter(|bytes| !bytes.is_empty()) else {
                return;
            };
            let planned = u32::try_from(bytes.len()).unwrap_or(0);
            self.store.publishing(durable, connection, planned);
            let strikes = self.store.server().strikes_at(Step::Publishing);
            let mut between = || {
                if strikes {
                    M::reached(Step::Publishing);
                }
            };
            let shown = u32::try_from(client.link.publish_in_steps(bytes, &mut between)).unwrap_or(0);
            self.store.reached(Step::Published);
            self.store.published(connection, shown);
            self.go_on_if_read(connection);
            if shown < planned {
                return activate(&mut self.clients, &mut self.active, connection);
            }
        }
    }

    /// A client that has read enough is heard again.
    fn go_on_if_read(&mut self, connection: ConnectionId) {
        let state = self.store.server().connection(connection);
        if let Some(client) = self.clients.get_mut(&connection).filter(|client| client.behind)
            && !state.is_some_and(Connection::is_behind)
        {
            client.behind = false;
            activate(&mut self.clients, &mut self.active, connection);
        }
    }

    /// Cuts off the socket clients that let too much pile up (a ring has its domain's quotas for that).
    pub(super) fn give_up_lost_clients(&mut self) {
        for connection in core::mem::take(&mut self.full) {
            let server = self.store.server();
            if server.connection(connection).is_some_and(Connection::is_lost) {
                let line = format!(
                    "connection {} is cut off: it left more than {} KiB of replies and events unread",
                    connection.0,
                    SOCKET_UNREAD_MOST / 1024
                );
                self.take(Input::Disconnected { connection });
                self.log(None, Subject::Trouble, line);
            }
        }
    }
}
