//! Boots real Xen in QEMU with our image as its Xenstore, and judges what real clients see.
//!
//! The harness fetches hypervisor, tools and kernel as Debian packages (nothing is installed on the host), assembles dom0's and a
//! guest's initramfs, runs QEMU, and reads marks from the serial line. What happens inside dom0 is written as shell in `dom0/`;
//! what is concluded from it is Rust in `scenarios/`. It knows the images only as files. `bin/xenbus-client` is a program of its own that
//! runs inside dom0 and guests, and so is `bin/bench-client`, dom0's part of `bench/`.
#![forbid(unsafe_code)]

mod apt;
mod archive;
mod bed;
mod bench;
mod boot;
mod cache;
mod cli;
mod client_guest;
mod debian_root;
mod demo;
mod device_guests;
mod dom0;
mod elf_needed;
mod elf_notes;
mod emulator;
mod host;
mod kernel_modules;
mod markers;
mod optional_parts;
mod parts;
mod patience;
mod qemu;
mod report;
mod ring_guests;
mod scenarios;
mod serial;
mod shell;
mod sources;
mod store;
mod traces;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
