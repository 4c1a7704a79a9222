//! Keeps the console readable: each domain may cause so many lines in a while, the rest is counted.
//!
//! Whoever reads the console after an attack must find what else happened. What the administrator and the hypervisor cause
//! is not limited, and neither is the privileged domain.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use xenstore_core::Time;
use xenstore_wire::DomId;

/// Nanoseconds over which lines are counted.
const PERIOD: u64 = 10_000_000_000;

/// What a line is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Subject {
    /// Something went wrong, or met a limit.
    Trouble,
    /// A trace, which the administrator switched on and wants to read.
    Trace,
}

impl Subject {
    /// Lines about it that one domain may cause in a period. Two a second tell enough of a trouble; a guest at work is traced
    /// whole, a flood is not.
    fn most(self) -> u32 {
        match self {
            Subject::Trouble => 20,
            Subject::Trace => 1000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Subject::Trouble => "lines",
            Subject::Trace => "trace lines",
        }
    }
}

/// What one domain has caused lately.
struct Share {
    since: Time,
    lines: u32,
    left_out: u64,
}

/// The shares of all domains that caused lines lately.
#[derive(Default)]
pub(crate) struct Quiet {
    shares: BTreeMap<(DomId, Subject), Share>,
}

impl Quiet {
    /// Whether `domid` may cause one more line now.
    pub(crate) fn allows(&mut self, domid: DomId, subject: Subject, now: Time) -> bool {
        let share = self.shares.entry((domid, subject)).or_insert(Share {
            since: now,
            lines: 0,
            left_out: 0,
        });
        if share.lines < subject.most() {
            share.lines = share.lines.saturating_add(1);
            true
        } else {
            share.left_out = share.left_out.saturating_add(1);
            false
        }
    }

    /// Ends the periods that are over; a line for each domain of which something was left out.
    pub(crate) fn expire(&mut self, now: Time, mut say: impl FnMut(String)) {
        self.shares.retain(|(domid, subject), share| {
            let open = now.0.saturating_sub(share.since.0) < PERIOD;
            if !open && share.left_out > 0 {
                say(format!(
                    "domain {domid}: {} further {} left out",
                    share.left_out,
                    subject.name()
                ));
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

    use Subject::{Trace, Trouble};

    #[test]
    fn a_flood_is_counted_and_others_are_heard() {
        let mut quiet = Quiet::default();
        let heard = (0..100).filter(|_| quiet.allows(DomId(5), Trouble, Time(0))).count();
        assert_eq!(heard, 20);
        assert!(quiet.allows(DomId(6), Trouble, Time(0)));
        assert!(quiet.allows(DomId(5), Trace, Time(0)));
        assert_eq!(quiet.next_deadline(), Some(Time(PERIOD)));

        let mut said = Vec::new();
        quiet.expire(Time(PERIOD - 1), |line| said.push(line));
        assert!(said.is_empty());
        quiet.expire(Time(PERIOD), |line| said.push(line));
        assert_eq!(said, ["domain 5: 80 further lines left out"]);
        assert!(quiet.allows(DomId(5), Trouble, Time(PERIOD)));
    }

    #[test]
    fn who_keeps_to_the_limit_is_not_mentioned() {
        let mut quiet = Quiet::default();
        assert!(quiet.allows(DomId(5), Trouble, Time(0)));
        assert_eq!(quiet.next_deadline(), None);
        quiet.expire(Time(PERIOD), |line| unreachable!("{line}"));
    }
}
