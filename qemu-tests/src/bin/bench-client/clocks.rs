//! Who has run for how long, to the nanosecond: domains as Xen accounts for them, a daemon as Linux does; and what our store counts.

use std::fs;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xen_bindings::dom0::Dom0;

use crate::bus::{Bus, NONE};
use crate::figures::Counted;

/// The type of administrators' requests (io/xs_wire.h).
const CONTROL: u32 = 0;

/// Who serves Xenstore.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    Domain(u16),
    /// A daemon in dom0.
    Process(u32),
}

impl FromStr for Server {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Server, Self::Err> {
        match text.strip_prefix("process:") {
            Some(pid) => pid.parse().map(Server::Process),
            None => text.parse().map(Server::Domain),
        }
    }
}

/// The way to all clocks.
pub struct Clocks {
    dom0: Dom0,
    server: Server,
}

/// One look at them.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    at: Instant,
    server_ns: u64,
    dom0_ns: u64,
}

/// What has passed between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    pub seconds: f64,
    pub server_us: f64,
    /// Without a server in it.
    pub dom0_us: f64,
}

impl Clocks {
    pub fn new(server: Server) -> Result<Clocks> {
        let clocks = Clocks {
            dom0: Dom0::open()?,
            server,
        };
        if clocks.look()?.server_ns == 0 {
            bail!("the time of {server:?} is not counted");
        }
        Ok(clocks)
    }

    pub fn look(&self) -> Result<Look> {
        let server_ns = match self.server {
            Server::Domain(domid) => self.domain_ns(domid)?,
            Server::Process(pid) => process_ns(pid)?,
        };
        Ok(Look {
            at: Instant::now(),
            server_ns,
            dom0_ns: self.domain_ns(0)?,
        })
    }

    /// Since an earlier look.
    pub fn since(&self, before: &Look) -> Result<Passed> {
        let now = self.look()?;
        let microseconds = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1000.0;
        let server_us = microseconds(now.server_ns, before.server_ns);
        let dom0_us = microseconds(now.dom0_ns, before.dom0_ns);
        let within = matches!(self.server, Server::Process(_));
        Ok(Passed {
            seconds: now.at.duration_since(before.at).as_secs_f64(),
            server_us,
            dom0_us: if within { dom0_us - server_us } else { dom0_us },
        })
    }

    /// Nanoseconds that a domain has run.
    pub fn domain_ns(&self, domid: u16) -> Result<u64> {
        let info = self.dom0.domain(domid)?;
        Ok(info.with_context(|| format!("there is no domain {domid}"))?.cpu_ns)
    }

    /// What our store has counted so far; asking is counted, too. `None` of a daemon.
    pub fn counters(&self, bus: &mut Bus) -> Result<Option<Counters>> {
        let Server::Domain(_) = self.server else {
            return Ok(None);
        };
        let status = bus.must(CONTROL, NONE, b"status\0")?;
        Counters::read(&String::from_utf8_lossy(&status)).map(Some)
    }
}

/// Nanoseconds that all threads of a process have run, in it and in the kernel for it.
fn process_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        sum += first.with_context(|| format!("a schedstat says {text:?}"))?;
    }
    Ok(sum)
}

/// Some of the lines of `xenstore-control status`.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    hypercalls: u64,
    notifies: u64,
    blocks: u64,
}

impl Counters {
    fn read(status: &str) -> Result<Counters> {
        let counter = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let number = line.and_then(|number| number.trim().parse().ok());
            number.with_context(|| format!("the status says nothing of {name}"))
        };
        Ok(Counters {
            hypercalls: counter("hypercalls")?,
            notifies: counter("notifies")?,
            blocks: counter("blocks")?,
        })
    }

    /// What `self` came to be after `before`, for each of so many requests. `idle` and `before` were taken one after the other with
    /// nothing between them, so what they differ by is what looking costs.
    pub fn each(&self, before: &Counters, idle: &Counters, requests: u64) -> Counted {
        let of = |field: fn(&Counters) -> u64| {
            let all = field(self) as f64 - field(before) as f64;
            let looking = field(before) as f64 - field(idle) as f64;
            (all - looking) / requests.max(1) as f64
        };
        Counted {
            hypercalls: of(|counters| counters.hypercalls),
            notifies: of(|counters| counters.notifies),
            blocks: of(|counters| counters.blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looking_costs_is_taken_away() {
        let status = |hypercalls: u32| {
            let text = format!("xen: 4.20\nhypercalls: {hypercalls}\nnotifies: 7\nblocks: 9\n");
            Counters::read(&text).expect("a status")
        };
        let counted = status(213).each(&status(103), &status(100), 107);
        assert_eq!((counted.hypercalls, counted.notifies), (1.0, 0.0));
        assert!(Counters::read("notifies: 7\n").is_err());
    }
}
