//! What dom0's shell cannot do: time single requests, and send requests that no tool sends. Runs in dom0, on `/dev/xen/xenbus`.
//!
//! `dom0-client latency PATH ROUNDS` writes and reads PATH so often, checks each value, and prints `requests=… p50=… p99=… max=…`.
//! `dom0-client request TYPE [TEXT…]` sends one request of that number, each text with a NUL behind it, and prints the reply.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xenstore_wire::{HEADER_SIZE, Header, MessageType};

const DEVICE: &str = "/dev/xen/xenbus";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["latency", path, rounds] => latency(path, rounds),
        ["request", kind, texts @ ..] => request(kind, texts),
        _ => Err(anyhow::anyhow!(
            "usage: dom0-client latency PATH ROUNDS | dom0-client request TYPE [TEXT…]"
        )),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("dom0-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// dom0's connection, through the kernel.
struct Connection(File);

impl Connection {
    fn open() -> Result<Connection> {
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        Ok(Connection(file.with_context(|| format!("opening {DEVICE}"))?))
    }

    /// Sends a request and returns the payload of its reply; an error reply is an error.
    fn ask(&mut self, kind: u32, payload: &[u8]) -> Result<Vec<u8>> {
        let header = Header {
            kind,
            request_id: 7,
            transaction_id: 0,
            length: u32::try_from(payload.len())?,
        };
        // In one piece: the kernel wants whole messages.
        self.0.write_all(&[header.emit().as_slice(), payload].concat())?;
        let mut head = [0; HEADER_SIZE];
        self.0.read_exact(&mut head)?;
        let reply = Header::parse(&head);
        let mut answer = vec![0; usize::try_from(reply.length)?];
        self.0.read_exact(&mut answer)?;
        let text = String::from_utf8_lossy(&answer).trim_end_matches('\0').to_owned();
        if reply.kind == MessageType::Error.to_wire() {
            bail!("{text}");
        }
        if reply.kind != kind || reply.request_id != header.request_id {
            bail!("the reply {reply:?} to {header:?}");
        }
        Ok(answer)
    }
}

fn request(kind: &str, texts: &[&str]) -> Result<String> {
    let kind = kind.parse().context("the type is a number")?;
    let payload: Vec<u8> = texts.iter().flat_map(|text| text.bytes().chain([0])).collect();
    let answer = Connection::open()?.ask(kind, &payload)?;
    Ok(String::from_utf8_lossy(&answer)
        .replace('\0', "\n")
        .trim_end()
        .to_owned())
}

fn latency(path: &str, rounds: &str) -> Result<String> {
    let rounds: u32 = rounds.parse().context("rounds are a number")?;
    let mut connection = Connection::open()?;
    let mut times = Vec::new();
    let mut timed = |kind: MessageType, payload: &[u8]| {
        let began = Instant::now();
        let answer = connection.ask(kind.to_wire(), payload);
        times.push(began.elapsed());
        answer
    };
    for round in 0..rounds {
        let value = format!("round {round}");
        timed(MessageType::Write, format!("{path}\0{value}").as_bytes())?;
        let found = timed(MessageType::Read, format!("{path}\0").as_bytes())?;
        if found != value.as_bytes() {
            bail!("{path} is {:?} instead of {value:?}", String::from_utf8_lossy(&found));
        }
    }
    times.sort_unstable();
    let micros = |time: Option<&Duration>| time.map_or(0, Duration::as_micros);
    let percentile = |hundredths: usize| micros(times.get((times.len() * hundredths).div_ceil(100).max(1) - 1));
    Ok(format!(
        "requests={} p50={}us p99={}us max={}us",
        times.len(),
        percentile(50),
        percentile(99),
        micros(times.last())
    ))
}
