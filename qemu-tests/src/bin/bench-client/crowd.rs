//! Guests of our own ask between two points of Xen's time; what each of them saw is in its report.
//!
//! dom0 does nothing meanwhile, so what it runs then it runs for them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bus::{Bus, NONE, READ, WRITE, show};
use crate::clocks::Clocks;
use crate::figures::{Crowd, median};
use crate::tell;

const GO: &str = "/bench/go";

/// From the order to the start: all must have heard of it.
const LEAD: Duration = Duration::from_millis(500);
const LEAD_EACH: Duration = Duration::from_millis(15);

/// How long guests may take to say what they have seen.
const PATIENCE: Duration = Duration::from_secs(200);

/// The processor has this long to become quiet after the start, before it is looked at.
const MARGIN: Duration = Duration::from_millis(20);

/// What one guest says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Report {
    requests: u64,
    p50_us: f64,
    p99_us: f64,
}

impl Report {
    /// `ok requests=N p50=Nus p99=Nus max=Nus`, without the id before it.
    fn parse(text: &str) -> Result<Report> {
        let Some(times) = text.strip_prefix("ok ") else {
            bail!("a guest says {text}");
        };
        let value = |name: &str| {
            let found = times
                .split(' ')
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let number = found.and_then(|number| number.trim_end_matches("us").parse().ok());
            number.with_context(|| format!("no {name} in {times}"))
        };
        Ok(Report {
            requests: value("requests")? as u64,
            p50_us: value("p50")?,
            p99_us: value("p99")?,
        })
    }
}

/// Has `guests` ask for so many seconds and prints what came of it. The first of them is greedy, if one is.
pub fn measure(clocks: &Clocks, guests: &[u16], seconds: f64, greedy: bool) -> Result<()> {
    let leader = guests.first().copied().context("no guest")?;
    let mut bus = Bus::open()?;
    let id = std::process::id();
    // Xen's time, as the leader sees it, at a moment between these two of ours.
    let asked = Instant::now();
    order(&mut bus, &format!("clock {leader}"))?;
    let clock = await_report(&mut bus, leader, "clock ")?;
    let clock: u64 = clock.parse().with_context(|| format!("the time is {clock}"))?;
    let window = Duration::from_secs_f64(seconds);
    let lead = asked.elapsed() + LEAD + LEAD_EACH * u32::try_from(guests.len())?;
    let (start, end) = (clock + nanoseconds(lead), clock + nanoseconds(lead + window));
    let greedy_domid = if greedy { leader } else { 0 };
    order(&mut bus, &format!("{id} {start} {end} {greedy_domid}"))?;

    let all = |clocks: &Clocks| guests.iter().map(|domid| clocks.domain_ns(*domid)).sum::<Result<u64>>();
    sleep_until(asked + lead + MARGIN);
    let counted_before = clocks.counters(&mut bus)?;
    let (before, guests_before) = (clocks.look()?, all(clocks)?);
    sleep_until(asked + lead + window - MARGIN);
    let (passed, guests_ns) = (clocks.since(&before)?, all(clocks)? - guests_before);
    let counted_after = clocks.counters(&mut bus)?;

    let mut reports = Vec::new();
    for domid in guests {
        let report = await_report(&mut bus, *domid, &format!("{id} "))?;
        reports.push(Report::parse(&report).with_context(|| format!("domain {domid}"))?);
    }
    let everyone: u64 = reports.iter().map(|report| report.requests).sum();
    let (greedy_requests, others) = match reports.split_first() {
        Some((first, others)) if greedy => (first.requests, others),
        _ => (0, reports.as_slice()),
    };
    // While the clocks were looked at, and not before or behind.
    let requests = (everyone as f64 * passed.seconds / seconds).max(1.0);
    let counted = counted_after.zip(counted_before);
    let counted = counted.map(|(after, before)| after.each(&before, &before, requests as u64));
    let of = |field: fn(&Report) -> f64| others.iter().map(field);
    tell(
        "crowd",
        &Crowd {
            guests: u32::try_from(guests.len())?,
            greedy,
            seconds,
            per_second: (everyone - greedy_requests) as f64 / seconds,
            greedy_per_second: greedy_requests as f64 / seconds,
            least: others.iter().map(|report| report.requests).min().unwrap_or(0),
            most: others.iter().map(|report| report.requests).max().unwrap_or(0),
            p50_us: median(of(|report| report.p50_us)),
            p99_us: median(of(|report| report.p99_us)),
            worst_p99_us: of(|report| report.p99_us).fold(0.0, f64::max),
            server_us: passed.server_us / requests,
            dom0_us: passed.dom0_us / requests,
            guests_us: guests_ns as f64 / 1000.0 / requests,
            counted,
        },
    )
}

fn order(bus: &mut Bus, text: &str) -> Result<()> {
    bus.must(WRITE, NONE, format!("{GO}\0{text}").as_bytes())?;
    Ok(())
}

/// What a guest reports behind these words; waits for it.
fn await_report(bus: &mut Bus, domid: u16, words: &str) -> Result<String> {
    let path = format!("/local/domain/{domid}/data/report\0");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = bus.ask(READ, NONE, path.as_bytes())?.unwrap_or_default();
        let report = show(&report);
        if let Some(rest) = report.strip_prefix(words) {
            return Ok(rest.to_owned());
        }
        if Instant::now() >= deadline {
            bail!("domain {domid} does not report {words}: {report}");
        }
        sleep(Duration::from_millis(20));
    }
}

fn sleep_until(at: Instant) {
    sleep(at.saturating_duration_since(Instant::now()));
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_report_is_read() {
        let report = Report::parse("ok requests=20 p50=3us p99=40us max=41us").expect("a report");
        assert_eq!((report.requests, report.p50_us, report.p99_us), (20, 3.0, 40.0));
        assert!(Report::parse("late").is_err());
    }
}
