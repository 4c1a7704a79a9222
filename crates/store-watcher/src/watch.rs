//! From one look at the store domain to the next: what has happened. Pure: what Xen says in, events out.

use xen_bindings::dom0::{DomainInfo, ShutdownReason};

/// Something that is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is no store domain yet.
    NoStore,
    /// From now on this one is watched.
    Found(DomainInfo),
    /// It has shut down, and still exists.
    ShutDown(DomainInfo, ShutdownReason),
    /// It is gone, and nobody saw it shut down: it was destroyed.
    Vanished(u16),
    /// It had shut down, and now somebody has removed what was left.
    Removed(u16),
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Watch {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    New,
    Searching,
    Serving(u16),
    Ended(u16),
}

impl Watch {
    /// The domain to look at next; `None`: any store domain will do.
    pub fn watched(&self) -> Option<u16> {
        match self.state {
            State::New | State::Searching => None,
            State::Serving(domid) | State::Ended(domid) => Some(domid),
        }
    }

    /// Takes what Xen says about the domain to look at, `None` if it does not exist.
    pub fn see(&mut self, seen: Option<DomainInfo>) -> Option<Event> {
        // A number can be given to another domain, and a domain that is torn down has nothing left to look at.
        let seen = seen.filter(|info| info.is_xenstore && !info.is_dying);
        let (state, event) = match (self.state, seen) {
            (State::New, None) => (State::Searching, Some(Event::NoStore)),
            (State::Searching, None) => (State::Searching, None),
            (State::New | State::Searching, Some(info)) => match info.shutdown {
                Some(reason) => (State::Ended(info.domid), Some(Event::ShutDown(info, reason))),
                None => (State::Serving(info.domid), Some(Event::Found(info))),
            },
            (State::Serving(domid), None) => (State::Searching, Some(Event::Vanished(domid))),
            (State::Serving(domid), Some(info)) => match info.shutdown {
                Some(reason) => (State::Ended(domid), Some(Event::ShutDown(info, reason))),
                None => (self.state, None),
            },
            (State::Ended(domid), None) => (State::Searching, Some(Event::Removed(domid))),
            (State::Ended(_), Some(info)) => match info.shutdown {
                Some(_) => (self.state, None),
                // Removed and made again between two looks.
                None => (State::Serving(info.domid), Some(Event::Found(info))),
            },
        };
        self.state = state;
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: DomainInfo = DomainInfo {
        cpu_ns: 0,
        domid: 1,
        is_hvm: true,
        is_xenstore: true,
        is_dying: false,
        shutdown: None,
        pages: 2048,
    };
    const CRASHED: DomainInfo = DomainInfo {
        shutdown: Some(ShutdownReason::Crash),
        ..SERVING
    };

    fn events(looks: &[Option<DomainInfo>]) -> Vec<Option<Event>> {
        let mut watch = Watch::default();
        looks.iter().map(|look| watch.see(*look)).collect()
    }

    #[test]
    fn everything_is_told_once() {
        let looks = [
            None,
            None,
            Some(SERVING),
            Some(SERVING),
            Some(CRASHED),
            Some(CRASHED),
            None,
            None,
        ];
        assert_eq!(
            events(&looks),
            [
                Some(Event::NoStore),
                None,
                Some(Event::Found(SERVING)),
                None,
                Some(Event::ShutDown(CRASHED, ShutdownReason::Crash)),
                None,
                Some(Event::Removed(1)),
                None
            ]
        );
    }

    #[test]
    fn a_domain_that_is_gone_torn_down_or_another_one_has_vanished() {
        let dying = DomainInfo {
            is_dying: true,
            ..CRASHED
        };
        let guest = DomainInfo {
            is_xenstore: false,
            ..SERVING
        };
        for gone in [None, Some(dying), Some(guest)] {
            assert_eq!(events(&[Some(SERVING), gone])[1], Some(Event::Vanished(1)));
        }
    }

    #[test]
    fn a_store_that_had_ended_before_is_told_and_a_new_one_is_watched() {
        let looks = [Some(CRASHED), Some(SERVING), None];
        assert_eq!(
            events(&looks),
            [
                Some(Event::ShutDown(CRASHED, ShutdownReason::Crash)),
                Some(Event::Found(SERVING)),
                Some(Event::Vanished(1))
            ]
        );
    }
}
