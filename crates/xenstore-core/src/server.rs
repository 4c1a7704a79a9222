//! The server's whole state, and the ways in.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::{Access, DomId, Path, Permissions};

use crate::account::Sums;
use crate::conflict::{ConflictFigures, ConflictLimits, Conflicts};
use crate::connection::{Connection, ConnectionId};
use crate::crash::Armed;
use crate::domain::{Domain, Maxima};
use crate::heap::{Cost, Heap};
use crate::input::{Input, Time, World};
use crate::lease::Leases;
use crate::lives::Lives;
use crate::mentions::Mentions;
use crate::numbered::Numbered;
use crate::policy::{Caller, Legacy, Policy, Subject};
use crate::quota::{Limit, Quotas};
use crate::record::{NodeChange, Record, SpecialName};
use crate::settings::{Settings, TraceSwitch};
use crate::tree::{Memory, Root, Tree};
use crate::watch::WatchIndex;

/// The part of the tree's room below which snapshots are given up: 1/8. It is twice what is kept for the privileged domain and
/// for the ends of domains.
const SHORT: usize = 8;

/// What is fixed when the server starts for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The domain that may do everything (dom0, or another with `--priv-domid`).
    pub privileged: DomId,
    /// The domain that the server itself is.
    pub own: DomId,
    /// Bits of the ring page's `server_features` that the machine can honour.
    pub features: u32,
    /// Seconds after which an event that an unprivileged client does not take is dropped; 0 = never. C's default is 20.
    pub event_timeout: u32,
    /// Who may do what, unless another policy is set ([`Server::set_policy`]).
    pub legacy: Legacy,
    /// Seeds the hash of node names.
    pub hash_seed: u64,
    /// The limits of domains, until an administrator sets others.
    pub quotas: Quotas,
    /// How those pay who make others' commits fail.
    pub conflicts: ConflictLimits,
    /// `xenstore-control crash` is allowed.
    pub debug_crash: bool,
    /// The trace switches that are on from the start.
    pub trace: Vec<TraceSwitch>,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            privileged: DomId::DOM0,
            own: DomId::DOM0,
            features: 0,
            event_timeout: 20,
            legacy: Legacy::default(),
            hash_seed: 0,
            quotas: Quotas::default(),
            conflicts: ConflictLimits::default(),
            debug_crash: false,
            trace: Vec::new(),
        }
    }
}

/// Events that a client was not told, since the server first started. As in C they are dropped or merged by design; here
/// they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFigures {
    /// Told.
    pub queued: u64,
    /// Not taken within the time-out.
    pub expired: u64,
    /// The same event still waited.
    pub merged: u64,
    /// There was no memory for them.
    pub dropped: u64,
}

/// Everything that must survive. A clone is a server of its own, with as much memory: for trials and tests.
#[derive(Clone)]
pub struct Server<M: Memory> {
    pub(crate) configuration: Configuration,
    /// Another policy than that of the configuration. Code, not state.
    pub(crate) policy: Option<&'static dyn Policy>,
    pub(crate) tree: Tree<M>,
    /// The newest generation given to a node.
    pub(crate) generation: u64,
    pub(crate) special: BTreeMap<SpecialName, Permissions>,
    pub(crate) connections: Numbered<ConnectionId, Connection>,
    pub(crate) next_connection: u32,
    pub(crate) domains: Numbered<DomId, Domain>,
    pub(crate) watches: WatchIndex,
    /// Where the store mentions which domains.
    pub(crate) mentions: Mentions,
    /// When the first event of each connection is dropped.
    pub(crate) deadlines: BTreeSet<(Time, ConnectionId)>,
    pub(crate) settings: Settings,
    pub(crate) maxima: Maxima,
    /// What the accounts come to. Follows from the rest.
    pub(crate) sums: Sums,
    /// What clients' state may take of the heap and of checkpoints: facts of this life, like the tree's memory.
    pub(crate) limits: Cost,
    pub(crate) events: EventFigures,
    pub(crate) requests: u64,
    pub(crate) conflicts: Conflicts,
    pub(crate) leases: Leases,
    /// How often it began again, and why.
    pub(crate) lives: Lives,
    /// An end of this life that an administrator ordered.
    pub(crate) armed: Option<Armed>,
    /// Transactions of all connections.
    pub(crate) transactions: usize,
    /// Records of an earlier life are being applied. Not saved.
    pub(crate) replaying: bool,
}

impl<M: Memory> Server<M> {
    /// A server with the initial tree of C xenstored: `/`, `/tool`, `/tool/xenstored`, all owned by the privileged domain.
    pub fn new(configuration: Configuration, memory: M) -> Self {
        let privileged = configuration.privileged;
        let closed = Permissions::owned_by(privileged, Access::None);
        let tree = Tree::new(memory, configuration.hash_seed, &closed, 1);
        let mut release = closed.entries().to_vec();
        release.push(xenstore_wire::Permission {
            domid: DomId::ANY,
            access: Access::Read,
            ignored: false,
        });
        let release = Permissions::from_entries(release).unwrap_or_else(|| closed.clone());
        let mut settings = Settings::default();
        settings.quotas = configuration.quotas.clone();
        for switch in &configuration.trace {
            settings.set_trace(*switch, true);
        }
        let mut server = Server {
            special: BTreeMap::from([
                (SpecialName::IntroduceDomain, closed.clone()),
                (SpecialName::ReleaseDomain, release),
            ]),
            tree,
            generation: 1,
            connections: Numbered::default(),
            next_connection: 1,
            domains: Numbered::default(),
            watches: WatchIndex::new(configuration.hash_seed),
            mentions: Mentions::new(privileged),
            deadlines: BTreeSet::new(),
            settings,
            maxima: Maxima::default(),
            sums: Sums::default(),
            limits: Cost::UNLIMITED,
            events: EventFigures::default(),
            requests: 0,
            conflicts: Conflicts::default(),
            leases: Leases::default(),
            lives: Lives::default(),
            armed: None,
            transactions: 0,
            replaying: false,
            policy: None,
            configuration,
        };
        server.domains.insert(
            privileged,
            Domain::new(None, server.configuration.features, server.settings.quotas.clone()),
        );
        let first = ["/tool", "/tool/xenstored"]
            .into_iter()
            .filter_map(|text| Path::new(text).ok());
        for (path, generation) in first.zip(2u64..) {
            let permissions = closed.clone();
            server.apply_node(
                crate::record::Place::Store,
                &NodeChange::Create {
                    path: path.to_owned(),
                    value: [].into(),
                    permissions,
                    label: 0,
                    generation,
                },
            );
        }
        let account = server.charges().remove(&privileged).unwrap_or_default();
        if let Some(domain) = server.domains.get_mut(&privileged) {
            domain.account = account;
            domain.maxima.nodes = account.node_count();
            domain.maxima.memory = account.memory();
        }
        server
    }

    /// What this input changes and makes visible. Looks, and changes nothing.
    pub fn decide(&self, now: Time, world: &dyn World, input: Input<'_>) -> Record {
        crate::decide::decide(self, now, world, input)
    }

    /// The time by which [`Input::Timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let event = self.deadlines.first().map(|(deadline, _)| *deadline);
        let others = [self.conflicts.due(), self.leases.due()];
        event.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// The connection, unless it is gone.
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// All connections in the order in which they were made.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().map(|(id, connection)| (*id, connection))
    }

    /// All domains that the server has heard of and that are not known to be gone.
    pub fn domains(&self) -> impl Iterator<Item = (DomId, &Domain)> {
        self.domains.iter().map(|(domid, domain)| (*domid, domain))
    }

    /// The bits of `server_features` that a domain's ring page shows, or will show when it is introduced.
    pub fn features_of(&self, domid: DomId) -> u32 {
        let known = self.domains.get(&domid);
        known.map_or(self.configuration.features, |domain| domain.features)
    }

    /// The id that the next connection will have.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection)
    }

    /// Requests of this connection may be taken: it is not ignored, does not wait for an action, and is below the limits
    /// at which C xenstored stops reading a ring (`outstanding`, `memory`), or at which a client must read first,
    /// and has not made too many commits of others fail. At its memory limit a client is heard nevertheless while it has
    /// transactions open and nothing waiting: ending them is the way back, and in C, which does not hear it, there is none.
    pub fn may_read(&self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get(&id) else {
            return false;
        };
        if connection.ignored.is_some() || connection.waiting.is_some() || connection.is_behind() {
            return false;
        }
        if self.caller(connection).exempt() {
            return true;
        }
        self.domains.get(&connection.domid).is_none_or(|domain| {
            let heap = self.heap();
            heap.lets_read(&domain.account, connection.queue.is_empty())
                && !domain
                    .quotas
                    .reached(Limit::Outstanding, connection.outstanding() as u64)
                && (!domain.quotas.reached(Limit::Memory, domain.account.memory()) || connection.can_free_memory())
                && !self.configuration.conflicts.pauses(domain.lacking)
        })
    }

    /// What was counted of conflicts.
    pub fn conflict_figures(&self) -> ConflictFigures {
        self.conflicts.figures
    }

    /// Less than an eighth of the tree's room is left, and a transaction's snapshot may be what keeps it from being more: time
    /// for [`Input::Shortage`].
    pub fn is_short_of_room(&self) -> bool {
        self.transactions > 0 && self.tree.room() < self.tree.capacity() / SHORT && self.oldest_snapshot().is_some()
    }

    /// The oldest snapshot that an unprivileged domain's transaction keeps and that is not the store as it is.
    pub(crate) fn oldest_snapshot(&self) -> Option<(ConnectionId, u32, DomId)> {
        let open = self.connections.iter().flat_map(|(connection, state)| {
            let open = state.transactions.iter();
            open.map(move |(id, open)| (open.began, (*connection, *id, state.domid), open.roots))
        });
        let kept = open.filter(|(_, (_, _, domid), roots)| {
            !self.exempt(*domid) && roots.is_some_and(|roots| roots.own != self.current())
        });
        kept.min_by_key(|(began, _, _)| *began).map(|(_, found, _)| found)
    }

    /// What an administrator set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was fixed at the start.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The tree, for its figures and its upkeep.
    pub fn tree(&self) -> &Tree<M> {
        &self.tree
    }

    /// The memory that the tree lies in.
    pub fn pages(&self) -> &M {
        self.tree.memory()
    }

    /// The memory that the tree lies in, for whoever keeps other things there, too.
    pub fn pages_mut(&mut self) -> &mut M {
        self.tree.memory_mut()
    }

    /// The memory, when the server is needed no longer.
    pub fn into_pages(self) -> M {
        self.tree.into_memory()
    }

    /// Upkeep of the arena: frees what no root reaches and moves blocks together, at most about `budget` bytes of work.
    /// Changes nothing that a client could see.
    pub fn tidy(&mut self, budget: usize) {
        self.tree.tidy(budget);
    }

    /// From now on this policy decides who may do what. It is to be set for each server that is made or restored, before the
    /// first input: nothing of it is saved.
    pub fn set_policy(&mut self, policy: &'static dyn Policy) {
        self.policy = Some(policy);
    }

    /// What connections, queues, watches and transactions may take of the heap, and of a checkpoint (bytes of
    /// [`Server::state`]): estimates that are not below the truth are held against it. Half as much again may be taken for
    /// replies and for what the privileged domain is told. Unlimited until it is set.
    pub fn set_limits(&mut self, heap: u64, saved: u64) {
        self.limits = Cost { heap, saved };
    }

    /// The heap that clients' state takes, by the estimate that is held against its limit.
    pub fn heap_held(&self) -> u64 {
        self.sums.cost.and(self.sums.privileged).heap
    }

    /// Bytes of a checkpoint that clients' state takes, by the estimate that is held against its limit.
    pub fn saved_held(&self) -> u64 {
        self.sums.cost.and(self.sums.privileged).saved
    }

    pub(crate) fn heap(&self) -> Heap {
        Heap {
            limit: self.limits,
            held: self.sums.cost,
            privileged: self.sums.privileged,
        }
    }

    /// No limits hold for this domain: it is the host's, not a guest.
    pub fn exempt(&self, domid: DomId) -> bool {
        self.caller_of(domid).exempt()
    }

    pub(crate) fn caller(&self, connection: &Connection) -> Caller<'_> {
        self.caller_of(connection.domid)
    }

    fn caller_of(&self, domid: DomId) -> Caller<'_> {
        let subject = Subject {
            domid,
            privileged: domid == self.configuration.privileged,
            target: self.domains.get(&domid).and_then(|domain| domain.target),
        };
        Caller::new(subject, self.policy.unwrap_or(&self.configuration.legacy))
    }

    /// The root that a request sees: its transaction's, or the store's.
    pub(crate) fn current(&self) -> Root {
        self.tree.current()
    }
}
