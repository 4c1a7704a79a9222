//! Lines on standard error, which systemd puts into the journal.

use std::io::Write as _;

use rustix::time::{ClockId, clock_gettime};
use xenstore_core::Time;

/// The time since the host booted, the time it slept included: no restart of the server sets it back.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Writes a line, with the seconds since the host booted before it, as the store domain does on its console.
pub fn line(text: &str) {
    let Time(now) = now();
    let (seconds, micros) = (now / 1_000_000_000, now / 1000 % 1_000_000);
    // The line stays one line, whatever a client put into it.
    let shown: String = text.chars().map(|c| if c.is_control() { '.' } else { c }).collect();
    // Nobody is left to tell if standard error is gone.
    let _unheard = writeln!(std::io::stderr(), "[{seconds:5}.{micros:06}] {shown}");
}
