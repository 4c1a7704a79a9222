//! One slot for each connection: how far its output has become visible. Publishing changes nothing else, so it is kept
//! here, in place, rather than in the log: the intent `from → to` in one half before the ring is touched, the result in the
//! other half after. A half that a crash tore does not verify; the other one then says what was before.
//!
//! Offsets count in the connection's epoch; a slot of an older epoch says nothing.

use alloc::vec::Vec;

use xenstore_core::ConnectionId;
use xenstore_core::tree::Crc32c;

use crate::extents::{DurablePages, EXTENT, Kind};
use crate::pages::Pages;

/// Bytes of a half: connection (4), resets (4), from (8), to (8), reserved (4), CRC (4).
const HALF: usize = 32;

/// What a half says. The ring shows `from` or `to`; they are equal in the half that holds results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub connection: ConnectionId,
    /// The epoch, by the number of resets before it.
    pub resets: u32,
    pub from: u64,
    pub to: u64,
}

impl Slot {
    fn emit(self, crc32c: Crc32c) -> [[u8; HALF / 2]; 2] {
        let whose = u128::from(self.connection.0) | u128::from(self.resets) << 32 | u128::from(self.from) << 64;
        let whose = whose.to_le_bytes();
        let to = u128::from(self.to);
        let summed = [whose, to.to_le_bytes()];
        let crc = crc32c(0, summed.as_flattened().get(..HALF - 4).unwrap_or_default());
        [whose, (to | u128::from(crc) << 96).to_le_bytes()]
    }

    fn parse(bytes: &[u8], crc32c: Crc32c) -> Option<Slot> {
        let (connection, rest) = bytes.split_first_chunk::<4>()?;
        let (resets, rest) = rest.split_first_chunk::<4>()?;
        let (from, rest) = rest.split_first_chunk::<8>()?;
        let (to, _) = rest.split_first_chunk::<8>()?;
        let slot = Slot {
            connection: ConnectionId(u32::from_le_bytes(*connection)),
            resets: u32::from_le_bytes(*resets),
            from: u64::from_le_bytes(*from),
            to: u64::from_le_bytes(*to),
        };
        (slot.emit(crc32c).as_flattened() == bytes).then_some(slot)
    }
}

/// Writes the intent (`from` and `to` differ) or the result of publishing into a place.
pub(crate) fn write<P: Pages>(pages: &mut DurablePages<P>, place: usize, slot: Slot) -> bool {
    let half = place
        .saturating_mul(2)
        .saturating_add(usize::from(slot.from == slot.to));
    if !pages.ensure(Kind::Slots, half.saturating_add(1).saturating_mul(HALF)) {
        return false;
    }
    let bytes = slot.emit(pages.crc());
    pages.write(Kind::Slots, half.saturating_mul(HALF), bytes.as_flattened());
    pages.barrier();
    true
}

/// All halves that verify, with their places.
pub(crate) fn read<P: Pages>(pages: &DurablePages<P>) -> Vec<(usize, Slot)> {
    let length = pages.extents_of(Kind::Slots).len().saturating_mul(EXTENT);
    let extents = pages.pieces(Kind::Slots, 0, length).into_iter().flatten();
    let halves = extents.flat_map(|extent| extent.chunks_exact(HALF)).enumerate();
    // Most were never written, and their checksums need not be made.
    let written = halves.filter(|(_, bytes)| bytes.first_chunk() != Some(&[0; HALF]));
    written
        .filter_map(|(half, bytes)| Some((half / 2, Slot::parse(bytes, pages.crc())?)))
        .collect()
}

/// What the halves of one connection's slot come to: bytes that are visible for certain, and the intent that may or may
/// not have been carried out.
pub(crate) fn settle(halves: impl Iterator<Item = Slot> + Clone) -> (u64, Option<u64>) {
    let visible = halves.clone().map(|slot| slot.from).max().unwrap_or(0);
    let intended = halves.map(|slot| slot.to).max().filter(|to| *to > visible);
    (visible, intended)
}

#[cfg(test)]
mod tests {
    use xenstore_core::tree::crc32c;

    use super::*;

    fn slot(from: u64, to: u64) -> Slot {
        Slot {
            connection: ConnectionId(7),
            resets: 2,
            from,
            to,
        }
    }

    #[test]
    fn a_half_that_is_torn_does_not_verify() {
        let bytes = slot(5, 9).emit(crc32c);
        assert_eq!(Slot::parse(bytes.as_flattened(), crc32c), Some(slot(5, 9)));
        for torn in 0..HALF {
            let mut bytes = bytes;
            bytes.as_flattened_mut()[torn] ^= 1;
            assert_eq!(Slot::parse(bytes.as_flattened(), crc32c), None);
        }
    }

    #[test]
    fn intent_and_result_settle_whichever_was_stored_last() {
        assert_eq!(settle([].into_iter()), (0, None));
        assert_eq!(settle([slot(5, 9), slot(5, 5)].into_iter()), (5, Some(9)));
        assert_eq!(settle([slot(5, 9), slot(9, 9)].into_iter()), (9, None));
        // The result's half was torn: the ring must be asked.
        assert_eq!(settle([slot(5, 9)].into_iter()), (5, Some(9)));
        // The intent's half was torn: nothing was published since the last result.
        assert_eq!(settle([slot(5, 5)].into_iter()), (5, None));
    }
}
