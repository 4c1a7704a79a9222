//! A page in ordinary memory: for tests, simulators and benches where both sides live in one program.
//!
//! Made of atomics, so that two threads may play the two sides without `unsafe`.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::layout::{PAGE_SIZE, offset};
use crate::page::SharedPage;

/// Bytes of the two rings, which lie first.
const RINGS: usize = offset::REQ_CONS;
/// Words behind them.
const WORDS: usize = PAGE_SIZE.saturating_sub(RINGS) / 4;

/// A zeroed page in the memory of this program. Words exist only behind the rings: `load` and `store` reach nothing
/// before offset 2048, `read` and `write` nothing behind.
#[derive(Debug)]
pub struct MemoryPage {
    rings: [AtomicU8; RINGS],
    words: [AtomicU32; WORDS],
}

impl MemoryPage {
    /// A page of zeroes, as a domain builder leaves it.
    pub const fn new() -> MemoryPage {
        MemoryPage {
            rings: [const { AtomicU8::new(0) }; RINGS],
            words: [const { AtomicU32::new(0) }; WORDS],
        }
    }

    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let behind = offset.checked_sub(RINGS).filter(|behind| behind.is_multiple_of(4))?;
        self.words.get(behind / 4)
    }

    fn bytes(&self, offset: usize) -> &[AtomicU8] {
        self.rings.get(offset..).unwrap_or_default()
    }
}

impl Default for MemoryPage {
    fn default() -> MemoryPage {
        MemoryPage::new()
    }
}

impl SharedPage for MemoryPage {
    fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn read(&self, offset: usize, out: &mut [u8]) {
        out.fill(0);
        for (to, from) in out.iter_mut().zip(self.bytes(offset)) {
            *to = from.load(Ordering::Relaxed);
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        for (to, from) in self.bytes(offset).iter().zip(bytes) {
            to.store(*from, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_reads_as_zero_and_is_not_written() {
        let page = MemoryPage::new();
        for offset in [0, 2047, 2049, PAGE_SIZE, usize::MAX] {
            page.store(offset, 7);
            assert_eq!(page.load(offset), 0);
        }
        page.store(PAGE_SIZE - 4, 7);
        assert_eq!(page.load(PAGE_SIZE - 4), 7);
        page.write(2047, &[1, 2, 3]);
        let mut out = [9; 3];
        page.read(2047, &mut out);
        assert_eq!((out, page.load(offset::REQ_CONS)), ([1, 0, 0], 0));
        page.write(usize::MAX, &[1]);
    }
}
