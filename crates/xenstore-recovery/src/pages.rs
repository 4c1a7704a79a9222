//! The memory that outlives a crash, as the rest of this crate sees it.

use xenstore_core::tree::{Crc32c, crc32c};

/// Bytes that are still there when the server starts again. All stores go through [`Pages::store`], in program order, so
/// that a simulator can stop after each of them.
pub trait Pages {
    /// How many bytes there are. The number grows by [`Pages::grow`] only, and never shrinks.
    fn len(&self) -> usize;

    /// There are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `length` bytes from `at` on. Nothing if they are not all there, or lie across the border between what was there and
    /// what was added: both are whole extents, and nobody asks for bytes of two.
    fn bytes(&self, at: usize, length: usize) -> &[u8];

    /// Adds zeros to the end, in whole extents, about `bytes` of them. False if no more can be had.
    fn grow(&mut self, bytes: usize) -> bool {
        let _none_to_be_had = bytes;
        false
    }

    /// Copies `bytes` to the place `at`. What does not fit is a mistake of the caller and is ignored.
    fn store(&mut self, at: usize, bytes: &[u8]);

    /// Returns once every store before is durable: for plain memory at once, for a file when it is written.
    fn barrier(&mut self) {}

    /// How the machine computes a CRC-32C, if it has something better than [`crc32c`].
    fn crc32c(&self) -> Crc32c {
        crc32c
    }
}

/// Pages in a slice: the kernel's durable memory, or a vector in tests.
#[derive(Debug)]
pub struct SlicePages<B>(pub B);

impl<B: AsRef<[u8]> + AsMut<[u8]>> Pages for SlicePages<B> {
    fn len(&self) -> usize {
        self.0.as_ref().len()
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let end = at.checked_add(length);
        end.and_then(|end| self.0.as_ref().get(at..end)).unwrap_or_default()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        let place = at
            .checked_add(bytes.len())
            .and_then(|end| self.0.as_mut().get_mut(at..end));
        debug_assert!(place.is_some(), "a store outside of the pages");
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    fn barrier(&mut self) {
        // The compiler must not move a store over this point: a panic may follow, and the next life reads what is there.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }
}
