//! The machine that is Xen: granted pages, event channels, system time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;

use xen_bindings::abi::numbers::VIRQ_DOM_EXC;
use xen_bindings::domain::{DomainWatch, Interface};
use xen_bindings::events::Events;
use xen_bindings::evtchn::{self, Port, Status};
use xen_bindings::grant::{GrantError, Survivor, Windows};
use xen_bindings::memory::{MemoryFigures, durable_size, heap_usage};
use xen_bindings::watchdog::Watchdog;
use xen_bindings::{Mode, Window, counters, restart, shutdown, time};
use xenstore_core::{Channel, ConnectFailure, CrashKind, DomainState, Step, Time, World};
use xenstore_ring::{SharedPage, offset};
use xenstore_service::{Event, Machine, RingLink};
use xenstore_wire::DomId;

use crate::clock::Clock;
use crate::console::Log;
use crate::page::WindowPage;

/// A guest's Xenstore ring is always its grant 1 (`GNTTAB_RESERVED_XENSTORE`, grant_table.h).
pub const RING_GRANT: u32 = 1;

/// Bytes that no domain of ours has: an allocation of as many fails.
const MORE_THAN_THERE_IS: usize = 1 << 40;

/// What is said of the machine and does not change.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// PVH or PV.
    pub mode: Mode,
    /// Xen's version.
    pub xen_version: (u16, u16),
    /// Where the memory is.
    pub memory: MemoryFigures,
    /// System time at the start.
    pub started: u64,
    /// Lives of the server before this one, those included that ended before they had read back what there was.
    pub restarts: u32,
    /// How the last life ended.
    pub last_end: &'static str,
}

/// Xen.
pub struct XenMachine {
    pub events: Events,
    pub windows: Windows,
    pub log: Log,
    pub domains: DomainWatch,
    pub domain_exception: Option<Port>,
    /// Ports of the toolstack: console and our own store page.
    pub reserved: Vec<Port>,
    /// Our own ring page with the port behind it, until the service has it: the one ring that needs no grant.
    pub own_ring: Option<(Window, Port)>,
    pub facts: Facts,
    /// Ends the domain if rounds do not come any more.
    pub watchdog: Option<Watchdog>,
    pub clock: Clock,
}

impl XenMachine {
    /// Maps the ring page of a domain.
    pub fn map_ring(&mut self, domid: DomId) -> Result<WindowPage, GrantError> {
        self.windows.map(domid.0, RING_GRANT).map(WindowPage)
    }

    /// The ring of a domain that existed before us, with what it has queued. Its builder left the port in the page (Xen 4.21); a
    /// domain without one waits for its INTRODUCE.
    pub fn find_ring(&mut self, domid: DomId, features: u32) -> Option<(RingLink<WindowPage>, Channel)> {
        let page = self.map_ring(domid).ok()?;
        let port = match page.load(offset::EVTCHN_PORT) {
            0 => None,
            remote => evtchn::bind_interdomain(domid.0, remote).ok(),
        };
        let Some(port) = port else {
            self.unmap(Some(domid), page);
            return None;
        };
        Some((RingLink::adopt(page, features), Channel::Ring { port: port.0 }))
    }

    /// The loopback of our own domain, if the toolstack made one (Xen 4.19).
    pub fn loopback(&mut self, own: DomId, features: u32) -> Option<(RingLink<WindowPage>, Channel)> {
        let (page, port) = self.own_ring.take()?;
        let port = evtchn::bind_interdomain(own.0, port.0).ok()?;
        let link = RingLink::adopt(WindowPage(page), features);
        Some((link, Channel::Ring { port: port.0 }))
    }

    /// The ring pages that the last life had mapped, by domain, to be adopted.
    pub fn mapped_rings(&self) -> BTreeMap<DomId, Survivor> {
        let mut rings = BTreeMap::new();
        for survivor in self.windows.survivors().filter(|survivor| survivor.gref == RING_GRANT) {
            rings.entry(DomId(survivor.domid)).or_insert(survivor);
        }
        rings
    }

    /// Ends what the last life had mapped and bound and did not record: an action whose outcome it did not live to see. Finds the
    /// port of changes of domains again.
    pub fn drop_unowned(&mut self, owned: impl Fn(DomId) -> bool, ports: &BTreeSet<u32>) {
        let survivors: Vec<_> = self
            .windows
            .survivors()
            .filter(|survivor| !owned(DomId(survivor.domid)))
            .collect();
        for survivor in survivors {
            let domid = DomId(survivor.domid);
            if let Some(window) = self.windows.adopt(survivor) {
                self.unmap(Some(domid), WindowPage(window));
            }
        }
        let mut unowned = Vec::new();
        let mut see = |port: Port, status| match status {
            Status::Virq(VIRQ_DOM_EXC) => self.domain_exception = Some(port),
            Status::Interdomain { .. } if !ports.contains(&port.0) && !self.reserved.contains(&port) => {
                unowned.push(port);
            }
            _ => {}
        };
        if evtchn::masks_agree() {
            // What is recorded need not be asked about.
            let others = evtchn::unmasked_ports().filter(|port| !ports.contains(&port.0));
            let others = others.filter_map(|port| Some((port, evtchn::status(port).ok()?)));
            others.for_each(|(port, status)| see(port, status));
        } else {
            // The last life ended while a port was bound or closed. One walk for all: it asks Xen about each port that there may be.
            evtchn::bound_ports().for_each(|(port, status)| see(port, status));
        }
        for port in unowned {
            evtchn::close(port);
        }
        evtchn::agree();
    }

    fn unmap(&mut self, domid: Option<DomId>, page: WindowPage) {
        if let Err(error) = self.windows.unmap(page.0) {
            let whose = domid.map_or_else(String::new, |domid| format!(" of domain {domid}"));
            self.log
                .line(&format!("the ring{whose} could not be unmapped: {error}"));
        }
    }
}

impl World for XenMachine {
    fn domain(&self, domid: DomId) -> DomainState {
        seen(self.domains.state(domid.0))
    }

    fn wall_clock(&self) -> u64 {
        time::wall_clock_ns()
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Facts {
            mode,
            xen_version: (major, minor),
            memory,
            started,
            restarts,
            ..
        } = self.facts;
        let counted = counters::read();
        let (heap_used, heap_size) = heap_usage();
        let uptime = time::now_ns().saturating_sub(started) / 1_000_000_000;
        writeln!(
            out,
            "xen: {major}.{minor} {mode}\nrestarts: {restarts}\nuptime-seconds: {uptime}"
        )?;
        writeln!(
            out,
            "memory-bytes: {}\nmemory-maximum-bytes: {}\nimage-bytes: {}\ntables-bytes: {}\ndurable-bytes: {}",
            memory.reservation_bytes,
            memory.maximum_bytes,
            memory.image_bytes,
            memory.tables_bytes,
            durable_size()
        )?;
        writeln!(out, "heap-bytes: {heap_size}\nheap-used-bytes: {heap_used}")?;
        writeln!(
            out,
            "hypercalls: {}\nnotifies: {}\nnotify-failures: {}\nblocks: {}\nupcalls: {}\ngrant-maps: {}\n\
             grant-unmaps: {}\nwindows-in-use: {}\nconsole-bytes-lost: {}",
            counted.hypercalls,
            counted.notifies,
            counted.notify_failures,
            counted.blocks,
            counted.upcalls,
            counted.grant_maps,
            counted.grant_unmaps,
            self.windows.in_use(),
            counted.console_bytes_lost
        )
    }
}

impl Machine for XenMachine {
    type Link = RingLink<WindowPage>;

    fn now(&self) -> Time {
        Time(self.clock.now())
    }

    fn heap(&self) -> u64 {
        let memory = self.facts.memory;
        // Of what the domain may get besides, the heap gets half.
        let to_come = memory.maximum_bytes.saturating_sub(memory.reservation_bytes) / 2;
        let (_, now) = heap_usage();
        u64::try_from(now)
            .unwrap_or(0)
            .max(memory.heap_bytes.saturating_add(to_come))
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.poke(self.clock.latest());
        }
        let domain_exception = self.domain_exception;
        self.events.drain(|port| {
            event(if Some(port) == domain_exception {
                Event::DomainsChanged
            } else {
                Event::Port(port.0)
            });
        });
    }

    fn changed_domains(&mut self) -> Option<Vec<(DomId, DomainState)>> {
        if self.domains.interface() != Interface::DomainState {
            return None;
        }
        let changed = core::iter::from_fn(|| self.domains.next_changed());
        Some(changed.map(|(domid, state)| (DomId(domid), seen(state))).collect())
    }

    fn connect(
        &mut self,
        domid: DomId,
        remote_port: u32,
        features: u32,
    ) -> Result<(Self::Link, Channel), ConnectFailure> {
        let page = self.map_ring(domid).map_err(|error| {
            self.log
                .line(&format!("the ring of domain {domid} cannot be mapped: {error}"));
            match error {
                GrantError::NoWindow | GrantError::NoMemory | GrantError::NoHandle => ConnectFailure::NoRoom,
                _ => ConnectFailure::Grant,
            }
        })?;
        // Whoever built the domain may have put the port into the page (Xen 4.21).
        let in_page = page.load(offset::EVTCHN_PORT);
        let remote = if in_page == 0 { remote_port } else { in_page };
        match evtchn::bind_interdomain(domid.0, remote) {
            Ok(port) => Ok((RingLink::fresh(page, features), Channel::Ring { port: port.0 })),
            Err(error) => {
                self.log.line(&format!(
                    "event channel {remote} of domain {domid} cannot be bound: {error}"
                ));
                self.unmap(Some(domid), page);
                Err(ConnectFailure::EventChannel)
            }
        }
    }

    fn rebind(&mut self, old: Channel, domid: DomId, remote_port: u32) -> Result<Channel, ConnectFailure> {
        close(old);
        match evtchn::bind_interdomain(domid.0, remote_port) {
            Ok(port) => Ok(Channel::Ring { port: port.0 }),
            Err(error) => {
                self.log.line(&format!(
                    "event channel {remote_port} of domain {domid} cannot be bound: {error}"
                ));
                Err(ConnectFailure::EventChannel)
            }
        }
    }

    fn disconnect(&mut self, link: Self::Link, channel: Channel) {
        close(channel);
        self.unmap(None, link.into_page());
    }

    fn notify(&mut self, channel: Channel) {
        if let Channel::Ring { port } = channel
            && port != 0
        {
            evtchn::notify(Port(port));
        }
    }

    fn wait(&mut self, deadline: Option<Time>) {
        // A round is due in time for the next poke, even if nothing happens.
        let poke = self.watchdog.as_ref().map(Watchdog::deadline);
        let deadline = deadline.map(|deadline| deadline.0);
        let woken = self.events.wait(deadline.into_iter().chain(poke).min());
        self.clock.woken(woken);
    }

    fn yield_processor(&mut self) {
        shutdown::yield_now();
        self.clock.woken(None);
    }

    fn crash(&mut self, kind: CrashKind) {
        match kind {
            CrashKind::Panic => panic!("crash on request"),
            CrashKind::Fault => restart::fault(),
            // On PV Xen pushes the frame of the fault on the stack that overflowed: that is the domain's end.
            CrashKind::Stack if self.facts.mode == Mode::Pv => {
                self.log
                    .line("crash stack: a PV domain does not survive it, so it is not done");
            }
            CrashKind::Stack => restart::overflow_stack(),
            CrashKind::Hang => restart::hang(),
            CrashKind::Memory => drop(black_box(Vec::<u8>::with_capacity(MORE_THAN_THERE_IS))),
        }
    }

    fn reached(step: Step) {
        panic!("crash on request at step {step}");
    }

    fn last_end(&mut self) -> String {
        String::from(self.facts.last_end)
    }

    fn log(&mut self, line: String) {
        self.log.line(&line);
    }
}

/// Xen's answer in the server's words.
fn seen(state: xen_bindings::domain::DomainState) -> DomainState {
    DomainState {
        exists: state.exists,
        shutdown: state.shutdown,
        dead: state.dead,
        unique_id: state.unique_id,
    }
}

fn close(channel: Channel) {
    if let Channel::Ring { port } = channel
        && port != 0
    {
        evtchn::close(Port(port));
    }
}
