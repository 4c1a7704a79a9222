//! The Xenstore server as an ordinary daemon: the service of `xenstore-service` on a machine that is a Unix socket.
//!
//! [`Daemon::start`] takes the socket's place, reads back or makes the store, and listens; [`Daemon::run`] serves until a
//! [`Stopper`] ends it; [`Daemon::finish`] leaves everything tidy. The program in `main.rs` adds the command line, signals and
//! systemd. This crate knows nothing of Xen, though it takes a checksum from the crate that does: there are no domains here but
//! the one that all clients speak for, dom0.
#![forbid(unsafe_code)]

mod daemon;
mod failure;
mod limits;
mod link;
mod log;
mod machine;
mod pages;
mod socket;
mod state_file;

pub use daemon::{Daemon, Settings};
pub use failure::Failure;
pub use link::SocketLink;
pub use machine::{SocketMachine, Stopper};
pub use pages::{LARGEST, SMALLEST, StatePages, Sync};
