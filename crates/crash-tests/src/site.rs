//! What a store is: which function of the server made it, told by where it goes.

use xenstore_recovery::{DIRECTORY, EXTENT};
use xenstore_ring::offset;

use crate::memory::Extents;

/// What is being decided, behind the number of lives in a row that got nothing done: see its module `desk`.
const MARK: usize = 104;
const DESK: usize = 96;
const NOTES: usize = 32;
const LENGTH: usize = 16;

/// Bytes of a frame of the log.
pub const FRAME: usize = 16;
/// Bytes of the head of a checkpoint.
pub const HEAD: usize = 20;

/// The kinds of extents as the directory numbers them.
pub mod kind {
    /// Blocks of the tree.
    pub const CHUNK: u8 = 1;
    /// Where blocks are.
    pub const TABLE: u8 = 2;
    /// How far output is visible.
    pub const SLOTS: u8 = 3;
    /// The first of the two logs.
    pub const LOG_A: u8 = 4;
    /// The first of the two checkpoints.
    pub const CHECKPOINT_A: u8 = 6;
}

/// All sites of stores, and of what the machine is asked to do: each is a place where a life can end.
pub const SITES: [&str; 26] = [
    "log body",
    "log frame",
    "note",
    "lives",
    "mark",
    "slot intent",
    "slot result",
    "checkpoint erased",
    "checkpoint body",
    "checkpoint head",
    "block",
    "table",
    "new extent",
    "directory",
    "length",
    "ring bytes",
    "ring producer",
    "ring consumer",
    "ring error",
    "ring features",
    "ring restart",
    "notify",
    "connect",
    "rebind",
    "disconnect",
    "header",
];

/// Which extents there are of each kind.
#[derive(Clone, Default)]
pub struct Layout {
    /// Kind and ordinal of each extent; 0 = free.
    of: Vec<(u8, usize)>,
    lists: [Vec<usize>; 8],
}

impl Layout {
    /// As the directory says.
    pub fn of(memory: &Extents) -> Layout {
        let mut layout = Layout {
            of: vec![(0, 0); memory.count()],
            lists: Default::default(),
        };
        for extent in 1..memory.count() {
            let at = DIRECTORY + 4 * extent;
            let entry = memory.extent(0)[at..at + 4].first_chunk().copied().unwrap_or_default();
            let entry = u32::from_le_bytes(entry);
            let kind = (entry & 0xff) as u8;
            layout.of[extent] = (kind, (entry >> 8 & 0x1fff) as usize);
            layout.lists[usize::from(kind & 7)].push(extent);
        }
        layout
    }

    /// This store changes it.
    pub fn changes(at: usize) -> bool {
        (DIRECTORY..EXTENT).contains(&at)
    }

    /// What the extent of this place is, and the place among all of its kind.
    pub fn place(&self, at: usize) -> (u8, usize) {
        let (kind, ordinal) = self.of.get(at / EXTENT).copied().unwrap_or_default();
        (kind, ordinal * EXTENT + at % EXTENT)
    }

    /// Bytes of all extents of a kind, as if they were one piece; none beyond their end.
    pub fn read(&self, memory: &Extents, kind: u8, mut at: usize, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let extent = *self.lists[usize::from(kind)].get(at / EXTENT)?;
            let inside = at % EXTENT;
            let until = (inside + length - bytes.len()).min(EXTENT);
            bytes.extend_from_slice(&memory.extent(extent)[inside..until]);
            at += until - inside;
        }
        Some(bytes)
    }

    /// Where a place among all of a kind is.
    pub fn at(&self, kind: u8, at: usize) -> Option<usize> {
        Some(self.lists[usize::from(kind)].get(at / EXTENT)? * EXTENT + at % EXTENT)
    }

    /// Which store this is. `log`: where the next frame goes.
    pub fn site(&self, at: usize, bytes: &[u8], log: (u8, usize)) -> &'static str {
        if at < EXTENT {
            return match at {
                0..LENGTH => "header",
                LENGTH..NOTES => "length",
                NOTES..DESK => "note",
                DESK..MARK => "lives",
                MARK..DIRECTORY => "mark",
                _ => "directory",
            };
        }
        let (kind, place) = self.place(at);
        match kind {
            0 => "new extent",
            kind::CHUNK => "block",
            kind::TABLE => "table",
            kind::SLOTS if place / 32 % 2 == 0 => "slot intent",
            kind::SLOTS => "slot result",
            _ if (kind, true) == (log.0, (log.1..log.1 + FRAME).contains(&place)) => "log frame",
            kind::LOG_A | 5 => "log body",
            _ if place == 0 && bytes.iter().all(|byte| *byte == 0) => "checkpoint erased",
            _ if place == 0 => "checkpoint head",
            _ => "checkpoint body",
        }
    }
}

/// Which store into the words of a ring page this is.
pub fn ring_site(at: usize, value: u32) -> &'static str {
    match at {
        offset::RSP_PROD if value != 0 => "ring producer",
        offset::REQ_CONS if value != 0 => "ring consumer",
        offset::ERROR if value != 0 => "ring error",
        offset::SERVER_FEATURES => "ring features",
        _ => "ring restart",
    }
}
