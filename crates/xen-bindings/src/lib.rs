//! Xen as a guest sees it: the public ABI ([`abi`]) and safe wrappers for the parts that a Xenstore domain needs.
//!
//! What a wrapper needs from the machine — where the shared info page lies, which instruction enters Xen — boot says once per
//! start through `unsafe` constructors; from then on everything here is safe to call from code that forbids `unsafe`.
//! Without that (in a test on a host) hypercalls answer `ENOSYS` and nothing happens.
//!
//! One vCPU, the two-level event ABI, grants version 1, x86_64. Knows nothing about Xenstore.
//!
//! The feature `dom0` adds the other side, for programs of dom0's Linux that look at a domain from outside (`dom0`, with std).
#![no_std]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod abi;
pub mod checksum;
pub mod console;
pub mod counters;
#[cfg(feature = "dom0")]
pub mod dom0;
pub mod domain;
mod error;
pub mod events;
pub mod evtchn;
pub mod grant;
pub mod hypercall;
pub mod memory;
mod platform;
pub mod random;
pub mod restart;
pub mod shared_info;
pub mod shutdown;
pub mod time;
pub mod watchdog;
mod window;

pub use error::XenError;
pub use platform::{Mode, Platform};
pub use window::{OwnPage, PAGE_SIZE, Window};
