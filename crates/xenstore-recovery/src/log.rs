//! The log of records: behind each checkpoint, the records that came since, framed with sequence number, length and CRC,
//! so that a reader finds the end by the first frame that does not verify or is not the next one.

use alloc::vec::Vec;

use xenstore_core::Record;
use xenstore_core::tree::Crc32c;

use crate::extents::{DurablePages, EXTENT, Kind};
use crate::pages::Pages;

/// Sequence number (8), length of the body (4), CRC of these and the body (4).
const FRAME: usize = 16;

/// Which of the two logs and checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Side {
    #[default]
    A,
    B,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    pub fn log(self) -> Kind {
        match self {
            Side::A => Kind::LogA,
            Side::B => Kind::LogB,
        }
    }

    pub fn checkpoint(self) -> Kind {
        match self {
            Side::A => Kind::CheckpointA,
            Side::B => Kind::CheckpointB,
        }
    }
}

/// Where the next record goes.
#[derive(Debug, Default)]
pub(crate) struct Log {
    side: Side,
    at: usize,
    sequence: u64,
}

impl Log {
    /// An empty log on this side, behind the checkpoint that holds everything up to `sequence`.
    pub fn behind(side: Side, sequence: u64) -> Log {
        Log { side, at: 0, sequence }
    }

    pub fn side(&self) -> Side {
        self.side
    }

    /// The number of the last record written.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of the records in it.
    pub fn bytes(&self) -> usize {
        self.at
    }

    /// A record of this length (encoded) has room without more extents.
    pub fn has_room<P: Pages>(&self, pages: &DurablePages<P>, body: usize) -> bool {
        let capacity = pages.extents_of(self.side.log()).len().saturating_mul(EXTENT);
        self.end_of(body) <= capacity
    }

    fn end_of(&self, body: usize) -> usize {
        self.at.saturating_add(FRAME).saturating_add(body)
    }

    /// Writes a record behind the last one: first its body, then, past a barrier, its frame. False if there is no room, not
    /// even by taking more extents; then nothing was written.
    pub fn append<P: Pages>(&mut self, pages: &mut DurablePages<P>, body: &[u8]) -> bool {
        let kind = self.side.log();
        let end = self.end_of(body.len());
        if !pages.ensure(kind, end) {
            return false;
        }
        let sequence = self.sequence.saturating_add(1);
        let frame = frame(sequence, body, pages.crc());
        pages.write(kind, self.at.saturating_add(FRAME), body);
        pages.barrier();
        pages.write(kind, self.at, &frame);
        self.at = end;
        self.sequence = sequence;
        true
    }

    /// Reads the next record; `body` is room for it. None at the end.
    pub fn read<P: Pages>(&mut self, pages: &DurablePages<P>, body: &mut Vec<u8>) -> Option<Record> {
        let (length, found) = self.next_frame(pages)?;
        pages.read_into(body, self.side.log(), self.at.saturating_add(FRAME), length)?;
        if frame(self.sequence.saturating_add(1), body, pages.crc()) != found {
            return None;
        }
        let record = postcard::from_bytes(body).ok()?;
        self.pass(length);
        Some(record)
    }

    /// The number of the last record that is reached from here, by the frames: to the end of this log, and of the other one if it
    /// goes on there.
    pub fn reaches<P: Pages>(mut self, pages: &DurablePages<P>) -> u64 {
        while self.skip(pages).is_some() {}
        let mut other = Log::behind(self.side.other(), self.sequence);
        while other.skip(pages).is_some() {}
        other.sequence
    }

    /// Goes past the next record, which is whole.
    fn skip<P: Pages>(&mut self, pages: &DurablePages<P>) -> Option<()> {
        let (length, found) = self.next_frame(pages)?;
        let pieces = pages.pieces(self.side.log(), self.at.saturating_add(FRAME), length)?;
        if framed(self.sequence.saturating_add(1), length, pieces, pages.crc()) != found {
            return None;
        }
        self.pass(length);
        Some(())
    }

    /// The length of the next record, and the frame that says so and is yet to be held against it.
    fn next_frame<P: Pages>(&self, pages: &DurablePages<P>) -> Option<(usize, [u8; FRAME])> {
        let mut pieces = pages.pieces(self.side.log(), self.at, FRAME)?;
        let piece = pieces.next()?;
        let found = match piece.first_chunk::<FRAME>() {
            Some(whole) => *whole,
            None => {
                let mut parts = piece.iter().chain(pieces.flatten());
                core::array::from_fn(|_| parts.next().copied().unwrap_or(0))
            }
        };
        let (sequence, rest) = found.split_first_chunk::<8>()?;
        let (length, _) = rest.split_first_chunk::<4>()?;
        let is_next = u64::from_le_bytes(*sequence) == self.sequence.saturating_add(1);
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        is_next.then_some((length, found))
    }

    fn pass(&mut self, length: usize) {
        self.at = self.end_of(length);
        self.sequence = self.sequence.saturating_add(1);
    }
}

/// The frame of a body.
fn frame(sequence: u64, body: &[u8], crc32c: Crc32c) -> [u8; FRAME] {
    framed(sequence, body.len(), core::iter::once(body), crc32c)
}

/// The frame of a body that lies in pieces.
fn framed<'b>(sequence: u64, length: usize, body: impl Iterator<Item = &'b [u8]>, crc32c: Crc32c) -> [u8; FRAME] {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let head = u128::from(sequence) | u128::from(length) << 64;
    let bytes = head.to_le_bytes();
    let crc = body.fold(crc32c(0, bytes.get(..12).unwrap_or_default()), crc32c);
    (head | u128::from(crc) << 96).to_le_bytes()
}
