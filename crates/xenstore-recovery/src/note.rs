//! The note of the last record: what clients may know of, so that a log that ends before it is known to be damaged.
//!
//! A log ends at the first frame that does not verify, and that may be the place where the last life ended, or the place where
//! a byte changed by itself. So whoever lets clients see something notes first which record was the last: its number and the
//! complement of it, in place, in the header. There are two notes, written in turn: where one is torn, the other one tells what
//! was noted before, and what came since was not shown to anyone yet.

use crate::extents::{DurablePages, NOTES_AT};
use crate::pages::Pages;

/// Bytes of a note.
const NOTE: usize = 16;

/// Which record was noted last, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Noted {
    /// The number of the record.
    pub sequence: u64,
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
            second: !self.second,
        };
        self.write(pages);
    }

    fn write<P: Pages>(self, pages: &mut DurablePages<P>) {
        pages.store_at(0, place(self.second), &emit(self.sequence));
    }
}

/// In a new store nothing is there to be known.
pub(crate) fn first<P: Pages>(pages: &mut DurablePages<P>) {
    Noted::default().write(pages);
}

/// The newest note. None if neither verifies: a life that ends can tear one.
pub(crate) fn read<P: Pages>(pages: &DurablePages<P>) -> Option<Noted> {
    let found = |second| {
        let bytes = pages.header().get(place(second)..)?.first_chunk::<NOTE>()?;
        let sequence = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
        (emit(sequence) == *bytes).then_some(Noted { sequence, second })
    };
    let notes = [found(false), found(true)].into_iter().flatten();
    notes.max_by_key(|noted| noted.sequence)
}

fn place(second: bool) -> usize {
    if second {
        NOTES_AT.saturating_add(NOTE)
    } else {
        NOTES_AT
    }
}

fn emit(sequence: u64) -> [u8; NOTE] {
    (u128::from(sequence) | u128::from(!sequence) << 64).to_le_bytes()
}
