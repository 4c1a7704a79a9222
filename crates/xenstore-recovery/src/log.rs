//! The log of records: a ring of bytes in the log extents. Each record is framed with its sequence number, its length
//! and a CRC over all of it, so that a reader finds the end by the first frame that does not verify.

use alloc::vec::Vec;

use crc::{CRC_32_ISCSI, Crc, Table};
use xenstore_core::Record;

use crate::extents::{DurablePages, EXTENT, Kind};
use crate::pages::Pages;

const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Sequence number (8), length (4), CRC of the rest and of these (4).
const FRAME: usize = 16;

/// Where the next record goes.
#[derive(Debug, Default)]
pub(crate) struct Log {
    at: usize,
    sequence: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// Records written so far.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes a record behind the last one: first its body, then, past a barrier, its frame.
    pub fn append<P: Pages>(&mut self, pages: &mut DurablePages<P>, record: &Record) {
        self.buffer.clear();
        let buffer = core::mem::take(&mut self.buffer);
        // Only memory that runs out could make this fail, and that is a panic, which is a restart.
        let Ok(body) = postcard::to_extend(record, buffer) else {
            return;
        };
        let length = FRAME.saturating_add(body.len());
        while pages.logs.len().saturating_mul(EXTENT) < length && pages.take(Kind::Log) {}
        let capacity = pages.logs.len().saturating_mul(EXTENT);
        if self.at.saturating_add(length) > capacity {
            self.at = 0;
        }
        let sequence = self.sequence.saturating_add(1);
        let mut frame = [0u8; FRAME];
        let (head, crc_place) = frame.split_at_mut(12);
        let (number, size) = head.split_at_mut(8);
        number.copy_from_slice(&sequence.to_le_bytes());
        size.copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut digest = CRC.digest();
        digest.update(head);
        digest.update(&body);
        crc_place.copy_from_slice(&digest.finalize().to_le_bytes());
        write(pages, self.at.saturating_add(FRAME), &body);
        pages.barrier();
        write(pages, self.at, &frame);
        self.at = self.at.saturating_add(length);
        self.sequence = sequence;
        self.buffer = body;
    }
}

/// Writes over the borders of extents.
fn write<P: Pages>(pages: &mut DurablePages<P>, mut at: usize, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Some(extent) = pages.logs.get(at / EXTENT).copied() else {
            return;
        };
        let inside = at % EXTENT;
        let (now, later) = bytes.split_at(bytes.len().min(EXTENT.saturating_sub(inside)));
        pages.store_at(extent, inside, now);
        at = at.saturating_add(now.len());
        bytes = later;
    }
}
