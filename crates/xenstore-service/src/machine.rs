//! What the loop needs of the machine it runs on.

use alloc::string::String;
use alloc::vec::Vec;

use xenstore_core::{Channel, ConnectFailure, ConnectionId, CrashKind, DomainState, Step, Time, World};
use xenstore_wire::DomId;

use crate::link::Link;

/// Something happened outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The client behind this local port has done something.
    Port(u32),
    /// The client of this connection has done something: a machine without ports.
    Client(ConnectionId),
    /// Some domain changed its state.
    DomainsChanged,
}

/// The machine: time, domains, channels to clients, and a way to wait.
pub trait Machine: World {
    /// How it reaches one client.
    type Link: Link;

    /// The time now.
    fn now(&self) -> Time;

    /// Bytes of the heap, as far as it can grow. A half of it is for clients' watches, queues and transactions, a quarter for
    /// what cannot be refused, and a quarter for all else.
    fn heap(&self) -> u64 {
        u64::MAX
    }

    /// Hands over what happened since the last call. Each event is handed over once.
    fn poll(&mut self, event: &mut dyn FnMut(Event));

    /// The domains that changed their state since the last call, if the machine can tell; `None`: it tells only that some
    /// did, and each must be asked about.
    fn changed_domains(&mut self) -> Option<Vec<(DomId, DomainState)>> {
        None
    }

    /// Maps the ring of a domain, starts it from zero with these feature bits and binds its event channel. On failure
    /// nothing is left behind.
    fn connect(
        &mut self,
        domid: DomId,
        remote_port: u32,
        features: u32,
    ) -> Result<(Self::Link, Channel), ConnectFailure>;

    /// Closes the old channel of a connected domain and binds another.
    fn rebind(&mut self, old: Channel, domid: DomId, remote_port: u32) -> Result<Channel, ConnectFailure>;

    /// Unmaps and closes.
    fn disconnect(&mut self, link: Self::Link, channel: Channel);

    /// Tells the client that something changed.
    fn notify(&mut self, channel: Channel);

    /// Sleeps until an event comes or the deadline has passed. Returns at once if an event has not been handed over yet.
    fn wait(&mut self, deadline: Option<Time>);

    /// Lets others have the processor for a moment, if they wait for it. Called between two rounds when a client has used up its share and
    /// asked for more: where guests run on the server's processor, those that were answered could not ask again before the greedy one
    /// has everything. A machine on which they need no processor of the server's does nothing.
    fn yield_processor(&mut self) {}

    /// Ends this life of the server. A machine that cannot come back from that does nothing.
    fn crash(&mut self, kind: CrashKind);

    /// The server has come to a step at which an administrator ordered its life to end. A machine that cannot come back from
    /// that does nothing.
    fn reached(step: Step)
    where
        Self: Sized,
    {
        let _goes_on = step;
    }

    /// Why the life before this one ended, as far as the machine knows; empty if it does not.
    fn last_end(&mut self) -> String {
        String::new()
    }

    /// Writes a line to the console.
    fn log(&mut self, line: String);
}
