//! The bench's hand in dom0: asks the store as a client, or has guests ask it, and measures what that took of whose processor.
//!
//! [`operation`] is what is asked, [`rows`] asks it from dom0, [`crowd`] directs guests of our own (role `bench` of `ring-guest`), and
//! [`clocks`] knows who has run for how long. What was measured is printed as marks that the harness reads.
#![forbid(unsafe_code)]

// `xenbus-client` uses more of it.
#[allow(dead_code)]
#[path = "../xenbus-client/bus.rs"]
mod bus;
mod clocks;
mod crowd;
#[path = "../../bench/figures.rs"]
mod figures;
mod operation;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::clocks::{Clocks, Server};

/// Measures the Xenstore server of this host from dom0
#[derive(Parser)]
struct Line {
    /// Who serves: the number of a domain, or `process:PID`
    #[arg(long)]
    server: Server,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Operations of clients in dom0, one at a time and sixteen at once
    Rows {
        /// A daemon's socket instead of dom0's ring
        #[arg(long)]
        socket: Option<PathBuf>,
        /// Seconds for each row, at least
        #[arg(long, default_value_t = 0.05)]
        seconds: f64,
        /// Only operations whose name contains this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Guests that run already ask at the same time
    Crowd {
        /// Seconds that they ask
        #[arg(long, default_value_t = 0.5)]
        seconds: f64,
        /// The first of them is greedy
        #[arg(long)]
        greedy: bool,
        /// Their numbers
        #[arg(required = true)]
        guests: Vec<u16>,
    },
}

fn main() -> ExitCode {
    match run(Line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(line: Line) -> Result<()> {
    let clocks = Clocks::new(line.server)?;
    match line.what {
        What::Rows { socket, seconds, only } => rows::measure(&clocks, socket.as_deref(), seconds, &only),
        What::Crowd {
            seconds,
            greedy,
            guests,
        } => crowd::measure(&clocks, &guests, seconds, greedy),
    }
}

/// Prints a mark with what was measured.
fn tell(name: &str, figures: &impl Serialize) -> Result<()> {
    println!("@@ value {name} {}", serde_json::to_string(figures)?);
    Ok(())
}
