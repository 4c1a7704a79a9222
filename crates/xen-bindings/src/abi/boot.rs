//! What Xen hands over when it starts a domain: `start_info` (PV, `xen.h`) and `hvm_start_info` (PVH, `arch-x86/hvm/start_info.h`).

use super::layout;

/// Length of the command line in [`StartInfo`], with its NUL.
pub const MAX_GUEST_CMDLINE: usize = 1024;

/// Start page of a PV domain.
#[repr(C)]
pub struct StartInfo {
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of the shared info page.
    pub shared_info: u64,
    /// `SIF_*`.
    pub flags: u32,
    /// Machine frame of the page shared with Xenstore.
    pub store_mfn: u64,
    pub store_evtchn: u32,
    /// Machine frame of the console page (domU; dom0 has other data here).
    pub console_mfn: u64,
    pub console_evtchn: u32,
    /// Virtual address of the top page table.
    pub pt_base: u64,
    /// Page table frames built by the domain builder, from `pt_base` on.
    pub nr_pt_frames: u64,
    /// Virtual address of the list of machine frames, one `u64` per page.
    pub mfn_list: u64,
    pub mod_start: u64,
    pub mod_len: u64,
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    pub first_p2m_pfn: u64,
    pub nr_p2m_frames: u64,
}
layout!(
    StartInfo,
    1168,
    nr_pages = 32,
    shared_info = 40,
    flags = 48,
    store_mfn = 56,
    store_evtchn = 64,
    console_mfn = 72,
    console_evtchn = 80,
    pt_base = 88,
    nr_pt_frames = 96,
    mfn_list = 104,
    mod_start = 112,
    mod_len = 120,
    cmd_line = 128,
    first_p2m_pfn = 1152,
    nr_p2m_frames = 1160,
);

/// `hvm_start_info.magic`: "xEn3" with the 0x80 bit of the E set.
pub const HVM_START_MAGIC: u32 = 0x336e_c578;

/// Start block of a PVH domain; EBX points to it at entry.
#[repr(C)]
pub struct HvmStartInfo {
    pub magic: u32,
    pub version: u32,
    pub flags: u32,
    pub nr_modules: u32,
    pub modlist_paddr: u64,
    pub cmdline_paddr: u64,
    pub rsdp_paddr: u64,
    /// Since version 1. The builder of a store domain leaves it empty: use `XENMEM_memory_map`.
    pub memmap_paddr: u64,
    pub memmap_entries: u32,
    pub reserved: u32,
}
layout!(
    HvmStartInfo,
    56,
    version = 4,
    flags = 8,
    nr_modules = 12,
    modlist_paddr = 16,
    cmdline_paddr = 24,
    rsdp_paddr = 32,
    memmap_paddr = 40,
    memmap_entries = 48,
);
