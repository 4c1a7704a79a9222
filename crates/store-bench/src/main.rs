//! Our server and Debian's, natively on the same rings, under the same load in one run: what each request costs the server.
//!
//! [`host`] is one server with its domains, [`client`] one domain's side of its ring, [`operation`] what is asked, [`storm`] many
//! VMs and many transactions at once, [`process`] what the system knows of a server's process, [`rows`] which rows there are, and
//! [`report`] makes them a table, a JSON file and charts.
#![forbid(unsafe_code)]

mod charts;
mod client;
mod host;
mod operation;
mod process;
mod report;
mod rows;
mod storm;

use std::path::PathBuf;

use clap::Parser;

use crate::host::Kind;
use crate::report::Report;
use crate::rows::Plan;

/// Measures our Xenstore server beside Debian's C xenstored and oxenstored, as processes on rings in files.
#[derive(Parser)]
struct Options {
    /// How many domains.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,4000")]
    domains: Vec<u16>,
    /// How many watches each domain has, on nodes that nobody touches.
    #[arg(long, value_delimiter = ',', default_value = "0,10,100")]
    watches: Vec<u32>,
    /// How many VMs live at once in the storm.
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100,300,1000")]
    storm: Vec<usize>,
    /// Only operations whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Servers to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ours,c,oxenstored")]
    servers: Vec<Kind>,
    /// Another build of our server (`ours-on-rings`), measured beside this one.
    #[arg(long)]
    base: Option<PathBuf>,
    /// Seconds for each row and server, at least; every domain is served at least once.
    #[arg(long, default_value_t = 0.15)]
    seconds: f64,
    /// Seconds after which a storm is given up.
    #[arg(long, default_value_t = 60.0)]
    patience: f64,
    /// Writes everything that was measured into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draws charts into this folder.
    #[arg(long)]
    charts: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut servers: Vec<(Kind, Option<PathBuf>)> = options.servers.iter().map(|kind| (*kind, None)).collect();
    if let Some(base) = options.base {
        servers.push((Kind::Base, Some(base)));
    }
    let plan = Plan {
        servers,
        domains: options.domains,
        watches: options.watches,
        storm: options.storm,
        only: options.only,
        seconds: options.seconds,
        patience: options.patience,
    };
    let report = Report::new(plan.measure()?);
    print!("{}", report.tables());
    if let Some(path) = options.json {
        report.write_json(&path)?;
    }
    if let Some(folder) = options.charts {
        charts::draw(&report, &folder)?;
    }
    Ok(())
}
