//! Things that a client can see, and the order in which it sees them: two that come one behind the other in one ring change places
//! where that is ordered. The server sees its own stores as if they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use xenstore_ring::{SharedPage, offset};

use crate::client::Client;
use crate::site::ring_site;

/// A store into a ring page, or a notification, which stores nothing.
#[derive(Clone)]
pub struct RingStore {
    /// Whose ring.
    pub domid: u16,
    /// The client.
    pub client: Rc<Client>,
    /// Where.
    pub at: usize,
    bytes: Vec<u8>,
}

impl RingStore {
    /// Not made yet.
    pub fn new(domid: u16, client: &Rc<Client>, at: usize, bytes: &[u8]) -> RingStore {
        RingStore {
            domid,
            client: Rc::clone(client),
            at,
            bytes: bytes.to_vec(),
        }
    }

    fn word(&self) -> Option<u32> {
        let word = self.bytes.first_chunk().filter(|_| self.at >= offset::REQ_CONS);
        word.map(|word| u32::from_le_bytes(*word))
    }

    /// Makes it. Returns its site.
    pub fn make(&self) -> &'static str {
        match self.word() {
            _ if self.bytes.is_empty() => "notify",
            Some(word) => {
                self.client.page.store(self.at, word);
                ring_site(self.at, word)
            }
            None => {
                self.client.page.write(self.at, &self.bytes);
                "ring bytes"
            }
        }
    }
}

/// The order in which clients see things.
#[derive(Default)]
pub struct Order {
    /// Which two change places, and how often they come before that.
    swap: Option<(&'static str, &'static str, u32)>,
    held: Option<RingStore>,
    /// The last site in each ring.
    last: BTreeMap<u16, &'static str>,
    /// What came one behind the other.
    pub pairs: BTreeSet<(&'static str, &'static str)>,
}

impl Order {
    /// One pair changes places, if wanted.
    pub fn new(swap: Option<(&'static str, &'static str, u32)>) -> Order {
        Order {
            swap,
            ..Order::default()
        }
    }

    /// It has.
    pub fn done(&self) -> bool {
        self.swap.is_none() && self.held.is_none()
    }

    /// What is held back of this place of a page.
    pub fn held(&self, domid: u16, at: usize) -> Option<u32> {
        let held = self.held.as_ref().filter(|held| held.domid == domid && held.at == at);
        held.and_then(RingStore::word)
    }

    /// This is next. What is to be made now, in this order, and whether the client is to look after each.
    pub fn next(&mut self, site: &'static str, store: RingStore) -> (Vec<RingStore>, bool) {
        let before = self.last.insert(store.domid, site);
        if let Some(before) = before {
            self.pairs.insert((before, site));
        }
        let Some((first, second, left)) = self.swap else {
            return (vec![store], false);
        };
        let mut held = self.held.take();
        if held.as_ref().is_some_and(|held| held.domid != store.domid) {
            self.held = held.take();
            return (vec![store], false);
        }
        if let Some(held) = held.take_if(|_| site == second) {
            self.swap = None;
            return (vec![store, held], true);
        }
        if before == Some(first) && site == second && left > 0 {
            self.swap = Some((first, second, left - 1));
        }
        let mut now: Vec<RingStore> = held.into_iter().collect();
        if site == first && left == 0 {
            self.held = Some(store);
        } else {
            now.push(store);
        }
        (now, false)
    }

    /// What is held back is made now: nothing comes behind it.
    pub fn release(&mut self) -> Option<RingStore> {
        self.last.clear();
        self.held.take()
    }
}
