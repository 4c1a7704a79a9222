//! From what boot found to a running service, or to a clear reason why not.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use xen_bindings::abi::numbers::VIRQ_DOM_EXC;
use xen_bindings::domain::Interface;
use xen_bindings::evtchn::{self, Port};
use xen_bindings::watchdog::Watchdog;
use xen_bindings::{Platform, console, random, restart, shutdown, time};
use xenstore_core::{Channel, Configuration, Connection, message_in_words};
use xenstore_recovery::{LIVES_BEFORE_GIVING_UP, Lost, Mark, Store, TooSmall, last_in_hand};
use xenstore_ring::{SharedPage, offset};
use xenstore_service::{Reached, RingLink, Service};
use xenstore_wire::DomId;

use crate::clock::Clock;
use crate::console::Log;
use crate::machine::{Facts, XenMachine};
use crate::options::Options;
use crate::page::{DurableRegion, WindowPage};

/// Why there is nothing to serve.
#[derive(Debug)]
enum CannotStart {
    NoEvent,
    TooSmall { memory: u64, pages: TooSmall },
    NoRing(DomId, xen_bindings::grant::GrantError),
    NoPort(DomId, u32, xen_bindings::XenError),
    Lost(Lost),
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CannotStart::NoEvent => f.write_str(
                "no option --event with the port of dom0's event channel on the command line: this image is the \
                 Xenstore domain of a host and is started by init-xenstore-domain",
            ),
            CannotStart::TooSmall { memory, pages } => write!(
                f,
                "too little memory: {} KiB leave {} KiB for the store, which needs {} KiB; give the domain 8 MiB",
                memory / 1024,
                pages.bytes / 1024,
                pages.needed / 1024
            ),
            CannotStart::NoRing(domid, error) => {
                write!(
                    f,
                    "the Xenstore ring of domain {domid} (its grant 1) cannot be mapped: {error}"
                )
            }
            CannotStart::Lost(Lost::Loop) => write!(
                f,
                "the last {LIVES_BEFORE_GIVING_UP} lives all ended before they got anything done, half of them by way of the older \
                 checkpoint"
            ),
            CannotStart::Lost(lost) => write!(f, "what the last life left does not verify: {lost:?}"),
            CannotStart::NoPort(domid, port, error) => {
                write!(
                    f,
                    "event channel {port} of domain {domid} (option --event) cannot be bound: {error}"
                )
            }
        }
    }
}

/// Serves for ever; shuts the domain down with a crash reason if it cannot begin. After a restart in place it goes on where
/// the last life stopped.
pub fn serve(platform: Platform) -> ! {
    let restarts = platform.restarts;
    let mut log = Log::new(platform.console);
    let (major, minor) = platform.xen_version;
    if restarts == 0 {
        log.line(&format!(
            "xenstore-stubdom {} on Xen {major}.{minor} as {} domain {}, {} KiB",
            env!("CARGO_PKG_VERSION"),
            platform.mode,
            platform.own_domid,
            platform.memory.reservation_bytes / 1024
        ));
    } else {
        log.line(&format!("restart number {restarts}"));
    }
    let options = Options::parse(platform.command_line);
    let facts = Facts {
        mode: platform.mode,
        xen_version: platform.xen_version,
        memory: platform.memory,
        started: time::now_ns(),
        restarts,
        last_end: platform.last_end,
    };
    let own = DomId(platform.own_domid);
    let mut events = platform.events;
    let limit = (options.hang_limit != 0).then(|| u64::from(options.hang_limit) * 1_000_000_000);
    if restarts != 0 {
        // A first start that takes long is no reason to end the domain.
        events.guard(limit);
    }
    let own_port = platform.own_store.as_ref().map(|(_, port)| *port);
    let machine = XenMachine {
        events,
        windows: platform.windows,
        log,
        domains: platform.domain_watch,
        domain_exception: None,
        reserved: own_port.into_iter().chain(console::ring_port()).collect(),
        own_ring: platform.own_store,
        facts,
        watchdog: None,
        clock: Clock::default(),
    };
    let durable = DurableRegion::new(platform.durable);
    let mut service = if restarts == 0 {
        cold(machine, durable, &options, own)
    } else {
        warm(machine, durable, own)
    };
    restart::allow();
    arm(service.machine_mut(), options.watchdog);
    service.machine_mut().events.guard(limit);
    service.run()
}

/// The outermost guard: whatever keeps rounds from coming, restarts in place included, ends the domain with a reason that dom0 can
/// read.
fn arm(machine: &mut XenMachine, seconds: u32) {
    if seconds == 0 {
        return;
    }
    match Watchdog::start(seconds) {
        Ok(watchdog) => machine.watchdog = Some(watchdog),
        Err(error) => machine.log.line(&format!("Xen grants no watchdog: {error}")),
    }
}

fn cold(
    mut machine: XenMachine,
    durable: DurableRegion,
    options: &Options,
    own: DomId,
) -> Service<XenMachine, DurableRegion> {
    for unknown in &options.unknown {
        machine.log.line(&format!("{unknown}"));
    }
    let Some(event) = options.event else {
        give_up(&mut machine.log, CannotStart::NoEvent)
    };
    match evtchn::bind_virq(VIRQ_DOM_EXC) {
        Ok(port) => machine.domain_exception = Some(port),
        Err(error) => {
            machine.log.line(&format!(
                "VIRQ_DOM_EXC cannot be bound ({error}): domains that die will not be noticed"
            ));
        }
    }
    if let Interface::Nothing { answer } = machine.domains.interface() {
        machine.log.line(&format!(
            "Xen tells nothing of other domains ({answer}): those that die will not be noticed"
        ));
    }
    // Since Xen 4.21 the first question names every domain there is.
    let present: Vec<_> = core::iter::from_fn(|| machine.domains.next_changed())
        .filter(|(_, state)| state.exists && !state.dead)
        .collect();
    let first_in_control = present.iter().find(|(_, state)| state.is_control);
    let privileged = options
        .privileged
        .or(first_in_control.map(|(domid, _)| DomId(*domid)))
        .unwrap_or(DomId::DOM0);
    let configuration = Configuration {
        privileged,
        own,
        features: options.features,
        event_timeout: options.event_timeout,
        legacy: options.policy,
        // Names and paths come from guests, who must not know the hash. A processor without a random number leaves them to guess the
        // nanosecond.
        hash_seed: random::random().unwrap_or_default() ^ time::now_ns() ^ time::wall_clock_ns().rotate_left(32),
        quotas: options.quotas.clone(),
        conflicts: options.conflicts,
        debug_crash: options.debug_crash,
        trace: options.trace.clone(),
    };
    let memory = machine.facts.memory.reservation_bytes;
    let store = match Store::cold(configuration, durable) {
        Ok(store) => store,
        Err(pages) => give_up(&mut machine.log, CannotStart::TooSmall { memory, pages }),
    };
    let (page, port) = match connect_privileged(&mut machine, privileged, event) {
        Ok(connected) => connected,
        Err(reason) => give_up(&mut machine.log, reason),
    };
    let mut service = Service::new(machine, store);
    // What dom0 has already queued stays; the one event that says "ready" is sent with the first round.
    service.adopt(
        privileged,
        RingLink::adopt(page, options.features),
        Channel::Ring { port: port.0 },
    );
    service
        .machine_mut()
        .log
        .line(&format!("serving domain {privileged} on event channel {event}"));
    if let Some((link, channel)) = service.machine_mut().loopback(own, options.features) {
        service.adopt(own, link, channel);
    }
    for domid in present.iter().map(|(domid, _)| DomId(*domid)) {
        if domid == privileged || domid == own {
            continue;
        }
        if let Some((link, channel)) = service.machine_mut().find_ring(domid, options.features) {
            service.adopt(domid, link, channel);
            service
                .machine_mut()
                .log
                .line(&format!("serving domain {domid}, which was there before us"));
        }
    }
    service
}

/// Goes on with what the last life left in the durable pages. The rings are still mapped and the event channels bound; each
/// client is looked at and told at once, because an event may have been taken by the life that ended.
fn warm(mut machine: XenMachine, durable: DurableRegion, own: DomId) -> Service<XenMachine, DurableRegion> {
    let recovered = match Store::recover(durable) {
        Ok(recovered) => recovered,
        Err((pages, lost)) => {
            let last_end = machine.facts.last_end;
            machine.log.line(&format!("the last life ended so: {last_end}"));
            let mark = last_in_hand(pages);
            if let Some(in_hand) = mark.as_ref().and_then(Mark::in_hand) {
                machine.log.line(&message_in_words(None, in_hand.message, true));
            }
            give_up(&mut machine.log, CannotStart::Lost(lost))
        }
    };
    let server = recovered.store.server();
    let mut ports = BTreeSet::new();
    let mut owners = BTreeSet::new();
    let mut interrupted = Interrupted::default();
    for (_, state) in server.connections() {
        owners.insert(state.domid);
        interrupted.transactions = interrupted.transactions.saturating_add(state.transaction_count());
        interrupted.partial_messages += usize::from(!state.partial.is_empty());
        if let Channel::Ring { port } = state.channel {
            ports.insert(port);
        }
    }
    machine.drop_unowned(|domid| owners.contains(&domid), &ports);
    let replayed = recovered.store.figures().replayed;
    let rings = machine.mapped_rings();
    let mut service = Service::resume(machine, recovered, |machine, wanted| {
        let page = if wanted.state.domid == own {
            WindowPage(machine.own_ring.take()?.0)
        } else {
            WindowPage(machine.windows.adopt(*rings.get(&wanted.state.domid)?)?)
        };
        interrupted.clients += usize::from(is_waiting(&page, wanted.state));
        let (link, published) = RingLink::recover(page, wanted.state, wanted.publishing, wanted.features);
        Some(Reached { link, published })
    });
    let took = (time::now_ns().saturating_sub(service.machine().facts.started)) / 1000;
    service
        .machine_mut()
        .log
        .line(&format!("recovered in {took} us, {replayed} records read back"));
    service.machine_mut().log.line(&format!("in flight: {interrupted}"));
    service
}

/// What the crash found under way.
#[derive(Default)]
struct Interrupted {
    /// Clients with a request in their ring, or with a reply or an event that they had not been shown.
    clients: usize,
    /// Open transactions.
    transactions: usize,
    /// Messages of which only the beginning has been taken.
    partial_messages: usize,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests or replies of {} clients, {} transactions, {} partial messages",
            self.clients, self.transactions, self.partial_messages
        )
    }
}

/// By the indices as the client sees them: what was taken in the last round and not shown counts as waiting.
fn is_waiting(page: &WindowPage, state: &Connection) -> bool {
    page.load(offset::REQ_PROD) != page.load(offset::REQ_CONS) || !state.queue.is_empty()
}

fn connect_privileged(
    machine: &mut XenMachine,
    privileged: DomId,
    event: u32,
) -> Result<(WindowPage, Port), CannotStart> {
    let page = machine
        .map_ring(privileged)
        .map_err(|error| CannotStart::NoRing(privileged, error))?;
    let port =
        evtchn::bind_interdomain(privileged.0, event).map_err(|error| CannotStart::NoPort(privileged, event, error))?;
    Ok((page, port))
}

/// Says why, also where Xen keeps it: with the store gone, nobody in dom0 may be able to look at the console.
fn give_up(log: &mut Log, reason: CannotStart) -> ! {
    let why = format!("cannot start: {reason}");
    log.line(&why);
    console::xen_log_line(&why);
    shutdown::crash()
}
