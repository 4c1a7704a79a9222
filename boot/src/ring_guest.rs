//! The image `ring-guest`: the guest of the tests, started by the same code as the store.
//!
//! Everything but the kernel is shared with `xenstore-stubdom` (`main.rs`).
#![no_std]
#![no_main]
#![warn(clippy::undocumented_unsafe_blocks)]

extern crate alloc;

use boot::{frames, layout};
use ring_guest::run as serve;

/// The smallest domain that can hold the image, its tables and some heap, pages. Hundreds of them run at once.
const MINIMUM_PAGES: u64 = 3 * 256;

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
