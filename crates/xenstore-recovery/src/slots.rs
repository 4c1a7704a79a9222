//! One slot for each connection: how far its output has become visible. Publishing changes nothing else, so it is kept
//! here, in place, rather than in the log: the intent `from → to` before the ring is touched, the result after.

use crate::extents::{DurablePages, EXTENT, Kind};
use crate::pages::Pages;
use xenstore_core::ConnectionId;

/// Connection (4), phase (4), from (8), to (8), reserved (8).
const SLOT: usize = 32;
const SLOTS: usize = EXTENT / SLOT;

/// Where in publishing a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The ring may show `from` or `to`.
    Publishing = 1,
    /// The ring shows `to`.
    Published = 2,
}

/// Writes the slot of a connection. `place` is the connection's place among those that live.
pub(crate) fn write<P: Pages>(
    pages: &mut DurablePages<P>,
    place: usize,
    connection: ConnectionId,
    phase: Phase,
    from: u64,
    to: u64,
) {
    while pages.slots.len() <= place / SLOTS {
        if !pages.take(Kind::Slots) {
            return;
        }
    }
    let Some(extent) = pages.slots.get(place / SLOTS).copied() else {
        return;
    };
    let mut slot = [0u8; SLOT];
    let fields = [
        &connection.0.to_le_bytes()[..],
        &(phase as u32).to_le_bytes(),
        &from.to_le_bytes(),
        &to.to_le_bytes(),
    ];
    let mut at = 0usize;
    for field in fields {
        if let Some(target) = slot.get_mut(at..at.saturating_add(field.len())) {
            target.copy_from_slice(field);
        }
        at = at.saturating_add(field.len());
    }
    pages.store_at(extent, (place % SLOTS).saturating_mul(SLOT), &slot);
    pages.barrier();
}
