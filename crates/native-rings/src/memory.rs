//! Files mapped into memory that another process writes to at any moment.
//!
//! No reference into a mapping leaves this module: words are atomics, ranges are copied by one instruction that the
//! compiler does not look into.

use std::arch::asm;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use xenstore_ring::SharedPage;

use crate::layout;

/// A file's bytes, mapped shared and writable until dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is not bound to a thread; all access goes through atomics and opaque copies.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes, which the file must have: it is never made shorter by anyone who uses the folder.
    pub fn new(file: &File, length: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice takes nothing that exists.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(start) if address != libc::MAP_FAILED => Ok(Mapping { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where `size` bytes at this offset lie, if they lie inside and are aligned to their size.
    fn at(&self, offset: usize, size: usize) -> Option<*mut u8> {
        let inside = offset.checked_add(size).is_some_and(|end| end <= self.length) && offset.is_multiple_of(size);
        // SAFETY: inside the mapping, as just tested.
        inside.then(|| unsafe { self.start.as_ptr().add(offset) })
    }

    pub fn byte(&self, offset: usize) -> Option<&AtomicU8> {
        // SAFETY: `at` gives valid, aligned places that live as long as `self`; this program uses them as atomics only.
        self.at(offset, 1).map(|place| unsafe { AtomicU8::from_ptr(place) })
    }

    pub fn word(&self, offset: usize) -> Option<&AtomicU32> {
        // SAFETY: as in `byte`; the mapping is page aligned.
        self.at(offset, 4)
            .map(|place| unsafe { AtomicU32::from_ptr(place.cast()) })
    }

    pub fn long(&self, offset: usize) -> Option<&AtomicU64> {
        // SAFETY: as in `word`.
        self.at(offset, 8)
            .map(|place| unsafe { AtomicU64::from_ptr(place.cast()) })
    }

    /// How many bytes from `offset` on lie inside, at most `wanted`.
    fn within(&self, offset: usize, wanted: usize) -> usize {
        self.length.saturating_sub(offset).min(wanted)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Copies bytes of which at least one side may change meanwhile.
///
/// # Safety
/// `length` bytes can be read at `from` and written at `to`.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: both ranges are valid by this function's contract; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

/// A domain's ring page. Clones are the same page.
#[derive(Clone, Debug)]
pub struct Page(pub(crate) Arc<Mapping>);

impl Page {
    pub(crate) fn map(file: &File) -> io::Result<Page> {
        Mapping::new(file, layout::PAGE).map(|mapping| Page(Arc::new(mapping)))
    }
}

impl SharedPage for Page {
    fn load(&self, offset: usize) -> u32 {
        self.0.word(offset).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.0.word(offset) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn read(&self, offset: usize, out: &mut [u8]) {
        let inside = self.0.within(offset, out.len());
        out.fill(0);
        if inside > 0 {
            // SAFETY: `inside` bytes lie in the mapping from `offset` on, and `out` is at least as long.
            unsafe { copy(self.0.start.as_ptr().add(offset), out.as_mut_ptr(), inside) };
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let inside = self.0.within(offset, bytes.len());
        if inside > 0 {
            // SAFETY: as in `read`, the other way round.
            unsafe { copy(bytes.as_ptr(), self.0.start.as_ptr().add(offset), inside) };
        }
    }
}
