//! The log of records: behind each checkpoint, the records that came since, framed with sequence number, length and CRC,
//! so that a reader finds the end by the first frame that does not verify or is not the next one.

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

    /// Reads the next record. None at the end.
    pub fn read<P: Pages>(&mut self, pages: &DurablePages<P>) -> Option<Record> {
        let kind = self.side.log();
        let found = pages.read(kind, self.at, FRAME)?;
        let length = found.get(8..12).and_then(|bytes| bytes.first_chunk::<4>())?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let sequence = self.sequence.saturating_add(1);
        if found.first_chunk::<8>() != Some(&sequence.to_le_bytes()) {
            return None;
        }
        let body = pages.read(kind, self.at.saturating_add(FRAME), length)?;
        if frame(sequence, &body, pages.crc()).as_slice() != found.as_slice() {
            return None;
        }
        let record = postcard::from_bytes(&body).ok()?;
        self.at = self.end_of(length);
        self.sequence = sequence;
        Some(record)
    }

    /// The number of the last record that is reached from here: to the end of this log, and of the other one if it goes on there.
    pub fn reaches<P: Pages>(mut self, pages: &DurablePages<P>) -> u64 {
        while self.read(pages).is_some() {}
        let mut other = Log::behind(self.side.other(), self.sequence);
        while other.read(pages).is_some() {}
        other.sequence
    }
}

/// The frame of a body.
fn frame(sequence: u64, body: &[u8], crc32c: Crc32c) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let (head, crc) = frame.split_at_mut(FRAME.saturating_sub(4));
    let (number, length) = head.split_at_mut(8);
    number.copy_from_slice(&sequence.to_le_bytes());
    length.copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    crc.copy_from_slice(&crc32c(crc32c(0, head), body).to_le_bytes());
    frame
}
