//! The loop itself: what there is to do, in which order, and for whom.

mod actions;
mod answers;
mod requests;
mod restart;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use xenstore_core::{Channel, ConnectionId, Input, Limit, Numbered, Record, Server, Step, Time, TraceSwitch};
use xenstore_recovery::{DurablePages, Pages, Store, StoreFigures};
use xenstore_wire::{DomId, HEADER_SIZE, PAYLOAD_MAX};

pub use restart::{Reach, Reached};

use crate::link::Link;
use crate::machine::{Event, Machine};
use crate::quiet::{Quiet, Subject};
use crate::trace;

/// Bytes of arena upkeep in each round: as much as two or three lone requests cost, so that one beside upkeep takes a few times as long
/// as without.
pub const TIDY_PER_ROUND: usize = 4 * 1024;
/// A ring takes no more at once.
const PUBLISH_AT_ONCE: usize = 1024;
/// Seconds after which a life is no part of a loop of crashes, whether anyone asked something of it or not.
const SETTLED_AFTER: u32 = 10;

/// One client as the loop sees it. Nothing here needs to survive.
struct Client<L> {
    link: L,
    channel: Channel,
    /// What it may still use up; carried over while it has more to do.
    credit: u64,
    /// Request bytes that are committed but not yet shown as taken.
    taken: u32,
    /// Waits in the list of those that have something to do.
    queued: bool,
    /// More requests are there; they wait until it has read some of its replies.
    behind: bool,
    /// For the notification: what the incomplete message lacks, if nothing else was consumed.
    lacking: Option<u32>,
}

/// The server on its machine.
pub struct Service<M: Machine, P: Pages> {
    machine: M,
    store: Store<P>,
    clients: Numbered<ConnectionId, Client<M::Link>>,
    ports: Numbered<u32, ConnectionId>,
    /// Who may have something to do, in turn.
    active: VecDeque<ConnectionId>,
    /// Who has requests waiting but is over a limit.
    stalled: BTreeSet<ConnectionId>,
    /// Whose next request waits for the lease with this number.
    held: BTreeMap<ConnectionId, u64>,
    /// Clients that wish to begin anew and may not yet, by the time from which on they may.
    returning: BTreeSet<(Time, ConnectionId)>,
    /// Whose output must be looked after in this round.
    touched: BTreeSet<ConnectionId>,
    /// Socket clients that had room for nothing in this round.
    full: Vec<ConnectionId>,
    domains_changed: bool,
    /// Somebody used up its share in this round and has more.
    cut_short: bool,
    /// The next question is about every domain: changes may have been told to a life that ended.
    ask_for_all: bool,
    /// The time of this round: asking for it costs more than a request on some machines.
    now: Time,
    /// Limits the lines that clients cause.
    quiet: Quiet,
    /// It was said that the durable pages are full.
    warned: bool,
    message: Vec<u8>,
    /// What is on its way into a ring; always [`PUBLISH_AT_ONCE`] long, so that it need not be blanked each time.
    outgoing: Vec<u8>,
}

impl<M: Machine, P: Pages> Service<M, P> {
    /// A service without clients.
    pub fn new(machine: M, store: Store<P>) -> Self {
        let mut service = Self::over(machine, store);
        service.store.set_end(M::reached);
        service
    }

    fn over(machine: M, store: Store<P>) -> Self {
        let now = machine.now();
        Service {
            machine,
            store,
            clients: Numbered::default(),
            ports: Numbered::default(),
            active: VecDeque::new(),
            stalled: BTreeSet::new(),
            held: BTreeMap::new(),
            returning: BTreeSet::new(),
            touched: BTreeSet::new(),
            full: Vec::new(),
            domains_changed: true,
            cut_short: false,
            ask_for_all: true,
            now,
            quiet: Quiet::default(),
            warned: false,
            message: Vec::with_capacity(PAYLOAD_MAX.saturating_add(HEADER_SIZE)),
            outgoing: alloc::vec![0; PUBLISH_AT_ONCE],
        }
    }

    /// The machine, and the memory that outlives the service.
    pub fn into_parts(self) -> (M, P) {
        (self.machine, self.store.into_pages())
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, to change it between rounds.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The server's state.
    pub fn server(&self) -> &Server<DurablePages<P>> {
        self.store.server()
    }

    /// What the durable store has done.
    pub fn store_figures(&self) -> StoreFigures {
        self.store.figures()
    }

    /// Takes on a client that no request introduced: dom0 at the start, a socket client.
    pub fn adopt(&mut self, domid: DomId, link: M::Link, channel: Channel) -> ConnectionId {
        let epoch = link.epoch();
        let connection = self.store.server().next_connection();
        let now = self.now;
        let record = self
            .store
            .take(now, &self.machine, Input::Connected { domid, channel, epoch });
        self.insert(connection, link, channel);
        self.after(record);
        connection
    }

    /// Makes the options of this start hold over what an earlier life left: see [`Input::Options`].
    pub fn set_options(&mut self, quotas: &[(Limit, u32)], trace: &[TraceSwitch], debug_crash: bool) {
        self.take(Input::Options {
            quotas,
            trace,
            debug_crash,
        });
    }

    /// Runs for ever.
    pub fn run(&mut self) -> ! {
        loop {
            if !self.round() {
                self.wait();
            }
        }
    }

    /// Waits until something happens outside, or is due.
    pub fn wait(&mut self) {
        let settled = self.store.server().lives().began.after_seconds(SETTLED_AFTER);
        let settled = self.store.is_unsettled().then_some(settled);
        let returns = self.returning.first().map(|(at, _)| *at);
        let deadlines = [
            self.store.server().next_deadline(),
            self.quiet.next_deadline(),
            settled,
            returns,
        ];
        self.machine.wait(deadlines.into_iter().flatten().min());
    }

    /// This life ends in order, or has done its work: it is no part of a loop of crashes.
    pub fn settle(&mut self) {
        self.store.settle();
    }

    /// Does what there is to do, for every client at most its share. False if nothing is left: then it is time to wait.
    pub fn round(&mut self) -> bool {
        self.now = self.machine.now();
        self.store.set_heap_limit(self.machine.heap() / 2);
        self.poll();
        self.store.reached(Step::Polled);
        if core::mem::take(&mut self.domains_changed) {
            self.ask_for_domains();
        }
        self.expire();
        for _ in 0..self.active.len() {
            let Some(connection) = self.active.pop_front() else {
                break;
            };
            if let Some(client) = self.clients.get_mut(&connection) {
                client.queued = false;
                self.serve(connection);
                self.answer(connection);
            }
        }
        let durable = self.store.seal();
        self.show(&durable);
        self.give_up_lost_clients();
        self.wake_stalled();
        if self.store.server().is_short_of_room() {
            self.take(Input::Shortage);
        }
        self.store.tidy(TIDY_PER_ROUND);
        self.warn_of_full_pages();
        if core::mem::take(&mut self.cut_short) {
            self.machine.yield_processor();
        }
        !self.active.is_empty() || self.domains_changed
    }

    /// Says once that the durable pages are full. An administrator can free nodes; a crash before that loses what came last.
    fn warn_of_full_pages(&mut self) {
        if !self.warned && self.store.figures().undurable > 0 {
            self.warned = true;
            self.machine
                .log("the durable pages are full: a crash now would lose the newest changes".into());
        }
    }

    fn poll(&mut self) {
        let (machine, ports, clients, active) = (&mut self.machine, &self.ports, &mut self.clients, &mut self.active);
        let mut changed = false;
        machine.poll(&mut |event| match event {
            Event::Port(port) => {
                if let Some(connection) = ports.get(&port) {
                    activate(clients, active, *connection);
                }
            }
            Event::Client(connection) => {
                if let Some(client) = clients.get_mut(&connection) {
                    client.link.stirred();
                    activate(clients, active, connection);
                }
            }
            Event::DomainsChanged => changed = true,
        });
        self.domains_changed |= changed;
    }

    fn ask_for_domains(&mut self) {
        let changed = self.machine.changed_domains();
        let all = core::mem::take(&mut self.ask_for_all);
        let states = match changed {
            Some(changed) if !all => changed,
            _ => {
                let known = self.store.server().domains();
                known.map(|(domid, _)| (domid, self.machine.domain(domid))).collect()
            }
        };
        if !states.is_empty() {
            self.take(Input::DomainsChanged(&states));
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        if self.store.is_unsettled() && self.store.server().lives().began.after_seconds(SETTLED_AFTER) <= now {
            self.store.settle();
        }
        if self
            .store
            .server()
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.take(Input::Timeout);
        }
        while let Some((at, connection)) = self.returning.first().copied().filter(|(at, _)| *at <= now) {
            self.returning.remove(&(at, connection));
            activate(&mut self.clients, &mut self.active, connection);
        }
        self.quiet.expire(now, |line| self.machine.log(line));
    }

    /// Decides and commits an input, and does what comes of it.
    fn take(&mut self, input: Input<'_>) {
        let now = self.now;
        let record = self.store.take(now, &self.machine, input);
        self.after(record);
    }

    fn after(&mut self, record: Record) {
        self.trace(&record);
        self.touched
            .extend(record.outputs.iter().map(|output| output.connection));
        if record.actions.is_empty() {
            return;
        }
        let durable = self.store.seal();
        for action in record.actions {
            self.perform(&durable, action);
        }
    }

    fn trace(&mut self, record: &Record) {
        let settings = self.store.server().settings();
        if settings.trace(TraceSwitch::Objects) {
            for change in &record.changes {
                if let Some((connection, line)) = trace::object(change) {
                    let whose = self.domain_of(connection);
                    self.log(whose, Subject::Trace, line);
                }
            }
        }
        let settings = self.store.server().settings();
        if settings.trace(TraceSwitch::InputOutput) {
            for output in &record.outputs {
                let whose = self.domain_of(output.connection);
                self.log(
                    whose,
                    Subject::Trace,
                    trace::output(whose.unwrap_or(DomId::INVALID), output),
                );
            }
        }
    }

    fn domain_of(&self, connection: ConnectionId) -> Option<DomId> {
        self.store
            .server()
            .connection(connection)
            .map(|connection| connection.domid)
    }

    /// Writes a line, unless the domain that caused it has caused too many.
    fn log(&mut self, about: Option<DomId>, subject: Subject, line: String) {
        let server = self.store.server();
        let limited = about.filter(|domid| !server.exempt(*domid));
        if limited.is_none_or(|domid| self.quiet.allows(domid, subject, self.now)) {
            self.machine.log(line);
        }
    }

    fn insert(&mut self, connection: ConnectionId, link: M::Link, channel: Channel) {
        let client = Client {
            link,
            channel,
            credit: 0,
            taken: 0,
            queued: false,
            behind: false,
            lacking: None,
        };
        self.clients.insert(connection, client);
        if let Channel::Ring { port } = channel {
            self.ports.insert(port, connection);
        }
        activate(&mut self.clients, &mut self.active, connection);
    }

    fn wake_stalled(&mut self) {
        let server = self.store.server();
        let awake: Vec<ConnectionId> = self
            .stalled
            .iter()
            .copied()
            .filter(|connection| server.may_read(*connection))
            .collect();
        let free = self.held.iter();
        let free = free.filter(|(_, lease)| !server.lease_lasts(self.now, **lease));
        let free: Vec<ConnectionId> = free.map(|(connection, _)| *connection).collect();
        for connection in awake.into_iter().chain(free) {
            self.stalled.remove(&connection);
            self.held.remove(&connection);
            activate(&mut self.clients, &mut self.active, connection);
        }
    }
}

fn activate<L>(
    clients: &mut Numbered<ConnectionId, Client<L>>,
    active: &mut VecDeque<ConnectionId>,
    connection: ConnectionId,
) {
    if let Some(client) = clients.get_mut(&connection)
        && !client.queued
    {
        client.queued = true;
        active.push_back(connection);
    }
}
