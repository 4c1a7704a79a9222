//! The durable pages of the Xenstore server: where the arena's chunks, the log of records and the connection slots lie,
//! and the order in which they are written.
//!
//! [`Store`] is a [`Server`] together with its pages. [`Store::commit`] writes a record and then applies it;
//! [`Store::seal`] makes all that was committed durable and hands out the [`Durable`] without which nothing may become
//! visible to a client. The memory itself is behind the trait [`Pages`].
//! An answer that shows a long value or list of names is written down as the name of the node that it shows, and made again
//! from the tree when the record is read back.
//! [`Store::recover`] reads back what an earlier life left: the newest checkpoint, then every record since; the tree's
//! blocks are where they were, checked and not parsed.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    unconditional_recursion,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(
        clippy::unreachable,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

extern crate alloc;

mod checkpoint;
#[cfg(test)]
mod damage;
mod desk;
mod encode;
mod extents;
mod log;
mod note;
#[cfg(test)]
mod older_checkpoint;
mod pages;
mod slots;
mod store;

pub use desk::{Mark, last_in_hand};
pub use extents::{DIRECTORY, DurablePages, EXTENT, NotOurs, PageFigures, TooSmall};
pub use pages::{Pages, SlicePages};
pub use store::{
    Durable, LAST_RECORDS, LIVES_BEFORE_GIVING_UP, LIVES_BEFORE_OLDER, Lost, Recovered, Store, StoreFigures,
};
