//! Operations on grants of other domains (`grant_table.h`): mapping their pages and dropping the mapping.

use super::layout;

pub const GNTTABOP_MAP_GRANT_REF: u64 = 0;
pub const GNTTABOP_UNMAP_GRANT_REF: u64 = 1;

/// Map for the CPU (not for a device).
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;

pub const GNTST_OKAY: i16 = 0;
pub const GNTST_GENERAL_ERROR: i16 = -1;
pub const GNTST_BAD_DOMAIN: i16 = -2;
pub const GNTST_BAD_GNTREF: i16 = -3;
pub const GNTST_BAD_HANDLE: i16 = -4;
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
pub const GNTST_PERMISSION_DENIED: i16 = -8;
pub const GNTST_BAD_PAGE: i16 = -9;
pub const GNTST_EAGAIN: i16 = -12;
pub const GNTST_NO_SPACE: i16 = -13;

#[repr(C)]
#[derive(Default)]
pub struct GnttabMapGrantRef {
    /// PV: virtual address; PVH: guest physical address.
    pub host_addr: u64,
    pub flags: u32,
    pub gref: u32,
    pub dom: u16,
    /// Out.
    pub status: i16,
    /// Out.
    pub handle: u32,
    /// Out.
    pub dev_bus_addr: u64,
}
layout!(
    GnttabMapGrantRef,
    32,
    host_addr = 0,
    flags = 8,
    gref = 12,
    dom = 16,
    status = 18,
    handle = 20,
    dev_bus_addr = 24
);

#[repr(C)]
#[derive(Default)]
pub struct GnttabUnmapGrantRef {
    pub host_addr: u64,
    pub dev_bus_addr: u64,
    pub handle: u32,
    /// Out.
    pub status: i16,
}
layout!(
    GnttabUnmapGrantRef,
    24,
    host_addr = 0,
    dev_bus_addr = 8,
    handle = 16,
    status = 20
);
