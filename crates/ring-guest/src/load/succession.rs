//! The events of a list that grows by one child at a time and loses its oldest when it has enough: which come, in which order.
//!
//! Children are numbered from 1. Each makes an event of its own path, and each that is removed makes another, so a watcher that knows
//! how many are kept knows every event beforehand, and which one is missing.

use alloc::format;
use alloc::string::String;

/// How far a watcher of such a list has seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succession {
    kept: u32,
    newest: u32,
    removal_is_due: bool,
    events: u64,
}

impl Succession {
    /// Of a list that keeps so many children and has none yet.
    pub fn new(kept: u32) -> Succession {
        Succession {
            kept,
            newest: 0,
            removal_is_due: false,
            events: 0,
        }
    }

    /// The event of this child. The error says which one should have come.
    pub fn see(&mut self, child: u32) -> Result<(), String> {
        let expected = if self.removal_is_due {
            self.newest.saturating_sub(self.kept)
        } else {
            self.newest.saturating_add(1)
        };
        if child != expected {
            return Err(format!(
                "an event of child {child} instead of {expected}, after {} events",
                self.events
            ));
        }
        self.events += 1;
        if !self.removal_is_due {
            self.newest = child;
        }
        self.removal_is_due = !self.removal_is_due && self.newest > self.kept;
        Ok(())
    }

    /// The number of the newest child.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// Nothing is left to come of the children up to the newest.
    pub fn is_complete(&self) -> bool {
        !self.removal_is_due
    }

    /// Events seen.
    pub fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_child_comes_once_and_goes_once() {
        let mut list = Succession::new(2);
        for child in [1, 2, 3, 1, 4, 2] {
            assert_eq!(list.see(child), Ok(()));
        }
        assert_eq!((list.newest(), list.events(), list.is_complete()), (4, 6, true));
    }

    #[test]
    fn what_is_missing_comes_twice_or_too_early_is_noticed() {
        let seen = |children: &[u32]| {
            let mut list = Succession::new(2);
            children.iter().try_for_each(|child| list.see(*child))
        };
        assert!(seen(&[1, 3]).is_err(), "a creation is missing");
        assert!(seen(&[1, 2, 3, 4]).is_err(), "a removal is missing");
        assert!(seen(&[1, 1]).is_err(), "a creation came twice");
        assert!(seen(&[1, 2, 3, 1, 1]).is_err(), "a removal came twice");
    }
}
