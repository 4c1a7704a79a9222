//! Event channels: the two-level ABI (4096 ports), one vCPU, and a wait that cannot lose a wake-up.
//!
//! Ports are masked when the domain starts; a port that is bound here is unmasked, so only ports that somebody asked for
//! wake the domain. Pending bits, masks and bindings all survive a warm restart.
//!
//! Knows nothing about what a port is for.

use crate::abi::event::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND,
    EVTCHNOP_STATUS, EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_VIRQ,
    EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindVirq, EvtchnPort, EvtchnStatus,
};
use crate::abi::numbers::{DOMID_SELF, VIRQ_TIMER, hypercall as nr};
use crate::abi::shared::{EVTCHN_2L_NR_CHANNELS, EVTCHN_2L_WORDS};
use crate::error::XenError;
use crate::shared_info::{self, EventWords};
use crate::{counters, hypercall, time};
use core::sync::atomic::Ordering::SeqCst;

/// Local port of an event channel, below 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port(pub u32);

/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Closed,
    /// Waits for domain `remote` to bind to it.
    Unbound {
        remote: u16,
    },
    /// Connected to `remote_port` of domain `remote`.
    Interdomain {
        remote: u16,
        remote_port: u32,
    },
    /// Bound to this virtual interrupt.
    Virq(u32),
    /// Something that this domain never asks for; Xen's number.
    Other(u32),
}

fn operate<T>(command: u64, argument: &mut T) -> Result<u64, XenError> {
    // SAFETY: every caller in this module passes the structure that belongs to its command; none changes memory.
    unsafe { hypercall::operate(nr::EVENT_CHANNEL_OP, command, argument) }
}

/// Connects a new local port to `remote_port`, which domain `remote` made for this domain. Unmasked, and pending at once
/// (Xen does so, because an earlier event may have gone nowhere).
pub fn bind_interdomain(remote: u16, remote_port: u32) -> Result<Port, XenError> {
    let mut argument = EvtchnBindInterdomain {
        remote_dom: remote,
        remote_port,
        local_port: 0,
    };
    operate(EVTCHNOP_BIND_INTERDOMAIN, &mut argument)?;
    Ok(bound(argument.local_port))
}

/// Makes a local port to which domain `remote` may bind; [`DOMID_SELF`] makes a loop. Unmasked.
pub fn alloc_unbound(remote: u16) -> Result<Port, XenError> {
    let mut argument = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: remote,
        port: 0,
    };
    operate(EVTCHNOP_ALLOC_UNBOUND, &mut argument)?;
    Ok(bound(argument.port))
}

/// Binds a virtual interrupt to vCPU 0. Unmasked. `EEXIST` if it is bound already (after a warm restart: find the port with
/// [`find_virq`]).
pub fn bind_virq(virq: u32) -> Result<Port, XenError> {
    let mut argument = EvtchnBindVirq { virq, vcpu: 0, port: 0 };
    operate(EVTCHNOP_BIND_VIRQ, &mut argument)?;
    Ok(bound(argument.port))
}

fn bound(port: u32) -> Port {
    unmask(Port(port));
    Port(port)
}

/// Closes a port; a port that is closed already stays closed.
pub fn close(port: Port) {
    mask(port);
    // The only error is EINVAL: there is no such channel, which is what was asked for.
    let _ = operate(EVTCHNOP_CLOSE, &mut EvtchnPort { port: port.0 });
    if let (Some(words), Some((word, bit))) = (shared_info::event_words(), place(port)) {
        words.pending[word].fetch_and(!bit, SeqCst);
    }
}

/// Sends an event to the other end. Failures (the other end is gone) are counted, not returned: death is reported elsewhere.
pub fn notify(port: Port) {
    counters::notify(operate(EVTCHNOP_SEND, &mut EvtchnPort { port: port.0 }).is_ok());
}

/// What `port` is bound to.
pub fn status(port: Port) -> Result<Status, XenError> {
    let mut argument = EvtchnStatus {
        dom: DOMID_SELF,
        port: port.0,
        ..Default::default()
    };
    operate(EVTCHNOP_STATUS, &mut argument)?;
    let remote = argument.u_first as u16;
    Ok(match argument.status {
        EVTCHNSTAT_CLOSED => Status::Closed,
        EVTCHNSTAT_UNBOUND => Status::Unbound { remote },
        EVTCHNSTAT_INTERDOMAIN => Status::Interdomain {
            remote,
            remote_port: argument.u_second,
        },
        EVTCHNSTAT_VIRQ => Status::Virq(argument.u_first),
        other => Status::Other(other),
    })
}

/// All ports that are not closed, with what they are bound to: how a restarted domain finds its bindings again.
/// Ends where Xen says that the domain has no such port yet.
pub fn bound_ports() -> impl Iterator<Item = (Port, Status)> {
    (1..EVTCHN_2L_NR_CHANNELS)
        .map(Port)
        .map_while(|port| Some((port, status(port).ok()?)))
        .filter(|(_, status)| *status != Status::Closed)
}

/// The port to which `virq` is bound, if it is.
#[must_use]
pub fn find_virq(virq: u32) -> Option<Port> {
    bound_ports()
        .find(|(_, status)| *status == Status::Virq(virq))
        .map(|(port, _)| port)
}

/// Word and bit of a port in the pending and mask arrays.
fn place(port: Port) -> Option<(usize, u64)> {
    (port.0 < EVTCHN_2L_NR_CHANNELS).then(|| ((port.0 / 64) as usize, 1 << (port.0 % 64)))
}

/// Lets events of `port` through, and makes one that came meanwhile visible again.
pub fn unmask(port: Port) {
    if let (Some(words), Some((word, bit))) = (shared_info::event_words(), place(port)) {
        unmask_in(&words, word, bit);
    }
}

fn unmask_in(words: &EventWords<'_>, word: usize, bit: u64) {
    words.mask[word].fetch_and(!bit, SeqCst);
    // An event that came while the port was masked set only its pending bit. The vCPU may set the rest for itself: it is the
    // only one, and Xen looks at `upcall_pending` whenever it is about to block.
    if words.pending[word].load(SeqCst) & bit != 0 {
        words.selector.fetch_or(1 << word, SeqCst);
        words.upcall_pending.store(1, SeqCst);
    }
}

/// Holds events of `port` back: they stay pending and wake nobody.
pub fn mask(port: Port) {
    if let (Some(words), Some((word, bit))) = (shared_info::event_words(), place(port)) {
        words.mask[word].fetch_or(bit, SeqCst);
    }
}

/// Takes all pending events that are not masked, each once, in the order of their ports.
fn drain_words(words: &EventWords<'_>, mut out: impl FnMut(Port)) {
    // Top down: whatever comes after a level was cleared sets all levels above it again.
    words.upcall_pending.store(0, SeqCst);
    let mut selected = words.selector.swap(0, SeqCst);
    while selected != 0 {
        let word = selected.trailing_zeros() as usize;
        selected &= selected - 1;
        let mut ready = words.pending[word].load(SeqCst) & !words.mask[word].load(SeqCst);
        words.pending[word].fetch_and(!ready, SeqCst);
        while ready != 0 {
            out(Port(word as u32 * 64 + ready.trailing_zeros()));
            ready &= ready - 1;
        }
    }
}

fn pending_in(words: &EventWords<'_>) -> bool {
    words.upcall_pending.load(SeqCst) != 0 || words.selector.load(SeqCst) != 0
}

/// How boot waits: blocks this vCPU until `upcall_pending` is set, and returns with upcalls off again. It must return at once
/// when an event is pending already, and also when one comes between the caller's last look and the block.
pub type WaitStub = unsafe extern "sysv64" fn();

/// The domain's one receiver of events.
pub struct Events {
    wait: WaitStub,
    timer: Option<Port>,
    /// Deadline that Xen's one-shot timer is set to.
    armed: Option<u64>,
}

impl Events {
    /// Called by boot, once per (warm or cold) start.
    ///
    /// `cold`: mask all ports first. Finds or binds the timer's port; without one (`XenError`), deadlines cannot work.
    ///
    /// # Safety
    /// The shared info page is installed; upcalls are off and only `wait` turns them on; there is no other `Events`.
    pub unsafe fn from_boot(cold: bool, wait: WaitStub) -> Result<Self, XenError> {
        let words = shared_info::event_words().ok_or(XenError::ENOSYS)?;
        words.upcall_mask.store(1, SeqCst);
        let timer = if cold {
            for word in words.mask {
                word.store(u64::MAX, SeqCst);
            }
            bind_virq(VIRQ_TIMER)?
        } else {
            // What was announced before the crash may have been taken and forgotten: look at everything again.
            words.selector.store(u64::MAX, SeqCst);
            words.upcall_pending.store(1, SeqCst);
            find_virq(VIRQ_TIMER).map_or_else(|| bind_virq(VIRQ_TIMER), Ok)?
        };
        let mut events = Self {
            wait,
            timer: Some(timer),
            armed: None,
        };
        events.set_timer(0);
        Ok(events)
    }

    /// Takes all pending events, each port once, in the order of their ports. The timer's port is not reported.
    pub fn drain(&mut self, mut out: impl FnMut(Port)) {
        let Some(words) = shared_info::event_words() else {
            return;
        };
        let (timer, armed) = (self.timer, &mut self.armed);
        drain_words(&words, |port| {
            if Some(port) == timer {
                *armed = None;
            } else {
                out(port);
            }
        });
    }

    /// Whether [`Self::drain`] may have something to report.
    #[must_use]
    pub fn any_pending(&self) -> bool {
        shared_info::event_words().is_some_and(|words| pending_in(&words))
    }

    /// Gives up the processor until an event is pending or until system time `deadline_ns` (of [`time::now_ns`]) has come.
    /// Returns at once when one of the two is true already; may also return early.
    pub fn wait(&mut self, deadline_ns: Option<u64>) {
        if self.any_pending() {
            return;
        }
        if let Some(deadline) = deadline_ns {
            if time::now_ns() >= deadline {
                return;
            }
            // Zero would cancel the timer; time zero is long past.
            self.set_timer(deadline.max(1));
        } else if self.armed.is_some() {
            self.set_timer(0);
        }
        counters::block();
        // SAFETY: the stub's contract is `WaitStub`'s; `from_boot`'s caller promised it.
        unsafe { (self.wait)() }
    }

    fn set_timer(&mut self, deadline: u64) {
        let wanted = (deadline != 0).then_some(deadline);
        if wanted.is_some() && wanted == self.armed {
            return;
        }
        // SAFETY: takes a number, changes only when VIRQ_TIMER comes.
        let _ = unsafe { hypercall::raw(nr::SET_TIMER_OP, [deadline, 0, 0, 0, 0]) };
        self.armed = wanted;
    }
}

const _: () = assert!(EVTCHN_2L_WORDS * 64 == EVTCHN_2L_NR_CHANNELS as usize);

/// This domain's own identifier: a port that waits for its own domain tells who that is.
pub fn own_domid() -> Result<u16, XenError> {
    let mut argument = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    operate(EVTCHNOP_ALLOC_UNBOUND, &mut argument)?;
    let port = Port(argument.port);
    let status = status(port);
    close(port);
    match status? {
        Status::Unbound { remote } => Ok(remote),
        _ => Err(XenError::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::array;
    use core::sync::atomic::{AtomicU8, AtomicU64};
    use std::vec::Vec;

    struct Page {
        upcall_pending: AtomicU8,
        upcall_mask: AtomicU8,
        selector: AtomicU64,
        pending: [AtomicU64; EVTCHN_2L_WORDS],
        mask: [AtomicU64; EVTCHN_2L_WORDS],
    }

    impl Page {
        fn new() -> Self {
            Self {
                upcall_pending: AtomicU8::new(0),
                upcall_mask: AtomicU8::new(1),
                selector: AtomicU64::new(0),
                pending: array::from_fn(|_| AtomicU64::new(0)),
                mask: array::from_fn(|_| AtomicU64::new(0)),
            }
        }

        fn words(&self) -> EventWords<'_> {
            EventWords {
                upcall_pending: &self.upcall_pending,
                upcall_mask: &self.upcall_mask,
                selector: &self.selector,
                pending: &self.pending,
                mask: &self.mask,
            }
        }

        /// What Xen does when an event comes.
        fn deliver(&self, port: u32) {
            let (word, bit) = ((port / 64) as usize, 1 << (port % 64));
            if self.pending[word].fetch_or(bit, SeqCst) & bit == 0 && self.mask[word].load(SeqCst) & bit == 0 {
                self.selector.fetch_or(1 << word, SeqCst);
                self.upcall_pending.store(1, SeqCst);
            }
        }

        fn drain(&self) -> Vec<u32> {
            let mut ports = Vec::new();
            drain_words(&self.words(), |port| ports.push(port.0));
            ports
        }
    }

    #[test]
    fn pending_events_are_reported_once_and_in_order() {
        let page = Page::new();
        for port in [4095, 64, 3, 65, 3] {
            page.deliver(port);
        }
        assert!(pending_in(&page.words()));
        assert_eq!(page.drain(), [3, 64, 65, 4095]);
        assert!(!pending_in(&page.words()));
        assert_eq!(page.drain(), []);
    }

    #[test]
    fn a_masked_event_waits_for_the_unmasking() {
        let page = Page::new();
        page.mask[0].store(u64::MAX, SeqCst);
        page.deliver(7);
        assert!(!pending_in(&page.words()));
        unmask_in(&page.words(), 0, 1 << 7);
        assert!(pending_in(&page.words()));
        assert_eq!(page.drain(), [7]);
    }

    #[test]
    fn an_event_during_the_drain_is_seen_by_the_next_one() {
        let page = Page::new();
        page.deliver(5);
        let mut seen = Vec::new();
        drain_words(&page.words(), |port| {
            seen.push(port.0);
            page.deliver(5);
        });
        assert_eq!(seen, [5]);
        assert!(pending_in(&page.words()));
        assert_eq!(page.drain(), [5]);
    }

    #[test]
    fn a_port_beyond_the_table_has_no_place() {
        assert_eq!(place(Port(4096)), None);
        assert_eq!(place(Port(4095)), Some((63, 1 << 63)));
    }
}
