//! One Xenstore ring: a page shared with a peer that may be hostile, in both roles.
//!
//! [`ServerRing`] takes requests and gives replies, [`ClientRing`] is the guest's side, for our own test guest and the
//! test harnesses. Both keep private copies of the indices that are theirs, read the peer's indices once per visit,
//! and treat an impossible move as a value ([`RingFault`]). The page is reached through [`SharedPage`], which copies
//! bytes and never lends a reference.
//!
//! This crate knows the layout of the page (`xen/include/public/io/xs_wire.h`, `docs/misc/xenstore-ring.txt`), resets
//! and reconnects, and when a notify is due. It does not know messages, event channels, or what must be durable
//! before a byte may be shown.
//!
//! # A round of the server
//!
//! 1. [`ServerRing::visit`] takes a snapshot. [`ServerRing::peek`] copies requests and moves nothing.
//! 2. When the effects are durable: [`ServerRing::consume`] and [`ServerRing::publish`].
//! 3. [`ServerRing::take_notify`] says whether the peer must get an event now.
//! 4. **Before waiting, visit again.** Linux sends an event for a request only if everything before it had been
//!    consumed when it looked, and for freed reply space only if the reply ring had been full; whatever arrived
//!    between the snapshot and our own store is found by this second look or not at all. For the same reason a ring
//!    that was left with unread requests will not ask for attention again: who leaves them must come back by itself.
//!
//! Both sides decide to sleep by storing their own index and then loading the other's. That needs a full barrier
//! between the two; see [`SharedPage`].
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
#![warn(missing_docs)]

#[cfg(test)]
extern crate alloc;

mod client;
mod fault;
mod indices;
mod layout;
mod memory_page;
mod notify;
mod page;
mod queue;
mod server;
mod visit;

pub use client::{ClientRing, ClientVisit};
pub use fault::RingFault;
pub use indices::{Epoch, Indices};
pub use layout::{ConnectionError, PAGE_SIZE, RING_SIZE, connection, feature, offset};
pub use memory_page::MemoryPage;
pub use notify::freed_space_needs_notify;
pub use page::SharedPage;
pub use server::ServerRing;
pub use visit::Visit;
