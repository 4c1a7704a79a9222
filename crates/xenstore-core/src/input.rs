//! What can happen to a server: requests, but also broken messages, dying domains, finished actions and the passing of time.

use core::fmt;

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, Header};

use crate::connection::{ConnectionId, Epoch, Fault};
use crate::nesting::Nesting;
use crate::poison::InHand;
use crate::quota::Limit;
use crate::settings::TraceSwitch;

/// A point in time: nanoseconds of a clock that never goes backwards and that a restart of the server does not reset
/// (under Xen: system time since the host booted).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// This time and `seconds` more; saturates.
    pub fn after_seconds(self, seconds: u32) -> Time {
        Time(self.0.saturating_add(u64::from(seconds).saturating_mul(1_000_000_000)))
    }
}

/// What the hypervisor says of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DomainState {
    /// The domain exists (it may be dying).
    pub exists: bool,
    /// It has shut down, for whatever reason, and waits for its toolstack.
    pub shutdown: bool,
    /// Its resources are gone; only references keep its name in use.
    pub dead: bool,
    /// A number that no other domain of this host ever had or will have. Xen 4.21 and later give one.
    pub unique_id: Option<u64>,
}

impl DomainState {
    /// A domain that the hypervisor does not know.
    pub const ABSENT: DomainState = DomainState {
        exists: false,
        shutdown: false,
        dead: false,
        unique_id: None,
    };
    /// An ordinary living domain without a unique id.
    pub const ALIVE: DomainState = DomainState {
        exists: true,
        shutdown: false,
        dead: false,
        unique_id: None,
    };
}

/// The world outside, as far as a decision may ask about it. It is an argument, so that tests, simulators and the kernel
/// each bring their own.
pub trait World {
    /// What the hypervisor says of `domid` now.
    fn domain(&self, domid: DomId) -> DomainState;
    /// The unix time in nanoseconds, for log lines and reports only.
    fn wall_clock(&self) -> u64;
    /// Writes the machine's own figures (memory, notifications, exits) as `name: value` lines.
    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}

/// How a connection reaches its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Channel {
    /// A ring page, granted by the domain, and the local event channel port to signal it.
    Ring {
        /// Local port; 0 when binding failed, as after a re-INTRODUCE with a bad port.
        port: u32,
    },
    /// A stream socket of a process on this host.
    Socket,
}

/// Why a domain's ring could not be reached. Each maps to the error name that C xenstored answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConnectFailure {
    /// The domain's grant 1 could not be mapped: no such domain, no grant for us.
    Grant,
    /// The event channel could not be bound.
    EventChannel,
    /// No window, handle or port is left on our side.
    NoRoom,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A whole request arrived; `consumed` bytes of the client's stream were taken for it by this input (the rest had
    /// arrived before as [`Input::Partial`]).
    Request {
        /// Who sent it.
        connection: ConnectionId,
        /// Bytes newly taken from the stream.
        consumed: u32,
        /// The message header.
        header: Header,
        /// Exactly `header.length` bytes.
        payload: &'a [u8],
    },
    /// The beginning or the middle of a message arrived.
    Partial {
        /// Who sent it.
        connection: ConnectionId,
        /// The bytes taken from the stream.
        bytes: &'a [u8],
    },
    /// The client broke the rules of its channel; it is ignored from now on.
    Misbehaved {
        /// Who did.
        connection: ConnectionId,
        /// What it did.
        fault: Fault,
    },
    /// The client started its channel anew: silently, with four zero indices, or by asking for a reconnect. Everything
    /// the old stream meant is gone.
    Reset {
        /// Who did.
        connection: ConnectionId,
    },
    /// Bytes of the connection's queue became visible to the client.
    Published {
        /// To whom.
        connection: ConnectionId,
        /// How many bytes.
        bytes: u32,
    },
    /// A connection that no request asked for exists now (dom0 at start, a socket client).
    Connected {
        /// The domain it belongs to.
        domid: DomId,
        /// How it is reached.
        channel: Channel,
        /// Where its streams begin.
        epoch: Epoch,
    },
    /// A socket client went away.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// The action that a request waits for came to an end.
    ActionDone {
        /// Whose request waits.
        requester: ConnectionId,
        /// What came out: the channel.
        outcome: Result<Channel, ConnectFailure>,
    },
    /// The hypervisor says that domains may have changed; their states now, of all that the server knows.
    DomainsChanged(&'a [(DomId, DomainState)]),
    /// The server was started again over what an earlier life left, with options of its own. What they do not name stays.
    Options {
        /// Limits of domains that become known from now on.
        quotas: &'a [(Limit, u32)],
        /// Trace switches that are on from now on.
        trace: &'a [TraceSwitch],
        /// `xenstore-control crash` is allowed.
        debug_crash: bool,
    },
    /// Bytes arrived that belong to a message that was set aside: they are thrown away.
    Skipped {
        /// Who sent it.
        connection: ConnectionId,
        /// Bytes taken from the stream, at most [`crate::Connection::skipping`].
        bytes: u32,
    },
    /// A life of the server begins with what an earlier one left. The first input of such a life.
    Restarted {
        /// Why the other ended, as far as the machine can tell.
        reason: &'a str,
        /// What it was deciding, or had decided last.
        in_hand: Option<InHand<'a>>,
        /// Its last records, in short.
        records: &'a str,
    },
    /// [`crate::Server::strikes_now`]: the end that an administrator ordered is due.
    Strike,
    /// A child of an open transaction begins or ends. Only embedders of this crate can do that: the wire has no room for it.
    /// What does not fit (no such transaction, no child, too many) changes nothing.
    Nested {
        /// Whose.
        connection: ConnectionId,
        /// The id of the transaction.
        transaction: u32,
        /// What becomes of the child.
        step: Nesting,
    },
    /// [`crate::Server::is_short_of_room`]: snapshots keep too much of what is no longer in the store.
    Shortage,
    /// A deadline named by [`crate::Server::next_deadline`] passed.
    Timeout,
}
