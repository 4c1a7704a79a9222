//! Checkpoints: the server's state as of one record, without the tree, whose blocks are in the pages already.
//!
//! A checkpoint is written whole into the extents of one side while the other side's checkpoint and log are still good; its
//! head, stored last, makes it count.

use alloc::vec::Vec;

use xenstore_core::State;
use xenstore_core::tree::Crc32c;

use crate::extents::{DurablePages, Kind};
use crate::log::Side;
use crate::pages::Pages;

/// Sequence number of the last record in it (8), length of the body (8), CRC of these and the body (4).
const HEAD: usize = 20;

fn head(sequence: u64, body: &[u8], crc32c: Crc32c) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(&sequence.to_le_bytes());
    head.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let crc = crc32c(crc32c(0, &head), body);
    head.extend_from_slice(&crc.to_le_bytes());
    head
}

/// Writes a checkpoint. False if it does not fit; then the side holds none.
pub(crate) fn write<P: Pages>(pages: &mut DurablePages<P>, side: Side, sequence: u64, body: &[u8]) -> bool {
    let kind: Kind = side.checkpoint();
    // The old one goes first, before its extents are reused.
    erase(pages, side);
    if !pages.ensure(kind, HEAD.saturating_add(body.len())) {
        return false;
    }
    pages.write(kind, HEAD, body);
    pages.barrier();
    let crc32c = pages.crc();
    pages.write(kind, 0, &head(sequence, body, crc32c));
    pages.barrier();
    true
}

/// The side holds no checkpoint any more.
pub(crate) fn erase<P: Pages>(pages: &mut DurablePages<P>, side: Side) {
    pages.write(side.checkpoint(), 0, &[0; HEAD]);
    pages.barrier();
}

/// Reads a side's checkpoint: the number of its last record, and the state. None if there is none that verifies.
pub(crate) fn read<P: Pages>(pages: &DurablePages<P>, side: Side) -> Option<(u64, State)> {
    let found = pages.read(side.checkpoint(), 0, HEAD)?;
    let (sequence, rest) = found.split_first_chunk::<8>()?;
    let (length, _) = rest.split_first_chunk::<8>()?;
    let sequence = u64::from_le_bytes(*sequence);
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let body = pages.read(side.checkpoint(), HEAD, length)?;
    if head(sequence, &body, pages.crc()) != found {
        return None;
    }
    Some((sequence, postcard::from_bytes(&body).ok()?))
}
