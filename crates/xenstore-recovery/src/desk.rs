//! What a life leaves on its desk for the next one: what it is about to decide, and how often lives began without getting
//! anything done.
//!
//! Both lie in the header's extent and are overwritten in place. The mark costs one store for each message and is no record: if
//! it is torn, or not there, nobody is blamed for the end of a life, and that is all.

use alloc::vec::Vec;

use xenstore_core::{ConnectionId, IN_HAND_BYTES, InHand};

use crate::extents::{DESK_BYTES, DurablePages};
use crate::pages::Pages;

/// Where the number of lives without success lies on the desk: the number (4) and its complement (4).
const ATTEMPTS_AT: usize = 0;
/// Where the mark lies on the desk.
const MARK_AT: usize = 8;
/// Life (4), connection (4), resets (4), length of the message's beginning (4), bytes taken (8), the beginning, CRC (4).
const MARK_BYTES: usize = 28 + IN_HAND_BYTES;
const _: () = assert!(MARK_AT + MARK_BYTES <= DESK_BYTES);

/// An [`InHand`] as it lies there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mark(Vec<u8>);

impl Mark {
    /// Writes what is about to be decided over what was.
    pub(crate) fn write<P: Pages>(&mut self, pages: &mut DurablePages<P>, in_hand: InHand<'_>) {
        let bytes = &mut self.0;
        bytes.clear();
        let message = in_hand.message.get(..IN_HAND_BYTES).unwrap_or(in_hand.message);
        let length = u32::try_from(message.len()).unwrap_or(0);
        let whose = u128::from(in_hand.life) | u128::from(in_hand.connection.0) << 32;
        let head = whose | u128::from(in_hand.resets) << 64 | u128::from(length) << 96;
        bytes.extend_from_slice(&head.to_le_bytes());
        bytes.extend_from_slice(&in_hand.bytes_in.to_le_bytes());
        bytes.extend_from_slice(message);
        let crc = pages.crc()(0, bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        pages.write_desk(MARK_AT, bytes);
        // Whatever ends the life from here on, the next one reads what is there.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }

    /// Takes it away.
    pub(crate) fn wipe<P: Pages>(pages: &mut DurablePages<P>) {
        pages.write_desk(MARK_AT, &[0; MARK_BYTES]);
    }

    /// The mark that an earlier life left, if it verifies.
    pub(crate) fn read<P: Pages>(pages: &DurablePages<P>) -> Option<Mark> {
        let mark = Mark(pages.desk().get(MARK_AT..)?.to_vec());
        let length = mark.in_hand()?.message.len().saturating_add(24);
        let crc = mark.0.get(length..)?.first_chunk::<4>()?;
        (pages.crc()(0, mark.0.get(..length)?).to_le_bytes() == *crc).then_some(mark)
    }

    /// What it says.
    pub fn in_hand(&self) -> Option<InHand<'_>> {
        let (life, rest) = self.0.split_first_chunk::<4>()?;
        let (connection, rest) = rest.split_first_chunk::<4>()?;
        let (resets, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (bytes_in, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        Some(InHand {
            life: u32::from_le_bytes(*life),
            connection: ConnectionId(u32::from_le_bytes(*connection)),
            resets: u32::from_le_bytes(*resets),
            bytes_in: u64::from_le_bytes(*bytes_in),
            message: rest.get(..length).filter(|_| length <= IN_HAND_BYTES)?,
        })
    }
}

/// What the last life had in hand, in pages that cannot be gone on with.
pub fn last_in_hand<P: Pages>(pages: P) -> Option<Mark> {
    Mark::read(&DurablePages::open(pages).ok()?)
}

/// Lives that began one after the other without getting anything done. What does not verify is none.
pub(crate) fn attempts<P: Pages>(pages: &DurablePages<P>) -> u32 {
    let found = pages.desk().get(ATTEMPTS_AT..).and_then(|desk| {
        let (count, rest) = desk.split_first_chunk::<4>()?;
        let (complement, _) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count);
        (u32::from_le_bytes(*complement) == !count).then_some(count)
    });
    found.unwrap_or(0)
}

/// The bytes of that count, whatever they are.
pub(crate) fn attempts_as_they_lie<P: Pages>(pages: &DurablePages<P>) -> Vec<u8> {
    pages.desk().iter().take(MARK_AT).copied().collect()
}

/// Undoes [`set_attempts`].
pub(crate) fn put_attempts_back<P: Pages>(pages: &mut DurablePages<P>, before: &[u8]) {
    pages.write_desk(ATTEMPTS_AT, before);
    pages.barrier();
}

/// Says how many there were.
pub(crate) fn set_attempts<P: Pages>(pages: &mut DurablePages<P>, count: u32) {
    let mut bytes = Vec::from(count.to_le_bytes());
    bytes.extend_from_slice(&(!count).to_le_bytes());
    pages.write_desk(ATTEMPTS_AT, &bytes);
    pages.barrier();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extents::EXTENT;
    use crate::pages::SlicePages;

    fn pages() -> DurablePages<SlicePages<Vec<u8>>> {
        DurablePages::format(SlicePages(alloc::vec![0xff; 20 * EXTENT])).unwrap()
    }

    fn in_hand(message: &[u8]) -> InHand<'_> {
        InHand {
            life: 3,
            connection: ConnectionId(7),
            resets: 1,
            bytes_in: 99,
            message,
        }
    }

    #[test]
    fn a_mark_is_read_back_until_it_is_wiped() {
        let mut pages = pages();
        assert_eq!(Mark::read(&pages), None);
        let mut mark = Mark::default();
        for message in [&[][..], &[1; 16], &[2; 200]] {
            mark.write(&mut pages, in_hand(message));
            let found = Mark::read(&pages).unwrap();
            let shown = &message[..message.len().min(IN_HAND_BYTES)];
            assert_eq!(found.in_hand(), Some(in_hand(shown)));
        }
        Mark::wipe(&mut pages);
        assert_eq!(Mark::read(&pages), None);
    }

    #[test]
    fn a_torn_mark_is_none() {
        for torn in MARK_AT..MARK_AT + 28 + 20 {
            let mut pages = pages();
            Mark::default().write(&mut pages, in_hand(&[5; 20]));
            let byte = pages.desk()[torn];
            pages.write_desk(torn, &[byte ^ 1]);
            assert_eq!(Mark::read(&pages), None, "byte {torn}");
        }
    }

    #[test]
    fn attempts_that_do_not_verify_are_none() {
        let mut pages = pages();
        assert_eq!(attempts(&pages), 0);
        set_attempts(&mut pages, 5);
        assert_eq!(attempts(&pages), 5);
        pages.write_desk(ATTEMPTS_AT, &[4]);
        assert_eq!(attempts(&pages), 0);
    }
}
