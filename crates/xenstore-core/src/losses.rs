//! A commit that lost, and one that won: who is to blame, who gets a lease, and what is remembered for that.

use alloc::format;
use alloc::vec::Vec;

use xenstore_wire::{DomId, Path, PathBuf};

use crate::apply::{Used, transaction};
use crate::connection::ConnectionId;
use crate::decision::Decision;
use crate::input::Time;
use crate::lease::{Footprint, Losing};
use crate::node_requests::access;
use crate::overlay::View;
use crate::policy::Rights;
use crate::record::{Action, Change, NodeChange, Place, Record};
use crate::server::Server;
use crate::transaction::{Facets, Transaction};
use crate::tree::Memory;

impl<M: Memory> Decision<'_, M> {
    /// What an unprivileged domain changes in the store can make open transactions of others fail: then it is remembered.
    pub fn remember(&mut self) {
        let Some((_, state)) = self.requester else { return };
        let others = self.server.transactions > state.transactions.len();
        if others && !self.caller.exempt() && self.node_changes().next().is_some() {
            let domid = self.caller.domid();
            self.change(Change::Remembered { domid });
        }
    }

    /// The commit failed because these nodes are not as they were, or because of a lease.
    pub fn lost(
        &mut self,
        connection: ConnectionId,
        id: u32,
        open: &Transaction,
        lost: &[(Path<'_>, Facets)],
        leased: bool,
    ) {
        let limits = &self.server.configuration.conflicts;
        let conflicts = &self.server.conflicts;
        let culprits = conflicts.culprits(self.caller.domid(), lost, open.began, self.now, limits);
        for domid in &culprits {
            let lacking = self.domain(*domid).map_or(0, |domain| domain.lacking);
            if !limits.pauses(lacking) && limits.pauses(lacking.saturating_add(1)) {
                let victim = self.caller.domid();
                let path = lost.first().map_or(Path::ROOT, |(path, _)| *path);
                let line = format!(
                    "domain {domid} is paused: what it writes keeps making commits of others fail, now one of domain {victim}, at {}",
                    path.as_str()
                );
                let about = Some(*domid);
                self.lines.push(Action::Log { about, line });
            }
        }
        let footprint = self.footprint(open);
        self.keep(Change::Lost {
            connection,
            id,
            culprits,
            leased,
            footprint,
        });
    }

    /// What may be leased of a transaction that has lost often enough: what its client was allowed to see or to write.
    fn footprint(&self, open: &Transaction) -> Option<Footprint> {
        let (_, state) = self.requester?;
        let known = state
            .losing
            .as_ref()
            .filter(|losing| Some(&losing.first) == open.first());
        let losses = self.server.configuration.conflicts.losses;
        if losses == 0 || known.map_or(0, |losing| losing.times).saturating_add(1) < losses {
            return None;
        }
        let snapshot = View::new(&self.server.tree, open.roots?.snapshot);
        let mut footprint = Footprint::default();
        let observed = open.observed.values().flatten();
        let own = open
            .writes
            .iter()
            .map(|written| (written.write.path(), &Facets::WRITING));
        for (path, facets) in observed.chain(own) {
            let wanted = if facets.touches(Facets::WRITING.and(Facets::OWNING)) {
                Rights::WRITE
            } else {
                Rights::READ
            };
            let forbidden =
                access(&snapshot, &self.caller, path.as_path(), wanted) == Err(xenstore_wire::Errno::EACCES);
            if !forbidden && !footprint.add(path, *facets) {
                return None;
            }
        }
        Some(footprint)
    }

    /// The commit succeeded.
    pub fn won(&mut self, connection: ConnectionId, open: &Transaction) {
        let losing = self.requester.and_then(|(_, state)| state.losing.as_ref());
        if losing.is_some_and(|losing| Some(&losing.first) == open.first()) {
            self.change(Change::Won { connection });
        }
    }

    /// The first request in a transaction names this path: if that is how the one began that keeps losing, it has a lease from
    /// now on.
    pub fn claim_lease(&mut self, id: u32, open: &Transaction, path: &PathBuf) {
        let Some((connection, state)) = self.requester else {
            return;
        };
        let again = |losing: &Losing| losing.footprint.is_some() && losing.first == *path;
        if open.is_fresh()
            && state.losing.as_ref().is_some_and(again)
            && self.server.leases.available(self.caller.exempt(), self.now)
        {
            let exempt = self.caller.exempt();
            self.keep(Change::Leased { connection, id, exempt });
        }
    }
}

impl<M: Memory> Server<M> {
    /// The node changes of this record may make transactions of others fail.
    pub(crate) fn remember(&mut self, domid: DomId, record: &Record) {
        let changes = record.changes.iter().filter_map(|change| match change {
            Change::Node {
                place: Place::Store,
                change,
            } => Some(change),
            _ => None,
        });
        let changes: Vec<&NodeChange> = changes.collect();
        let limits = &self.configuration.conflicts;
        self.conflicts
            .remember(domid, record.time, self.generation, changes.into_iter(), limits);
    }

    /// A commit lost, or a lease begins or ends.
    pub(crate) fn apply_loss(&mut self, change: &Change, now: Time) {
        match change {
            Change::Lost {
                connection,
                id,
                culprits,
                leased,
                footprint,
            } => {
                let figures = &mut self.conflicts.figures;
                figures.lost = figures.lost.saturating_add(1);
                figures.by_lease = figures.by_lease.saturating_add(u64::from(*leased));
                let nobody = culprits.is_empty() && !leased;
                figures.without_culprit = figures.without_culprit.saturating_add(u64::from(nobody));
                for domid in culprits {
                    if let Some(domain) = self.domains.get_mut(domid) {
                        self.conflicts.blame(*domid, domain, now, &self.configuration.conflicts);
                    }
                }
                self.lose(*connection, *id, footprint.clone());
            }
            Change::Leased { connection, id, exempt } => {
                let Some(state) = self.connections.get_mut(connection) else {
                    return;
                };
                let losing = state.losing.as_ref();
                let footprint = losing.and_then(|losing| losing.footprint.clone());
                self.set_losing(*connection, None);
                if let Some(footprint) = footprint {
                    self.leases.give(*exempt, *connection, *id, footprint, now);
                    self.conflicts.figures.leases = self.conflicts.figures.leases.saturating_add(1);
                }
            }
            Change::LeasesEnded => self.leases.end_until(now),
            _ => {}
        }
    }

    /// The transaction lost once more, or another than the one before.
    fn lose(&mut self, connection: ConnectionId, id: u32, footprint: Option<Footprint>) {
        if self.configuration.conflicts.losses == 0 {
            return;
        }
        let first = transaction(&mut self.connections, connection, id).and_then(|open| open.first().cloned());
        let (Some(first), Some(state)) = (first, self.connections.get(&connection)) else {
            return;
        };
        let known = state.losing.as_ref().filter(|losing| losing.first == first);
        let times = known.map_or(0, |losing| losing.times).saturating_add(1);
        self.set_losing(
            connection,
            Some(Losing {
                first,
                times,
                footprint,
            }),
        );
    }

    /// Remembers another loser for this client, or none; the domain is charged for its memory.
    pub(crate) fn set_losing(&mut self, connection: ConnectionId, losing: Option<Losing>) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let more = losing.as_ref().map_or_else(Used::default, Losing::used);
        let before = core::mem::replace(&mut state.losing, losing);
        let less = before.as_ref().map_or_else(Used::default, Losing::used);
        self.charge_used(connection, more, less);
    }
}
