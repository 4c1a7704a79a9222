//! What a warm restart keeps of boot's own knowledge: one structure in memory that no start clears.
//!
//! Written by the cold start; later only [`crate::memory`] changes its part. A warm restart happens in the middle of
//! anything, so every field must make sense between any two changes.

use crate::memory::Memory;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use xen_bindings::grant::WindowRecords;
use xen_bindings::memory::MemoryFigures;

/// Longest command line, without NUL; what is longer is cut off.
pub const COMMAND_LINE_BYTES: usize = 1023;

/// Where the domain's text goes.
#[derive(Clone, Copy)]
pub enum ConsolePlace {
    /// The ring at [`crate::layout::CONSOLE`], with its port.
    Ring { port: u32 },
    /// Xen's log (dom0).
    XenLog,
    /// Nowhere (PV), or port 0xE9 (PVH).
    None,
}

/// Facts of the cold start.
pub struct Kept {
    pub restarts: u32,
    /// System time at which `recent_restarts` began to be counted.
    pub restarts_since: u64,
    pub recent_restarts: u32,
    pub command_line: [u8; COMMAND_LINE_BYTES],
    pub command_line_length: usize,
    pub console: ConsolePlace,
    /// Port of this domain's own ring of the store, if the toolstack made one.
    pub store_port: Option<u32>,
    pub figures: MemoryFigures,
    pub memory: Memory,
}

struct Cell<T>(UnsafeCell<MaybeUninit<T>>);
// SAFETY: one vCPU, and no upcall handler touches it; `crate::memory` adds a lock against re-entry.
unsafe impl<T> Sync for Cell<T> {}

#[unsafe(link_section = ".noinit.kept")]
static KEPT: Cell<Kept> = Cell(UnsafeCell::new(MaybeUninit::uninit()));
#[unsafe(link_section = ".noinit.windows")]
static WINDOWS: Cell<WindowRecords> = Cell(UnsafeCell::new(MaybeUninit::uninit()));

/// Fills the structures, at a cold start.
///
/// # Safety
/// Nobody uses them yet.
pub unsafe fn initialise(kept: Kept) {
    // SAFETY: the caller's promise; `WindowRecords` is made of integers, for which zero is a value.
    unsafe {
        (*KEPT.0.get()).write(kept);
        (*WINDOWS.0.get()).as_mut_ptr().write_bytes(0, 1);
    }
}

/// The structure.
///
/// # Safety
/// It was filled by this domain's cold start, and no other reference to it is in use.
pub unsafe fn get() -> &'static mut Kept {
    // SAFETY: the caller's promise.
    unsafe { (*KEPT.0.get()).assume_init_mut() }
}

/// The records of the windows.
///
/// # Safety
/// As for [`get`].
pub unsafe fn window_records() -> &'static mut WindowRecords {
    // SAFETY: the caller's promise.
    unsafe { (*WINDOWS.0.get()).assume_init_mut() }
}
