//! Domains: INTRODUCE, RELEASE, RESUME, SET_TARGET, their queries, and what the hypervisor says of their ends.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use xenstore_wire::{
    DomId, Errno, Header, MessageType, Path, PathBuf, Permissions, atoi, one_string, parse_domid, strings,
};

use crate::connection::{Connection, ConnectionId, Epoch};
use crate::decision::{Answer, Decision, Outcome};
use crate::input::{Channel, ConnectFailure, DomainState};
use crate::record::{Action, Change, Record, SpecialName, Waiting};
use crate::transaction::{Transaction, Write, Written};
use crate::tree::Memory;

impl<M: Memory> Decision<'_, M> {
    /// INTRODUCE: the machine maps and binds first; its outcome brings the answer.
    pub fn introduce(&mut self, requester: ConnectionId, header: Header, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let (Some(domid), Some(_gfn), Some(port)) = (arguments.next(), arguments.next(), arguments.next()) else {
            return Err(Errno::EINVAL);
        };
        let domid = parse_domid(domid).ok_or(Errno::EINVAL)?;
        self.about(MessageType::Introduce, domid)?;
        let remote_port = u32::try_from(atoi(port))
            .ok()
            .filter(|port| *port > 0)
            .ok_or(Errno::EINVAL)?;
        let existing = self.domain(domid).and_then(|domain| domain.connection);
        let waiting = Waiting {
            header,
            domid,
            existing,
            remote_port,
        };
        let features = self.server.features_of(domid);
        self.actions.push(waiting.action(requester, features));
        self.change(Change::Waiting {
            connection: requester,
            waiting,
        });
        Ok(Answer::Later)
    }

    /// The machine has done, or failed to do, what a request waits for.
    pub fn action_done(mut self, requester: ConnectionId, outcome: Result<Channel, ConnectFailure>) -> Record {
        let waiting = self.requester.and_then(|(_, state)| state.waiting.clone());
        let Some(waiting) = waiting else { return self.finish() };
        self.keep(Change::NoLongerWaiting { connection: requester });
        let answer = match (outcome, waiting.existing) {
            (Ok(channel), None) => {
                self.connect(waiting.domid, channel, Epoch::default());
                Ok(Answer::ok())
            }
            (Ok(channel), Some(connection)) => {
                self.change(Change::ConnectionReset { connection, channel });
                Ok(Answer::ok())
            }
            // C answers "EINVAL" for every errno that has no name on the wire, as those of a failed map have.
            (Err(ConnectFailure::Grant | ConnectFailure::EventChannel), _) => Err(Errno::EINVAL),
            (Err(ConnectFailure::NoRoom), _) => Err(Errno::ENOMEM),
        };
        self.answer(requester, waiting.header, answer)
    }

    /// A domain, or another client, is connected from now on.
    pub fn connect(&mut self, domid: DomId, channel: Channel, epoch: Epoch) {
        let connection = self.server.next_connection();
        if self.domain(domid).is_none() {
            let unique_id = self.world.domain(domid).unique_id;
            self.change(Change::DomainKnown { domid, unique_id });
        }
        self.change(Change::Connected {
            connection,
            domid,
            channel,
            epoch,
        });
        let ring = matches!(channel, Channel::Ring { .. });
        if ring && domid != self.server.configuration.privileged {
            self.tell_special(SpecialName::IntroduceDomain, true, Some(domid));
        }
    }

    /// The domain that RELEASE and RESUME may name: connected, neither privileged nor our own.
    fn connected_domain(&self, kind: MessageType, payload: &[u8]) -> Result<DomId, Errno> {
        let domid = one_string(payload).and_then(parse_domid).ok_or(Errno::EINVAL)?;
        self.about(kind, domid)?;
        let configuration = &self.server.configuration;
        if domid == configuration.own || domid == configuration.privileged {
            return Err(Errno::EINVAL);
        }
        self.connected(domid)
    }

    fn connected(&self, domid: DomId) -> Result<DomId, Errno> {
        // A domain that is known only because a permission names it counts as absent, as in C.
        let connection = self.domain(domid).and_then(|domain| domain.connection);
        connection.map(|_| domid).ok_or(Errno::ENOENT)
    }

    pub fn release(&mut self, payload: &[u8]) -> Outcome {
        let domid = self.connected_domain(MessageType::Release, payload)?;
        self.destroy(domid);
        Ok(Answer::ok())
    }

    pub fn resume(&mut self, payload: &[u8]) -> Outcome {
        let domid = self.connected_domain(MessageType::Resume, payload)?;
        self.change(Change::ShutdownTold { domid, told: false });
        Ok(Answer::ok())
    }

    pub fn set_target(&mut self, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let (Some(domid), Some(target)) = (arguments.next(), arguments.next()) else {
            return Err(Errno::EINVAL);
        };
        let domid = parse_domid(domid).ok_or(Errno::EINVAL)?;
        let target = parse_domid(target).ok_or(Errno::EINVAL)?;
        self.about(MessageType::SetTarget, domid)?;
        self.about(MessageType::SetTarget, target)?;
        let (domid, target) = (self.connected(domid)?, self.connected(target)?);
        self.change(Change::TargetSet { domid, target });
        // What it was told so far in a transaction it was told with other rights.
        self.outdate(|_, state, _| state.domid == domid);
        Ok(Answer::ok())
    }

    pub fn get_domain_path(&mut self, payload: &[u8]) -> Outcome {
        let domid = one_string(payload).and_then(parse_domid).ok_or(Errno::EINVAL)?;
        self.about(MessageType::GetDomainPath, domid)?;
        let mut path = PathBuf::of_domain(domid).as_str().as_bytes().to_vec();
        path.push(0);
        Ok(Answer::Reply(path))
    }

    pub fn is_domain_introduced(&mut self, payload: &[u8]) -> Outcome {
        let domid = one_string(payload).and_then(parse_domid).ok_or(Errno::EINVAL)?;
        self.about(MessageType::IsDomainIntroduced, domid)?;
        let introduced = domid == DomId::SELF || self.domain(domid).is_some_and(|domain| domain.connection.is_some());
        Ok(Answer::Reply(if introduced {
            b"T\0".to_vec()
        } else {
            b"F\0".to_vec()
        }))
    }

    /// What the hypervisor says of the domains we know. Several shutdowns found together are one plain event, which an end
    /// found after them makes superfluous; each end is an event of its own.
    pub fn domains_changed(&mut self, states: &[(DomId, DomainState)]) {
        let mut shut_down = false;
        for (domid, state) in states {
            let Some(domain) = self.domain(*domid) else { continue };
            if *domid == self.server.configuration.privileged {
                continue;
            }
            let another = matches!((domain.unique_id, state.unique_id), (Some(known), Some(now)) if known != now);
            let gone = !state.exists || state.dead || another;
            if domain.connection.is_none() {
                if gone {
                    self.forget(*domid);
                }
            } else if gone {
                self.destroy(*domid);
                shut_down = false;
            } else if state.shutdown && !domain.shutdown_told {
                self.change(Change::ShutdownTold {
                    domid: *domid,
                    told: true,
                });
                self.tell_special(SpecialName::ReleaseDomain, false, Some(*domid));
                shut_down = true;
            }
        }
        if shut_down {
            self.tell_special(SpecialName::ReleaseDomain, true, None);
        }
    }

    /// The end of a connected domain: its nodes, its names in permission lists, its ring and its account go.
    fn destroy(&mut self, domid: DomId) {
        if let Some(connection) = self.domain(domid).and_then(|domain| domain.connection) {
            self.forget(domid);
            self.change(Change::Disconnected { connection });
            self.actions.push(Action::Disconnect { connection });
            self.log(format!("domain {domid} is gone"));
            self.tell_special(SpecialName::ReleaseDomain, true, Some(domid));
        }
    }

    /// XSA-322, XSA-419: what a dead domain owned is removed, and no permission list names it any more, so that a later
    /// domain with its number inherits nothing and its memory is nobody's burden.
    fn forget(&mut self, domid: DomId) {
        let mut owned: Vec<PathBuf> = Vec::new();
        let mut named: Vec<(PathBuf, Permissions)> = Vec::new();
        for path in self.mentioning(domid) {
            if owned
                .last()
                .is_some_and(|above| above.as_path().contains(path.as_path()))
            {
                continue;
            }
            let Some(found) = self.view.find(path.as_path()) else {
                continue;
            };
            let owned_by_it = found.entries().iter().next().is_some_and(|owner| owner.domid == domid);
            if owned_by_it && path.as_path().parent().is_some() {
                owned.push(path);
            } else if let Some(rest) = self.without(&found.permissions(), domid) {
                named.push((path, rest));
            }
        }
        for path in &owned {
            // The caller is the server itself, which may remove everything.
            let _allowed = self.remove_node(path);
        }
        for (path, permissions) in &named {
            // Nothing visible changes for anyone who lives: no event. It cannot fail for want of room, since it shrinks.
            let _shrinks = self.replace_permissions(path, permissions);
        }
        for (name, list) in &self.server.special {
            if list.entries().iter().any(|entry| entry.domid == domid)
                && let Some(permissions) = self.without(list, domid)
            {
                self.change(Change::SpecialPermissions {
                    name: *name,
                    permissions,
                });
            }
        }
        // A transaction that would give rights to it cannot be committed: they would fall to the next of its number.
        let names_it = |written: &Written| match &written.write {
            Write::Permissions(_, list) => list.entries().iter().any(|entry| entry.domid == domid),
            _ => false,
        };
        self.outdate(|decision, state, open| {
            let target = decision.domain(state.domid).and_then(|domain| domain.target);
            open.writes.iter().any(names_it) || target == Some(domid)
        });
        self.change(Change::DomainForgotten { domid });
    }

    /// These transactions cannot be merged with the store any more.
    fn outdate(&mut self, which: impl Fn(&Self, &Connection, &Transaction) -> bool) {
        for (connection, state) in self.server.connections.iter() {
            for (id, open) in &state.transactions {
                if which(self, state, open) {
                    self.keep(Change::TransactionOutdated {
                        connection: *connection,
                        id: *id,
                    });
                }
            }
        }
    }

    /// The nodes that mention a domain: parents before their children, and those in the order of their creation. Below a node that
    /// it owns not all are there.
    fn mentioning(&self, domid: DomId) -> impl Iterator<Item = PathBuf> {
        let mut found: BTreeMap<Vec<u64>, PathBuf> = BTreeMap::new();
        for noted in self.server.mentions.noted(domid) {
            let mut stack: Vec<PathBuf> = Vec::from([noted.to_owned()]);
            while let Some(path) = stack.pop() {
                let Some(node) = self.view.find(path.as_path()) else {
                    continue;
                };
                let owned = node.entries().iter().next().is_some_and(|owner| owner.domid == domid);
                if node.entries().iter().any(|entry| entry.domid == domid) {
                    let before = found.insert(self.place_of(path.as_path()), path.clone());
                    if before.is_some() || (owned && path.as_path().parent().is_some()) {
                        continue;
                    }
                } else if !self.server.mentions.is_noted(path.as_path(), domid) {
                    continue;
                }
                stack.extend(self.view.children(path.as_path()));
            }
        }
        found.into_values()
    }

    /// Sorts nodes as a walk through the store finds them.
    fn place_of(&self, path: Path<'_>) -> Vec<u64> {
        let tree = &self.server.tree;
        let mut node = Some(tree.root_node(self.view.base()));
        let mut place = Vec::with_capacity(path.depth());
        for name in path.components() {
            node = node.and_then(|above| tree.child(above, name));
            place.extend(node.map(|node| node.order()));
        }
        place
    }

    /// The list without the entries that name `domid`. What cannot be removed, because everything hangs on it (the root and
    /// the special nodes), falls to the privileged domain.
    fn without(&self, list: &Permissions, domid: DomId) -> Option<Permissions> {
        let entries = list.entries().iter().copied().enumerate();
        let rest = entries.filter(|(index, entry)| *index == 0 || entry.domid != domid);
        let rest = Permissions::from_entries(rest.map(|(_, entry)| entry).collect())?;
        let privileged = self.server.configuration.privileged;
        Some(if rest.owner() == domid {
            rest.with_owner(privileged)
        } else {
            rest
        })
    }
}
