//! A Xenstore client for guests and dom0 that says exactly what it is told to, over `/dev/xen/xenbus`.
//!
//! The xenstore-* programs can neither send a request that is refused on its form, nor keep a transaction open, nor be checked for
//! every single answer. This one does what a script says and prints each outcome, counts in transactions, or holds one open. It
//! shares no code with the server, on purpose, and needs nothing but libc, so that it runs in a guest's initramfs.
#![forbid(unsafe_code)]

mod bus;
mod count;
mod fill;
mod latency;
mod script;

use std::io::{self, Write};
use std::process::ExitCode;

use bus::Bus;

const USAGE: &str = "xenbus-client run SCRIPT     does what each line says, prints `= LINE REQUEST -> OUTCOME`
xenbus-client count PATH     counts in transactions until PATH-stop exists, checking each step
xenbus-client hold PATH      writes PATH in a transaction and keeps it open
xenbus-client latency PATH N writes and reads PATH N times, prints how long the requests took
xenbus-client fill PATH N    writes N nodes below PATH, a hundred to a folder
xenbus-client request TYPE [TEXT…]  sends one request, each text with a NUL behind it, prints the reply";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["run", file] => run(file),
        ["count", path] => Bus::open().and_then(|mut bus| count::count(&mut bus, path)),
        ["hold", path] => hold(path),
        ["latency", path, rounds] => latency(path, rounds),
        ["fill", path, nodes] => fill(path, nodes),
        ["request", kind, texts @ ..] => request(kind, texts),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xenbus-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &str) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let mut player = script::Player::new(Bus::open()?)?;
    for (index, line) in text.lines().enumerate() {
        if let Some(request) = script::request(line) {
            let outcome = player.play(request)?;
            say(&format!("= {} {request} -> {outcome}", index.saturating_add(1)))?;
        }
    }
    say("= end")
}

fn latency(path: &str, rounds: &str) -> io::Result<()> {
    let rounds = rounds.parse().map_err(io::Error::other)?;
    latency::latency(&mut Bus::open()?, path, rounds)
}

fn fill(path: &str, nodes: &str) -> io::Result<()> {
    let nodes = nodes.parse().map_err(io::Error::other)?;
    fill::fill(&mut Bus::open()?, path, nodes)
}

fn request(kind: &str, texts: &[&str]) -> io::Result<()> {
    let kind = bus::number_of(kind).ok_or_else(|| io::Error::other(format!("there is no type {kind}")))?;
    let payload: Vec<u8> = texts.iter().flat_map(|text| text.bytes().chain([0])).collect();
    let answer = Bus::open()?.must(kind, bus::NONE, &payload)?;
    say(&bus::show(&answer))
}

/// Ends only by a signal: that is what it is for.
fn hold(path: &str) -> io::Result<()> {
    let mut bus = Bus::open()?;
    let transaction = bus.begin()?;
    bus.must(bus::WRITE, transaction, format!("{path}\0held").as_bytes())?;
    say("holding")?;
    loop {
        bus.wait_for_event()?;
    }
}

/// Line by line, because whoever reads a guest's console waits for each.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
