//! The image `xenstore-stubdom`: everything between Xen starting the domain and the kernel's first instruction.
//!
//! Entries for PVH, PV and a restart in place ([`entry`]), page tables without writable code and with guard pages
//! ([`paging`], [`memory`]), traps ([`traps`]), waiting for events ([`wait`]), the heap ([`heap`]). Knows Xen, not Xenstore.
#![no_std]
#![no_main]
#![warn(clippy::undocumented_unsafe_blocks)]

extern crate alloc;

use boot::{frames, layout};

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
