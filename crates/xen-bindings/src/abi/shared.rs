//! The shared info page (`xen.h`, `arch-x86/xen.h`, `arch-x86/xen-x86_64.h`): events, time and upcall state.

use super::layout;

/// vCPUs whose information lies in the shared info page itself.
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;
/// Ports of the two-level event ABI on 64 bit: 64 words of 64 bits.
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;
/// Words of the two-level event ABI.
pub const EVTCHN_2L_WORDS: usize = 64;

/// Time of a vCPU; odd `version` means that Xen is writing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct VcpuTimeInfo {
    pub version: u32,
    pub pad0: u32,
    /// TSC when `system_time` was taken.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the host's boot.
    pub system_time: u64,
    /// Nanoseconds per shifted TSC tick, as a fraction of 2³².
    pub tsc_to_system_mul: u32,
    /// Left (positive) or right (negative) shift of the TSC difference before the multiplication.
    pub tsc_shift: i8,
    pub flags: u8,
    pub pad1: [u8; 2],
}
layout!(
    VcpuTimeInfo,
    32,
    tsc_timestamp = 8,
    system_time = 16,
    tsc_to_system_mul = 24,
    tsc_shift = 28,
    flags = 29
);

/// Architecture's part of [`VcpuInfo`].
#[repr(C)]
pub struct ArchVcpuInfo {
    /// Address of the last page fault of a PV guest.
    pub cr2: u64,
    pub pad: u64,
}
layout!(ArchVcpuInfo, 16, cr2 = 0);

/// What a vCPU shares with Xen.
#[repr(C)]
pub struct VcpuInfo {
    /// An event is waiting; the guest clears it.
    pub evtchn_upcall_pending: u8,
    /// PV only: no upcalls while 1.
    pub evtchn_upcall_mask: u8,
    /// One bit per word of `SharedInfo::evtchn_pending` that has news.
    pub evtchn_pending_sel: u64,
    pub arch: ArchVcpuInfo,
    pub time: VcpuTimeInfo,
}
layout!(
    VcpuInfo,
    64,
    evtchn_upcall_pending = 0,
    evtchn_upcall_mask = 1,
    evtchn_pending_sel = 8,
    arch = 16,
    time = 32
);

/// Architecture's part of [`SharedInfo`].
#[repr(C)]
pub struct ArchSharedInfo {
    pub max_pfn: u64,
    pub pfn_to_mfn_frame_list_list: u64,
    pub nmi_reason: u64,
    pub p2m_cr3: u64,
    pub p2m_vaddr: u64,
    pub p2m_generation: u64,
}
layout!(ArchSharedInfo, 48, max_pfn = 0, nmi_reason = 16);

/// The page that a domain shares with Xen.
#[repr(C)]
pub struct SharedInfo {
    pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
    pub evtchn_pending: [u64; EVTCHN_2L_WORDS],
    pub evtchn_mask: [u64; EVTCHN_2L_WORDS],
    /// Odd while Xen writes the wall clock.
    pub wc_version: u32,
    /// Unix time at system time zero, seconds (lower 32 bits).
    pub wc_sec: u32,
    pub wc_nsec: u32,
    /// Upper 32 bits of the seconds.
    pub wc_sec_hi: u32,
    pub arch: ArchSharedInfo,
}
layout!(
    SharedInfo,
    3136,
    evtchn_pending = 2048,
    evtchn_mask = 2560,
    wc_version = 3072,
    wc_sec = 3076,
    wc_nsec = 3080,
    wc_sec_hi = 3084,
    arch = 3088,
);
