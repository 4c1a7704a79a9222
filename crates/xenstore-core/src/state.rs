//! The server's state apart from the tree's bytes, as it is saved and read back.
//!
//! The tree lies in its memory and is saved by naming its roots. Indexes and sums that follow from the rest are made anew.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, Permissions};

use crate::account::{Account, Sums};
use crate::conflict::Conflicts;
use crate::connection::{Connection, ConnectionId};
use crate::crash::Armed;
use crate::domain::{Domain, Maxima};
use crate::heap::Cost;
use crate::lease::Leases;
use crate::lives::Lives;
use crate::mentions::Mentions;
use crate::numbered::Numbered;
use crate::record::SpecialName;
use crate::server::{Configuration, EventFigures, Server};
use crate::settings::Settings;
use crate::transaction::Transaction;
use crate::tree::{Memory, Root, Tree, Unreadable};
use crate::watch::{Watch, WatchIndex, WatchKey};

/// A state that was read back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    configuration: Configuration,
    root: Root,
    generation: u64,
    special: BTreeMap<SpecialName, Permissions>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u32,
    domains: BTreeMap<DomId, Domain>,
    watches: Vec<(WatchKey, Watch)>,
    next_watch: u64,
    settings: Settings,
    maxima: Maxima,
    events: EventFigures,
    requests: u64,
    conflicts: Conflicts,
    leases: Leases,
    lives: Lives,
    armed: Option<Armed>,
}

/// A state to be saved. Has the form of [`State`], field by field, and borrows from the server.
#[derive(Debug, Serialize)]
pub struct SavedState<'s> {
    configuration: &'s Configuration,
    root: Root,
    generation: u64,
    special: &'s BTreeMap<SpecialName, Permissions>,
    connections: &'s Numbered<ConnectionId, Connection>,
    next_connection: u32,
    domains: &'s Numbered<DomId, Domain>,
    watches: Vec<(WatchKey, &'s Watch)>,
    next_watch: u64,
    settings: &'s Settings,
    maxima: &'s Maxima,
    events: &'s EventFigures,
    requests: u64,
    conflicts: &'s Conflicts,
    leases: &'s Leases,
    lives: &'s Lives,
    armed: &'s Option<Armed>,
}

impl State {
    /// The roots of the tree that it needs, as [`Server::roots`].
    pub fn roots(&self) -> Vec<Root> {
        core::iter::once(self.root).chain(self.held()).collect()
    }

    /// Those of open transactions.
    fn held(&self) -> impl Iterator<Item = Root> + '_ {
        let connections = self.connections.values();
        let transactions = connections.flat_map(|connection| connection.transactions.values());
        transactions.flat_map(Transaction::held)
    }
}

impl<M: Memory> Server<M> {
    /// The state to be saved.
    pub fn state(&self) -> SavedState<'_> {
        SavedState {
            configuration: &self.configuration,
            root: self.tree.current(),
            generation: self.generation,
            special: &self.special,
            connections: &self.connections,
            next_connection: self.next_connection,
            domains: &self.domains,
            watches: self.watches.all().collect(),
            next_watch: self.watches.next(),
            settings: &self.settings,
            maxima: &self.maxima,
            events: &self.events,
            requests: self.requests,
            conflicts: &self.conflicts,
            leases: &self.leases,
            lives: &self.lives,
            armed: &self.armed,
        }
    }

    /// The roots of the tree that a saved state needs: the store's first, then those of open transactions.
    pub fn roots(&self) -> Vec<Root> {
        let transactions = self
            .connections
            .values()
            .flat_map(|connection| connection.transactions.values());
        let of_transactions = transactions.flat_map(Transaction::held);
        core::iter::once(self.tree.current()).chain(of_transactions).collect()
    }

    /// Keeps these roots alive until [`Server::let_go`], whatever becomes of the store meanwhile.
    pub fn hold(&mut self, roots: &[Root]) {
        for root in roots {
            self.tree.retain(*root);
        }
    }

    /// Ends [`Server::hold`].
    pub fn let_go(&mut self, roots: &[Root]) {
        for root in roots {
            self.tree.release(*root);
        }
    }

    /// The server that was saved, with its tree in `memory`. The roots `also` are kept alive until [`Server::let_go`].
    pub fn restore(state: State, memory: M, also: &[Root]) -> Result<Self, Unreadable<M>> {
        let held: Vec<Root> = state.held().chain(also.iter().copied()).collect();
        let transactions = state
            .connections
            .values()
            .map(|connection| connection.transactions.len());
        let transactions = transactions.fold(0, usize::saturating_add);
        let (tree, family) = Tree::open(memory, state.configuration.hash_seed, state.root, &held)?;
        let mentions = Mentions::of(state.configuration.privileged, &tree, &family);
        let mut sums = Sums::default();
        for (domid, domain) in &state.domains {
            let privileged = *domid == state.configuration.privileged;
            sums.change(privileged, &Account::default(), &domain.account);
        }
        let connections = state.connections.iter();
        let deadlines: BTreeSet<_> = connections
            .filter_map(|(id, connection)| connection.deadline.map(|deadline| (deadline, *id)))
            .collect();
        Ok(Server {
            watches: WatchIndex::restored(state.configuration.hash_seed, state.next_watch, state.watches),
            mentions,
            tree,
            generation: state.generation,
            special: state.special,
            connections: state.connections.into_iter().collect(),
            next_connection: state.next_connection,
            domains: state.domains.into_iter().collect(),
            deadlines,
            settings: state.settings,
            maxima: state.maxima,
            events: state.events,
            requests: state.requests,
            conflicts: state.conflicts,
            leases: state.leases,
            lives: state.lives,
            armed: state.armed,
            transactions,
            replaying: false,
            policy: None,
            sums,
            limits: Cost::UNLIMITED,
            configuration: state.configuration,
        })
    }
}
