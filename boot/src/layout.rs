//! Where everything lies in the address space, the same for PV and PVH.
//!
//! Below 1 MiB: nothing (a null pointer faults), but a few single pages shared with Xen or its tools. From 1 MiB on: the
//! image, as linked, and nothing behind it. Everything else lies in the second top-level slot (512 GiB on), each kind of memory
//! at the start of gigabytes of its own, so that the addresses before and behind it fault.

pub const PAGE_SIZE: usize = 4096;
/// Entries of a page table.
pub const TABLE_ENTRIES: usize = 512;

/// Where a page frame is mapped for a moment.
pub const SCRATCH: usize = 0x8000;
/// The PV console's page.
pub const CONSOLE: usize = 0x10000;
/// This domain's own page of the store.
pub const STORE: usize = 0x12000;
/// The shared info page; the assembly of the upcalls uses this address too.
pub const SHARED_INFO: usize = 0x14000;

/// First address of the image.
pub const IMAGE_START: usize = 0x10_0000;
/// Last-level tables of the addresses from 0 on (PVH); the image must end below what they cover (`linker.ld` asserts it).
pub const IMAGE_TABLES: usize = 4;

const GIB: usize = 1 << 30;
/// First address of the top-level slot that holds all memory outside the image.
pub const AREAS: usize = 512 * GIB;
/// Its index in the top-level table.
pub const AREAS_SLOT: usize = 1;
/// Gigabytes of that slot that are used, one second-level table each.
pub const AREAS_GIB: usize = 40;

/// A range of addresses that is mapped from its beginning on, page by page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    pub base: usize,
    /// Pages it can grow to.
    pub limit: usize,
}

pub const HEAP: Area = Area {
    base: AREAS,
    limit: 16 * (GIB / PAGE_SIZE),
};
pub const DURABLE: Area = Area {
    base: AREAS + 17 * GIB,
    limit: 16 * (GIB / PAGE_SIZE),
};
pub const WINDOWS: Area = Area {
    base: AREAS + 34 * GIB,
    limit: 4096,
};

impl Area {
    /// Address of page `index`.
    #[must_use]
    pub const fn page(&self, index: usize) -> usize {
        self.base + index * PAGE_SIZE
    }

    /// Gigabyte of the slot in which page `index` lies.
    #[must_use]
    pub const fn gib(&self, index: usize) -> usize {
        (self.page(index) - AREAS) / GIB
    }
}

/// Index of an address in its last-level table.
#[must_use]
pub const fn l1_index(address: usize) -> usize {
    address >> 12 & 511
}

/// Index of an address in its second-level table.
#[must_use]
pub const fn l2_index(address: usize) -> usize {
    address >> 21 & 511
}

/// Top-level slot through which a PVH domain sees its own page tables.
pub const RECURSIVE_SLOT: usize = 510;

/// Address of the last-level entry of `address`, seen through [`RECURSIVE_SLOT`].
#[must_use]
pub const fn recursive_l1_entry(address: usize) -> usize {
    (0xffff << 48 | RECURSIVE_SLOT << 39) + (address >> 12 & 0xf_ffff_ffff) * 8
}

/// Pages of the heap and of the durable region, from what is left when the image and its tables have theirs: half each.
/// The durable half is the larger one, if it does not come out even.
#[must_use]
pub const fn heap_share(pages: usize) -> usize {
    pages / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_lie_in_their_slot_with_unmapped_addresses_on_both_sides() {
        let areas = [HEAP, DURABLE, WINDOWS];
        for (area, next) in areas.iter().zip(&areas[1..]) {
            assert!(area.page(area.limit) + GIB <= next.base);
        }
        for area in areas {
            assert!(area.gib(area.limit - 1) < AREAS_GIB);
            assert!(area.page(area.limit) <= AREAS + 512 * GIB);
            assert_eq!(area.base >> 39, AREAS_SLOT);
            assert_eq!(area.base % GIB, 0);
        }
    }

    #[test]
    fn single_pages_do_not_touch_each_other_nor_null() {
        let pages = [0, SCRATCH, CONSOLE, STORE, SHARED_INFO, IMAGE_START];
        assert!(pages.windows(2).all(|pair| pair[0] + 2 * PAGE_SIZE <= pair[1]));
    }

    #[test]
    fn the_recursive_slot_shows_the_tables() {
        assert_eq!(recursive_l1_entry(0), 0xffff_ff00_0000_0000);
        assert_eq!(recursive_l1_entry(0x3000), 0xffff_ff00_0000_0018);
        assert_eq!(recursive_l1_entry(AREAS), 0xffff_ff00_4000_0000);
    }
}
