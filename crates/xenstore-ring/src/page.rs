//! How a ring reaches its page: by copying, never by reference.

/// 4096 bytes shared with a peer that may change them at any moment.
///
/// What an implementor promises:
/// * [`load`](Self::load) and [`store`](Self::store) are *one* aligned access each and sequentially consistent: a
///   `load` after a `store` is not made before the store is visible to the peer (on x86 the store is an `xchg`, or a
///   fence follows it). Acquire and release are not enough: both sides go to sleep after "store mine, load yours".
/// * A `read` after a `load` sees at least what the peer wrote before it stored the loaded value. A `read` or `write`
///   before a `store` is complete when the peer sees the stored value. The compiler must know this, too.
/// * Bytes are copied. They may be torn or change between two reads; no caller relies on reading the same twice.
/// * Whatever lies outside the page, or is not aligned, is ignored: reads give zero, writes do nothing.
pub trait SharedPage {
    /// Reads the aligned word at this byte offset, once.
    fn load(&self, offset: usize) -> u32;
    /// Writes the aligned word at this byte offset, once.
    fn store(&self, offset: usize, value: u32);
    /// Copies bytes out of the page.
    fn read(&self, offset: usize, out: &mut [u8]);
    /// Copies bytes into the page.
    fn write(&self, offset: usize, bytes: &[u8]);
}

impl<P: SharedPage + ?Sized> SharedPage for &P {
    fn load(&self, offset: usize) -> u32 {
        (**self).load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        (**self).store(offset, value);
    }

    fn read(&self, offset: usize, out: &mut [u8]) {
        (**self).read(offset, out);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        (**self).write(offset, bytes);
    }
}
