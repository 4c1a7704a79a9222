//! The note of the last record: what clients may know of, so that a log that ends before it is known to be damaged.
//!
//! A log ends at the first frame that does not verify, and that may be the place where the last life ended, or the place where
//! a byte changed by itself. So whoever lets clients see something notes first which record was the last: its number and the
//! complement of it, twice, in place, in the header. There are two notes, written in turn: where one is torn, the other one tells
//! what was noted before, and what came since was not shown to anyone yet. Of a note that is torn one half is whole, the new one or
//! that of before. So a note that says nothing was not torn but damaged, and the log must lead further than the other one says.

use crate::extents::{DurablePages, NOTES_AT, NOTES_END};
use crate::pages::Pages;

/// Bytes of a note: what it says, twice.
const NOTE: usize = 2 * HALF;
const HALF: usize = 16;
const _: () = assert!(NOTES_AT + 2 * NOTE == NOTES_END);

/// Which record was noted last, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Noted {
    /// The number of the record.
    sequence: u64,
    /// The log must lead to this record at least.
    pub least: u64,
    /// In the second place.
    second: bool,
}

impl Noted {
    /// Notes this record in the other place, unless it is noted already. Its frame is durable.
    pub fn note<P: Pages>(&mut self, pages: &mut DurablePages<P>, sequence: u64) {
        if sequence == self.sequence {
            return;
        }
        *self = Noted {
            sequence,
            least: sequence,
            second: !self.second,
        };
        self.write(pages);
    }

    fn write<P: Pages>(self, pages: &mut DurablePages<P>) {
        let both = [emit(self.sequence); 2];
        pages.store_at(0, place(self.second), both.as_flattened());
    }
}

/// In a new store nothing is there to be known.
pub(crate) fn first<P: Pages>(pages: &mut DurablePages<P>) {
    Noted::default().write(pages);
}

/// What a place says.
enum Slot {
    /// Nothing was written there yet.
    Blank,
    Says(u64),
    /// Neither half verifies.
    Damaged,
}

fn slot<P: Pages>(pages: &DurablePages<P>, second: bool) -> Slot {
    let half = |at: usize| {
        pages
            .header()
            .get(place(second).saturating_add(at)..)?
            .first_chunk::<HALF>()
    };
    let halves = [half(0), half(HALF)];
    let whole = halves.into_iter().flatten().filter_map(|half| {
        let sequence = u64::from_le_bytes(*half.first_chunk::<8>()?);
        (emit(sequence) == *half).then_some(sequence)
    });
    match whole.max() {
        Some(sequence) => Slot::Says(sequence),
        None if halves == [Some(&[0; HALF]); 2] => Slot::Blank,
        None => Slot::Damaged,
    }
}

/// The newest note. None if neither says anything.
pub(crate) fn read<P: Pages>(pages: &DurablePages<P>) -> Option<Noted> {
    let (sequence, second, other) = match (slot(pages, false), slot(pages, true)) {
        (Slot::Says(first), Slot::Says(second)) => (first.max(second), second > first, None),
        (Slot::Says(first), other) => (first, false, Some(other)),
        (other, Slot::Says(second)) => (second, true, Some(other)),
        _ => return None,
    };
    let further = match other {
        None => false,
        // In a new store the second one comes with the first record.
        Some(Slot::Blank) => sequence != 0 || second,
        Some(_) => true,
    };
    Some(Noted {
        sequence,
        least: sequence.saturating_add(u64::from(further)),
        second,
    })
}

fn place(second: bool) -> usize {
    if second {
        NOTES_AT.saturating_add(NOTE)
    } else {
        NOTES_AT
    }
}

fn emit(sequence: u64) -> [u8; HALF] {
    (u128::from(sequence) | u128::from(!sequence) << 64).to_le_bytes()
}
