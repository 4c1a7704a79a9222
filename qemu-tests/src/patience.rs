//! How long a machine may say nothing, and what is due if it does. Only reckons: knows no machine, and reads no clock.

use std::fmt;
use std::time::{Duration, Instant};

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without any output.
    pub silence: Duration,
    /// From power on to power off.
    pub whole: Duration,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself: power off, or a reset, which ends it too.
    PoweredOff,
    /// The reader had seen enough.
    Stopped,
    Silent(Duration),
    TooLong(Duration),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::PoweredOff => f.write_str("the machine went off"),
            End::Stopped => f.write_str("stopped"),
            End::Silent(limit) => write!(f, "no output for {} s", limit.as_secs()),
            End::TooLong(limit) => write!(f, "not finished after {} s", limit.as_secs()),
        }
    }
}

/// After its last word a machine has this long to go off by itself.
const GRACE: Duration = Duration::from_secs(20);

/// Xen has this long to describe a machine that hangs.
const ANSWER: Duration = Duration::from_secs(5);

/// A machine that says nothing for this long is sent a key that means nothing.
///
/// Now and then an emulated machine stops getting timer interrupts: seen with QEMU 7.2 and nested SVM, about once in fifty runs. Xen
/// then idles with timers that are overdue, and any other interrupt lets everything go on. The serial line's is the one we have.
const QUIET: Duration = Duration::from_secs(20);

/// What to do about a machine from which nothing came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a key without a meaning, in case it lost its timer; it has been silent for so long.
    Nudge(Duration),
    /// Ask Xen what it is doing.
    Question,
    /// Give it up.
    End(End),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It works.
    Running,
    /// Xen was asked.
    Asked,
    /// It said its last word.
    Ending,
}

/// The patience with one machine.
#[derive(Debug)]
pub struct Patience {
    limits: Limits,
    state: State,
    /// When it last said something.
    last: Instant,
    deadline: Instant,
    next_nudge: Instant,
}

impl Patience {
    /// It is switched on now.
    pub fn new(limits: Limits, now: Instant) -> Patience {
        Patience {
            limits,
            state: State::Running,
            last: now,
            deadline: now + limits.whole,
            next_nudge: now + QUIET,
        }
    }

    /// When something is due, unless it says something before.
    pub fn until(&self) -> Instant {
        match self.state {
            State::Running => self.deadline.min(self.last + self.limits.silence).min(self.next_nudge),
            State::Asked | State::Ending => self.deadline,
        }
    }

    /// It said something.
    pub fn heard(&mut self, now: Instant) {
        self.last = now;
        self.next_nudge = now + QUIET;
    }

    /// It said its last word just now.
    pub fn ending(&mut self) {
        self.state = State::Ending;
        self.deadline = self.deadline.min(self.last + GRACE);
    }

    /// The time of [`Patience::until`] has come.
    pub fn due(&mut self, now: Instant) -> Due {
        let silent = now.saturating_duration_since(self.last);
        match self.state {
            State::Ending => Due::End(End::Stopped),
            State::Asked => Due::End(End::Silent(self.limits.silence)),
            State::Running if now >= self.deadline => Due::End(End::TooLong(self.limits.whole)),
            State::Running if silent >= self.limits.silence => {
                self.state = State::Asked;
                self.deadline = now + ANSWER;
                Due::Question
            }
            State::Running => {
                self.next_nudge = now + QUIET;
                Due::Nudge(silent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        silence: Duration::from_secs(50),
        whole: Duration::from_secs(300),
    };

    /// What is due, and after how many seconds, of a machine that says nothing from the start.
    fn silent(mut patience: Patience, start: Instant) -> Vec<(u64, Due)> {
        let mut all = Vec::new();
        loop {
            let now = patience.until();
            let due = patience.due(now);
            all.push(((now - start).as_secs(), due.clone()));
            if matches!(due, Due::End(_)) {
                return all;
            }
        }
    }

    #[test]
    fn a_silent_machine_is_nudged_then_xen_is_asked_then_it_is_given_up() {
        let start = Instant::now();
        let nudge = |seconds| Due::Nudge(Duration::from_secs(seconds));
        let end = Due::End(End::Silent(LIMITS.silence));
        let expected = [(20, nudge(20)), (40, nudge(40)), (50, Due::Question), (55, end)];
        assert_eq!(silent(Patience::new(LIMITS, start), start), expected);
    }

    #[test]
    fn a_machine_that_talks_for_ever_is_given_up() {
        let start = Instant::now();
        let mut patience = Patience::new(LIMITS, start);
        let mut now = start;
        while now < start + LIMITS.whole - Duration::from_secs(1) {
            now += Duration::from_secs(1);
            patience.heard(now);
        }
        assert_eq!(patience.until(), start + LIMITS.whole);
        assert_eq!(patience.due(patience.until()), Due::End(End::TooLong(LIMITS.whole)));
    }

    #[test]
    fn after_its_last_word_a_machine_has_some_seconds_and_is_not_asked() {
        let start = Instant::now();
        let mut patience = Patience::new(LIMITS, start);
        patience.heard(start + Duration::from_secs(10));
        patience.ending();
        assert_eq!(silent(patience, start), [(30, Due::End(End::Stopped))]);
    }

    #[test]
    fn what_xen_answers_does_not_save_a_machine_that_was_silent() {
        let start = Instant::now();
        let mut patience = Patience::new(LIMITS, start);
        let asked = start + LIMITS.silence;
        assert_eq!(patience.due(asked), Due::Question);
        patience.heard(asked + Duration::from_secs(1));
        assert_eq!(silent(patience, start), [(55, Due::End(End::Silent(LIMITS.silence)))]);
    }
}
