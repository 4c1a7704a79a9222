//! A window: one page shared with another domain, which may write to it at any moment and owes us nothing.
//!
//! There is no reference into the page and no slice of it: single words are read and written once, ranges are copied by
//! one instruction that the compiler does not look into. What was copied out is ours; what stays in the page is an
//! allegation. Offsets that do not lie in the page read as zero and write nothing.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Size of a page, bytes.
pub const PAGE_SIZE: usize = 4096;

/// A page of this domain, for windows that need no grant: tests, and loops to oneself.
#[repr(C, align(4096))]
pub struct OwnPage(pub [AtomicU8; PAGE_SIZE]);

impl OwnPage {
    /// A page of zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; PAGE_SIZE])
    }
}

impl Default for OwnPage {
    fn default() -> Self {
        Self::new()
    }
}

/// One mapped page. Made by [`crate::grant::Windows`], or over a page of this domain. Dropping a window of a grant does not
/// unmap it: hand it back to [`crate::grant::Windows::unmap`].
#[derive(Debug)]
pub struct Window {
    page: *mut u8,
    index: Option<u16>,
    handle: u32,
}

// SAFETY: a page is not bound to a thread; all access goes through atomics and opaque copies.
unsafe impl Send for Window {}

impl Window {
    /// Handle of windows without a grant.
    pub const NO_HANDLE: u32 = u32::MAX;

    /// A window of another domain's page.
    ///
    /// # Safety
    /// `page` is mapped, writable, page aligned, and stays so while this value or an equal one is in use; nobody has a Rust
    /// reference into it.
    pub(crate) unsafe fn of_grant(page: *mut u8, index: u16, handle: u32) -> Self {
        Self {
            page,
            index: Some(index),
            handle,
        }
    }

    /// A window of a page that this domain owns and shares, such as its own page of the store.
    ///
    /// # Safety
    /// `page` is mapped, writable, page aligned, stays so for ever, and nobody has a Rust reference into it.
    #[must_use]
    pub unsafe fn of_own_page(page: *mut u8) -> Self {
        Self {
            page,
            index: None,
            handle: Self::NO_HANDLE,
        }
    }

    /// A window over memory of this program. Several windows over one page may exist: two ends of a ring.
    #[must_use]
    pub fn over(page: &'static OwnPage) -> Self {
        Self {
            page: page.0.as_ptr().cast::<u8>().cast_mut(),
            index: None,
            handle: Self::NO_HANDLE,
        }
    }

    /// The grant's handle in Xen, [`Self::NO_HANDLE`] for an own page.
    #[must_use]
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Its number among the windows of [`crate::grant::Windows`]; `None` for an own page.
    pub(crate) fn index(&self) -> Option<u16> {
        self.index
    }

    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let fits = offset.is_multiple_of(4) && offset <= PAGE_SIZE - 4;
        // SAFETY: the word lies within the page, which is mapped and aligned (constructors); only atomics refer to it.
        fits.then(|| unsafe { AtomicU32::from_ptr(self.page.add(offset).cast()) })
    }

    /// Reads the word at byte `offset` (a multiple of 4), once; what the peer wrote before it is visible afterwards, and
    /// the load is not made before an earlier [`Self::store_u32`] is visible to the peer.
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Writes the word at byte `offset` (a multiple of 4); what was written to the page before is visible first. Both sides
    /// of a ring go to sleep after "store mine, load yours": with a weaker store both could miss the other's.
    pub fn store_u32(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::SeqCst);
        }
    }

    /// Copies bytes from `offset` on. Where the page ends, zeros follow.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        let within = PAGE_SIZE.saturating_sub(offset).min(out.len());
        let (copied, beyond) = out.split_at_mut(within);
        beyond.fill(0);
        if !copied.is_empty() {
            // SAFETY: `within` bytes from `offset` lie in the mapped page, and as many in `copied`.
            unsafe { copy(self.page.add(offset), copied.as_mut_ptr(), copied.len()) }
        }
    }

    /// Copies bytes into the page from `offset` on. What would lie behind its end is left out.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let within = PAGE_SIZE.saturating_sub(offset).min(bytes.len());
        if within != 0 {
            // SAFETY: `within` bytes from `offset` lie in the mapped page, and as many in `bytes`.
            unsafe { copy(bytes.as_ptr(), self.page.add(offset), within) }
        }
    }
}

/// Copies between shared and own memory in a way the compiler can neither split, repeat nor reason about.
///
/// # Safety
/// `length` bytes can be read at `from` and written at `to`; the ranges do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_windows_over_one_page_see_each_other() {
        static PAGE: OwnPage = OwnPage::new();
        let (ours, theirs) = (Window::over(&PAGE), Window::over(&PAGE));
        ours.write(100, b"hello");
        ours.store_u32(2048, 5);
        let mut out = [0; 5];
        theirs.read(100, &mut out);
        assert_eq!((&out, theirs.load_u32(2048)), (b"hello", 5));
        assert_eq!(ours.handle(), Window::NO_HANDLE);
    }

    #[test]
    fn two_sides_that_store_and_then_look_never_both_miss_the_other() {
        extern crate std;
        const ROUNDS: u32 = 20_000;
        static PAGE: OwnPage = OwnPage::new();
        static ARRIVED: AtomicU32 = AtomicU32::new(0);
        let side = |own: usize, other: usize| {
            let window = Window::over(&PAGE);
            let mut seen = std::vec::Vec::new();
            for round in 1..=ROUNDS {
                // Both begin a round together: only then can the two pairs of accesses cross.
                ARRIVED.fetch_add(1, Ordering::SeqCst);
                let mut looks = 0u32;
                while ARRIVED.load(Ordering::SeqCst) < 2 * round {
                    looks += 1;
                    if looks.is_multiple_of(1000) {
                        std::thread::yield_now();
                    }
                }
                window.store_u32(own, round);
                seen.push(window.load_u32(other));
            }
            seen
        };
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| side(2048, 2056));
            let second = side(2056, 2048);
            (first.join().unwrap(), second)
        });
        for (round, (a, b)) in (1..).zip(first.iter().zip(&second)) {
            assert!(
                *a >= round || *b >= round,
                "round {round}: both missed the other's store ({a}, {b})"
            );
        }
    }

    #[test]
    fn what_lies_outside_reads_as_zero_and_is_not_written() {
        static PAGE: OwnPage = OwnPage::new();
        let window = Window::over(&PAGE);
        window.write(4094, &[1, 2, 3, 4]);
        let mut out = [9; 4];
        window.read(4094, &mut out);
        assert_eq!(out, [1, 2, 0, 0]);
        window.read(usize::MAX, &mut out);
        assert_eq!(out, [0; 4]);
        window.write(usize::MAX, &out);
        window.store_u32(4094, 7);
        window.store_u32(usize::MAX - 3, 7);
        assert_eq!(
            (
                window.load_u32(4096),
                window.load_u32(4093),
                window.load_u32(usize::MAX - 3)
            ),
            (0, 0, 0)
        );
    }
}
