//! What the driver knows of the domains: who is connected, what they have open, who was whose target, who died.

use std::collections::{BTreeMap, BTreeSet};

use xenstore_wire::MessageType::*;

use super::exchange::is_change;
use crate::differences::Changes;
use crate::differences::left_out::named_domain;
use crate::guests::Message;

/// One request and its two answers.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The number of its type.
    pub kind: u32,
    /// What it carried.
    pub payload: Vec<u8>,
    /// The peer's answer.
    pub peer: Message,
    /// Ours.
    pub ours: Message,
    /// Known to have changed nothing, by the peer and by ours, although it succeeded: MKDIR of a node that was there, RM of
    /// one that was not.
    pub idle: [bool; 2],
}

impl Asked {
    /// What was asked, and what came.
    pub fn new(kind: u32, payload: &[u8], peer: Message, ours: Message) -> Asked {
        Asked {
            kind,
            payload: payload.to_vec(),
            peer,
            ours,
            idle: [false; 2],
        }
    }

    /// A change that the peer made.
    pub fn changed_peer(&self) -> bool {
        is_change(self.kind) && self.peer.kind != 16 && !self.idle[0]
    }

    /// A change that ours made.
    pub fn changed_ours(&self) -> bool {
        is_change(self.kind) && self.ours.kind != 16 && !self.idle[1]
    }

    /// It is about nodes, so that it belongs to its transaction.
    pub fn is_of_nodes(&self) -> bool {
        let others = [Read, Directory, DirectoryPart, GetPerms];
        is_change(self.kind) || others.iter().any(|other| *other as u32 == self.kind)
    }

    /// The other side must answer the same. Not so permissions that were refused: a domain that they name may exist by now.
    pub fn can_be_repeated(&self, answer: &Message) -> bool {
        self.is_of_nodes() && !(self.kind == SetPerms as u32 && answer.kind == 16)
    }

    /// A change that at least one of them made.
    pub fn changes(&self) -> bool {
        self.changed_peer() || self.changed_ours()
    }
}

/// A transaction that is open on both.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its id on the peer.
    pub peer: u32,
    /// Its id on ours.
    pub ours: u32,
    /// What was asked in it.
    pub asked: Vec<Asked>,
    /// Someone else may have changed something since it began.
    pub disturbed: bool,
}

impl Transaction {
    /// It has a request that is not about nodes.
    pub fn has_others(&self) -> bool {
        let simple = |asked: &Asked| asked.is_of_nodes() && asked.kind != DirectoryPart as u32;
        !self
            .asked
            .iter()
            .all(|asked| simple(asked) || asked.kind == GetDomainPath as u32)
    }

    /// The requests in it that change nodes.
    pub fn changes(&self) -> Changes {
        let changes = self.asked.iter().filter(|asked| asked.changes());
        Changes {
            requests: changes.map(|asked| (asked.kind, asked.payload.clone())).collect(),
            disturbed: self.disturbed,
        }
    }
}

/// A connected domain.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What it has open.
    pub transactions: Vec<Transaction>,
    /// A transaction was repeated on one side, so the next ids differ.
    pub ids_differ: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Domains {
    clients: BTreeMap<u16, Client>,
    died: BTreeSet<u16>,
    shut: BTreeSet<u16>,
    /// A domain and what was its target at some time.
    targets: BTreeSet<(u16, u16)>,
}

impl Domains {
    /// Domain 0 alone.
    pub fn new() -> Domains {
        Domains {
            clients: BTreeMap::from([(0, Client::default())]),
            died: BTreeSet::new(),
            shut: BTreeSet::new(),
            targets: BTreeSet::new(),
        }
    }

    /// A connected domain.
    pub fn client(&mut self, domid: u16) -> Option<&mut Client> {
        self.clients.get_mut(&domid)
    }

    /// It is connected.
    pub fn is_connected(&self, domid: u16) -> bool {
        self.clients.contains_key(&domid)
    }

    /// Its open transactions.
    pub fn open(&self, domid: u16) -> usize {
        self.clients.get(&domid).map_or(0, |client| client.transactions.len())
    }

    /// It has one open.
    pub fn is_in_transaction(&self, domid: u16) -> bool {
        self.open(domid) > 0
    }

    /// It died and has not come back.
    pub fn has_ended(&self, domid: u16) -> bool {
        self.died.contains(&domid) && !self.clients.contains_key(&domid)
    }

    /// Domains that were dead at some time.
    pub fn died(&self) -> &BTreeSet<u16> {
        &self.died
    }

    /// It was made another's target.
    pub fn is_target(&self, domid: u16) -> bool {
        self.targets.iter().any(|(_, target)| *target == domid)
    }

    /// The next ids of this connection's transactions differ.
    pub fn ids_differ(&self, domid: u16) -> bool {
        self.clients.get(&domid).is_some_and(|client| client.ids_differ)
    }

    /// A transaction of its was repeated on one side.
    pub fn set_ids_differ(&mut self, domid: u16) {
        if let Some(client) = self.clients.get_mut(&domid) {
            client.ids_differ = true;
        }
    }

    /// It has shut down.
    pub fn shut_down(&mut self, domid: u16) {
        self.shut.insert(domid);
    }

    /// Some domain is shut down and not gone.
    pub fn any_shut(&self) -> bool {
        !self.shut.is_empty()
    }

    /// It has ended.
    pub fn gone(&mut self, domid: u16) {
        self.clients.remove(&domid);
        self.targets.retain(|(of, _)| *of != domid);
        self.shut.remove(&domid);
        self.died.insert(domid);
    }

    /// Someone changed something.
    pub fn disturb(&mut self) {
        for client in self.clients.values_mut() {
            for transaction in &mut client.transactions {
                transaction.disturbed = true;
            }
        }
    }

    /// Keeps up with a request that succeeded on both. Gives the domain whose ring starts anew.
    pub fn follow(&mut self, domid: u16, kind: u32, payload: &[u8]) -> Option<u16> {
        if kind == ResetWatches as u32 {
            self.clients.entry(domid).or_default().transactions.clear();
        }
        let named = named_domain(payload)?;
        if kind == Introduce as u32 {
            let client = Client {
                transactions: Vec::new(),
                ids_differ: self.ids_differ(named),
            };
            self.clients.insert(named, client);
            return Some(named);
        } else if kind == Release as u32 {
            self.gone(named);
        } else if kind == SetTarget as u32 {
            let target = payload.split(|byte| *byte == 0).nth(1).and_then(named_domain);
            self.targets.extend(target.map(|target| (named, target)));
        }
        None
    }
}

impl Default for Domains {
    fn default() -> Self {
        Domains::new()
    }
}
