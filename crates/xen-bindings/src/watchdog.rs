//! Xen's watchdog: unless it is poked in time, Xen shuts the domain down with the reason "watchdog".
//!
//! It runs on while the domain is paused and through a restart in place, which finds it again: this domain uses no other.

use crate::abi::numbers::hypercall as nr;
use crate::abi::sched::{SCHEDOP_WATCHDOG, SchedWatchdog};
use crate::error::XenError;
use crate::{hypercall, time};

/// The first timer that a domain gets; Xen has two for each.
const FIRST: u32 = 1;

/// A watchdog that is running.
#[derive(Debug)]
pub struct Watchdog {
    id: u32,
    seconds: u32,
    /// System time of the last poke, nanoseconds.
    poked: u64,
}

impl Watchdog {
    /// Starts it, or goes on with the one of an earlier start. `seconds` from 1 on.
    pub fn start(seconds: u32) -> Result<Self, XenError> {
        let id = match operate(FIRST, seconds) {
            Ok(_) => FIRST,
            Err(_) => operate(0, seconds)?,
        };
        Ok(Watchdog {
            id,
            seconds,
            poked: time::now_ns(),
        })
    }

    /// System time from which on whoever comes by pokes it: after a quarter of its time.
    fn due(&self) -> u64 {
        self.poked.saturating_add(u64::from(self.seconds) * 250_000_000)
    }

    /// System time by which it wants to be poked: after half of its time. A domain that works comes by before, so that this is more
    /// than a quarter away whenever it waits: the timer that guards its work need not be set anew for it.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.poked.saturating_add(u64::from(self.seconds) * 500_000_000)
    }

    /// Pokes it, if it is due at system time `now`, which may be a little past.
    pub fn poke(&mut self, now: u64) {
        if now >= self.due() {
            let _cannot_fail_once_started = operate(self.id, self.seconds);
            self.poked = now;
        }
    }
}

/// Sets timer `id`; 0 takes a new one, whose number is returned.
fn operate(id: u32, timeout: u32) -> Result<u32, XenError> {
    let mut argument = SchedWatchdog { id, timeout };
    // SAFETY: `SCHEDOP_watchdog` reads the structure and sets a timer.
    let answer = unsafe { hypercall::operate(nr::SCHED_OP, SCHEDOP_WATCHDOG, &mut argument) }?;
    Ok(u32::try_from(answer).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_poked_after_a_quarter_of_its_time_and_by_its_half_at_the_latest() {
        let watchdog = Watchdog {
            id: FIRST,
            seconds: 60,
            poked: 1_000,
        };
        assert_eq!(watchdog.due(), 15_000_001_000);
        assert_eq!(watchdog.deadline(), 30_000_001_000);
    }

    #[test]
    fn without_xen_there_is_none() {
        assert!(Watchdog::start(60).is_err());
    }
}
