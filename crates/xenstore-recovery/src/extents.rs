//! The layout of the durable pages: extents of 32 KiB, each of one kind, listed in the first.
//!
//! | extent | content |
//! |---|---|
//! | 0 | header: magic, version, length, two notes of the last record, the desk, then one directory entry per extent |
//! | others | as the directory says: arena chunk, table of block ids, connection slots, log or checkpoint of either side, or free |
//!
//! An extent gets its kind by one directory store once its content is ready, and keeps it. Everything in the header checks
//! itself: a byte of it that changes by itself is noticed.
//!
//! | bytes | header |
//! |---|---|
//! | 0 | magic (8), version (4) |
//! | 16 | how many extents there are (4), and the complement (4) |
//! | 32 | two notes of 32 bytes: see `note` |
//! | 96 | the desk: see `desk` |
//! | 256 | for each extent 4 bytes: kind (8 bits), ordinal among its kind (13), check of both (11); 0 = free |

use alloc::vec::Vec;

use xenstore_core::tree::{CHUNK, Crc32c, Memory};

use crate::note;
use crate::pages::Pages;

/// Bytes of one extent; an arena chunk is one.
pub const EXTENT: usize = CHUNK;

const MAGIC: [u8; 8] = *b"XSDPAGES";
/// Version of the layout, and of what the saved accounts count; another one is not read.
const VERSION: u32 = 5;
/// Where the header says how many extents there are.
const EXTENTS_AT: usize = 16;
/// Where the two notes are.
pub(crate) const NOTES_AT: usize = 32;
/// Behind the notes.
pub(crate) const NOTES_END: usize = DESK;
/// Where the desk begins in extent 0: what a life leaves for the next one in place.
const DESK: usize = 96;
/// Bytes of the desk.
pub(crate) const DESK_BYTES: usize = DIRECTORY - DESK;
/// Where the directory begins in extent 0, in bytes. What an entry holds stands above; for tests that look at pages from outside.
pub const DIRECTORY: usize = 256;
const ENTRY: usize = 4;
/// Bits of a table entry that are the location: all of [`MOST`] extents have room in them.
const LOCATION: u32 = (1 << 28) - 1;
/// Bits of a directory entry that say something; the others check them.
const ENTRY_BITS: u32 = 21;
/// Extents that the directory has room for: 254 MiB.
const MOST: usize = (EXTENT - DIRECTORY) / ENTRY;
/// While fewer extents than this are free, more are asked for: for logs and checkpoints, whatever the tree still has.
const SHORT: usize = 4 * RESERVED;
/// Bytes asked for at once: enough to make growing rare, little enough to be a short pause.
const GROWTH: usize = 1 << 20;
/// Table entries (u32) in one extent.
const IDS: usize = EXTENT / 4;
/// Extents of each log at the start: 64 KiB.
const LOG_EXTENTS: usize = 2;
/// The part of all extents that each log may have, where it may grow: 1/16.
const LOG_SHARE: usize = 16;
/// Header, two logs, two checkpoints, one of slots, one of table and four chunks: below that there is no store.
const FEWEST: usize = 13;
/// Extents that the arena never gets, at least: checkpoints grow with the number of connections and watches.
const RESERVED: usize = 6;
/// The part of all extents that the arena never gets: 1/8.
const RESERVED_SHARE: usize = 8;

/// What an extent holds. There are two logs and two checkpoints, used in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Chunk = 1,
    Table = 2,
    Slots = 3,
    LogA = 4,
    LogB = 5,
    CheckpointA = 6,
    CheckpointB = 7,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Chunk,
        Kind::Table,
        Kind::Slots,
        Kind::LogA,
        Kind::LogB,
        Kind::CheckpointA,
        Kind::CheckpointB,
    ];
}

/// The pages are too few for a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall {
    /// Bytes there are.
    pub bytes: usize,
    /// Bytes there must be.
    pub needed: usize,
}

/// Why pages cannot be read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotOurs {
    /// No header: nothing was ever stored here.
    Blank,
    /// A layout of another version.
    Version(u32),
    /// The directory of extents contradicts itself.
    Directory,
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
    /// The extents of each kind, by their ordinals.
    of: [Vec<usize>; Kind::ALL.len()],
    /// The first extent that was never used.
    next: usize,
    extents: usize,
}

impl<P: Pages> DurablePages<P> {
    /// Lays out pages for a cold start. Whatever they held is forgotten.
    pub fn format(mut pages: P) -> Result<Self, TooSmall> {
        let bytes = pages.len();
        let extents = (bytes / EXTENT).min(MOST);
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
        pages.store(EXTENTS_AT, &length(extents));
        pages.store(NOTES_AT, &[0; DIRECTORY.saturating_sub(NOTES_AT)]);
        pages.store(DIRECTORY, &alloc::vec![0; MOST.saturating_mul(ENTRY)]);
        let mut formatted = DurablePages {
            pages,
            of: Default::default(),
            next: 1,
            extents,
        };
        for _ in 0..LOG_EXTENTS {
            formatted.take(Kind::LogA);
            formatted.take(Kind::LogB);
        }
        formatted.take(Kind::CheckpointA);
        formatted.take(Kind::CheckpointB);
        note::first(&mut formatted);
        formatted.pages.barrier();
        formatted.pages.store(0, &MAGIC);
        formatted.pages.barrier();
        Ok(formatted)
    }

    /// Pages as an earlier life left them.
    pub fn open(pages: P) -> Result<Self, (P, NotOurs)> {
        match directory(&pages) {
            Ok((of, next, extents)) => Ok(DurablePages {
                pages,
                of,
                next,
                extents,
            }),
            Err(why) => Err((pages, why)),
        }
    }

    /// The memory itself.
    pub fn into_pages(self) -> P {
        self.pages
    }

    /// The extents of a kind.
    pub(crate) fn extents_of(&self, kind: Kind) -> &[usize] {
        self.of.get(index(kind)).map_or(&[], Vec::as_slice)
    }

    /// Takes extents of this kind until there are `bytes` bytes of them. False if there are not enough.
    pub(crate) fn ensure(&mut self, kind: Kind, bytes: usize) -> bool {
        while self.extents_of(kind).len().saturating_mul(EXTENT) < bytes {
            if !self.take(kind) {
                return false;
            }
        }
        true
    }

    /// Stores bytes into the extents of a kind as if they were one piece.
    pub(crate) fn write(&mut self, kind: Kind, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(extent) = self.extents_of(kind).get(at / EXTENT).copied() else {
                return;
            };
            let inside = at % EXTENT;
            let (now, later) = bytes.split_at(bytes.len().min(EXTENT.saturating_sub(inside)));
            self.store_at(extent, inside, now);
            at = at.saturating_add(now.len());
            bytes = later;
        }
    }

    /// Reads what [`DurablePages::write`] stored; none if it lies beyond the extents.
    pub(crate) fn read(&self, kind: Kind, at: usize, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, kind, at, length)?;
        Some(bytes)
    }

    /// [`DurablePages::read`] in the place of what `bytes` held. None: what it holds then means nothing.
    pub(crate) fn read_into(&self, bytes: &mut Vec<u8>, kind: Kind, at: usize, length: usize) -> Option<()> {
        let pieces = self.pieces(kind, at, length)?;
        bytes.clear();
        bytes.reserve(length);
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        (bytes.len() == length).then_some(())
    }

    /// The same bytes where they lie, as a piece of each extent; none if they lie beyond the extents.
    pub(crate) fn pieces(&self, kind: Kind, mut at: usize, length: usize) -> Option<impl Iterator<Item = &[u8]>> {
        let end = at.checked_add(length)?;
        let extents = self.extents_of(kind);
        if end > extents.len().saturating_mul(EXTENT) {
            return None;
        }
        Some(core::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let extent = extents.get(at / EXTENT)?;
            let inside = at % EXTENT;
            let until = inside.saturating_add(end.saturating_sub(at)).min(EXTENT);
            at = at.saturating_add(until.saturating_sub(inside));
            self.extent(*extent).get(inside..until)
        }))
    }

    /// Gives the next free extent a kind. False if there is none.
    pub(crate) fn take(&mut self, kind: Kind) -> bool {
        if self.next >= self.extents {
            return false;
        }
        let extent = self.next;
        self.next = self.next.saturating_add(1);
        if kind != Kind::Chunk {
            // All others begin empty; a chunk's content is never read before it is written.
            let base = extent.saturating_mul(EXTENT);
            self.pages.store(base, &alloc::vec![0; EXTENT]);
        }
        let Some(list) = self.of.get_mut(index(kind)) else {
            return false;
        };
        let entry = entry(kind, list.len());
        list.push(extent);
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

    /// The desk.
    pub(crate) fn desk(&self) -> &[u8] {
        self.pages.bytes(DESK, DESK_BYTES)
    }

    /// Stores bytes on the desk.
    pub(crate) fn write_desk(&mut self, at: usize, bytes: &[u8]) {
        let end = at.checked_add(bytes.len());
        if end.is_some_and(|end| end <= DESK_BYTES) {
            self.pages.store(DESK.saturating_add(at), bytes);
        }
    }

    pub(crate) fn barrier(&mut self) {
        self.pages.barrier();
    }

    /// How a CRC-32C is computed here.
    pub(crate) fn crc(&self) -> Crc32c {
        self.pages.crc32c()
    }

    /// The extent that is not listed.
    pub(crate) fn header(&self) -> &[u8] {
        self.extent(0)
    }

    /// How the pages are used.
    pub fn figures(&self) -> PageFigures {
        PageFigures {
            extents: self.extents,
            free: self.extents.saturating_sub(self.next),
            chunks: self.extents_of(Kind::Chunk).len(),
            tables: self.extents_of(Kind::Table).len(),
        }
    }

    fn extent(&self, extent: usize) -> &[u8] {
        self.pages.bytes(extent.saturating_mul(EXTENT), EXTENT)
    }

    /// Whoever keeps a log of this kind may take one more extent for it: few of all are its, and enough are left for the tree, which
    /// must not be promised room that is then taken from it.
    pub(crate) fn may_extend(&self, kind: Kind) -> bool {
        self.free() > SHORT && self.extents_of(kind).len() < self.extents / LOG_SHARE
    }

    /// Asks for more pages when few are free. Done between requests, because a promise of room must hold. `short`: whoever keeps
    /// something here is short of room, though extents may be left.
    pub(crate) fn grow_when_short(&mut self, short: bool) {
        if (self.free() >= SHORT && !short) || self.extents >= MOST {
            return;
        }
        // A life that ended may have got pages and not written so.
        let there = |pages: &P| (pages.len() / EXTENT).min(MOST);
        if there(&self.pages) <= self.extents && !self.pages.grow(GROWTH) {
            return;
        }
        self.extents = there(&self.pages).max(self.extents);
        self.pages.store(EXTENTS_AT, &length(self.extents));
    }

    /// Bytes that each of the two checkpoints can have, if they take all extents that are free.
    pub(crate) fn checkpoint_room(&self) -> usize {
        let [a, b] = [Kind::CheckpointA, Kind::CheckpointB].map(|kind| self.extents_of(kind).len());
        // Both logs may want one more meanwhile.
        let free = self.free().saturating_sub(2);
        let (fewer, more) = (a.min(b), a.max(b));
        let evened = fewer.saturating_add(free).min(more);
        let left = free.saturating_sub(evened.saturating_sub(fewer));
        evened.saturating_add(left / 2).saturating_mul(EXTENT)
    }

    /// Extents that the arena leaves to others.
    fn reserved(&self) -> usize {
        RESERVED.max(self.extents / RESERVED_SHARE)
    }

    /// Extents that the arena may still have.
    fn for_arena(&self) -> usize {
        let taken = self
            .extents_of(Kind::CheckpointA)
            .len()
            .saturating_add(self.extents_of(Kind::CheckpointB).len());
        // What checkpoints have taken already need not be kept for them.
        let kept = self.reserved().saturating_sub(taken.saturating_sub(2)).max(RESERVED);
        self.free().saturating_sub(kept)
    }

    fn free(&self) -> usize {
        self.extents.saturating_sub(self.next)
    }

    fn table_place(&self, id: u32) -> Option<(usize, usize)> {
        let id = usize::try_from(id).ok()?;
        let extent = self.extents_of(Kind::Table).get(id / IDS)?;
        Some((*extent, (id % IDS).saturating_mul(4)))
    }
}

impl<P: Pages> Memory for DurablePages<P> {
    fn chunk_count(&self) -> u32 {
        u32::try_from(self.extents_of(Kind::Chunk).len()).unwrap_or(u32::MAX)
    }

    fn chunks_to_come(&self) -> u32 {
        // One part of the table serves ten chunks (8192 ids at 40 bytes).
        let free = self.for_arena();
        u32::try_from(free.saturating_sub(free.div_ceil(11))).unwrap_or(u32::MAX)
    }

    fn grow(&mut self) -> bool {
        self.for_arena() > 0 && self.take(Kind::Chunk)
    }

    fn chunk(&self, index: u32) -> &[u8] {
        let extent = usize::try_from(index)
            .ok()
            .and_then(|index| self.extents_of(Kind::Chunk).get(index));
        extent.map_or(&[], |extent| self.extent(*extent))
    }

    fn store(&mut self, chunk: u32, at: usize, bytes: &[u8]) {
        let extent = usize::try_from(chunk)
            .ok()
            .and_then(|index| self.extents_of(Kind::Chunk).get(index))
            .copied();
        if let Some(extent) = extent {
            self.store_at(extent, at, bytes);
        }
    }

    fn table_len(&self) -> u32 {
        u32::try_from(self.extents_of(Kind::Table).len().saturating_mul(IDS)).unwrap_or(u32::MAX)
    }

    fn ids_to_come(&self) -> u32 {
        u32::try_from(self.for_arena().div_ceil(11).saturating_mul(IDS)).unwrap_or(u32::MAX)
    }

    fn grow_table(&mut self) -> bool {
        self.for_arena() > 0 && self.take(Kind::Table)
    }

    fn location(&self, id: u32) -> u32 {
        let Some((extent, at)) = self.table_place(id) else {
            return 0;
        };
        let entry = self.pages.bytes(extent.saturating_mul(EXTENT).saturating_add(at), 4);
        let entry = entry.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let location = entry & LOCATION;
        if checked(location) == entry { location } else { 0 }
    }

    fn set_location(&mut self, id: u32, location: u32) {
        if let Some((extent, at)) = self.table_place(id) {
            self.store_at(extent, at, &checked(location).to_le_bytes());
        }
    }

    fn crc32c(&self) -> Crc32c {
        self.crc()
    }
}

/// A table entry: the location, and four bits that check it. Where an entry changed by itself, an older block could lie that had
/// the same id and is whole. They are the remainder of the location, as a polynomial, by x⁴ + x + 1; that of 0 is 0.
fn checked(location: u32) -> u32 {
    let location = location & LOCATION;
    // x¹⁵ is 1, and x⁸ is x² + 1.
    let rest = (location & 0x7fff) ^ location >> 15;
    let rest = (rest & 0xff) ^ rest >> 8 ^ rest >> 8 << 2;
    let rest = REMAINDERS.get(rest as usize & 0x1ff).copied().unwrap_or(0);
    location | u32::from(rest) << 28
}

/// The remainders of all polynomials of nine bits. Every look at a block needs one.
const REMAINDERS: [u8; 512] = {
    // x⁴ is x + 1: those of sixteen after another differ by that of the next higher bits.
    let mut table = [0u8; 512];
    let mut rest: &mut [u8] = &mut table;
    let mut high = 0u8;
    while let Some((sixteen, behind)) = rest.split_first_chunk_mut::<16>() {
        let carried = high ^ high << 1;
        let carried = (carried & 0xf) ^ carried >> 4 ^ (carried >> 4) << 1;
        let carried = (carried & 0xf) ^ carried >> 4 ^ (carried >> 4) << 1;
        let mut low = 0u8;
        let mut places: &mut [u8] = sixteen;
        while let Some((place, others)) = places.split_first_mut() {
            *place = carried ^ low;
            low = low.wrapping_add(1);
            places = others;
        }
        high = high.wrapping_add(1);
        rest = behind;
    }
    table
};

const fn index(kind: Kind) -> usize {
    (kind as usize).saturating_sub(1)
}

/// What the header says of how many extents there are.
fn length(extents: usize) -> [u8; 8] {
    let count = u32::try_from(extents).unwrap_or(u32::MAX);
    (u64::from(count) | u64::from(!count) << 32).to_le_bytes()
}

/// The directory entry of an extent.
fn entry(kind: Kind, ordinal: usize) -> u32 {
    let said = (u32::try_from(ordinal).unwrap_or(u32::MAX) << 8 | kind as u32) & ((1 << ENTRY_BITS) - 1);
    // Each bit of a byte, and of the whole, turns another bit of the check.
    said | !(said ^ said >> (32 - ENTRY_BITS)) << ENTRY_BITS
}

type Directory = ([Vec<usize>; Kind::ALL.len()], usize, usize);

/// Reads header and directory: the extents of each kind, the first free one, how many there are.
fn directory(pages: &impl Pages) -> Result<Directory, NotOurs> {
    let header = pages.bytes(0, EXTENT);
    let word = |at: usize| {
        header
            .get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|word| u32::from_le_bytes(*word))
    };
    if header.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
        return Err(NotOurs::Blank);
    }
    let version = word(8).ok_or(NotOurs::Blank)?;
    if version != VERSION {
        return Err(NotOurs::Version(version));
    }
    let extents = word(EXTENTS_AT)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| header.get(EXTENTS_AT..EXTENTS_AT + 8) == Some(&length(*count)))
        .ok_or(NotOurs::Directory)?;
    if !(FEWEST..=MOST).contains(&extents) || extents.saturating_mul(EXTENT) > pages.len() {
        return Err(NotOurs::Directory);
    }
    let mut of: [Vec<usize>; Kind::ALL.len()] = Default::default();
    for extent in 1..extents {
        let found = word(DIRECTORY.saturating_add(extent.saturating_mul(ENTRY))).ok_or(NotOurs::Directory)?;
        if found == 0 {
            // Extents are taken in order, so the rest is free. An entry behind a gap would come to light once the gap is used.
            let behind = DIRECTORY.saturating_add(extent.saturating_mul(ENTRY));
            let rest = header.get(behind..).unwrap_or_default();
            let all_free = rest.iter().fold(0, |any, byte| any | byte) == 0;
            return if all_free {
                Ok((of, extent, extents))
            } else {
                Err(NotOurs::Directory)
            };
        }
        let mut kinds = Kind::ALL.into_iter();
        let kind = kinds.find(|known| *known as u32 == found & 0xff);
        let kind = kind.ok_or(NotOurs::Directory)?;
        let list = of.get_mut(index(kind)).filter(|list| entry(kind, list.len()) == found);
        let list = list.ok_or(NotOurs::Directory)?;
        list.push(extent);
    }
    Ok((of, extents, extents))
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
        let mut pages = pages(20).unwrap();
        assert!(pages.grow() && pages.grow_table() && pages.grow());
        pages.store(0, 0, &[1; EXTENT]);
        pages.store(1, 0, &[2; EXTENT]);
        pages.set_location(8191, 0x0234_5678);
        assert!(pages.chunk(0).iter().all(|byte| *byte == 1));
        assert!(pages.chunk(1).iter().all(|byte| *byte == 2));
        assert_eq!(
            (pages.location(8191), pages.location(0), pages.location(8192)),
            (0x0234_5678, 0, 0)
        );
    }

    #[test]
    fn pages_are_read_back_as_they_were_left() {
        let mut left = pages(30).unwrap();
        assert!(left.grow() && left.grow_table() && left.grow() && left.ensure(Kind::LogB, 3 * EXTENT));
        left.write(Kind::LogB, EXTENT - 3, b"across the border");
        let again = DurablePages::open(left.into_pages()).unwrap();
        assert_eq!(
            again.figures(),
            PageFigures {
                extents: 30,
                free: 30 - 11,
                chunks: 2,
                tables: 1
            }
        );
        assert_eq!(again.read(Kind::LogB, EXTENT - 3, 17).unwrap(), b"across the border");
        assert_eq!(again.read(Kind::LogB, 3 * EXTENT - 3, 17), None);
    }

    #[test]
    fn pages_that_are_not_ours_are_named() {
        let blank = DurablePages::open(SlicePages(alloc::vec![0; 30 * EXTENT]))
            .unwrap_err()
            .1;
        assert_eq!(blank, NotOurs::Blank);
        let mut bytes = pages(30).unwrap().into_pages().0;
        bytes[8] = 9;
        assert_eq!(
            DurablePages::open(SlicePages(bytes.clone())).unwrap_err().1,
            NotOurs::Version(9)
        );
        bytes[8] = VERSION as u8;
        assert!(DurablePages::open(SlicePages(bytes.clone())).is_ok());
        bytes[DIRECTORY + 4] = 77;
        assert_eq!(DurablePages::open(SlicePages(bytes)).unwrap_err().1, NotOurs::Directory);
    }

    #[test]
    fn entries_of_the_directory_check_every_byte_of_themselves() {
        for kind in Kind::ALL {
            for ordinal in (0..MOST).step_by(7) {
                let whole = entry(kind, ordinal);
                assert_eq!((whole & 0xff, whole >> 8 & 0x1fff), (kind as u32, ordinal as u32));
                for byte in 0..4 {
                    for turned in 1..=255u32 {
                        let other = whole ^ turned << (8 * byte);
                        let valid = Kind::ALL
                            .into_iter()
                            .any(|kind| entry(kind, (other >> 8 & 0x1fff) as usize) == other);
                        assert!(!valid && other != 0, "{whole:#x} and {other:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn entries_of_the_table_check_every_bit_of_themselves() {
        const { assert!(MOST * EXTENT <= LOCATION as usize) };
        // What xenstored-unix says of its sizes.
        const { assert!(MOST * EXTENT == 254 << 20) };
        assert_eq!(checked(0), 0);
        // The remainder by x⁴ + x + 1, by long division.
        for location in (0..LOCATION).step_by(12_345).chain((0..28).map(|bit| 1 << bit)) {
            let rest = (4..28).rev().fold(location, |rest, bit| {
                rest ^ ((rest >> bit & 1) * (0b10011 << (bit - 4)))
            });
            assert_eq!(checked(location), location | rest << 28);
        }
        for location in (0..LOCATION).step_by(98_765) {
            let whole = checked(location);
            assert_eq!(whole & LOCATION, location);
            let turned = (0..32)
                .map(|bit| 1u32 << bit)
                .chain((0..4).map(|byte| 0xff << (8 * byte)));
            for other in turned.map(|turned| whole ^ turned) {
                assert_ne!(checked(other & LOCATION), other, "{whole:#x}");
            }
        }
    }

    #[test]
    fn a_directory_with_a_gap_is_refused() {
        let mut left = pages(30).unwrap();
        assert!(left.grow() && left.grow_table() && left.grow());
        let mut bytes = left.into_pages().0;
        bytes[DIRECTORY + 8 * ENTRY..DIRECTORY + 9 * ENTRY].fill(0);
        assert_eq!(DurablePages::open(SlicePages(bytes)).unwrap_err().1, NotOurs::Directory);
    }

    /// Pages that grow by pieces that are not behind each other in memory.
    struct Pieces {
        pieces: Vec<Vec<u8>>,
        most: usize,
    }

    impl Pages for Pieces {
        fn len(&self) -> usize {
            self.pieces.iter().map(Vec::len).sum()
        }
        fn bytes(&self, mut at: usize, length: usize) -> &[u8] {
            for piece in &self.pieces {
                match at.checked_sub(piece.len()) {
                    Some(further) => at = further,
                    None => return piece.get(at..at + length).unwrap_or_default(),
                }
            }
            &[]
        }
        fn store(&mut self, mut at: usize, bytes: &[u8]) {
            for piece in &mut self.pieces {
                match at.checked_sub(piece.len()) {
                    Some(further) => at = further,
                    None => return piece[at..at + bytes.len()].copy_from_slice(bytes),
                }
            }
        }
        fn grow(&mut self, bytes: usize) -> bool {
            let may = self.pieces.len() < self.most;
            if may {
                self.pieces.push(alloc::vec![0; bytes]);
            }
            may
        }
    }

    #[test]
    fn pages_grow_when_they_are_short_and_are_read_back_whole() {
        let pieces = Pieces {
            pieces: alloc::vec![alloc::vec![0; 20 * EXTENT]],
            most: 3,
        };
        let mut pages = DurablePages::format(pieces).unwrap();
        assert_eq!(pages.figures().extents, 20);
        let mut chunks = 0;
        for _ in 0..200 {
            pages.grow_when_short(false);
            if pages.grow() {
                pages.store(chunks, EXTENT - 4, &chunks.to_le_bytes());
                chunks += 1;
            }
        }
        let extents = 20 + 2 * GROWTH / EXTENT;
        assert_eq!(pages.figures().extents, extents);
        let mut pieces = pages.into_pages();
        // One more came, but the life that asked for it did not live to write so.
        pieces.pieces.push(alloc::vec![0; GROWTH]);
        let mut again = DurablePages::open(pieces).map_err(|(_, why)| why).unwrap();
        assert_eq!(again.figures().extents, extents);
        assert_eq!(again.chunk_count(), chunks);
        for chunk in 0..chunks {
            assert_eq!(again.chunk(chunk)[EXTENT - 4..], chunk.to_le_bytes());
        }
        again.grow_when_short(false);
        assert_eq!(again.figures().extents, extents + GROWTH / EXTENT);
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
