//! Counters of what this domain asks Xen for, kept since the last (warm or cold) start.
//!
//! One vCPU adds to them, so an addition is a relaxed load and store, not a locked instruction.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upcalls; counted by the assembly handler, which needs the address.
pub static UPCALLS: AtomicU64 = AtomicU64::new(0);
static HYPERCALLS: AtomicU64 = AtomicU64::new(0);
static NOTIFIES: AtomicU64 = AtomicU64::new(0);
static NOTIFY_FAILURES: AtomicU64 = AtomicU64::new(0);
static BLOCKS: AtomicU64 = AtomicU64::new(0);
static GRANT_MAPS: AtomicU64 = AtomicU64::new(0);
static GRANT_UNMAPS: AtomicU64 = AtomicU64::new(0);
static CONSOLE_BYTES_LOST: AtomicU64 = AtomicU64::new(0);

/// A reading of all counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hypercalls of every kind, notifies included. A PVH domain blocks and writes to port 0xE9 without one.
    pub hypercalls: u64,
    /// Events sent to other domains.
    pub notifies: u64,
    /// Events that could not be sent (the port is closed, or its other end is gone).
    pub notify_failures: u64,
    /// Times the vCPU gave up the processor until an event or the deadline.
    pub blocks: u64,
    /// Upcalls taken.
    pub upcalls: u64,
    /// Pages of other domains mapped, with success.
    pub grant_maps: u64,
    /// Such pages unmapped, with success.
    pub grant_unmaps: u64,
    /// Bytes for the console that found its ring full.
    pub console_bytes_lost: u64,
}

/// Reads all counters.
#[must_use]
pub fn read() -> Counters {
    Counters {
        hypercalls: HYPERCALLS.load(Relaxed),
        notifies: NOTIFIES.load(Relaxed),
        notify_failures: NOTIFY_FAILURES.load(Relaxed),
        blocks: BLOCKS.load(Relaxed),
        upcalls: UPCALLS.load(Relaxed),
        grant_maps: GRANT_MAPS.load(Relaxed),
        grant_unmaps: GRANT_UNMAPS.load(Relaxed),
        console_bytes_lost: CONSOLE_BYTES_LOST.load(Relaxed),
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

pub(crate) fn hypercall() {
    add(&HYPERCALLS, 1);
}

pub(crate) fn notify(succeeded: bool) {
    add(if succeeded { &NOTIFIES } else { &NOTIFY_FAILURES }, 1);
}

pub(crate) fn block() {
    add(&BLOCKS, 1);
}

pub(crate) fn grant_map() {
    add(&GRANT_MAPS, 1);
}

pub(crate) fn grant_unmap() {
    add(&GRANT_UNMAPS, 1);
}

pub(crate) fn console_lost(bytes: u64) {
    add(&CONSOLE_BYTES_LOST, bytes);
}
