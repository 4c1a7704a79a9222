//! The record: the results of one input. It is what is made durable, and all that [`crate::Server::apply`] needs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize, Serializer};
use xenstore_wire::{DomId, HEADER_SIZE, Header, PathBuf, Permissions};

use crate::connection::{Cause, ConnectionId, Epoch, Fault, QueuedMessage};
use crate::crash::Armed;
use crate::input::{Channel, Time};
use crate::lease::Footprint;
use crate::lives::Restart;
use crate::nesting::Nesting;
use crate::settings::TraceSwitch;
use crate::transaction::{Facets, Write};
use crate::watch::WatchPath;

/// Everything that one input changes and makes visible. Holds results, never the request: applying it needs no decision.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// When it was decided.
    pub time: Time,
    /// What changes, in order.
    pub changes: Vec<Change>,
    /// What clients are told, in order.
    pub outputs: Vec<Output>,
    /// What the machine has to do once the record is durable.
    pub actions: Vec<Action>,
}

impl Record {
    /// Bytes of the messages that it is written down without: see [`Output::shown`].
    pub fn named(&self) -> usize {
        let named = self.outputs.iter().filter(|output| output.shown.is_some());
        named.fold(0, |sum, output| sum.saturating_add(output.message.bytes.len()))
    }

    /// It is to be written down with all its messages.
    pub fn hold_all(&mut self) {
        for output in &mut self.outputs {
            output.shown = None;
        }
    }
}

/// One message for one client.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Output {
    /// Who gets it.
    pub connection: ConnectionId,
    /// The message, queued behind what already waits.
    pub message: QueuedMessage,
    /// Its payload stands in the tree. Then it is written down without it, and [`crate::Server::make_whole`] looks there again: the
    /// longest answers would fill the log, and checkpoints would come that nothing else asks for.
    pub shown: Option<Shown>,
}

/// Payload of replies from which on it is worth naming where it stands instead, in bytes: more than most paths have.
pub(crate) const WORTH_NAMING: usize = 64;

/// What of the store a reply shows, as the store is before the record that brings the reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Shown {
    /// The value of this node.
    Value(PathBuf),
    /// The names of its children.
    Children(PathBuf),
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The fields of `Output` and of the message in it, as the derived reading expects them.
        #[derive(Serialize)]
        #[serde(rename = "Output")]
        struct Written<'o> {
            connection: ConnectionId,
            #[serde(serialize_with = "crate::bytes::serialize")]
            bytes: &'o [u8],
            event: bool,
            deadline: Option<Time>,
            cause: Option<Cause>,
            shown: &'o Option<Shown>,
        }
        let QueuedMessage {
            bytes,
            event,
            deadline,
            cause,
        } = &self.message;
        let header = self.shown.as_ref().and(bytes.get(..HEADER_SIZE));
        let written = Written {
            connection: self.connection,
            bytes: header.unwrap_or(bytes),
            event: *event,
            deadline: *deadline,
            cause: *cause,
            shown: &self.shown,
        };
        written.serialize(serializer)
    }
}

/// What the machine must do, once the record that says so is durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Map the domain's ring (its grant 1) and bind its event channel; the outcome is an
    /// [`crate::Input::ActionDone`] for `requester`.
    Connect {
        /// Whose request waits.
        requester: ConnectionId,
        /// The domain to connect.
        domid: DomId,
        /// Its unbound event channel.
        remote_port: u32,
        /// The feature bits for the page.
        features: u32,
    },
    /// Bind the event channel of a connected domain anew and start its ring from zero; the outcome is an
    /// [`crate::Input::ActionDone`].
    Rebind {
        /// Whose request waits.
        requester: ConnectionId,
        /// The connection of the domain.
        connection: ConnectionId,
        /// The domain.
        domid: DomId,
        /// Its unbound event channel.
        remote_port: u32,
    },
    /// Unmap the ring and close the event channel of a connection that is gone.
    Disconnect {
        /// Which.
        connection: ConnectionId,
    },
    /// Write this code into the `error` field of the ring page.
    SetError {
        /// Whose.
        connection: ConnectionId,
        /// What it did.
        fault: Fault,
    },
    /// Write a line to the console.
    Log {
        /// The domain that caused it, whose lines are limited; `None` for what the administrator or the hypervisor caused.
        about: Option<DomId>,
        /// The line.
        line: String,
    },
    /// End this life of the server, to show that the next one goes on (only with `--debug-crash`).
    Crash(CrashKind),
}

/// How a life of the server ends on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CrashKind {
    /// A panic.
    Panic,
    /// A processor exception.
    Fault,
    /// The stack overflows.
    Stack,
    /// Work that never ends.
    Hang,
    /// An allocation fails.
    Memory,
}

/// The request that waits for an action, and what it will be told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// Header of the request.
    pub header: Header,
    /// The domain that is being connected.
    pub domid: DomId,
    /// The connection that is being bound anew, if the domain has one already.
    pub existing: Option<ConnectionId>,
    /// The event channel named by the request.
    pub remote_port: u32,
}

impl Waiting {
    /// What the machine has to do for it; the domain will be offered these features.
    pub fn action(&self, requester: ConnectionId, features: u32) -> Action {
        let (domid, remote_port) = (self.domid, self.remote_port);
        match self.existing {
            Some(connection) => Action::Rebind {
                requester,
                connection,
                domid,
                remote_port,
            },
            None => Action::Connect {
                requester,
                domid,
                remote_port,
                features,
            },
        }
    }
}

/// Which tree a node change belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    /// The store that everyone sees.
    Store,
    /// The private view of an open transaction.
    Transaction {
        /// Whose.
        connection: ConnectionId,
        /// Its id on that connection.
        id: u32,
    },
}

/// A change of one node. Generations come from one counter and are never used twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeChange {
    /// A node that was not there; its parent is.
    Create {
        /// Its path.
        path: PathBuf,
        /// Its value.
        #[serde(with = "crate::bytes")]
        value: Box<[u8]>,
        /// Its permissions.
        permissions: Permissions,
        /// What the policy marks it with; 0 = nothing.
        label: u32,
        /// Its generation, its parent's new generation and its place in the order of creation.
        generation: u64,
    },
    /// Another value.
    SetValue {
        /// Its path.
        path: PathBuf,
        /// The new value.
        #[serde(with = "crate::bytes")]
        value: Box<[u8]>,
        /// The new generation.
        generation: u64,
    },
    /// Other permissions.
    SetPermissions {
        /// Its path.
        path: PathBuf,
        /// The new permissions.
        permissions: Permissions,
        /// The new generation.
        generation: u64,
    },
    /// The node and everything below it is gone.
    Remove {
        /// Its path.
        path: PathBuf,
        /// Its parent's new generation.
        generation: u64,
    },
}

/// One change of the server's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// Bytes were taken from the request stream and completed a message.
    Consumed {
        /// Whose stream.
        connection: ConnectionId,
        /// How many bytes.
        bytes: u32,
    },
    /// Bytes were taken from the request stream that do not complete a message.
    Partial {
        /// Whose stream.
        connection: ConnectionId,
        /// The bytes.
        #[serde(with = "crate::bytes")]
        bytes: Vec<u8>,
    },
    /// Bytes of the queue became visible.
    Published {
        /// Whose queue.
        connection: ConnectionId,
        /// How many bytes.
        bytes: u32,
    },
    /// An event that nobody took in time is dropped.
    EventExpired {
        /// Whose queue.
        connection: ConnectionId,
        /// The number of the message.
        number: u64,
    },
    /// A node changed.
    Node {
        /// In which tree.
        place: Place,
        /// How.
        change: NodeChange,
    },
    /// The permissions of a special node changed.
    SpecialPermissions {
        /// `@introduceDomain` or `@releaseDomain`.
        name: SpecialName,
        /// The new permissions.
        permissions: Permissions,
    },
    /// Nodes and bytes are charged to a domain (or given back).
    Charge {
        /// In the store, or for the duration of a transaction.
        place: Place,
        /// Who pays.
        domid: DomId,
        /// Nodes more.
        nodes: i64,
        /// Bytes of nodes more.
        bytes: i64,
    },
    /// A new watch.
    WatchAdded {
        /// Whose.
        connection: ConnectionId,
        /// On what.
        path: WatchPath,
        /// Returned with each event.
        #[serde(with = "crate::bytes")]
        token: Box<[u8]>,
        /// Levels below the path that count; none = all.
        depth: Option<u32>,
    },
    /// A watch is gone.
    WatchRemoved {
        /// Whose.
        connection: ConnectionId,
        /// Its number.
        number: u64,
    },
    /// All watches and transactions of a connection are gone.
    WatchesReset {
        /// Whose.
        connection: ConnectionId,
    },
    /// A transaction is open. Its snapshot is taken by the first operation in it.
    TransactionOpened {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
    },
    /// The first operation in a transaction: from now on it sees the store as it is here.
    TransactionBegan {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
    },
    /// A transaction observed something of its snapshot.
    Observed {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
        /// Of which node.
        path: PathBuf,
        /// What.
        facets: Facets,
    },
    /// A transaction wrote something.
    Wrote {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
        /// What.
        write: Write,
        /// Bytes of its path's beginning that name the topmost node that it changed or made.
        top: u16,
    },
    /// A transaction broke a limit and cannot be committed.
    TransactionFailed {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
    },
    /// The store has gone on in a way that a transaction cannot be merged with: its commit is a conflict.
    TransactionOutdated {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
    },
    /// The snapshot and the own view of a transaction are given up for want of room: whatever it still asks is a conflict.
    TransactionLost {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
    },
    /// A child of a transaction begins, or ends.
    Nested {
        /// Whose.
        connection: ConnectionId,
        /// The id of the transaction.
        id: u32,
        /// What becomes of the child.
        step: Nesting,
    },
    /// The changes of this record are remembered: they may make transactions of others fail.
    Remembered {
        /// Who made them.
        domid: DomId,
    },
    /// A commit failed because of a conflict.
    Lost {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
        /// The domains that pay for it.
        culprits: Vec<DomId>,
        /// A lease was in its way.
        leased: bool,
        /// What it had observed, if it has lost often enough to get a lease for that.
        footprint: Option<Footprint>,
    },
    /// The client's transaction that kept losing has succeeded.
    Won {
        /// Whose.
        connection: ConnectionId,
    },
    /// The transaction that kept losing begins again, and others leave alone what it had observed.
    Leased {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
        /// The client is not subject to limits: its lease binds guests and no guest's lease binds it.
        exempt: bool,
    },
    /// Leases whose time is up end.
    LeasesEnded,
    /// Points of conflict credit come back.
    CreditReturned {
        /// How many to whom.
        points: Vec<(DomId, u32)>,
        /// When the next does.
        next: Time,
    },
    /// A transaction is over.
    TransactionClosed {
        /// Whose.
        connection: ConnectionId,
        /// Its id.
        id: u32,
    },
    /// A request waits for an action.
    Waiting {
        /// Whose.
        connection: ConnectionId,
        /// For what.
        waiting: Waiting,
    },
    /// The action is over.
    NoLongerWaiting {
        /// Whose.
        connection: ConnectionId,
    },
    /// A new connection.
    Connected {
        /// Its id.
        connection: ConnectionId,
        /// For whom.
        domid: DomId,
        /// How it is reached.
        channel: Channel,
        /// Where its streams begin.
        epoch: Epoch,
    },
    /// The ring of a connection starts anew, from zero: queue, partial message, watches and transactions are gone.
    ConnectionReset {
        /// Which.
        connection: ConnectionId,
        /// Its channel from now on.
        channel: Channel,
    },
    /// A connection is ignored from now on; its queue, watches and transactions are gone.
    Ignored {
        /// Which.
        connection: ConnectionId,
        /// Why.
        fault: Fault,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// A domain is known from now on.
    DomainKnown {
        /// Which.
        domid: DomId,
        /// Its unique number, if the hypervisor gives one.
        unique_id: Option<u64>,
    },
    /// A domain is gone, its connection and its account with it.
    DomainForgotten {
        /// Which.
        domid: DomId,
    },
    /// Whether the shutdown of a domain has been told.
    ShutdownTold {
        /// Which.
        domid: DomId,
        /// It has.
        told: bool,
    },
    /// A domain has the rights of another from now on.
    TargetSet {
        /// Which.
        domid: DomId,
        /// Whose rights.
        target: DomId,
    },
    /// A domain that is not connected yet will be offered these features.
    FeaturesSet {
        /// Which.
        domid: DomId,
        /// Bits of `server_features`.
        features: u32,
    },
    /// A limit of one domain changed.
    DomainLimit {
        /// Whose.
        domid: DomId,
        /// Which limit.
        limit: crate::quota::Limit,
        /// The new value; 0 = none.
        value: u32,
    },
    /// A default limit changed: domains that become known later get it.
    DefaultLimit {
        /// Its place in [`crate::Limit::ALL`].
        limit: crate::quota::Limit,
        /// The new value; 0 = none.
        value: u32,
    },
    /// A trace switch was set.
    Trace {
        /// Which.
        switch: TraceSwitch,
        /// How.
        on: bool,
    },
    /// The recorded maxima start anew.
    MaximaReset,
    /// Events that watches matched and that are not told.
    EventsLeftOut {
        /// The same event still waits.
        merged: u32,
        /// There is no memory for them.
        dropped: u32,
    },
    /// How far the memory of a domain has come, as the log says.
    MemoryWarned {
        /// Whose.
        domid: DomId,
        /// What was said last.
        warned: crate::domain::Warned,
    },
    /// Whether `xenstore-control crash` is allowed.
    DebugCrash {
        /// It is.
        allowed: bool,
    },
    /// A life began where another ended.
    Restarted(Restart),
    /// The bytes that a connection's stream goes on with were in hand when a life ended.
    Killed {
        /// Whose.
        connection: ConnectionId,
    },
    /// A request is not decided any more, because it ended lives.
    SetAside {
        /// Whose.
        connection: ConnectionId,
        /// When.
        at: Time,
        /// Bytes of it that are still to come, and will be thrown away.
        left: u32,
    },
    /// Bytes of a request that was set aside were taken from the stream.
    Skipped {
        /// Whose.
        connection: ConnectionId,
        /// How many.
        bytes: u32,
    },
    /// A life is to be ended on purpose, or not any more.
    CrashArmed {
        /// How and when.
        armed: Option<Armed>,
    },
}

/// The special nodes that stand for events of domains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum SpecialName {
    /// `@introduceDomain`
    IntroduceDomain,
    /// `@releaseDomain`
    ReleaseDomain,
}

impl SpecialName {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SpecialName::IntroduceDomain => "@introduceDomain",
            SpecialName::ReleaseDomain => "@releaseDomain",
        }
    }
}
