//! What durable records ask of the machine.

use xenstore_core::{Action, Channel, ConnectFailure, ConnectionId, Input, Numbered};
use xenstore_recovery::{Durable, Pages};

use super::{Service, activate};
use crate::link::{Link, LinkState};
use crate::machine::Machine;
use crate::quiet::Subject;

impl<M: Machine, P: Pages> Service<M, P> {
    /// Does what a durable record asks of the machine. An action that a request waits for ends in another record.
    pub(super) fn perform(&mut self, _durable: &Durable, action: Action) {
        match action {
            Action::Connect {
                requester,
                domid,
                remote_port,
                features,
            } => {
                let connected = self.machine.connect(domid, remote_port, features);
                let connection = self.store.server().next_connection();
                match connected {
                    Ok((link, channel)) => {
                        self.insert(connection, link, channel);
                        self.touched.insert(connection);
                        self.finish(requester, Ok(channel));
                    }
                    Err(failure) => self.finish(requester, Err(failure)),
                }
            }
            Action::Rebind {
                requester,
                connection,
                domid,
                remote_port,
            } => {
                let Some(client) = self.clients.get_mut(&connection) else {
                    return self.finish(requester, Err(ConnectFailure::Grant));
                };
                // A port that cannot be bound leaves the domain without one, and the request succeeds, as in C.
                let channel = self
                    .machine
                    .rebind(client.channel, domid, remote_port)
                    .unwrap_or(Channel::Ring { port: 0 });
                forget_port(&mut self.ports, client.channel);
                client.channel = channel;
                client.taken = 0;
                if let Channel::Ring { port } = channel {
                    self.ports.insert(port, connection);
                }
                self.finish(requester, Ok(channel));
                let _logged_first = self.store.seal();
                if let Some(client) = self.clients.get_mut(&connection) {
                    client.link.restart(LinkState::Reconnect);
                }
                self.touched.insert(connection);
                activate(&mut self.clients, &mut self.active, connection);
            }
            Action::Disconnect { connection } => {
                self.stalled.remove(&connection);
                self.held.remove(&connection);
                self.touched.remove(&connection);
                if let Some(client) = self.clients.remove(&connection) {
                    forget_port(&mut self.ports, client.channel);
                    self.machine.disconnect(client.link, client.channel);
                }
            }
            Action::SetError { connection, fault } => {
                self.touched.insert(connection);
                if let Some(client) = self.clients.get_mut(&connection) {
                    client.taken = 0;
                    client.link.set_error(fault);
                }
            }
            Action::Log { about, line } => self.log(about, Subject::Trouble, line),
            Action::Crash(kind) => self.machine.crash(kind),
        }
    }

    fn finish(&mut self, requester: ConnectionId, outcome: Result<Channel, ConnectFailure>) {
        let now = self.now;
        let record = self
            .store
            .take(now, &self.machine, Input::ActionDone { requester, outcome });
        self.trace(&record);
        self.touched
            .extend(record.outputs.iter().map(|output| output.connection));
        // Such a record has no further actions but log lines.
        for action in record.actions {
            if let Action::Log { about, line } = action {
                self.log(about, Subject::Trouble, line);
            }
        }
        activate(&mut self.clients, &mut self.active, requester);
    }
}

fn forget_port(ports: &mut Numbered<u32, ConnectionId>, channel: Channel) {
    if let Channel::Ring { port } = channel {
        ports.remove(&port);
    }
}
