//! One direction of the ring: distances between free-running indices, and copies that wrap.

use crate::layout::RING_SIZE;
use crate::page::SharedPage;

/// Bytes between the two indices of a queue; `None` if there cannot be so many.
pub(crate) fn distance(produced: u32, consumed: u32) -> Option<u32> {
    Some(produced.wrapping_sub(consumed)).filter(|&bytes| bytes <= RING_SIZE)
}

/// Where the byte with this index lies in its queue.
fn position(index: u32) -> usize {
    (index % RING_SIZE) as usize
}

/// Bytes from this position to the end of the queue.
fn until_end(position: usize) -> usize {
    (RING_SIZE as usize).saturating_sub(position)
}

/// Copies the bytes from `index` on out of the queue at `area`. `out` must not be longer than the ring.
pub(crate) fn copy_out(page: &impl SharedPage, area: usize, index: u32, out: &mut [u8]) {
    let start = position(index);
    let split = until_end(start).min(out.len());
    if let Some((first, second)) = out.split_at_mut_checked(split) {
        page.read(area.saturating_add(start), first);
        if !second.is_empty() {
            page.read(area, second);
        }
    }
}

/// Copies bytes into the queue at `area`, from `index` on. `bytes` must not be longer than the ring.
pub(crate) fn copy_in(page: &impl SharedPage, area: usize, index: u32, bytes: &[u8]) {
    let start = position(index);
    let split = until_end(start).min(bytes.len());
    if let Some((first, second)) = bytes.split_at_checked(split) {
        page.write(area.saturating_add(start), first);
        if !second.is_empty() {
            page.write(area, second);
        }
    }
}

/// The smaller of a number of ring bytes and a length in memory.
pub(crate) fn at_most(bytes: u32, length: usize) -> u32 {
    u32::try_from(length).map_or(bytes, |length| bytes.min(length))
}
