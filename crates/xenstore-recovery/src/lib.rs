//! The durable pages of the Xenstore server: where the arena's chunks, the log of records and the connection slots lie,
//! and the order in which they are written.
//!
//! [`Store`] is a [`Server`] together with its pages. [`Store::commit`] writes a record and then applies it;
//! [`Store::seal`] makes all that was committed durable and hands out the [`Durable`] without which nothing may become
//! visible to a client. The memory itself is behind the trait [`Pages`].
//!
//! Writing is complete; reading the pages back after a crash is not in this version (see the README's list).
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

extern crate alloc;

mod extents;
mod log;
mod pages;
mod slots;
mod store;

pub use extents::{DurablePages, EXTENT, PageFigures, TooSmall};
pub use pages::{Pages, SlicePages};
pub use store::{Durable, Store};
