//! Our server and Debian's under the same load in one run, in four parts: as processes on rings, within the process, on Unix sockets, and
//! starting. What each request costs the server, what clients wait, what memory it takes, and how long it takes to come back.
//!
//! | file | subject |
//! |---|---|
//! | `load`, `operation`, `client` | clients that are kept busy; what they ask; their messages |
//! | `host`, `rows`, `storm` | on rings: one server with its domains; the rows; many VMs and many transactions at once |
//! | `within` | in process: the programs that measure it |
//! | `socket`, `crowd` | on sockets: one server with its clients; the rows |
//! | `start` | first replies, recovery, the image, how many nodes fit |
//! | `process`, `progress` | programs of ours and what the system knows of a process; how far the bench is |
//! | `results`, `report`, `part_reports`, `charts` | what was measured; tables; charts |
#![forbid(unsafe_code)]

mod charts;
mod client;
mod crowd;
mod host;
mod load;
mod operation;
mod part_reports;
mod process;
mod progress;
mod report;
mod results;
mod rows;
mod socket;
mod start;
mod storm;
mod within;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::host::Kind;
use crate::report::Report;
use crate::results::Results;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// Requests and storms of domains on rings, all servers (long).
    Rings,
    /// Nanoseconds, instructions and bytes within the process, ours.
    Process,
    /// Clients on Unix sockets, all servers.
    Socket,
    /// First replies of all servers; recovery, image and room of ours.
    Start,
}

/// Measures our Xenstore server beside Debian's C xenstored and oxenstored.
#[derive(Parser)]
struct Options {
    /// What to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "process,start,socket,rings"
    )]
    parts: Vec<Part>,
    /// On rings: how many domains.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,4000")]
    domains: Vec<u16>,
    /// On rings: how many watches each domain has, on nodes that nobody touches.
    #[arg(long, value_delimiter = ',', default_value = "0,10,100")]
    watches: Vec<u32>,
    /// On rings: how many VMs live at once in the storm.
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100,300,1000")]
    storm: Vec<usize>,
    /// In process: how many nodes the stores have.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000,1000000")]
    nodes: Vec<usize>,
    /// In process: the part of the usual number of requests that is done.
    #[arg(long, default_value_t = 1.0)]
    share: f64,
    /// In process: counts no instructions, which takes valgrind and minutes.
    #[arg(long)]
    no_instructions: bool,
    /// On sockets: how many clients.
    #[arg(long, value_delimiter = ',', default_value = "1,10,1000,5000")]
    clients: Vec<usize>,
    /// Starting: how many nodes are read back.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,120000,1000000")]
    read_back: Vec<usize>,
    /// On rings and sockets: only operations whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Servers to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ours,c,oxenstored")]
    servers: Vec<Kind>,
    /// The folder with the programs of another build of ours, measured beside this one in each part that it has programs for:
    /// ours-on-rings (rings), ours-inside and ours-weighed (process, start), xenstored-unix (socket, start).
    #[arg(long)]
    base: Option<PathBuf>,
    /// Seconds for each row and server on rings and sockets, at least; every client that asks is served at least once.
    #[arg(long, default_value_t = 0.15)]
    seconds: f64,
    /// On rings: seconds for each row and server, about, at most; a server that needs longer for all domains is asked by fewer of them.
    #[arg(long, default_value_t = 10.0)]
    longest: f64,
    /// On rings: how often the servers are asked in turn for each row; the median counts.
    #[arg(long, default_value_t = 3)]
    passes: u32,
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

impl Options {
    /// The servers, with the folder of programs for other builds of ours.
    fn servers(&self) -> Vec<(Kind, Option<PathBuf>)> {
        let mut servers: Vec<(Kind, Option<PathBuf>)> = self.servers.iter().map(|kind| (*kind, None)).collect();
        if let Some(base) = &self.base {
            servers.push((Kind::Base, Some(base.clone())));
        }
        servers
    }

    fn measure(&self) -> anyhow::Result<Results> {
        let mut results = Results {
            machine: results::machine(),
            ..Results::default()
        };
        let servers = self.servers();
        let ours = servers
            .iter()
            .filter(|(kind, _)| matches!(kind, Kind::Ours | Kind::Base));
        for part in &self.parts {
            match part {
                Part::Rings => rows::Plan {
                    servers: servers.clone(),
                    domains: self.domains.clone(),
                    watches: self.watches.clone(),
                    storm: self.storm.clone(),
                    only: self.only.clone(),
                    seconds: self.seconds,
                    longest: self.longest,
                    passes: self.passes,
                    patience: self.patience,
                }
                .measure(&mut results)?,
                Part::Process => within::Plan {
                    servers: ours.clone().cloned().collect(),
                    nodes: self.nodes.clone(),
                    share: self.share,
                    instructions: !self.no_instructions,
                }
                .measure(&mut results)?,
                Part::Socket => crowd::Plan {
                    servers: servers.clone(),
                    clients: self.clients.clone(),
                    only: self.only.clone(),
                    seconds: self.seconds,
                }
                .measure(&mut results),
                Part::Start => start::Plan {
                    servers: servers.clone(),
                    nodes: self.read_back.clone(),
                }
                .measure(&mut results)?,
            }
        }
        progress::progress("");
        Ok(results)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let report = Report::new(options.measure()?);
    print!("{}", report.tables());
    if let Some(path) = options.json {
        report.write_json(&path)?;
    }
    if let Some(folder) = options.charts {
        charts::draw(&report, &folder)?;
    }
    // The only gate; everything else depends on the machine.
    let grown = part_reports::grown(&report.results);
    for row in &grown {
        eprintln!("{row}");
    }
    Ok(if grown.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
