//! Keeps the console readable: each domain may cause so many lines in a second, the rest is counted.
//!
//! Whoever reads the console after an attack must find what else happened. What the administrator and the hypervisor cause
//! is not limited, and neither is the privileged domain.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use xenstore_core::Time;
use xenstore_wire::DomId;

/// Lines that one domain may cause in a second. Tracing one guest at a human pace fits; a flood does not.
pub(crate) const LINES_PER_SECOND: u32 = 20;

/// Nanoseconds over which lines are counted.
const PERIOD: u64 = 1_000_000_000;

/// What one domain has caused lately.
struct Share {
    since: Time,
    lines: u32,
    left_out: u64,
}

/// The shares of all domains that caused lines lately.
#[derive(Default)]
pub(crate) struct Quiet {
    shares: BTreeMap<DomId, Share>,
}

impl Quiet {
    /// Whether `domid` may cause one more line now.
    pub(crate) fn allows(&mut self, domid: DomId, now: Time) -> bool {
        let share = self.shares.entry(domid).or_insert(Share {
            since: now,
            lines: 0,
            left_out: 0,
        });
        if share.lines < LINES_PER_SECOND {
            share.lines = share.lines.saturating_add(1);
            true
        } else {
            share.left_out = share.left_out.saturating_add(1);
            false
        }
    }

    /// Ends the periods that are over; a line for each domain of which something was left out.
    pub(crate) fn expire(&mut self, now: Time, mut say: impl FnMut(String)) {
        self.shares.retain(|domid, share| {
            let open = now.0.saturating_sub(share.since.0) < PERIOD;
            if !open && share.left_out > 0 {
                say(format!("domain {domid}: {} further lines left out", share.left_out));
            }
            open
        });
    }

    /// When [`Quiet::expire`] has something to say.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let waiting = self.shares.values().filter(|share| share.left_out > 0);
        waiting.map(|share| Time(share.since.0.saturating_add(PERIOD))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_flood_is_counted_and_others_are_heard() {
        let mut quiet = Quiet::default();
        let heard = (0..100).filter(|_| quiet.allows(DomId(5), Time(0))).count();
        assert_eq!(heard, LINES_PER_SECOND as usize);
        assert!(quiet.allows(DomId(6), Time(0)));
        assert_eq!(quiet.next_deadline(), Some(Time(SECOND)));

        let mut said = Vec::new();
        quiet.expire(Time(SECOND - 1), |line| said.push(line));
        assert!(said.is_empty());
        quiet.expire(Time(SECOND), |line| said.push(line));
        assert_eq!(said, ["domain 5: 80 further lines left out"]);
        assert!(quiet.allows(DomId(5), Time(SECOND)));
    }

    #[test]
    fn who_keeps_to_the_limit_is_not_mentioned() {
        let mut quiet = Quiet::default();
        assert!(quiet.allows(DomId(5), Time(0)));
        assert_eq!(quiet.next_deadline(), None);
        quiet.expire(Time(SECOND), |line| unreachable!("{line}"));
    }
}
