//! Single requests, timed as dom0 sees them: dom0's shell is too coarse for that.

use std::io;
use std::time::{Duration, Instant};

use crate::bus::{Bus, NONE, READ, WRITE, show};

/// Writes and reads `path` so often, checks each value, and says `requests=… p50=… p99=… max=…` in microseconds.
pub fn latency(bus: &mut Bus, path: &str, rounds: u32) -> io::Result<()> {
    let mut times = Vec::new();
    for round in 0..rounds {
        let value = format!("round {round}");
        let mut timed = |kind, payload: String| {
            let began = Instant::now();
            let answer = bus.must(kind, NONE, payload.as_bytes());
            times.push(began.elapsed());
            answer
        };
        timed(WRITE, format!("{path}\0{value}"))?;
        let found = show(&timed(READ, format!("{path}\0"))?);
        if found != value {
            return Err(io::Error::other(format!("{path} is {found} and should be {value}")));
        }
    }
    times.sort_unstable();
    let micros = |time: Option<&Duration>| time.map_or(0, Duration::as_micros);
    let percentile = |hundredths: usize| {
        let rank = times.len().saturating_mul(hundredths).div_ceil(100);
        micros(times.get(rank.saturating_sub(1)))
    };
    crate::say(&format!(
        "requests={} p50={}us p99={}us max={}us",
        times.len(),
        percentile(50),
        percentile(99),
        micros(times.last())
    ))
}
