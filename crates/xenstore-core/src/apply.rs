//! Applying: the only place where the server's state changes. It decides nothing and cannot fail; what does not fit the
//! state (a change for a connection that the same record closed) is of no consequence.

mod charges;
mod connections;
mod domains;
mod transactions;

pub(crate) use charges::{Used, watch_bytes};
pub(crate) use transactions::transaction;

use xenstore_wire::{HEADER_SIZE, Header, PAYLOAD_MAX, PathBuf};

use crate::domain::Maxima;
use crate::record::{Change, NodeChange, Output, Place, Record, Shown};
use crate::server::Server;
use crate::tree::{Memory, NewNode, Root};
use crate::watch::Watch;

impl<M: Memory> Server<M> {
    /// Makes a record's changes and queues its outputs. The same call serves live and in recovery.
    pub fn apply(&mut self, record: &Record) {
        self.lives.note_time(record.time);
        for change in &record.changes {
            match change {
                Change::Remembered { domid } => self.remember(*domid, record),
                Change::Lost { .. } | Change::Leased { .. } | Change::LeasesEnded => {
                    self.apply_loss(change, record.time);
                }
                _ => self.apply_change(change),
            }
        }
        for output in &record.outputs {
            self.queue(output);
        }
    }

    /// As [`Server::apply`], for a record of an earlier life. What became visible between two records is not in the log, so
    /// that queues grow meanwhile; [`Server::end_of_replay`] ends that. False, and nothing is applied, if the record cannot be
    /// made whole: see [`Server::make_whole`].
    #[must_use]
    pub fn replay(&mut self, record: &mut Record) -> bool {
        let whole = self.make_whole(record);
        if whole {
            self.replaying = true;
            self.apply(record);
            self.replaying = false;
        }
        whole
    }

    /// Gives a record that was read back, and is the next to be applied, the payloads that it was written down without
    /// ([`Output::shown`]). False if it shows what is not in the store: then it is no record of this one.
    #[must_use]
    pub fn make_whole(&self, record: &mut Record) -> bool {
        record.outputs.iter_mut().all(|output| self.show_again(output))
    }

    /// Puts the payload behind the header of a reply that was written down without it.
    fn show_again(&self, output: &mut Output) -> bool {
        let Some(shown) = &output.shown else { return true };
        let bytes = &mut output.message.bytes;
        let Some(header) = bytes.first_chunk::<HEADER_SIZE>().map(Header::parse) else {
            return false;
        };
        let find = |path: &PathBuf| self.tree.find(self.current(), path.as_path());
        match shown {
            Shown::Value(path) => {
                bytes.extend_from_slice(find(path).map_or(&[][..], |node| node.value()));
            }
            Shown::Children(path) => {
                let _all = find(path).is_some_and(|node| self.tree.append_names(node, 0, PAYLOAD_MAX, bytes));
            }
        }
        usize::try_from(header.length).ok() == bytes.len().checked_sub(HEADER_SIZE)
    }

    /// All records are replayed, and the queues are what they were at the end of that life. Peaks of memory and of outstanding
    /// requests between the last checkpoint and now are not known: what there is now counts. All other peaks are.
    pub fn end_of_replay(&mut self) {
        self.domains.each_mut(|domid, domain| {
            let connection = domain.connection.and_then(|id| self.connections.get(&id));
            let seen = Maxima {
                memory: domain.account.memory(),
                outstanding: connection.map_or(0, |state| state.outstanding() as u64),
                ..Maxima::default()
            };
            domain.maxima.raise(&seen);
            if domid != self.configuration.privileged {
                self.maxima.raise(&seen);
            }
        });
    }

    fn apply_change(&mut self, change: &Change) {
        match change {
            Change::Consumed { connection, bytes } => self.consumed_request(*connection, *bytes),
            Change::Partial { connection, bytes } => self.partial(*connection, bytes),
            Change::Published { connection, bytes } => self.published(*connection, *bytes),
            Change::EventExpired { connection, number } => self.event_expired(*connection, *number),
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
                self.add_watch(*connection, watch);
            }
            Change::WatchRemoved { connection, number } => self.remove_watch(*connection, *number),
            Change::WatchesReset { connection } => {
                self.remove_all_watches(*connection);
                self.close_all_transactions(*connection);
            }
            Change::TransactionOpened { connection, id } => self.transaction_opened(*connection, *id),
            Change::TransactionBegan { connection, id } => self.transaction_began(*connection, *id),
            Change::Observed {
                connection,
                id,
                path,
                facets,
            } => self.observed(*connection, *id, path, *facets),
            Change::Wrote {
                connection,
                id,
                write,
                top,
            } => self.wrote(*connection, *id, write, *top),
            Change::TransactionFailed { connection, id } => {
                self.change_transaction(*connection, *id, |open| open.failed = true);
            }
            Change::TransactionOutdated { connection, id } => {
                self.change_transaction(*connection, *id, |open| open.outdated = true);
            }
            Change::TransactionLost { connection, id } => self.transaction_lost(*connection, *id),
            Change::TransactionClosed { connection, id } => self.transaction_closed(*connection, *id),
            Change::Waiting { connection, waiting } => {
                self.change_connection(*connection, |state| state.waiting = Some(waiting.clone()));
            }
            Change::NoLongerWaiting { connection } => {
                self.change_connection(*connection, |state| state.waiting = None);
            }
            Change::Connected {
                connection,
                domid,
                channel,
                epoch,
            } => self.connected(*connection, *domid, *channel, *epoch),
            Change::ConnectionReset { connection, channel } => self.reset_connection(*connection, *channel),
            Change::Ignored { connection, fault } => self.ignore(*connection, *fault),
            Change::Disconnected { connection } => self.disconnected(*connection),
            Change::DomainKnown { domid, unique_id } => self.domain_known(*domid, *unique_id),
            Change::DomainForgotten { domid } => self.domain_forgotten(*domid),
            Change::ShutdownTold { domid, told } => self.change_domain(*domid, |domain| domain.shutdown_told = *told),
            Change::TargetSet { domid, target } => self.change_domain(*domid, |domain| domain.target = Some(*target)),
            Change::FeaturesSet { domid, features } => {
                self.change_domain(*domid, |domain| domain.features = *features);
            }
            Change::DomainLimit { domid, limit, value } => {
                self.change_domain(*domid, |domain| domain.quotas.set(*limit, *value));
            }
            Change::DefaultLimit { limit, value } => self.settings.quotas.set(*limit, *value),
            Change::Trace { switch, on } => self.settings.set_trace(*switch, *on),
            Change::MaximaReset => self.forget_maxima(),
            Change::Nested { connection, id, step } => self.nest(*connection, *id, *step),
            Change::Won { connection } => self.set_losing(*connection, None),
            Change::CreditReturned { points, next } => self.conflicts.give_back(points, *next, &mut self.domains),
            // These need the whole record.
            Change::Remembered { .. } | Change::Lost { .. } | Change::Leased { .. } | Change::LeasesEnded => {}
            Change::EventsLeftOut { merged, dropped } => {
                self.events.merged = self.events.merged.saturating_add(u64::from(*merged));
                self.events.dropped = self.events.dropped.saturating_add(u64::from(*dropped));
            }
            Change::MemoryWarned { domid, warned } => self.change_domain(*domid, |domain| domain.warned = *warned),
            Change::DebugCrash { allowed } => self.configuration.debug_crash = *allowed,
            Change::Restarted(restart) => self.lives.restarted(restart),
            Change::Killed { connection } => self.change_connection(*connection, |state| {
                state.poisoner.kills = state.poisoner.kills.saturating_add(1);
            }),
            Change::SetAside { connection, at, left } => self.apply_set_aside(*connection, *at, *left),
            Change::Skipped { connection, bytes } => self.skipped(*connection, *bytes),
            Change::CrashArmed { armed } => self.armed = *armed,
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
        if place == Place::Store {
            self.note_mentions(change);
        }
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

    /// Before the store's tree changes: where it mentions domains from then on.
    fn note_mentions(&mut self, change: &NodeChange) {
        match change {
            NodeChange::Create { path, permissions, .. } => {
                self.mentions.created(&self.tree, path.as_path(), permissions);
            }
            NodeChange::SetPermissions { path, permissions, .. } => {
                self.mentions
                    .permissions_changed(&self.tree, path.as_path(), permissions);
            }
            NodeChange::Remove { path, .. } => self.mentions.removed(path.as_path()),
            NodeChange::SetValue { .. } => {}
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
}
