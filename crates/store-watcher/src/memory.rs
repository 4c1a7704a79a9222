//! Which pages a domain had mapped, read from its own page tables.
//!
//! The same walk serves both kinds of guest: entries hold machine frames (PV) or guest frames (PVH), and frames are read as they
//! come. The tables may be damaged — the domain has crashed — so nothing found in them is trusted: an entry that leads nowhere is
//! left out, and the number of pages has a bound.

use xen_bindings::dom0::{Dom0Error, Page};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// The frame's number in an entry: bits 12 to 51.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const LEVELS: u32 = 4;
/// Bits of an address that each level translates.
const LEVEL_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;

/// Slots of a PV domain's top table in which Xen keeps its own (`HYPERVISOR_VIRT_START` to `_END`, `arch-x86/xen-x86_64.h`).
const XENS_SLOTS: std::ops::RangeInclusive<usize> = 256..=271;

/// Reads frames of the domain; `None` for one that cannot be read.
pub trait Frames {
    /// Copies, in the order of `frames`.
    fn read(&self, frames: &[u64]) -> Result<Vec<Option<Box<Page>>>, Dom0Error>;
}

/// A page at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Virtual, canonical.
    pub address: u64,
    pub frame: u64,
    pub writable: bool,
    pub executable: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their addresses.
    pub pages: Vec<Mapped>,
    /// Tables that could not be read.
    pub unreadable_tables: usize,
    /// There were more pages than the bound.
    pub cut: bool,
}

/// Walks the tables below `root` (a frame), up to `limit` pages.
pub fn mapped(frames: &impl Frames, root: u64, is_pv: bool, limit: usize) -> Result<Found, Dom0Error> {
    let mut found = Found::default();
    // Tables of one level, as if each were a page: where what it translates begins, and what the levels above allow.
    let mut tables = vec![Mapped {
        address: 0,
        frame: root,
        writable: true,
        executable: true,
    }];
    for level in (0..LEVELS).rev() {
        let contents = frames.read(&tables.iter().map(|table| table.frame).collect::<Vec<_>>())?;
        let mut below = Vec::new();
        for (table, content) in tables.iter().zip(contents) {
            let Some(content) = content else {
                found.unreadable_tables += 1;
                continue;
            };
            for (index, entry) in entries_of(&content) {
                let xens = is_pv && level == LEVELS - 1 && XENS_SLOTS.contains(&index);
                let entry = Entry::of(table, level, index, entry);
                // One that points to the top table would show the tables themselves as memory.
                let Some(entry) = entry.filter(|entry| !xens && entry.first.frame != root) else {
                    continue;
                };
                if below
                    .len()
                    .saturating_add(found.pages.len())
                    .saturating_add(entry.pages)
                    > limit
                {
                    found.cut = true;
                } else if entry.is_table {
                    below.push(entry.first);
                } else {
                    found.pages.extend(entry.pages());
                }
            }
        }
        tables = below;
    }
    found.pages.sort_by_key(|page| page.address);
    Ok(found)
}

/// A present entry of a table.
struct Entry {
    /// The table, or the first page.
    first: Mapped,
    is_table: bool,
    /// 1, or more for a large page.
    pages: usize,
}

impl Entry {
    fn of(table: &Mapped, level: u32, index: usize, entry: u64) -> Option<Entry> {
        if entry & PRESENT == 0 {
            return None;
        }
        let large = level > 0 && entry & LARGE != 0;
        let pages: u64 = if large { 1 << (LEVEL_BITS * level) } else { 1 };
        Some(Entry {
            first: Mapped {
                address: canonical(table.address | (index as u64) << (PAGE_BITS + LEVEL_BITS * level)),
                // The lowest bits of a large page's frame number are flags.
                frame: (entry & ADDRESS) >> PAGE_BITS & !(pages - 1),
                writable: table.writable && entry & WRITE != 0,
                executable: table.executable && entry & NO_EXECUTE == 0,
            },
            is_table: level > 0 && !large,
            pages: pages as usize,
        })
    }

    fn pages(&self) -> impl Iterator<Item = Mapped> + use<> {
        let first = self.first;
        (0..self.pages as u64).map(move |page| Mapped {
            address: first.address + (page << PAGE_BITS),
            frame: first.frame + page,
            ..first
        })
    }
}

fn entries_of(table: &Page) -> impl Iterator<Item = (usize, u64)> + '_ {
    table
        .chunks_exact(8)
        .map(|bytes| bytes.iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte)))
        .enumerate()
}

/// Bit 47 repeated in the bits above it, as the processor wants it.
fn canonical(address: u64) -> u64 {
    ((address << 16).cast_signed() >> 16).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Tables by frame: (index, entry).
    struct Tables(BTreeMap<u64, Vec<(usize, u64)>>);

    impl Frames for Tables {
        fn read(&self, frames: &[u64]) -> Result<Vec<Option<Box<Page>>>, Dom0Error> {
            let page = |frame| {
                let mut page = Box::new([0; 4096]);
                for (index, entry) in self.0.get(frame)? {
                    page[index * 8..index * 8 + 8].copy_from_slice(&u64::to_le_bytes(*entry));
                }
                Some(page)
            };
            Ok(frames.iter().map(page).collect())
        }
    }

    const fn entry(frame: u64, flags: u64) -> u64 {
        frame << 12 | flags
    }

    fn tables() -> Tables {
        let table = PRESENT | WRITE;
        Tables(BTreeMap::from([
            (
                1,
                vec![
                    (0, entry(2, table)),
                    (1, entry(9, table)),
                    (256, entry(2, table)),
                    (510, entry(1, table)),
                ],
            ),
            (2, vec![(0, entry(3, table)), (3, entry(0x4_0000, table | LARGE))]),
            (
                3,
                vec![(0, entry(4, table)), (1, entry(0x601, table | LARGE | NO_EXECUTE))],
            ),
            (
                4,
                vec![
                    (16, entry(100, PRESENT)),
                    (17, entry(101, PRESENT | WRITE | NO_EXECUTE)),
                    (18, 0xfff0),
                ],
            ),
        ]))
    }

    #[test]
    fn pages_are_found_with_their_addresses_and_rights() {
        let found = mapped(&tables(), 1, true, 1 << 20).unwrap();
        let page = |address, frame, writable, executable| Mapped {
            address,
            frame,
            writable,
            executable,
        };
        assert_eq!(
            found.pages[..3],
            [
                page(0x10000, 100, false, true),
                page(0x11000, 101, true, false),
                // The lowest bit of the large page's frame number is not part of it.
                page(0x20_0000, 0x600, true, false)
            ]
        );
        assert_eq!(found.pages.len(), 2 + 512 + (1 << 18));
        // The table in frame 9 does not exist; that is told, and the rest is there all the same.
        assert_eq!((found.unreadable_tables, found.cut), (1, false));
    }

    #[test]
    fn the_upper_half_has_canonical_addresses_and_on_pv_a_part_that_is_xens() {
        let pv = mapped(&tables(), 1, true, 1 << 20).unwrap();
        assert!(pv.pages.iter().all(|page| page.address < 1 << 47));
        let pvh = mapped(&tables(), 1, false, 1 << 20).unwrap();
        assert_eq!(pvh.pages.len(), 2 * pv.pages.len());
        assert!(pvh.pages.iter().any(|page| page.address == 0xffff_8000_0001_0000));
    }

    #[test]
    fn the_number_of_pages_has_a_bound() {
        let found = mapped(&tables(), 1, true, 600).unwrap();
        assert!(found.cut && found.pages.len() <= 600);
    }
}
