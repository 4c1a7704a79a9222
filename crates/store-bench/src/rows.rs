//! Which rows there are on the rings, and how each is measured.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use xenstore_wire::MessageType::{Control, Directory, Mkdir, Read, SetPerms, Write};

use crate::host::{Host, Kind};
use crate::load::{Bed as _, Figures, Until};
use crate::operation::Operation;
use crate::progress::progress;
use crate::results::Results;
use crate::storm;

/// Requests of a pass, at least.
const REQUESTS: u64 = 400;
/// Requests that a pipelining client sends at once.
const AT_ONCE: usize = 16;
/// Children of the large directory: as many as fit into a reply with names of three letters.
const LARGE: u32 = 1000;
/// Watches that a client registers at once, below everyone's limit of unread events.
const WATCHES_AT_ONCE: u32 = 10;

/// Domains that show how long an operation takes, where all of them may take too long.
const FEW: u16 = 16;
/// Registering watches may take so many times as long as a row.
const REGISTERING: f64 = 6.0;

/// What is to be measured.
pub struct Plan {
    /// Servers; with the folder of programs for other builds of ours.
    pub servers: Vec<(Kind, Option<PathBuf>)>,
    pub domains: Vec<u16>,
    pub watches: Vec<u32>,
    pub storm: Vec<usize>,
    /// Part of the names of those operations that are wanted.
    pub only: String,
    /// Seconds for each row and server, all passes together.
    pub seconds: f64,
    /// Seconds for a row, at most: where a server needs longer for all its domains, fewer of them ask.
    pub longest: f64,
    /// How often the servers are asked in turn for each row. The pass with the median of processor time counts.
    pub passes: u32,
    /// Seconds for a storm.
    pub patience: f64,
}

/// One row for one server.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub server: Kind,
    pub operation: &'static str,
    pub pipelined: bool,
    pub domains: u16,
    pub watches: u32,
    /// So many of the domains asked.
    pub asking: u16,
    #[serde(flatten)]
    pub figures: Figures,
}

/// The server's memory with so many domains and watches.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    pub server: Kind,
    pub domains: u16,
    pub watches: u32,
    pub kib: u64,
    /// What of it is the rings, which the domains have, too, and files.
    pub shared_kib: u64,
    /// What of it is durable pages in use: the tree, and twice the log and the checkpoint, in which what waits for clients stands, too.
    pub pages_kib: Option<u64>,
}

/// Name, and what is asked once or as often as a pipelining client does.
type Named = (&'static str, fn(usize) -> Operation);

const OPERATIONS: [Named; 8] = [
    ("read", |at_once| Operation::of(Read, "v1|", at_once)),
    ("write 1 byte", |at_once| Operation::of(Write, "v1|x", at_once)),
    ("write 100 bytes", |at_once| {
        Operation::of(Write, &format!("v100|{}", "x".repeat(100)), at_once)
    }),
    ("write 2000 bytes", |at_once| {
        Operation::of(Write, &format!("v2000|{}", "x".repeat(2000)), at_once)
    }),
    ("directory of 10", |at_once| Operation::of(Directory, "d10|", at_once)),
    ("directory of 1000", |at_once| {
        Operation::of(Directory, "/bench/large|", at_once)
    }),
    ("transaction of 10 writes", |at_once| {
        Operation::transaction("", at_once > 1)
    }),
    ("watch event", Operation::watched_writes),
];

impl Plan {
    /// Measures everything.
    pub fn measure(&self, results: &mut Results) -> anyhow::Result<()> {
        for domains in &self.domains {
            self.rows_of(*domains, results)?;
        }
        for vms in self.storm.iter().filter(|_| "storm".contains(self.only.as_str())) {
            for (kind, program) in &self.servers {
                progress(&format!("storm of {vms} VMs: {}", kind.name()));
                let mut host = Host::start(*kind, program.as_ref())?;
                results
                    .storms
                    .push(storm::storm(&mut host, *kind, *vms, self.patience)?);
            }
        }
        if "shared reads".contains(self.only.as_str()) {
            for (kind, program) in &self.servers {
                progress(&format!("128 × 500 transactions: {}", kind.name()));
                let mut host = Host::start(*kind, program.as_ref())?;
                results.shared_reads.push(storm::shared_reads(&mut host, *kind)?);
            }
        }
        Ok(())
    }

    /// All servers at the same time, each of which sleeps while another one is asked: so what else the machine does meets them all.
    fn rows_of(&self, domains: u16, results: &mut Results) -> anyhow::Result<()> {
        let wanted: Vec<&Named> = OPERATIONS
            .iter()
            .filter(|(name, _)| name.contains(&self.only))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut hosts = Vec::new();
        for (kind, program) in &self.servers {
            progress(&format!("{domains} domains: {}", kind.name()));
            let mut host = Host::start(*kind, program.as_ref())?;
            prepare(&mut host, domains)?;
            hosts.push((*kind, host));
        }
        let mut there = 0;
        for watches in &self.watches {
            let mut with_watches = Vec::new();
            for (kind, mut host) in hosts {
                progress(&format!("{domains} domains, {watches} watches each: {}", kind.name()));
                if let Some(seconds) = self.register(&mut host, domains, there..*watches)? {
                    results.left_out.push(format!(
                        "{} with {domains} domains of {watches} watches: registering them would take {seconds:.0} s",
                        kind.name()
                    ));
                    continue;
                }
                host.rest()?;
                let (kib, shared_kib) = host.memory_kib()?;
                results.memory.push(Memory {
                    server: kind,
                    domains,
                    watches: *watches,
                    kib,
                    shared_kib,
                    pages_kib: pages_kib(&mut host, kind)?,
                });
                with_watches.push((kind, host));
            }
            hosts = with_watches;
            there = *watches;
            for (name, operation) in &wanted {
                for pipelined in [false, true] {
                    progress(&format!("{domains} domains, {watches} watches each: {name}"));
                    let operation = operation(if pipelined { AT_ONCE } else { 1 });
                    for (server, asking, figures) in self.row(&mut hosts, domains, &operation)? {
                        results.rows.push(Row {
                            server,
                            operation: name,
                            pipelined,
                            domains,
                            watches: *watches,
                            asking,
                            figures,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// For each server how many domains asked, and what it came to.
    fn row(
        &self,
        hosts: &mut [(Kind, Host)],
        domains: u16,
        operation: &Operation,
    ) -> anyhow::Result<Vec<(Kind, u16, Figures)>> {
        let passes = self.passes.max(1);
        let until = Until::Passed(Duration::from_secs_f64(self.seconds / f64::from(passes)), REQUESTS);
        let mut all = Vec::new();
        for (kind, host) in &mut *hosts {
            all.push((*kind, self.asking(host, domains, operation)?, Vec::new()));
        }
        for _ in 0..passes {
            for ((_, host), (_, asking, figures)) in hosts.iter_mut().zip(&mut all) {
                figures.push(host.load(1..usize::from(*asking) + 1, |_| operation.clone(), until)?);
            }
        }
        let with_median = |(kind, asking, mut figures): (Kind, u16, Vec<Figures>)| {
            figures.sort_by(|one, other| one.cpu_us.total_cmp(&other.cpu_us));
            (kind, asking, figures.swap_remove(figures.len() / 2))
        };
        Ok(all.into_iter().map(with_median).collect())
    }

    /// How many domains can do this once each within the time of a row, by what a few of them need.
    fn asking(&self, host: &mut Host, domains: u16, operation: &Operation) -> anyhow::Result<u16> {
        if domains <= 4 * FEW {
            return Ok(domains);
        }
        let few = host.load(1..usize::from(FEW) + 1, |_| operation.clone(), Until::Times(1))?;
        let each = few.seconds / f64::from(FEW);
        let longest = self.longest / f64::from(self.passes.max(1));
        Ok(((longest / each) as u16).clamp(FEW, domains))
    }

    /// Watches on nodes that nobody touches, with these numbers. How many seconds it would take, if that is too long.
    fn register(&self, host: &mut Host, domains: u16, numbers: Range<u32>) -> anyhow::Result<Option<f64>> {
        let numbers: Vec<u32> = numbers.collect();
        let (mut seconds, chunks) = (0.0, numbers.chunks(WATCHES_AT_ONCE as usize));
        let count = chunks.len() as f64;
        for (done, some) in chunks.enumerate() {
            let expected = seconds * count / (done.max(1) as f64);
            if expected > self.longest * REGISTERING {
                return Ok(Some(expected));
            }
            let mut operation = Operation::default();
            for number in some {
                operation
                    .batches
                    .extend(Operation::watch(&format!("elsewhere/{number}"), &format!("token{number}")).batches);
            }
            let all = 1..usize::from(domains) + 1;
            seconds += host.load(all, |_| operation.clone(), Until::Times(1))?.seconds;
        }
        Ok(None)
    }
}

/// Domains, and the nodes that they ask for.
fn prepare(host: &mut Host, domains: u16) -> anyhow::Result<()> {
    host.ask(0, Mkdir, "/bench/large|")?;
    host.ask(0, SetPerms, "/bench/large|r0|")?;
    let digit = |number: u32| char::from_digit(number % 36, 36).unwrap_or('0');
    for number in 0..LARGE {
        let name: String = [number / 1296, number / 36, number].map(digit).into_iter().collect();
        host.ask(0, Mkdir, &format!("/bench/large/{name}|"))?;
    }
    host.introduce(domains)?;
    let all = 1..usize::from(domains) + 1;
    let mut ask_all = |operation: Operation| host.load(all.clone(), |_| operation.clone(), Until::Times(1)).map(drop);
    for (name, size) in [("v1", 1), ("v100", 100), ("v2000", 2000), ("event", 1)] {
        ask_all(Operation::of(Write, &format!("{name}|{}", "x".repeat(size)), 1))?;
    }
    for number in 0..10 {
        ask_all(Operation::of(Mkdir, &format!("d10/{number}|"), 1))?;
    }
    // One event when it is registered.
    ask_all(Operation::watch("event", "token"))
}

/// KiB of durable pages that our server uses, by its own account.
fn pages_kib(host: &mut Host, kind: Kind) -> anyhow::Result<Option<u64>> {
    if !matches!(kind, Kind::Ours | Kind::Base) {
        return Ok(None);
    }
    let status = host.ask(0, Control, "status|")?.payload;
    let status = String::from_utf8_lossy(&status);
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let used = number("extents:").zip(number("extents-free:"));
    Ok(used.map(|(all, free)| (all - free) * (xenstore_recovery::EXTENT as u64 / 1024)))
}
