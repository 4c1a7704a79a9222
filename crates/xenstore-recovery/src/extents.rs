//! The layout of the durable pages: extents of 32 KiB, each of one kind, listed in the first.
//!
//! | extent | content |
//! |---|---|
//! | 0 | header: magic, version, length, then one directory entry per extent: kind and ordinal among its kind |
//! | others | as the directory says: arena chunk, table of block ids, log, connection slots, or free |
//!
//! An extent gets its kind by one directory store once its content is ready, and keeps it.

use alloc::vec::Vec;

use xenstore_core::tree::{CHUNK, Memory};

use crate::pages::Pages;

/// Bytes of one extent; an arena chunk is one.
pub const EXTENT: usize = CHUNK;

const MAGIC: [u8; 8] = *b"XSDPAGES";
/// Layout version; another one is not read.
const VERSION: u32 = 1;
/// Where the directory begins in extent 0.
const DIRECTORY: usize = 64;
const ENTRY: usize = 4;
/// Table entries (u32) in one extent.
const IDS: usize = EXTENT / 4;
/// The log: 4 extents, 128 KiB.
pub(crate) const LOG_EXTENTS: usize = 4;
/// Header, log, one of slots, one of table and four chunks: below that there is no store.
const FEWEST: usize = 11;

/// What an extent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Chunk = 1,
    Table = 2,
    Log = 3,
    Slots = 4,
}

/// The pages are too few for a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall {
    /// Bytes there are.
    pub bytes: usize,
    /// Bytes there must be.
    pub needed: usize,
}

/// How the pages are used, in extents of [`EXTENT`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageFigures {
    /// All.
    pub extents: usize,
    /// Not used yet.
    pub free: usize,
    /// Chunks of the arena.
    pub chunks: usize,
    /// Parts of the table of block ids.
    pub tables: usize,
}

/// The durable pages with their layout. Serves the tree as its memory.
#[derive(Debug)]
pub struct DurablePages<P> {
    pages: P,
    chunks: Vec<usize>,
    tables: Vec<usize>,
    pub(crate) logs: Vec<usize>,
    pub(crate) slots: Vec<usize>,
    /// The first extent that was never used.
    next: usize,
    extents: usize,
}

impl<P: Pages> DurablePages<P> {
    /// Lays out pages for a cold start. Whatever they held is forgotten.
    pub fn format(mut pages: P) -> Result<Self, TooSmall> {
        let bytes = pages.bytes().len();
        let room_in_directory = EXTENT.saturating_sub(DIRECTORY) / ENTRY;
        let extents = (bytes / EXTENT).min(room_in_directory);
        if extents < FEWEST {
            return Err(TooSmall {
                bytes,
                needed: FEWEST.saturating_mul(EXTENT),
            });
        }
        // The magic goes away first and comes last: a half-written header is no header.
        pages.store(0, &[0; MAGIC.len()]);
        pages.barrier();
        pages.store(8, &VERSION.to_le_bytes());
        pages.store(16, &(extents as u64).to_le_bytes());
        pages.store(DIRECTORY, &alloc::vec![0; extents.saturating_mul(ENTRY)]);
        let mut formatted = DurablePages {
            pages,
            chunks: Vec::new(),
            tables: Vec::new(),
            logs: Vec::new(),
            slots: Vec::new(),
            next: 1,
            extents,
        };
        for _ in 0..LOG_EXTENTS {
            formatted.take(Kind::Log);
        }
        formatted.pages.barrier();
        formatted.pages.store(0, &MAGIC);
        formatted.pages.barrier();
        Ok(formatted)
    }

    /// Gives the next free extent a kind. False if there is none.
    pub(crate) fn take(&mut self, kind: Kind) -> bool {
        if self.next >= self.extents {
            return false;
        }
        let extent = self.next;
        self.next = self.next.saturating_add(1);
        if kind != Kind::Chunk {
            // Tables, logs and slots begin empty; a chunk's content is never read before it is written.
            let base = extent.saturating_mul(EXTENT);
            self.pages.store(base, &alloc::vec![0; EXTENT]);
        }
        let list = match kind {
            Kind::Chunk => &mut self.chunks,
            Kind::Table => &mut self.tables,
            Kind::Log => &mut self.logs,
            Kind::Slots => &mut self.slots,
        };
        let ordinal = u32::try_from(list.len()).unwrap_or(u32::MAX);
        list.push(extent);
        let entry = ordinal.wrapping_shl(8) | kind as u32;
        self.pages.store(
            DIRECTORY.saturating_add(extent.saturating_mul(ENTRY)),
            &entry.to_le_bytes(),
        );
        true
    }

    /// Stores bytes into an extent.
    pub(crate) fn store_at(&mut self, extent: usize, at: usize, bytes: &[u8]) {
        self.pages
            .store(extent.saturating_mul(EXTENT).saturating_add(at), bytes);
    }

    pub(crate) fn barrier(&mut self) {
        self.pages.barrier();
    }

    /// How the pages are used.
    pub fn figures(&self) -> PageFigures {
        PageFigures {
            extents: self.extents,
            free: self.extents.saturating_sub(self.next),
            chunks: self.chunks.len(),
            tables: self.tables.len(),
        }
    }

    fn extent(&self, extent: usize) -> &[u8] {
        let start = extent.saturating_mul(EXTENT);
        self.pages
            .bytes()
            .get(start..start.saturating_add(EXTENT))
            .unwrap_or(&[])
    }

    fn free(&self) -> usize {
        self.extents.saturating_sub(self.next)
    }

    fn table_place(&self, id: u32) -> Option<(usize, usize)> {
        let id = usize::try_from(id).ok()?;
        let extent = self.tables.get(id / IDS)?;
        Some((*extent, (id % IDS).saturating_mul(4)))
    }
}

impl<P: Pages> Memory for DurablePages<P> {
    fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    fn chunks_to_come(&self) -> u32 {
        // One part of the table serves ten chunks (8192 ids at 40 bytes); an extent for slots is kept back.
        let free = self.free().saturating_sub(1);
        u32::try_from(free.saturating_sub(free.div_ceil(11))).unwrap_or(u32::MAX)
    }

    fn grow(&mut self) -> bool {
        self.free() > 1 && self.take(Kind::Chunk)
    }

    fn chunk(&self, index: u32) -> &[u8] {
        let extent = usize::try_from(index).ok().and_then(|index| self.chunks.get(index));
        extent.map_or(&[], |extent| self.extent(*extent))
    }

    fn store(&mut self, chunk: u32, at: usize, bytes: &[u8]) {
        let extent = usize::try_from(chunk)
            .ok()
            .and_then(|index| self.chunks.get(index))
            .copied();
        if let Some(extent) = extent {
            self.store_at(extent, at, bytes);
        }
    }

    fn table_len(&self) -> u32 {
        u32::try_from(self.tables.len().saturating_mul(IDS)).unwrap_or(u32::MAX)
    }

    fn ids_to_come(&self) -> u32 {
        u32::try_from(self.free().div_ceil(11).saturating_mul(IDS)).unwrap_or(u32::MAX)
    }

    fn grow_table(&mut self) -> bool {
        self.take(Kind::Table)
    }

    fn location(&self, id: u32) -> u32 {
        let Some((extent, at)) = self.table_place(id) else {
            return 0;
        };
        let entry = self.extent(extent).get(at..).and_then(|rest| rest.first_chunk::<4>());
        entry.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn set_location(&mut self, id: u32, location: u32) {
        if let Some((extent, at)) = self.table_place(id) {
            self.store_at(extent, at, &location.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::SlicePages;

    fn pages(extents: usize) -> Result<DurablePages<SlicePages<Vec<u8>>>, TooSmall> {
        DurablePages::format(SlicePages(alloc::vec![0xff; extents * EXTENT]))
    }

    #[test]
    fn pages_that_are_too_few_are_refused_with_what_is_needed() {
        let refused = pages(FEWEST - 1).unwrap_err();
        assert_eq!(
            refused,
            TooSmall {
                bytes: (FEWEST - 1) * EXTENT,
                needed: FEWEST * EXTENT
            }
        );
        assert!(pages(FEWEST).is_ok());
    }

    #[test]
    fn chunks_and_table_keep_what_is_stored_and_never_overlap() {
        let mut pages = pages(16).unwrap();
        assert!(pages.grow() && pages.grow_table() && pages.grow());
        pages.store(0, 0, &[1; EXTENT]);
        pages.store(1, 0, &[2; EXTENT]);
        pages.set_location(8191, 0x1234_5678);
        assert!(pages.chunk(0).iter().all(|byte| *byte == 1));
        assert!(pages.chunk(1).iter().all(|byte| *byte == 2));
        assert_eq!(
            (pages.location(8191), pages.location(0), pages.location(8192)),
            (0x1234_5678, 0, 0)
        );
    }

    #[test]
    fn what_is_promised_to_come_comes() {
        let mut pages = pages(64).unwrap();
        let (chunks, ids) = (pages.chunks_to_come(), pages.ids_to_come());
        for _ in 0..chunks {
            assert!(pages.grow());
        }
        let mut more = 0;
        while more < ids && pages.grow_table() {
            more = pages.table_len();
        }
        assert!(more >= ids, "{more} of {ids} ids");
    }
}
