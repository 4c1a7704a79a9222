//! Receiving events: a wait that cannot lose a wake-up, and a guard against work that never ends.
//!
//! While the domain works, upcalls are of no use: whoever works looks at the pending bits when it is ready to. So all words of
//! the two-level table look announced already (their selector bits are set), which keeps Xen from sending an upcall for them
//! — but for the timer's word, in which no other port is bound. Upcalls are on meanwhile, and the timer is set to a time by
//! which the work must be done. An upcall that comes while the domain works then means one thing only: it hangs. Boot's
//! handler never returns from it; it starts the image again.
//!
//! Knows nothing about what a port is for.

use crate::abi::numbers::{DOMID_SELF, VCPUOP_STOP_PERIODIC_TIMER, VIRQ_TIMER, hypercall as nr};
use crate::error::XenError;
use crate::evtchn::{
    Port, Status, agree, bind_virq, bound_ports, close, highest_word, masks_agree, reserve_port, status, unmasked_ports,
};
use crate::platform::Mode;
use crate::shared_info::{self, EventWords};
use crate::{counters, hypercall, time};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// How boot waits: blocks this vCPU until `upcall_pending` is set, and returns with upcalls off again. It must return at once
/// when an event is pending already, and also when one comes between the caller's last look and the block.
pub type WaitStub = unsafe extern "sysv64" fn();

/// The timer's port, for boot's handler of upcalls.
pub static TIMER_PORT: AtomicU32 = AtomicU32::new(0);

/// The domain's one receiver of events.
pub struct Events {
    wait: WaitStub,
    mode: Mode,
    timer: Port,
    /// Time that Xen's one-shot timer is set to.
    armed: Option<u64>,
    /// Nanoseconds after which work counts as hanging. Without it upcalls are off but for the wait.
    limit: Option<u64>,
}

impl Events {
    /// Called by boot, once per (warm or cold) start. Nothing is guarded before [`Self::guard`].
    ///
    /// `cold`: mask all ports first. Finds or binds the timer's port; without one (`XenError`), deadlines cannot work.
    ///
    /// # Safety
    /// The shared info page is installed; upcalls are off and nothing else turns them on, apart from `wait`, which is the mode's own;
    /// boot's upcall handler does not return unless `wait` was interrupted; there is no other `Events`.
    pub unsafe fn from_boot(cold: bool, mode: Mode, wait: WaitStub) -> Result<Self, XenError> {
        let words = shared_info::event_words().ok_or(XenError::ENOSYS)?;
        words.upcall_mask.store(1, SeqCst);
        let timer = if cold {
            for word in words.mask {
                word.store(u64::MAX, SeqCst);
            }
            agree();
            bind_timer()?
        } else {
            find_timer().map_or_else(bind_timer, Ok)?
        };
        TIMER_PORT.store(timer.0, SeqCst);
        let mut events = Self {
            wait,
            mode,
            timer,
            armed: None,
            limit: None,
        };
        events.set_timer(0);
        if mode == Mode::Pv {
            // A PV vCPU starts with a timer that ticks a hundred times a second and sends the same event.
            // SAFETY: takes the number of this vCPU, changes only when VIRQ_TIMER comes.
            let _ = unsafe { hypercall::raw(nr::VCPU_OP, [VCPUOP_STOP_PERIODIC_TIMER, 0, 0, 0, 0]) };
        }
        Ok(events)
    }

    /// From now on, work between two waits may take `limit_ns` at most; `None` ends that. Work that takes longer ends in boot's
    /// handler of upcalls.
    pub fn guard(&mut self, limit_ns: Option<u64>) {
        let Some(words) = shared_info::event_words() else {
            return;
        };
        self.leave(&words);
        self.limit = limit_ns;
        let _now = self.enter(&words);
    }

    /// Work begins (again): from here on only the timer causes an upcall. Gives the time, if it was asked for.
    fn enter(&mut self, words: &EventWords<'_>) -> Option<u64> {
        let limit = self.limit?;
        let now = time::now_ns();
        // A timer that leaves more than half of the limit is left as it is: most rounds then cost no hypercall.
        let early = now.saturating_add(limit / 2);
        let late = now.saturating_add(limit);
        if !self.armed.is_some_and(|armed| (early..=late).contains(&armed)) {
            self.set_timer(late);
        }
        announce_all_but(words, self.timer);
        self.upcalls(words, true);
        Some(now)
    }

    /// Work ends: events cause upcalls again, which are off until the wait.
    fn leave(&mut self, words: &EventWords<'_>) {
        self.upcalls(words, false);
        announce_nothing(words);
    }

    fn upcalls(&self, words: &EventWords<'_>, on: bool) {
        match (self.mode, on) {
            // With nothing pending Xen need not be asked to look: `announce_all_but` has seen to that.
            (Mode::Pv, on) => words.upcall_mask.store(u8::from(!on), SeqCst),
            // SAFETY: a PVH guest runs in ring 0. `from_boot`'s caller promised a handler that does not return here.
            (Mode::Pvh, true) => unsafe { asm!("sti", options(nomem, nostack)) },
            // SAFETY: as above; turning interrupts off harms nobody.
            (Mode::Pvh, false) => unsafe { asm!("cli", options(nomem, nostack)) },
        }
    }

    /// Takes all pending events that are not masked, each port once, in the order of their ports. The timer's is not reported.
    pub fn drain(&mut self, out: impl FnMut(Port)) {
        if let Some(words) = shared_info::event_words() {
            drain_words(&words, highest_word(), self.timer, out);
        }
    }

    /// Whether [`Self::drain`] has something to report.
    #[must_use]
    pub fn any_pending(&self) -> bool {
        shared_info::event_words().is_some_and(|words| any_pending_in(&words, highest_word(), self.timer))
    }

    /// Gives up the processor until an event is pending or until system time `deadline_ns` (of [`time::now_ns`]) has come.
    /// Returns at once when one of the two is true already; may also return early. Gives the time now, if it was asked for at the
    /// end: where Xen emulates the counter, that costs as much as a request.
    pub fn wait(&mut self, deadline_ns: Option<u64>) -> Option<u64> {
        if self.any_pending() {
            return None;
        }
        let words = shared_info::event_words()?;
        self.leave(&words);
        self.block(&words, deadline_ns);
        self.enter(&words)
    }

    fn block(&mut self, words: &EventWords<'_>, deadline_ns: Option<u64>) {
        // From here on an event sets `upcall_pending`; what came before is seen now.
        while !any_pending_in(words, highest_word(), self.timer) {
            // An event of the timer that was never taken would hide the next one.
            if take(words, self.timer) {
                self.armed = None;
            }
            // The timer may still be set to the end of the last work. If that is before the deadline, or there is none, it wakes us then,
            // or has come already and does so at once; only if nothing has happened until then is it set anew. So a deadline that is far
            // away costs a busy domain no hypercall, and not even a look at the time.
            if let Some(deadline) = deadline_ns
                && self.armed.is_none_or(|armed| armed > deadline)
            {
                if time::now_ns() >= deadline {
                    return;
                }
                // Zero would cancel the timer; time zero is long past.
                self.set_timer(deadline.max(1));
            }
            counters::block();
            // SAFETY: the stub's contract is `WaitStub`'s; `from_boot`'s caller promised it.
            unsafe { (self.wait)() }
            announce_nothing(words);
        }
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

/// The timer's port, bound by an earlier life; looks at the words of all ports that are bound from now on.
fn find_timer() -> Option<Port> {
    if !masks_agree() {
        let mut timer = None;
        for (port, status) in bound_ports() {
            reserve_port(port);
            if status == Status::Virq(VIRQ_TIMER) {
                timer = Some(port);
            }
        }
        return timer;
    }
    unmasked_ports().for_each(reserve_port);
    // Xen is asked about few: `bind_timer` took the first port of a word.
    unmasked_ports()
        .filter(|port| port.0 % 64 == 0)
        .find(|port| status(*port) == Ok(Status::Virq(VIRQ_TIMER)))
}

/// Binds the timer to the first port of a word of which all other ports are taken, for ever, by channels that lead nowhere.
fn bind_timer() -> Result<Port, XenError> {
    let mut before = [Port(0); 64];
    let mut count = 0;
    let first = loop {
        let port = crate::evtchn::alloc_masked(DOMID_SELF)?;
        if port.0 % 64 == 0 {
            break port;
        }
        if let Some(place) = before.get_mut(count) {
            *place = port;
            count += 1;
        }
    };
    close(first);
    // Xen gives the lowest port that is free.
    let timer = bind_virq(VIRQ_TIMER)?;
    for _ in 1..64 {
        crate::evtchn::alloc_masked(DOMID_SELF)?;
    }
    before.iter().take(count).for_each(|port| close(*port));
    Ok(timer)
}

/// Makes every word but that of `timer` look announced, and the timer's as if nothing had come: Xen sends an upcall only for an
/// event in a word that is not announced yet.
fn announce_all_but(words: &EventWords<'_>, timer: Port) {
    let word = timer.0 / 64 % 64;
    words.selector.fetch_or(!(1 << word), SeqCst);
    take(words, timer);
    words.selector.fetch_and(!(1 << word), SeqCst);
    words.upcall_pending.store(0, SeqCst);
}

/// From here on every event sets its selector bit and `upcall_pending`; which came before is found in the pending bits.
fn announce_nothing(words: &EventWords<'_>) {
    words.selector.store(0, SeqCst);
    words.upcall_pending.store(0, SeqCst);
}

/// Takes the event of one port, if it is pending.
fn take(words: &EventWords<'_>, port: Port) -> bool {
    let bit = 1 << (port.0 % 64);
    words
        .pending
        .get((port.0 / 64) as usize)
        .is_some_and(|word| word.load(SeqCst) & bit != 0 && word.fetch_and(!bit, SeqCst) & bit != 0)
}

/// What is pending in a word, not masked, and not the timer.
fn ready_in(words: &EventWords<'_>, word: usize, timer: Port) -> u64 {
    let pending = words.pending[word].load(SeqCst);
    if pending == 0 {
        return 0;
    }
    let of_timer = if timer.0 as usize / 64 == word {
        1 << (timer.0 % 64)
    } else {
        0
    };
    pending & !words.mask[word].load(SeqCst) & !of_timer
}

fn any_pending_in(words: &EventWords<'_>, highest: usize, timer: Port) -> bool {
    (0..=highest).any(|word| ready_in(words, word, timer) != 0)
}

fn drain_words(words: &EventWords<'_>, highest: usize, timer: Port, mut out: impl FnMut(Port)) {
    for word in 0..=highest {
        let mut ready = ready_in(words, word, timer);
        if ready != 0 {
            words.pending[word].fetch_and(!ready, SeqCst);
        }
        while ready != 0 {
            out(Port(word as u32 * 64 + ready.trailing_zeros()));
            ready &= ready - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::abi::shared::EVTCHN_2L_WORDS;
    use core::array;
    use core::sync::atomic::{AtomicU8, AtomicU64};
    use std::vec::Vec;

    const TIMER: Port = Port(64);
    const HIGHEST: usize = EVTCHN_2L_WORDS - 1;

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

        /// What Xen does when an event comes. True: it makes the vCPU take an upcall, or ends its wait.
        fn deliver(&self, port: u32) -> bool {
            let (word, bit) = ((port / 64) as usize, 1 << (port % 64));
            if self.pending[word].fetch_or(bit, SeqCst) & bit != 0 || self.mask[word].load(SeqCst) & bit != 0 {
                return false;
            }
            if self.selector.fetch_or(1 << word, SeqCst) & 1 << word != 0 {
                return false;
            }
            self.upcall_pending.store(1, SeqCst);
            true
        }

        fn drain(&self) -> Vec<u32> {
            let mut ports = Vec::new();
            drain_words(&self.words(), HIGHEST, TIMER, |port| ports.push(port.0));
            ports
        }

        fn any_pending(&self) -> bool {
            any_pending_in(&self.words(), HIGHEST, TIMER)
        }
    }

    #[test]
    fn pending_events_are_reported_once_and_in_order() {
        let page = Page::new();
        for port in [4095, 63, 3, 128, 3] {
            page.deliver(port);
        }
        assert!(page.any_pending());
        assert_eq!(page.drain(), [3, 63, 128, 4095]);
        assert!(!page.any_pending());
        assert_eq!(page.drain(), []);
    }

    #[test]
    fn a_masked_event_waits_for_the_unmasking() {
        let page = Page::new();
        page.mask[0].store(u64::MAX, SeqCst);
        page.deliver(7);
        assert!(!page.any_pending());
        page.mask[0].store(!(1 << 7), SeqCst);
        assert!(page.any_pending());
        assert_eq!(page.drain(), [7]);
    }

    #[test]
    fn an_event_during_the_drain_is_seen_by_the_next_one() {
        let page = Page::new();
        page.deliver(5);
        let mut seen = Vec::new();
        drain_words(&page.words(), HIGHEST, TIMER, |port| {
            seen.push(port.0);
            page.deliver(5);
        });
        assert_eq!(seen, [5]);
        assert_eq!(page.drain(), [5]);
    }

    #[test]
    fn during_work_only_the_timer_causes_an_upcall_and_no_event_is_lost() {
        let page = Page::new();
        page.deliver(3);
        page.deliver(TIMER.0);
        announce_all_but(&page.words(), TIMER);
        assert_eq!(
            page.upcall_pending.load(SeqCst),
            0,
            "what was announced before is no hang"
        );
        for port in [5, 200, 4095] {
            assert!(!page.deliver(port));
        }
        assert_eq!(page.upcall_pending.load(SeqCst), 0);
        assert!(page.deliver(TIMER.0), "the work takes too long");
        assert_eq!(page.drain(), [3, 5, 200, 4095]);
    }

    #[test]
    fn what_came_during_work_is_seen_before_the_wait_and_what_comes_later_ends_it() {
        let page = Page::new();
        announce_all_but(&page.words(), TIMER);
        page.deliver(9);
        announce_nothing(&page.words());
        assert!(page.any_pending());
        assert_eq!(page.drain(), [9]);
        announce_nothing(&page.words());
        assert!(page.deliver(9));
        announce_nothing(&page.words());
        assert!(page.deliver(300), "another word is announced by itself");
    }
}
