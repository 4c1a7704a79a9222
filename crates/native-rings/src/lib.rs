//! Xenstore rings without Xen: pages as files in a folder, events through FIFOs, and Debian's own servers behind them.
//!
//! Tests and benches use this to hold the server that everybody has against ours over the same rings, with as many
//! simulated domains as they like, in one unprivileged process each. A [`Folder`] is the host: its domains, their pages
//! and their event channels. A [`Daemon`] is an unmodified C xenstored or oxenstored that runs in it, because a preload
//! library (`stand-in/`) takes the place of Xen's libraries. A [`ServerSide`] is what a server of our own sees of the folder. [`packages`] gets the program, [`clients`] those that talk to one. For Linux on x86-64.
//!
//! This crate may contain `unsafe` (mapped pages, three system calls, the preload library); what it offers is safe. It
//! knows rings as pages only, and nothing of what is said over them.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("native-rings is for Linux on x86-64: the preload library names its system calls by number");

pub mod clients;
mod daemon;
mod failure;
mod folder;
mod layout;
mod memory;
pub mod packages;
mod server_side;

pub use daemon::Daemon;
pub use failure::Failure;
pub use folder::{Folder, Life};
pub use layout::REMOTE_PORT_MAX;
pub use memory::Page;
pub use server_side::{ServerSide, Signal};
