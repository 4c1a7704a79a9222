//! Watches the store domain from dom0, and keeps what tells why it ended.
//!
//! A dead store cannot be asked anything: whatever uses Xenstore waits for ever, `xl` included. So this program asks Xen alone
//! (`xen_bindings::dom0`). It knows nothing about Xenstore's protocol, and nothing about the image except that its page tables map
//! what is worth keeping.

#![forbid(unsafe_code)]

mod command_line;
mod console;
mod core_file;
mod cores;
mod log;
mod memory;
mod report;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    command_line::main()
}
