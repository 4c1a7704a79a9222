//! What our server costs within a process: `ours-inside requests`, `recovery`, `room`; prints JSON. `ours-inside counted` is for callgrind alone.
#![forbid(unsafe_code)]

use std::io::Write as _;

use clap::Parser;
use store_bench::inside::{Results, count, recovery, settings, store, time};

#[derive(Parser)]
enum Command {
    /// Nanoseconds and instructions of requests.
    Requests {
        /// Nodes of the stores.
        #[arg(long, value_delimiter = ',')]
        nodes: Vec<usize>,
        /// The part of the usual number of requests that is done.
        #[arg(long, default_value_t = 1.0)]
        share: f64,
        /// Counts no instructions.
        #[arg(long)]
        no_instructions: bool,
        /// Only the stores of --nodes, not those in which something else varies.
        #[arg(long)]
        only_nodes: bool,
        /// Only this work, by its name in the tables, for a profiler.
        #[arg(long)]
        only: Option<String>,
    },
    /// How long stores of so many nodes take to be read back.
    Recovery {
        /// Nodes of the stores.
        #[arg(long, value_delimiter = ',')]
        nodes: Vec<usize>,
    },
    /// How many nodes durable pages of so many bytes have room for.
    Room {
        /// Bytes.
        bytes: usize,
    },
    /// Does work, to be counted.
    #[command(hide = true)]
    Counted {
        /// PAGES NODES WATCHES WIDE OPEN WORK…
        arguments: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Requests {
            nodes,
            share,
            no_instructions,
            only_nodes,
            only,
        } => {
            let mut results = Results::default();
            let mut wanted = settings(&nodes);
            if only_nodes {
                wanted.truncate(nodes.len());
            }
            for (setting, mut works) in wanted {
                works.retain(|work| only.as_deref().is_none_or(|only| only == work.name()));
                if works.is_empty() {
                    continue;
                }
                progress(&format!("in process: {setting:?}, filling"));
                let bytes = store::filled(setting);
                progress(&format!("in process: {setting:?}, time"));
                let mut rows = time::rows(setting, &works, share, bytes.clone());
                if !no_instructions && results.not_counted.is_none() {
                    progress(&format!("in process: {setting:?}, instructions"));
                    results.not_counted = count::add(&mut rows, setting, &bytes)?;
                }
                results.rows.extend(rows);
            }
            progress("");
            println!("{}", serde_json::to_string(&results)?);
        }
        Command::Recovery { nodes } => {
            let mut all = Vec::new();
            for nodes in nodes {
                progress(&format!("recovery of {nodes} nodes"));
                all.push(recovery::of(nodes)?);
            }
            progress("");
            println!("{}", serde_json::to_string(&all)?);
        }
        Command::Room { bytes } => println!("{}", recovery::fit(bytes)),
        Command::Counted { arguments } => count::run(&arguments)?,
    }
    Ok(())
}

/// One line that is written over by the next.
fn progress(text: &str) {
    let mut out = std::io::stderr();
    // Nobody reads it when this fails.
    let _unread = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
}
