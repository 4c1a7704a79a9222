//! Ends a domain from dom0 without Xenstore, as a crash of it or an administrator's mistake would: for scenarios in which the store
//! itself ends, where `xl` is of no use any more.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xen_bindings::dom0::{Dom0, ShutdownReason};

/// Ends a domain without asking the store
#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    how: How,
}

#[derive(Subcommand)]
enum How {
    /// It shuts down with the reason "crash"
    Crash { domid: u16 },
    /// It is destroyed
    Destroy { domid: u16 },
}

fn main() -> ExitCode {
    match run(&Line::parse().how) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end-domain: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(how: &How) -> Result<()> {
    let dom0 = Dom0::open()?;
    match how {
        How::Crash { domid } => dom0.shut_down(*domid, ShutdownReason::Crash)?,
        How::Destroy { domid } => dom0.destroy(*domid)?,
    }
    Ok(())
}
