//! Memory of `xen-bindings` as the crates above want it: a window as the page of a ring, the durable region as pages.

use alloc::vec::Vec;

use xen_bindings::{Window, checksum, memory};
use xenstore_core::tree::{Crc32c, crc32c};
use xenstore_recovery::{EXTENT, Pages};
use xenstore_ring::SharedPage;

/// One page of another domain (or our own loopback page).
#[derive(Debug)]
pub struct WindowPage(pub Window);

impl SharedPage for WindowPage {
    fn load(&self, offset: usize) -> u32 {
        self.0.load_u32(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.0.store_u32(offset, value);
    }

    fn read(&self, offset: usize, out: &mut [u8]) {
        self.0.read(offset, out);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.0.write(offset, bytes);
    }
}

// An extent of the store never lies in two parts of the region, because boot adds whole units.
const _: () = assert!(memory::DURABLE_UNIT.is_multiple_of(EXTENT));

/// The durable region: what boot found, and what was added since.
#[derive(Debug)]
pub struct DurableRegion {
    first: &'static mut [u8],
    /// Each with the place where it begins, in growing order.
    added: Vec<(usize, &'static mut [u8])>,
    crc32c: Crc32c,
}

impl DurableRegion {
    /// The region as boot found it.
    pub fn new(first: &'static mut [u8]) -> Self {
        DurableRegion {
            first,
            added: Vec::new(),
            crc32c: checksum::crc32c().unwrap_or(crc32c),
        }
    }

    /// Of the parts that were added, the one that holds the byte `at`.
    fn part_of(&self, at: usize) -> Option<usize> {
        self.added.partition_point(|(begins, _)| *begins <= at).checked_sub(1)
    }
}

impl Pages for DurableRegion {
    fn len(&self) -> usize {
        self.added
            .last()
            .map_or(self.first.len(), |(begins, part)| begins + part.len())
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let Some((begins, part)) = self.part_of(at).and_then(|index| self.added.get(index)) else {
            return self.first.get(at..at + length).unwrap_or_default();
        };
        let at = at - begins;
        part.get(at..at + length).unwrap_or_default()
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        let index = self.part_of(at);
        let (at, part) = match index.and_then(|index| self.added.get_mut(index)) {
            Some((begins, part)) => (at - *begins, part),
            None => (at, &mut self.first),
        };
        let place = part.get_mut(at..at + bytes.len());
        debug_assert!(place.is_some(), "a store outside of the region");
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    fn barrier(&mut self) {
        // The compiler must not move a store over this point: a panic may follow, and the next life reads what is there.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }

    fn crc32c(&self) -> Crc32c {
        self.crc32c
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let begins = self.len();
        let Some(part) = memory::grow_durable(bytes) else {
            return false;
        };
        self.added.push((begins, part));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(byte: u8, length: usize) -> &'static mut [u8] {
        Vec::leak(alloc::vec![byte; length])
    }

    #[test]
    fn parts_are_one_region_and_nothing_is_found_across_their_borders() {
        let mut region = DurableRegion::new(part(1, 64));
        region.added.push((64, part(2, 32)));
        region.added.push((96, part(3, 32)));
        assert_eq!(region.len(), 128);
        for (at, byte) in [(0, 1), (56, 1), (64, 2), (88, 2), (96, 3), (120, 3)] {
            assert_eq!(region.bytes(at, 8), [byte; 8], "at {at}");
            region.store(at, &[byte + 10; 8]);
            assert_eq!(region.bytes(at, 8), [byte + 10; 8], "at {at}");
        }
        assert_eq!(region.bytes(60, 8), []);
        assert_eq!(region.bytes(121, 8), []);
        assert_eq!(region.bytes(128, 1), []);
    }
}
