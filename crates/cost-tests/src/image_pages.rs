//! Durable pages in memory, with the processor's instruction for checksums, as in the image.

use xen_bindings::checksum;
use xenstore_core::tree::{Crc32c, crc32c};
use xenstore_recovery::{Pages, SlicePages};

/// The pages.
pub struct ImagePages {
    pages: SlicePages<Vec<u8>>,
    crc32c: Crc32c,
}

impl ImagePages {
    /// Blank pages of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self::from(vec![0; bytes])
    }

    /// The bytes, as a crash would leave them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.pages.0
    }
}

impl From<Vec<u8>> for ImagePages {
    fn from(bytes: Vec<u8>) -> Self {
        ImagePages {
            pages: SlicePages(bytes),
            crc32c: checksum::crc32c().unwrap_or(crc32c),
        }
    }
}

impl Pages for ImagePages {
    fn len(&self) -> usize {
        self.pages.len()
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        self.pages.bytes(at, length)
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.pages.store(at, bytes);
    }

    fn barrier(&mut self) {
        self.pages.barrier();
    }

    fn crc32c(&self) -> Crc32c {
        self.crc32c
    }
}
