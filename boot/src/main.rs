//! The image `xenstore-stubdom`: everything between Xen starting the domain and the kernel's first instruction.
//!
//! Entries for PVH, PV and a restart in place ([`entry`]), page tables without writable code and with guard pages
//! ([`paging`], [`memory`]), traps ([`traps`]), waiting for events ([`wait`]), the heap ([`heap`]). Knows Xen, not Xenstore.
#![no_std]
#![no_main]
#![warn(clippy::undocumented_unsafe_blocks)]

extern crate alloc;

use boot::{frames, layout};
#[cfg(feature = "image")]
use kernel::serve;

/// The smallest domain that makes sense, pages: the image, 2 MiB of heap and as much durable memory.
const MINIMUM_PAGES: u64 = 6 * 256;

#[cfg(not(feature = "image"))]
fn serve(_: xen_bindings::Platform) -> ! {
    panic::fail(format_args!(
        "this image has no kernel; it can only run its self-test (command line: selftest)"
    ))
}

mod entry;
mod heap;
mod intrinsics;
mod kept;
mod memory;
mod paging;
mod panic;
mod pv;
mod pvh;
mod selftest;
mod start;
mod traps;
mod wait;
