//! Page tables and traps of a PV guest (`xen.h`, `arch-x86/xen.h`).

use super::layout;

/// Kind of an `mmu_update`, in the lowest bits of `ptr`: checked update of a page table entry.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Flag of `update_va_mapping`: flush this address from the local TLB.
pub const UVMF_INVLPG: u64 = 2;

/// Code segment of a 64-bit PV guest's kernel.
pub const FLAT_KERNEL_CS: u16 = 0xe033;
/// `FLAT_KERNEL_SS64`.
pub const FLAT_KERNEL_SS: u16 = 0xe02b;
/// Flag of a trap: no upcalls while its handler runs.
pub const TI_IF: u8 = 4;

#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry, kind in the lowest two bits.
    pub ptr: u64,
    /// New content.
    pub val: u64,
}
layout!(MmuUpdate, 16, ptr = 0, val = 8);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TrapInfo {
    pub vector: u8,
    /// 0–3: privilege level; [`TI_IF`].
    pub flags: u8,
    pub cs: u16,
    pub address: u64,
}
layout!(TrapInfo, 16, vector = 0, flags = 1, cs = 2, address = 8);
