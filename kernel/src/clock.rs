//! The time of a round. Where Xen emulates the processor's counter, a look at it is an exit and costs as much as half a request.

use core::cell::Cell;

use xen_bindings::time;

/// Rounds that may go by one look at the time: the one that a wake-up begins, and the one after it, which only makes sure that
/// nothing came meanwhile. What is due while the first one works is due in the third at the latest.
const ROUNDS: u8 = 2;

/// Time as the loop sees it.
#[derive(Debug, Default)]
pub struct Clock {
    /// What was read last, ns of Xen's system time.
    latest: Cell<u64>,
    /// Rounds that it is still good for.
    rounds: Cell<u8>,
}

impl Clock {
    /// The time for the next round.
    pub fn now(&self) -> u64 {
        self.now_by(time::now_ns)
    }

    fn now_by(&self, read: impl FnOnce() -> u64) -> u64 {
        match self.rounds.get().checked_sub(1) {
            Some(left) => self.rounds.set(left),
            None => self.latest.set(read()),
        }
        self.latest.get()
    }

    /// The time of the present round.
    pub fn latest(&self) -> u64 {
        self.latest.get()
    }

    /// The domain has waited until this time, or until it is not known when.
    pub fn woken(&mut self, now: Option<u64>) {
        match now {
            Some(now) => {
                self.latest.set(now);
                self.rounds.set(ROUNDS);
            }
            None => self.rounds.set(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_gives_the_time_of_two_rounds_and_every_later_one_is_read() {
        let mut clock = Clock::default();
        assert_eq!(clock.now_by(|| 5), 5);
        clock.woken(Some(7));
        assert_eq!([8, 9, 10, 11].map(|read| clock.now_by(|| read)), [7, 7, 10, 11]);
        assert_eq!(clock.latest(), 11);
        clock.woken(Some(12));
        clock.woken(None);
        assert_eq!(clock.now_by(|| 13), 13);
    }
}
