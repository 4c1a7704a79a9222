//! Durable pages in a vector that count how often a block of the tree is looked up.
//!
//! The tree asks its memory for a whole extent whenever it looks at one of its blocks (a node, or a part of a large directory's
//! index). Which extents are the tree's is told by the directory in extent 0, whose layout is that of `xenstore-recovery`.

use std::cell::Cell;
use std::rc::Rc;

use xenstore_recovery::{DIRECTORY, EXTENT, Pages};

/// The kind of an extent that holds blocks of the tree.
const CHUNK: u8 = 1;

/// How often a block was looked up.
pub type Visits = Rc<Cell<u64>>;

/// Pages in memory.
#[derive(Debug)]
pub struct CountedPages {
    bytes: Vec<u8>,
    visits: Visits,
}

impl CountedPages {
    /// Pages of so many bytes, with zeros.
    pub fn new(bytes: usize) -> Self {
        Self::from(vec![0; bytes])
    }

    /// The counter.
    pub fn visits(&self) -> Visits {
        Rc::clone(&self.visits)
    }

    /// The bytes, when the pages are needed no longer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<Vec<u8>> for CountedPages {
    fn from(bytes: Vec<u8>) -> Self {
        CountedPages {
            bytes,
            visits: Visits::default(),
        }
    }
}

impl Pages for CountedPages {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        if self.bytes.get(DIRECTORY + at / EXTENT * 4) == Some(&CHUNK) {
            self.visits.set(self.visits.get() + 1);
        }
        self.bytes.get(at..at + length).unwrap_or_default()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
