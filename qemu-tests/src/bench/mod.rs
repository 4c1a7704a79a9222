//! `bench`: our image as PV and PVH beside Xen's C xenstored and oxenstored, on one bed, in boots that take turns.
//!
//! What is measured in a boot is in `dom0/bench.sh` and `bin/bench-client`; here the boots are made and what they say is gathered.
//! [`figures`] is what they say, [`tables`] makes it readable.

mod figures;
mod tables;

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::archive::Archive;
use crate::bed::Bed;
use crate::boot::{Ready, Size};
use crate::dom0::{self, Overlay};
use crate::host;
use crate::markers::Transcript;
use crate::parts::Parts;
use crate::report::Voice;
use crate::ring_guests;
use crate::scenarios::program;
use crate::store::Store;

use figures::{Crowd, Row};

/// Memory for three hundred guests, as in `crowd-300`.
const SIZE: Size = Size {
    machine: 4096,
    dom0: 1024,
};

/// What is measured, and how often.
#[derive(Args)]
pub struct Options {
    /// Which Xen
    #[arg(long, value_enum, default_value = "4.20")]
    xen: Bed,
    /// Boots of each store
    #[arg(long, default_value = "3")]
    boots: NonZeroU32,
    /// The stores, in the order of their boots
    #[arg(long, value_enum, value_delimiter = ',', default_value = "c,ocaml,pv,pvh")]
    stores: Vec<Store>,
    /// Requests of dom0 (rows), upstream's test-xenstore (tests), guests of our own (guests); by name only: what our store counts
    /// beside Xen's own trace (trace), for reading in the log
    #[arg(long, value_delimiter = ',', default_value = "rows,tests,guests")]
    parts: Vec<String>,
    /// Of the rows only operations whose name contains this
    #[arg(long, default_value = "", hide_default_value = true)]
    only: String,
    /// Seconds for each row, at least
    #[arg(long, default_value_t = 0.05)]
    seconds: f64,
    /// Seconds that guests ask
    #[arg(long, default_value_t = 0.5)]
    window: f64,
    /// How often upstream's tests are done in each boot
    #[arg(long, default_value_t = 67)]
    iterations: u32,
    /// How many guests ask at once, upwards; with 10 also with a greedy one among them
    #[arg(long, value_delimiter = ',', default_value = "1,10,50")]
    guests: Vec<u32>,
    /// Writes everything that was measured into this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Makes the tables of such a file again and measures nothing
    #[arg(long, conflicts_with = "json")]
    show: Option<PathBuf>,
    /// Measure real time, even where the processor is emulated: otherwise time is the number of instructions that it executes
    #[arg(long)]
    real_time: bool,
    /// The image under test [default: target/xenstore-stubdom, for pv target/xenstore-stubdom-pv]
    #[arg(long)]
    image: Option<PathBuf>,
    /// More words for Xen's command line
    #[arg(long, default_value = "", hide_default_value = true)]
    xen_options: String,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub struct Results {
    /// The processor below, Xen, and whether the processor that Xen sees is emulated.
    machine: String,
    boots: Vec<Boot>,
}

/// What one boot said.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
struct Boot {
    store: String,
    rows: Vec<Row>,
    tests: Vec<Test>,
    crowds: Vec<Crowd>,
    /// Steps that failed, and why.
    failures: Vec<String>,
}

/// One of upstream's tests over one way.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
struct Test {
    way: String,
    name: String,
    /// Nanoseconds of each time that it was done.
    times_ns: Vec<f64>,
}

impl Test {
    /// `WAY|NAME|TIME TIME…`
    fn parse(text: &str) -> Option<Test> {
        let mut fields = text.split('|');
        let (way, name, times) = (fields.next()?, fields.next()?, fields.next()?);
        let times = times.split_whitespace().map(str::parse);
        Some(Test {
            way: way.to_owned(),
            name: name.to_owned(),
            times_ns: times.collect::<Result<_, _>>().ok()?,
        })
    }
}

/// Measures, or shows what was measured before. Returns whether every step of every boot worked.
pub fn run(options: &Options) -> Result<bool> {
    if let Some(path) = &options.show {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let results: Results = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        print!("{}", tables::all(&results));
        return Ok(true);
    }
    let ready = Ready::prepare(options.xen, &options.xen_options)?;
    let mut results = Results {
        machine: machine(options.xen, !options.real_time && !host::usable_kvm()),
        boots: Vec::new(),
    };
    println!("{}", results.machine);
    for number in 1..=options.boots.get() {
        for store in &options.stores {
            println!("\nboot {number} of {}, store {store}", options.boots);
            results.boots.push(boot(&ready, options, *store, number)?);
            // After each boot: what was measured is not lost if a later one cannot be made.
            if let Some(path) = &options.json {
                write(&results, path)?;
            }
        }
    }
    println!("\n{}", tables::all(&results));
    let failures: Vec<&String> = results.boots.iter().flat_map(|boot| &boot.failures).collect();
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    Ok(failures.is_empty())
}

fn boot(ready: &Ready, options: &Options, store: Store, number: u32) -> Result<Boot> {
    let image = store.image(options.image.as_deref())?;
    let guests: Vec<String> = options.guests.iter().map(u32::to_string).collect();
    let script = format!(
        "PARTS='{}' ONLY='{}' LONG={} WINDOW={} ITERATIONS={} GUESTS='{}'\n{}{}",
        options.parts.join(" "),
        options.only,
        options.seconds,
        options.window,
        options.iterations,
        guests.join(" "),
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/bench.sh"),
    );
    let overlay = Overlay {
        size: SIZE,
        counts_instructions: !options.real_time,
        extras,
        ..Overlay::new(&script, store, image.as_deref())
    };
    let voice = Voice::alone();
    let mut printed = 0;
    let ended = ready.run(&format!("bench-{store}-{number}"), &overlay, |_, _, transcript| {
        transcript.steps.iter().skip(printed).for_each(|step| voice.step(step));
        printed = transcript.steps.len();
    })?;
    if ended.transcript.failed() {
        voice.log_of_failure(&ended.log);
    }
    gather(store, &ended.transcript)
}

/// Reads what a boot said.
fn gather(store: Store, transcript: &Transcript) -> Result<Boot> {
    let mut boot = Boot {
        store: store.name().to_owned(),
        ..Boot::default()
    };
    for (name, value) in &transcript.values {
        let wrong = || format!("{name} is {value}");
        match name.as_str() {
            "row" => boot.rows.push(serde_json::from_str(value).with_context(wrong)?),
            "crowd" => boot.crowds.push(serde_json::from_str(value).with_context(wrong)?),
            "test" => boot.tests.push(Test::parse(value).with_context(wrong)?),
            _ => {}
        }
    }
    for step in &transcript.steps {
        if let Some(why) = &step.failure {
            boot.failures.push(format!("{store}: {}: {why}", step.name));
        }
    }
    Ok(boot)
}

/// What dom0 has besides: our guest, and the program that measures.
fn extras(parts: &Parts) -> Result<Archive> {
    let mut archive = ring_guests::extras(parts)?;
    let path = program("bench-client")?;
    let content = fs::read(&path).with_context(|| path.display().to_string())?;
    archive.program("usr/bin/bench-client", content);
    let trace = format!("{}/bin/xentrace", parts.bed.tools_folder());
    dom0::add_programs(&mut archive, parts, &[trace, "usr/bin/xenalyze".to_owned()])?;
    Ok(archive)
}

fn write(results: &Results, path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(results)?;
    fs::write(path, text + "\n").with_context(|| path.display().to_string())
}

/// For the head of the tables.
fn machine(bed: Bed, counts_instructions: bool) -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = model.map_or("an unnamed processor", |(_, name)| name);
    let emulated = if host::usable_kvm() {
        "nested virtualisation"
    } else if counts_instructions {
        "emulated, a nanosecond stands for an instruction: only ratios within a row mean anything"
    } else {
        "emulated: only ratios within a row mean anything"
    };
    format!("Xen {bed} on {model}, {cores} cores, {emulated}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_boot_says_is_read() {
        let mut transcript = Transcript::default();
        let row = r#"{"operation":"READ","way":"ring","at_once":1,"requests":9,"wall_us":1.5,"server_us":1.0,"dom0_us":0.5,"conflicts":0,"counted":null}"#;
        for line in [
            "@@ begin rows",
            &format!("@@ value row {row}"),
            "@@ value test ring|read 1| 100 300 200",
            "@@ value start-up 3",
            "@@ step rows FAIL too slow",
        ] {
            transcript.line(Duration::ZERO, line);
        }
        let boot = gather(Store::C, &transcript).expect("it can be read");
        assert_eq!(boot.rows.first().map(|row| row.wall_us), Some(1.5));
        assert_eq!(boot.tests.first().map(|test| test.times_ns.len()), Some(3));
        assert_eq!(boot.failures, ["c: rows: too slow"]);
        transcript.line(Duration::ZERO, "@@ value row {}");
        assert!(gather(Store::C, &transcript).is_err());
    }
}
