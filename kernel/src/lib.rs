//! The Xenstore stub domain: the service on a machine that is Xen.
//!
//! [`serve`] gets everything that boot found ([`Platform`]), reads the command line, connects dom0 and runs the loop of
//! `xenstore-service`. Windows and ports are a cache of what the server's state says; nothing here needs to survive.
//! This crate is safe Rust: memory, hypercalls and page tables are behind `xen-bindings`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod clock;
mod console;
mod machine;
mod options;
mod own_ring;
mod page;
mod start;

pub use options::{Options, Unknown};
pub use own_ring::check_own_ring;
pub use start::serve;
pub use xen_bindings::Platform;
