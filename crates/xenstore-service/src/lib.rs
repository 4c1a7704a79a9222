//! The loop of the Xenstore server, once for every machine it runs on.
//!
//! [`Service::round`] takes what clients sent, decides and commits each request, makes the round durable, and only then
//! lets anything become visible: read indices, replies and events, with at most one notification for each client. What a
//! machine is (event channels and granted pages, a Unix socket, a simulator) is behind the trait [`Machine`], and how one
//! client is reached behind the trait [`Link`].
//!
//! This crate does not know Xen, and nothing of what requests mean.
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

mod link;
mod machine;
mod quiet;
mod service;
mod trace;

pub use link::{Link, LinkState, RingLink};
pub use machine::{Event, Machine};
pub use service::{Reach, Reached, Service, TIDY_PER_ROUND};
