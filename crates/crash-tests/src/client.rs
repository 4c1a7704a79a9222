//! A client with its ring page: it takes and sends what it can whenever it is notified, and does not look otherwise.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use xenstore_ring::{MemoryPage, RING_SIZE, SharedPage, offset};
use xenstore_wire::{HEADER_SIZE, Header};

/// A client and its ring page.
pub struct Client {
    /// The page.
    pub page: MemoryPage,
    /// What does not fit the ring yet.
    pub outgoing: RefCell<VecDeque<u8>>,
    /// What it has taken.
    pub seen: RefCell<Vec<u8>>,
    /// How far it has looked at what is published.
    pub taken: Cell<u32>,
    /// Bytes that it still takes.
    pub room: Cell<usize>,
    /// What it has sent of a message that is not complete.
    pub begun: RefCell<Vec<u8>>,
    /// It has asked to begin anew and was not notified since that it may.
    pub waits: Cell<bool>,
    /// What was offered to it, and why it was given up, as it saw when it was last notified.
    pub told: Cell<(u32, u32)>,
}

impl Default for Client {
    /// With a page of zeros.
    fn default() -> Client {
        Client {
            page: MemoryPage::new(),
            outgoing: RefCell::default(),
            seen: RefCell::default(),
            taken: Cell::new(0),
            room: Cell::new(usize::MAX),
            begun: RefCell::default(),
            waits: Cell::default(),
            told: Cell::default(),
        }
    }
}

impl Client {
    /// Its streams begin anew.
    pub fn begin(&self) {
        self.outgoing.borrow_mut().clear();
        self.begun.borrow_mut().clear();
        self.seen.borrow_mut().clear();
        self.taken.set(0);
    }

    /// Looks at what it is notified of, and goes on. True if the server must be told.
    pub fn notified(&self) -> bool {
        let words = [offset::SERVER_FEATURES, offset::ERROR].map(|word| self.page.load(word));
        self.told.set((words[0], words[1]));
        if self.page.load(offset::CONNECTION) == 0 {
            self.waits.set(false);
        }
        self.act()
    }

    /// These bytes are sent. What they are part of: its header, if that is complete, and whether the message comes in parts.
    pub fn begin_to_send(&self, bytes: &[u8]) -> (Option<Header>, bool) {
        let mut begun = self.begun.borrow_mut();
        let continues = !begun.is_empty();
        begun.extend(bytes);
        let head = begun.first_chunk::<HEADER_SIZE>().map(Header::parse);
        let whole = head.is_some_and(|head| begun.len() >= HEADER_SIZE + head.length as usize);
        if whole {
            begun.clear();
        }
        self.outgoing.borrow_mut().extend(bytes);
        (head, continues || !whole)
    }

    /// Takes what is there, makes as much room as it will take, and sends what fits. True if the server must be told.
    pub fn act(&self) -> bool {
        if self.waits.get() {
            return false;
        }
        let shown = self.page.load(offset::RSP_PROD);
        let fresh = shown.wrapping_sub(self.taken.get());
        for at in 0..fresh {
            let mut byte = [0];
            let place = self.taken.get().wrapping_add(at) % RING_SIZE;
            self.page.read(offset::RESPONSES + place as usize, &mut byte);
            self.seen.borrow_mut().push(byte[0]);
        }
        self.taken.set(shown);
        if self.room.get() != usize::MAX {
            self.room.set(self.room.get().saturating_sub(fresh as usize));
        }
        let room = self.room.get().min(RING_SIZE as usize) as u32;
        let left = shown.wrapping_sub(RING_SIZE - room);
        let moved = self.page.load(offset::RSP_CONS) != left;
        // All four indices are zero where it has just begun anew.
        if moved {
            self.page.store(offset::RSP_CONS, left);
        }
        self.send() || moved
    }

    fn send(&self) -> bool {
        let (produced, consumed) = (self.page.load(offset::REQ_PROD), self.page.load(offset::REQ_CONS));
        let room = RING_SIZE.saturating_sub(produced.wrapping_sub(consumed)) as usize;
        let mut outgoing = self.outgoing.borrow_mut();
        let now: Vec<u8> = outgoing.iter().take(room).copied().collect();
        outgoing.drain(..now.len());
        for (at, byte) in now.iter().enumerate() {
            let place = produced.wrapping_add(at as u32) % RING_SIZE;
            self.page.write(offset::REQUESTS + place as usize, &[*byte]);
        }
        self.page
            .store(offset::REQ_PROD, produced.wrapping_add(now.len() as u32));
        !now.is_empty()
    }
}
