//! How much memory this domain has and may have, and getting more.

use crate::abi::memory::{
    E820Entry, XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_RESERVATION, XENMEM_MEMORY_MAP, XENMEM_POPULATE_PHYSMAP,
    XenMemoryMap, XenMemoryReservation,
};
use crate::abi::numbers::{DOMID_SELF, hypercall as nr};
use crate::error::XenError;
use crate::hypercall;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Entries of a memory map that are looked at (`E820MAX` of Xen for guests).
pub const MEMORY_MAP_ENTRIES: usize = 128;

/// Where the domain's memory went, as boot arranged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Memory of the domain when it started, bytes, without the toolstack's special pages.
    pub reservation_bytes: u64,
    /// What it may grow to, bytes.
    pub maximum_bytes: u64,
    /// The image with its stacks, bytes.
    pub image_bytes: u64,
    /// Heap, bytes; it grows when it runs low and the maximum allows.
    pub heap_bytes: u64,
    /// Durable region, bytes.
    pub durable_bytes: u64,
    /// Page tables, tables of the builder, and what is kept for the page tables of windows, bytes.
    pub tables_bytes: u64,
}

static HEAP_USED: AtomicUsize = AtomicUsize::new(0);
static HEAP_SIZE: AtomicUsize = AtomicUsize::new(0);

/// The heap now: (used, size), bytes. Kept up to date by boot's allocator.
#[must_use]
pub fn heap_usage() -> (usize, usize) {
    (HEAP_USED.load(Relaxed), HEAP_SIZE.load(Relaxed))
}

/// For boot's allocator.
pub fn report_heap(used: usize, size: usize) {
    HEAP_USED.store(used, Relaxed);
    HEAP_SIZE.store(size, Relaxed);
}

fn reservation(command: u64) -> Result<u64, XenError> {
    let mut domid = DOMID_SELF;
    // SAFETY: both operations read a domid and change nothing.
    unsafe { hypercall::operate(nr::MEMORY_OP, command, &mut domid) }
}

/// Pages that the domain has; on PVH with the toolstack's special pages.
pub fn current_reservation() -> Result<u64, XenError> {
    reservation(XENMEM_CURRENT_RESERVATION)
}

/// Pages that the domain may have.
pub fn maximum_reservation() -> Result<u64, XenError> {
    reservation(XENMEM_MAXIMUM_RESERVATION)
}

/// The domain's memory map; how many entries Xen wrote. It covers the maximum, not what is populated.
pub fn memory_map(entries: &mut [E820Entry; MEMORY_MAP_ENTRIES]) -> Result<usize, XenError> {
    let mut argument = XenMemoryMap {
        nr_entries: MEMORY_MAP_ENTRIES as u32,
        buffer: (&raw mut *entries).addr() as u64,
    };
    // SAFETY: the buffer holds as many packed entries as it says; Xen writes at most those.
    unsafe { hypercall::operate(nr::MEMORY_OP, XENMEM_MEMORY_MAP, &mut argument) }?;
    Ok((argument.nr_entries as usize).min(MEMORY_MAP_ENTRIES))
}

/// Asks Xen for single pages. `frames` names where each goes (guest frame numbers); a PV domain finds there the machine frames
/// it got. Returns how many, from the first on, Xen populated: fewer than asked when the maximum or the host's memory is used up.
///
/// # Safety
/// The frames are not in use: not memory yet, no window, no special page.
pub unsafe fn populate(frames: &mut [u64]) -> usize {
    let mut argument = XenMemoryReservation {
        extent_start: frames.as_mut_ptr().addr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
    };
    // SAFETY: the array has as many elements as it says; new pages are nobody's, by this function's contract.
    let populated = unsafe { hypercall::operate(nr::MEMORY_OP, XENMEM_POPULATE_PHYSMAP, &mut argument) };
    populated.map_or(0, |count| usize::try_from(count).unwrap_or(0).min(frames.len()))
}

/// Bytes by which the durable region is measured: an extent of the store, which never lies in two parts of it.
pub const DURABLE_UNIT: usize = 32 * 1024;

/// How boot makes the durable region longer.
type DurableGrowth = fn(usize) -> Option<&'static mut [u8]>;
static DURABLE_GROWTH: AtomicUsize = AtomicUsize::new(0);
static DURABLE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// Called by boot, once per start: the region has `size` bytes, and `grow` maps fresh pages of zeros behind it and returns them,
/// each once, in whole units of [`DURABLE_UNIT`].
pub fn install_durable_growth(size: usize, grow: DurableGrowth) {
    DURABLE_SIZE.store(size, Relaxed);
    DURABLE_GROWTH.store(grow as usize, Relaxed);
}

/// Bytes of the durable region now.
#[must_use]
pub fn durable_size() -> usize {
    DURABLE_SIZE.load(Relaxed)
}

/// Makes the durable region longer by `bytes`, rounded up to whole units of [`DURABLE_UNIT`], and returns the new part: zeros, right
/// behind what [`crate::Platform::durable`] and earlier calls returned. It may be shorter than asked for. After a warm restart
/// all of it is one slice in `Platform`. `None`: the domain has reached its maximum, or the host has no memory left.
pub fn grow_durable(bytes: usize) -> Option<&'static mut [u8]> {
    let grow = DURABLE_GROWTH.load(Relaxed);
    if grow == 0 {
        return None;
    }
    // SAFETY: the only value ever stored, apart from zero, is a function of this type.
    let grow: DurableGrowth = unsafe { core::mem::transmute(grow) };
    let more = grow(bytes);
    DURABLE_SIZE.fetch_add(more.as_ref().map_or(0, |more| more.len()), Relaxed);
    more
}
