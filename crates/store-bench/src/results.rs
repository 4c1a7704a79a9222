//! Everything that was measured, as it goes into the file for programs, and the machine on which it was.

use std::fs;

use serde::Serialize;
use store_bench::inside;

use crate::crowd::{Crowded, Refused};
use crate::host::Kind;
use crate::rows::{Memory, Row};
use crate::start::{FirstReply, Image, ReadBack, Room};
use crate::storm::Storm;
use crate::within::Weight;

/// All parts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Results {
    pub machine: String,
    /// On rings.
    pub rows: Vec<Row>,
    pub memory: Vec<Memory>,
    pub storms: Vec<Storm>,
    /// 128 clients × 500 transactions that read one path and write their own.
    pub shared_reads: Vec<Storm>,
    /// In process.
    pub inside: Vec<Inside>,
    pub weights: Vec<Weight>,
    /// On sockets.
    pub crowds: Vec<Crowded>,
    pub refused: Vec<Refused>,
    /// Starting.
    pub first_replies: Vec<FirstReply>,
    pub read_back: Vec<ReadBack>,
    pub rooms: Vec<Room>,
    pub image: Option<Image>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
}

/// A row of what is measured within the process.
#[derive(Clone, Debug, Serialize)]
pub struct Inside {
    pub server: Kind,
    #[serde(flatten)]
    pub row: inside::Row,
}

/// Processor, cores and how busy they are, for the table's head.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let text = read("/proc/cpuinfo");
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let system = read("/proc/sys/kernel/osrelease");
    format!(
        "{}, {cores} cores, Linux {}, load average {} when it began",
        model.map_or("an unnamed processor", |(_, name)| name),
        system.trim(),
        load.join(" ")
    )
}
