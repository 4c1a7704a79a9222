//! Clients in dom0 do each operation again and again: one alone, then sixteen at once.
//!
//! Medians of pieces, because timers and other processes come in between; and not of single operations, because a daemon that still has
//! work to do when it has answered does that work in the time of the next one, or not.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bus::Bus;
use crate::clocks::Clocks;
use crate::figures::{Row, median};
use crate::operation::{self, Client, Operation};
use crate::tell;

/// Clients that ask at once.
const AT_ONCE: u32 = 16;
/// Pieces of a row, at least, each of which gives one value.
const PIECES: usize = 7;
/// Requests of a piece, and time, at least: looking at the clocks is not to matter.
const PIECE_REQUESTS: u64 = 24;
const PIECE_TIME: Duration = Duration::from_millis(5);

/// Measures all operations whose name contains `only`, and prints each.
pub fn measure(clocks: &Clocks, socket: Option<&Path>, seconds: f64, only: &str) -> Result<()> {
    let open = || socket.map_or_else(Bus::open, Bus::connect).context("opening the store");
    let mut bus = open()?;
    operation::make_large_directory(&mut bus)?;
    let mut clients = Vec::new();
    for number in 0..AT_ONCE {
        clients.push(Client::new(open()?, number)?);
    }
    let way = if socket.is_some() { "socket" } else { "ring" };
    for operation in operation::all()
        .iter()
        .filter(|operation| operation.name.contains(only))
    {
        for at_once in [1, AT_ONCE] {
            let some = clients.get_mut(..at_once as usize).context("too few clients")?;
            let row = row(clocks, &mut bus, operation, some, Duration::from_secs_f64(seconds));
            let row = row.with_context(|| format!("{} at once: {}", at_once, operation.name))?;
            tell(
                "row",
                &Row {
                    way: way.to_owned(),
                    ..row
                },
            )?;
        }
    }
    Ok(())
}

fn row(clocks: &Clocks, bus: &mut Bus, operation: &Operation, clients: &mut [Client], time: Duration) -> Result<Row> {
    let at_once = u32::try_from(clients.len())?;
    let requests_each = operation.requests() * u64::from(at_once);
    // Whatever is done for the first time is not counted.
    operation.run(clients)?;
    let idle = clocks.counters(bus)?;
    let before = clocks.counters(bus)?;
    let (mut wall, mut server, mut dom0) = (Vec::new(), Vec::new(), Vec::new());
    let (mut requests, mut conflicts) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < time || server.len() < PIECES {
        let (look, piece_began) = (clocks.look()?, Instant::now());
        let mut here = 0;
        while here < PIECE_REQUESTS || piece_began.elapsed() < PIECE_TIME {
            conflicts += operation.run(clients)?;
            here += requests_each;
        }
        let passed = clocks.since(&look)?;
        wall.push(passed.seconds * 1e6 / here as f64);
        server.push(passed.server_us / here as f64);
        dom0.push(passed.dom0_us / here as f64);
        requests += here;
    }
    let after = clocks.counters(bus)?;
    let counted = after.zip(before).zip(idle);
    Ok(Row {
        operation: operation.name.to_owned(),
        way: String::new(),
        at_once,
        requests,
        wall_us: median(wall),
        server_us: median(server),
        dom0_us: median(dom0),
        conflicts,
        counted: counted.map(|((after, before), idle)| after.each(&before, &idle, requests)),
    })
}
