//! What a warm restart keeps of boot's own knowledge: one structure in memory that no start clears.
//!
//! Written by the cold start; later only [`crate::memory`] changes its part. A warm restart happens in the middle of
//! anything, so every field must make sense between any two changes.

use crate::memory::Memory;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use xen_bindings::domain::DomainWatch;
use xen_bindings::grant::WindowRecords;
use xen_bindings::memory::MemoryFigures;

/// Longest command line, without NUL; what is longer is cut off.
pub const COMMAND_LINE_BYTES: usize = 1023;

/// Longest text about the end of a start.
pub const END_BYTES: usize = 320;

/// How the last start ended, as text. Written on the way down, so without heap and without trust in anything.
pub struct End {
    bytes: [u8; END_BYTES],
    length: usize,
    /// The start had come so far that it served.
    pub served: bool,
}

impl End {
    pub const fn new() -> Self {
        End {
            bytes: [0; END_BYTES],
            length: 0,
            served: false,
        }
    }

    /// The text; what is not text ends it.
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl Write for End {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let length = self.length.min(END_BYTES);
        let count = text.len().min(END_BYTES - length);
        self.bytes[length..length + count].copy_from_slice(&text.as_bytes()[..count]);
        self.length = length + count;
        Ok(())
    }
}

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
    /// Starts in a row that ended before they served.
    pub starts_in_vain: u32,
    /// How the start before this one ended.
    pub last_end: End,
    pub command_line: [u8; COMMAND_LINE_BYTES],
    pub command_line_length: usize,
    pub console: ConsolePlace,
    /// Port of this domain's own ring of the store, if the toolstack made one.
    pub store_port: Option<u32>,
    pub figures: MemoryFigures,
    pub memory: Memory,
    /// What the first start asked Xen about Xen and this domain.
    pub answers: Option<Answers>,
}

/// Answers of Xen that stay the same for as long as the domain lives.
#[derive(Clone, Copy)]
pub struct Answers {
    pub own_domid: u16,
    /// (major, minor).
    pub xen_version: (u16, u16),
    pub domain_watch: DomainWatch,
}

struct Cell<T>(UnsafeCell<MaybeUninit<T>>);
// SAFETY: one vCPU, and no upcall handler touches it; `crate::memory` adds a lock against re-entry.
unsafe impl<T> Sync for Cell<T> {}

#[unsafe(link_section = ".noinit.end")]
static END: Cell<End> = Cell(UnsafeCell::new(MaybeUninit::uninit()));
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
        (*END.0.get()).write(End::new());
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

/// Notes how this start ends, for the next one, if there will be one. The first end counts: what follows is a consequence.
pub fn note_end(how: fmt::Arguments<'_>) {
    if !crate::panic::goes_on() {
        return;
    }
    // SAFETY: where another start follows, a cold start has filled it; one vCPU, and this is the way down: nobody else uses it.
    let end = unsafe { (*END.0.get()).assume_init_mut() };
    if end.length == 0 {
        let _ = end.write_fmt(how);
    }
}

/// Notes that this start came so far that it served.
pub fn note_served() {
    // SAFETY: as in `note_end`; what has served had a cold start.
    unsafe { (*END.0.get()).assume_init_mut() }.served = true;
}

/// Takes what [`note_end`] and [`note_served`] noted.
///
/// # Safety
/// A cold start has filled it.
pub unsafe fn take_end() -> End {
    // SAFETY: the caller's promise; one vCPU.
    core::mem::replace(unsafe { (*END.0.get()).assume_init_mut() }, End::new())
}

/// The records of the windows.
///
/// # Safety
/// As for [`get`].
pub unsafe fn window_records() -> &'static mut WindowRecords {
    // SAFETY: the caller's promise.
    unsafe { (*WINDOWS.0.get()).assume_init_mut() }
}
