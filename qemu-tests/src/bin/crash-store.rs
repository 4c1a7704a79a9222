//! Makes the store crash again and again, and asks it something after each crash, which it must answer.
//!
//! A shell would spend more time on starting programs than the store on its restarts, and its NMIs would come when dom0 has nothing to
//! ask; these come at any moment, by a hypercall of its own.
#![forbid(unsafe_code)]

// `xenbus-client` uses more of it.
#[allow(dead_code)]
#[path = "xenbus-client/bus.rs"]
mod bus;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use bus::{Bus, NONE};
use clap::Parser;
use seeded_random::Random;
use xen_bindings::dom0::Dom0;

/// The type of administrators' requests (io/xs_wire.h).
const CONTROL: u32 = 0;

/// Milliseconds between two crashes, at most.
const PAUSE_MOST: u32 = 600;

/// Microseconds from a request to an NMI, and from the first of two NMIs to the second, at most: about as long as a restart takes.
const DELAY_MOST: u32 = 30_000;

/// Makes the store crash, in the given ways one after the other, and prints the name of each
#[derive(Parser)]
struct Line {
    /// The store's domain
    domid: u16,
    /// Goes on until there were so many …
    crashes: u32,
    /// … and this file is there
    until: PathBuf,
    /// nmi, nmi-twice, or what CONTROL crash takes
    #[arg(required = true)]
    kinds: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash-store: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(line: &Line) -> Result<()> {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut crasher = Crasher {
        dom0: Dom0::open()?,
        bus: Bus::open().context("opening the store")?,
        random: Random::new(u64::from(clock.subsec_nanos())),
        domid: line.domid,
    };
    let mut restarts = crasher.restarts()?;
    for (made, kind) in (0..).zip(line.kinds.iter().cycle()) {
        if made >= line.crashes && Path::new(&line.until).exists() {
            break;
        }
        let which = || format!("crash {made}, {kind}");
        crasher.strike(kind).with_context(which)?;
        writeln!(std::io::stdout(), "{kind}")?;
        let before = restarts;
        restarts = crasher.restarts().with_context(which)?;
        if restarts <= before {
            bail!("{}: {before} restarts before it and {restarts} after it", which());
        }
        crasher.pause(PAUSE_MOST.saturating_mul(1000));
    }
    Ok(())
}

struct Crasher {
    dom0: Dom0,
    bus: Bus,
    random: Random,
    domid: u16,
}

impl Crasher {
    fn strike(&mut self, kind: &str) -> Result<()> {
        match kind {
            "nmi" => self.dom0.send_nmi(self.domid)?,
            "nmi-twice" => {
                self.dom0.send_nmi(self.domid)?;
                self.pause(DELAY_MOST);
                self.dom0.send_nmi(self.domid)?;
            }
            _ => {
                let request = format!("crash\0{kind}\0");
                let reply = self.bus.must(CONTROL, NONE, request.as_bytes())?;
                if reply != b"OK\0" {
                    bail!("the store answers {}", bus::show(&reply));
                }
            }
        }
        Ok(())
    }

    /// How often the store has started again, as it says.
    fn restarts(&mut self) -> Result<u64> {
        let status = self.bus.must(CONTROL, NONE, b"status\0")?;
        let status = String::from_utf8_lossy(&status);
        let restarts = status.lines().find_map(|line| line.strip_prefix("restarts: "));
        restarts
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("the status says nothing of restarts: {status}"))
    }

    /// At most so many microseconds.
    fn pause(&mut self, most: u32) {
        std::thread::sleep(Duration::from_micros(u64::from(self.random.below(most))));
    }
}
