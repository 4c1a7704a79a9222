//! Operations on a domain's memory (`memory.h`).

use super::layout;

pub const XENMEM_CURRENT_RESERVATION: u64 = 3;
pub const XENMEM_MAXIMUM_RESERVATION: u64 = 4;
pub const XENMEM_POPULATE_PHYSMAP: u64 = 6;
pub const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
pub const XENMEM_MEMORY_MAP: u64 = 9;

/// Space "shared info page" of `XENMEM_add_to_physmap`.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;

/// Type "usable memory" of an entry of the memory map.
pub const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;

#[repr(C)]
pub struct XenMemoryReservation {
    /// Address of an array of frame numbers.
    pub extent_start: u64,
    pub nr_extents: u64,
    /// log₂ of the pages of an extent.
    pub extent_order: u32,
    pub mem_flags: u32,
    pub domid: u16,
}
layout!(
    XenMemoryReservation,
    32,
    extent_start = 0,
    nr_extents = 8,
    extent_order = 16,
    mem_flags = 20,
    domid = 24
);

#[repr(C)]
pub struct XenMemoryMap {
    /// In: entries that fit; out: entries written.
    pub nr_entries: u32,
    /// Address of an array of [`E820Entry`].
    pub buffer: u64,
}
layout!(XenMemoryMap, 16, nr_entries = 0, buffer = 8);

/// Entry of the memory map, in the BIOS' packed format (20 bytes).
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
pub struct E820Entry {
    pub addr: u64,
    pub size: u64,
    pub kind: u32,
}
layout!(E820Entry, 20, size = 8, kind = 16);

#[repr(C)]
pub struct XenAddToPhysmap {
    pub domid: u16,
    /// Only for ranges.
    pub size: u16,
    pub space: u32,
    pub idx: u64,
    pub gpfn: u64,
}
layout!(XenAddToPhysmap, 24, domid = 0, size = 2, space = 4, idx = 8, gpfn = 16);
