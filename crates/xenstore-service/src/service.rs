//! The loop itself.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xenstore_core::{
    Action, Change, Channel, ConnectFailure, Connection, ConnectionId, CrashKind, Fault, InHand, Input, Limit, Record,
    SOCKET_UNREAD_MOST, Server, Step, Time, TraceSwitch,
};
use xenstore_recovery::{Durable, DurablePages, Mark, Pages, Recovered, Store, StoreFigures};
use xenstore_wire::{DomId, HEADER_SIZE, Header, PAYLOAD_MAX};

use crate::link::{Link, LinkState};
use crate::machine::{Event, Machine};
use crate::quiet::{Quiet, Subject};
use crate::trace;

/// What a connection may use up in one round: see [`cost`]. About sixteen small requests.
const QUANTUM: u64 = 4096;
/// The privileged domain carries all tools of the host over one ring.
const PRIVILEGED_QUANTA: u64 = 4;
/// The cost of a request besides its bytes.
const COST_OF_REQUEST: u64 = 128;
/// The cost of each change and each message that it makes.
const COST_OF_CHANGE: u64 = 64;
/// Bytes of arena upkeep in each round.
const TIDY_PER_ROUND: usize = 16 * 1024;
/// Bytes of a ring that are looked at first: more than most requests have.
const FIRST_LOOK: usize = 128;
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
    /// For the notification: what the incomplete message lacks, if nothing else was consumed.
    lacking: Option<u32>,
}

/// A connection whose channel must be found again after a restart.
pub struct Reach<'s> {
    /// Which.
    pub connection: ConnectionId,
    /// What is known of it: domain, channel, epoch and offsets.
    pub state: &'s Connection,
    /// So many bytes were being published: they are visible or not.
    pub publishing: u32,
    /// The feature bits that its page was given.
    pub features: u32,
}

/// A channel that was found again.
pub struct Reached<M: Machine> {
    /// The channel.
    pub link: M::Link,
    /// The bytes that were being published are visible.
    pub published: bool,
}

/// The server on its machine.
pub struct Service<M: Machine, P: Pages> {
    machine: M,
    store: Store<P>,
    clients: BTreeMap<ConnectionId, Client<M::Link>>,
    ports: BTreeMap<u32, ConnectionId>,
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
            clients: BTreeMap::new(),
            ports: BTreeMap::new(),
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

    /// A service that goes on where an earlier life stopped. `reach` finds the channel of each connection again, brings its
    /// ring in line with the server's offsets, and says whether the bytes that were being published (their number is given)
    /// are visible. A ring that cannot be reached is left alone until its domain's end is told; a socket is forgotten.
    pub fn resume(
        machine: M,
        recovered: Recovered<P>,
        mut reach: impl FnMut(&mut M, Reach<'_>) -> Option<Reached<M>>,
    ) -> Self {
        let Recovered {
            store,
            publishing,
            last_records,
            mark,
        } = recovered;
        let mut service = Service::over(machine, store);
        service.restarted(mark.as_ref().and_then(Mark::in_hand), &last_records);
        let known: Vec<ConnectionId> = service.store.server().connections().map(|(id, _)| id).collect();
        for connection in known {
            let server = service.store.server();
            let Some(state) = server.connection(connection) else {
                continue;
            };
            let open = publishing
                .iter()
                .find(|(id, _)| *id == connection)
                .map_or(0, |(_, bytes)| *bytes);
            let wanted = Reach {
                connection,
                state,
                publishing: open,
                features: server.features_of(state.domid),
            };
            let (channel, ignored) = (state.channel, state.ignored);
            let Some(Reached { mut link, published }) = reach(&mut service.machine, wanted) else {
                // A socket is gone with the life that had it, and with it what it watched and had begun.
                if channel == Channel::Socket {
                    service.take(Input::Disconnected { connection });
                }
                continue;
            };
            if let Some(fault) = ignored {
                link.set_error(fault);
            }
            if published {
                service.store.published(connection, open);
            }
            service.insert(connection, link, channel);
            service.touched.insert(connection);
        }
        service.repeat_actions();
        service
    }

    /// First of all: why the last life ended, and whose request was in hand.
    fn restarted(&mut self, in_hand: Option<InHand<'_>>, records: &str) {
        let reason = self.machine.last_end();
        let strikes = self.store.server().strikes_at(Step::Recovered);
        self.take(Input::Restarted {
            reason: &reason,
            in_hand,
            records,
        });
        // Not before: what was ordered must not strike again while it is being crossed out.
        self.store.set_end(M::reached);
        if strikes {
            M::reached(Step::Recovered);
        }
    }

    /// Requests that waited for an action when the last life ended: the action is done (again).
    fn repeat_actions(&mut self) {
        let server = self.store.server();
        let waiting: Vec<Action> = server
            .connections()
            .filter_map(|(requester, state)| {
                let waiting = state.waiting.as_ref()?;
                Some(waiting.action(requester, server.features_of(waiting.domid)))
            })
            .collect();
        let durable = self.store.seal();
        for action in waiting {
            self.perform(&durable, action);
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

    /// Does what a durable record asks of the machine. An action that a request waits for ends in another record.
    fn perform(&mut self, _durable: &Durable, action: Action) {
        match action {
            Action::Connect {
                requester,
                domid,
                remote_port,
                features,
            } => {
                let connected = self.machine.connect(domid, remote_port, features);
                let connection = self.store.server().next_connection();
                match connected {
                    Ok((link, channel)) => {
                        self.insert(connection, link, channel);
                        self.touched.insert(connection);
                        self.finish(requester, Ok(channel));
                    }
                    Err(failure) => self.finish(requester, Err(failure)),
                }
            }
            Action::Rebind {
                requester,
                connection,
                domid,
                remote_port,
            } => {
                let Some(client) = self.clients.get_mut(&connection) else {
                    return self.finish(requester, Err(ConnectFailure::Grant));
                };
                // A port that cannot be bound leaves the domain without one, and the request succeeds, as in C.
                let channel = self
                    .machine
                    .rebind(client.channel, domid, remote_port)
                    .unwrap_or(Channel::Ring { port: 0 });
                forget_port(&mut self.ports, client.channel);
                client.channel = channel;
                client.taken = 0;
                if let Channel::Ring { port } = channel {
                    self.ports.insert(port, connection);
                }
                self.finish(requester, Ok(channel));
                let _logged_first = self.store.seal();
                if let Some(client) = self.clients.get_mut(&connection) {
                    client.link.restart(LinkState::Reconnect);
                }
                self.touched.insert(connection);
                activate(&mut self.clients, &mut self.active, connection);
            }
            Action::Disconnect { connection } => {
                self.stalled.remove(&connection);
                self.held.remove(&connection);
                self.touched.remove(&connection);
                if let Some(client) = self.clients.remove(&connection) {
                    forget_port(&mut self.ports, client.channel);
                    self.machine.disconnect(client.link, client.channel);
                }
            }
            Action::SetError { connection, fault } => {
                self.touched.insert(connection);
                if let Some(client) = self.clients.get_mut(&connection) {
                    client.taken = 0;
                    client.link.set_error(fault);
                }
            }
            Action::Log { about, line } => self.log(about, Subject::Trouble, line),
            Action::Crash(kind) => self.machine.crash(kind),
        }
    }

    fn finish(&mut self, requester: ConnectionId, outcome: Result<Channel, ConnectFailure>) {
        let now = self.now;
        let record = self
            .store
            .take(now, &self.machine, Input::ActionDone { requester, outcome });
        self.trace(&record);
        self.touched
            .extend(record.outputs.iter().map(|output| output.connection));
        // Such a record has no further actions but log lines.
        for action in record.actions {
            if let Action::Log { about, line } = action {
                self.log(about, Subject::Trouble, line);
            }
        }
        activate(&mut self.clients, &mut self.active, requester);
    }

    fn insert(&mut self, connection: ConnectionId, link: M::Link, channel: Channel) {
        let client = Client {
            link,
            channel,
            credit: 0,
            taken: 0,
            queued: false,
            lacking: None,
        };
        self.clients.insert(connection, client);
        if let Channel::Ring { port } = channel {
            self.ports.insert(port, connection);
        }
        activate(&mut self.clients, &mut self.active, connection);
    }

    /// Takes what one client has sent, as far as its share reaches.
    fn serve(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        let Some(state) = self.store.server().connection(connection) else {
            return;
        };
        if state.ignored.is_some() {
            // The one thing that is still listened to: the wish to begin anew.
            if client.link.look() == LinkState::Reconnect {
                match state.cut_off_until().filter(|until| *until > self.now) {
                    Some(until) => drop(self.returning.insert((until, connection))),
                    None => self.restart(connection, LinkState::Reconnect),
                }
            }
            return;
        }
        let privileged = state.domid == self.store.server().configuration().privileged;
        let looked = client.link.look();
        let (readable, writable) = match looked {
            LinkState::Open { readable, writable } => (readable, writable),
            LinkState::Reset | LinkState::Reconnect => return self.restart(connection, looked),
            LinkState::Broken(fault) => return self.take(Input::Misbehaved { connection, fault }),
            LinkState::Closed => return self.take(Input::Disconnected { connection }),
        };
        if !state.queue.is_empty() && writable > 0 {
            self.touched.insert(connection);
        }
        if readable == 0 {
            client.credit = 0;
            return;
        }
        let share = if privileged {
            QUANTUM.saturating_mul(PRIVILEGED_QUANTA)
        } else {
            QUANTUM
        };
        client.credit = client.credit.saturating_add(share);
        client.lacking = None;
        self.stalled.remove(&connection);
        self.held.remove(&connection);
        self.take_requests(connection, readable);
        self.touched.insert(connection);
        // Taken bytes become visible with the end of the round; then the client is looked at again, because what it wrote
        // while we worked may have come without an event. One that is over its limits is looked at when it is below them.
        if !self.stalled.contains(&connection) && !self.held.contains_key(&connection) {
            activate(&mut self.clients, &mut self.active, connection);
        }
    }

    fn take_requests(&mut self, connection: ConnectionId, readable: u32) {
        loop {
            let Some(client) = self.clients.get_mut(&connection) else {
                return;
            };
            let left = readable.saturating_sub(client.taken);
            if left == 0 || client.credit == 0 {
                self.cut_short |= left > 0;
                return;
            }
            if !self.store.server().may_read(connection) {
                self.stalled.insert(connection);
                return;
            }
            let Some(state) = self.store.server().connection(connection) else {
                return;
            };
            let skipping = left.min(state.skipping());
            if skipping > 0 {
                client.taken = client.taken.saturating_add(skipping);
                client.credit = client.credit.saturating_sub(u64::from(skipping));
                self.take(Input::Skipped {
                    connection,
                    bytes: skipping,
                });
                continue;
            }
            // The message: what came before, then what the ring has now.
            let mut message = core::mem::take(&mut self.message);
            message.clear();
            message.extend_from_slice(&state.partial);
            let before = message.len();
            let whole = HEADER_SIZE.saturating_add(PAYLOAD_MAX);
            let room = whole
                .saturating_sub(before)
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            // Not all that the ring has: most messages are short, and others follow.
            let mut got = peek_into(&mut message, &client.link, client.taken, room.min(FIRST_LOOK));
            if let Framed::Lacking(Some(lacking)) = frame(&message) {
                let skip = u32::try_from(got).map_or(client.taken, |got| client.taken.saturating_add(got));
                let lacking = usize::try_from(lacking).unwrap_or(usize::MAX);
                let more = lacking.min(room.saturating_sub(got));
                got = got.saturating_add(peek_into(&mut message, &client.link, skip, more));
            }
            if got == 0 {
                // The ring was started anew in the middle of this: an INTRODUCE of the one who sent it.
                self.message = message;
                return;
            }
            let framed = frame(&message);
            if let Framed::Whole(_, length) = framed {
                message.truncate(length);
            }
            let whose = state.domid;
            self.store.about_to_decide(connection, &message);
            self.store.reached(Step::BeforeDecide);
            if let Framed::Whole(header, length) = framed {
                let payload = message.get(HEADER_SIZE..length).unwrap_or_default();
                let lease = self.store.server().waits_for(self.now, connection, header, payload);
                if let Some(lease) = lease {
                    self.held.insert(connection, lease);
                    self.store.not_now();
                    self.message = message;
                    return;
                }
            }
            let consumed = match framed {
                Framed::TooLong => None,
                Framed::Whole(_, length) => Some(length.saturating_sub(before)),
                Framed::Lacking(_) => Some(got),
            };
            let amount = consumed.and_then(|bytes| u32::try_from(bytes).ok());
            let Some(amount) = amount else {
                self.message = message;
                return self.take(Input::Misbehaved {
                    connection,
                    fault: Fault::Protocol,
                });
            };
            client.taken = client.taken.saturating_add(amount);
            match framed {
                Framed::Whole(header, length) => {
                    client.lacking = None;
                    let payload = message.get(HEADER_SIZE..length).unwrap_or_default();
                    if self.store.server().settings().trace(TraceSwitch::InputOutput) {
                        self.log(Some(whose), Subject::Trace, trace::request(whose, header, payload));
                    }
                    self.end_where_ordered(connection, header, payload);
                    let now = self.now;
                    let input = Input::Request {
                        connection,
                        consumed: amount,
                        header,
                        payload,
                    };
                    let record = self.store.take(now, &self.machine, input);
                    if let Some(client) = self.clients.get_mut(&connection) {
                        client.credit = client.credit.saturating_sub(cost(&record, amount));
                    }
                    self.after(record);
                    if self.store.server().strikes_now() {
                        self.take(Input::Strike);
                    }
                }
                Framed::Lacking(lacking) => {
                    client.lacking = lacking;
                    let bytes = message.get(before..).unwrap_or_default();
                    let now = self.now;
                    let record = self
                        .store
                        .take(now, &self.machine, Input::Partial { connection, bytes });
                    self.after(record);
                }
                Framed::TooLong => {}
            }
            self.message = message;
        }
    }

    /// With `--debug-crash`: the request that ends the life in its place, unless it is set aside already.
    fn end_where_ordered(&mut self, connection: ConnectionId, header: Header, payload: &[u8]) {
        let server = self.store.server();
        let aside = server.connection(connection).is_some_and(Connection::is_set_aside);
        if !aside && server.is_poison(header, payload) {
            self.machine.crash(CrashKind::Panic);
        }
    }

    /// The client begins anew: what the old stream meant is forgotten first, durably, then the ring goes on.
    fn restart(&mut self, connection: ConnectionId, why: LinkState) {
        self.take(Input::Reset { connection });
        let _logged_first = self.store.seal();
        if let Some(client) = self.clients.get_mut(&connection) {
            client.taken = 0;
            client.lacking = None;
            client.link.restart(why);
        }
        self.touched.insert(connection);
        activate(&mut self.clients, &mut self.active, connection);
    }

    /// A client gets its answers when it is served: it goes on while others are. What others are told because of it waits for the end
    /// of the round, and one notification is enough for all of it.
    fn answer(&mut self, connection: ConnectionId) {
        if self.touched.remove(&connection) {
            let durable = self.store.seal();
            self.show_to(&durable, connection);
        }
    }

    /// Everything of the round is durable: clients may see it.
    fn show(&mut self, durable: &Durable) {
        while let Some(connection) = self.touched.pop_first() {
            self.show_to(durable, connection);
        }
    }

    fn show_to(&mut self, durable: &Durable, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        if client.taken > 0 {
            client.link.consume(core::mem::take(&mut client.taken));
        }
        self.publish(durable, connection);
        let Some(client) = self.clients.get_mut(&connection) else {
            return;
        };
        if client.link.take_notify(client.lacking) {
            self.store.reached(Step::BeforeNotify);
            self.machine.notify(client.channel);
        }
    }

    /// Fills the client's ring from its queue, until one is full or the other empty.
    fn publish(&mut self, durable: &Durable, connection: ConnectionId) {
        let mut buffer = core::mem::take(&mut self.outgoing);
        self.publish_through(&mut buffer, durable, connection);
        self.outgoing = buffer;
    }

    fn publish_through(&mut self, buffer: &mut [u8], durable: &Durable, connection: ConnectionId) {
        loop {
            let Some(client) = self.clients.get_mut(&connection) else {
                return;
            };
            let Some(state) = self.store.server().connection(connection) else {
                return;
            };
            if state.queue.is_empty() {
                return;
            }
            // Looked at anew each time: a client that makes room while we write may not tell us.
            let LinkState::Open { writable, .. } = client.link.look() else {
                return activate(&mut self.clients, &mut self.active, connection);
            };
            if writable == 0 {
                if client.channel == Channel::Socket {
                    self.full.push(connection);
                }
                return;
            }
            let room = usize::try_from(writable).unwrap_or(usize::MAX).min(buffer.len());
            let Some(out) = buffer.get_mut(..room) else { return };
            let ready = state.queue.copy_out(out);
            let Some(bytes) = out.get(..ready).filter(|bytes| !bytes.is_empty()) else {
                return;
            };
            let planned = u32::try_from(bytes.len()).unwrap_or(0);
            self.store.publishing(durable, connection, planned);
            let strikes = self.store.server().strikes_at(Step::Publishing);
            let mut between = || {
                if strikes {
                    M::reached(Step::Publishing);
                }
            };
            let shown = u32::try_from(client.link.publish_in_steps(bytes, &mut between)).unwrap_or(0);
            self.store.reached(Step::Published);
            self.store.published(connection, shown);
            if shown < planned {
                return activate(&mut self.clients, &mut self.active, connection);
            }
        }
    }

    /// Cuts off the socket clients that let too much pile up (a ring has its domain's quotas for that).
    fn give_up_lost_clients(&mut self) {
        for connection in core::mem::take(&mut self.full) {
            let server = self.store.server();
            if server.connection(connection).is_some_and(Connection::is_lost) {
                let line = format!(
                    "connection {} is cut off: it left more than {} KiB of replies and events unread",
                    connection.0,
                    SOCKET_UNREAD_MOST / 1024
                );
                self.take(Input::Disconnected { connection });
                self.log(None, Subject::Trouble, line);
            }
        }
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

/// Adds bytes that the ring has `skip` bytes behind those that were consumed; says how many.
fn peek_into(message: &mut Vec<u8>, link: &impl Link, skip: u32, count: usize) -> usize {
    let before = message.len();
    message.resize(before.saturating_add(count), 0);
    let got = message.get_mut(before..).map_or(0, |out| link.peek(skip, out));
    message.truncate(before.saturating_add(got));
    got
}

fn activate<L>(
    clients: &mut BTreeMap<ConnectionId, Client<L>>,
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

fn forget_port(ports: &mut BTreeMap<u32, ConnectionId>, channel: Channel) {
    if let Channel::Ring { port } = channel {
        ports.remove(&port);
    }
}

/// What the bytes at hand are.
#[derive(Clone, Copy)]
enum Framed {
    /// A whole message with this header and length.
    Whole(Header, usize),
    /// Not all of it: so many bytes are lacking, if the header is complete and says so.
    Lacking(Option<u32>),
    /// It announces more than a payload may have.
    TooLong,
}

fn frame(bytes: &[u8]) -> Framed {
    let Some(head) = bytes.first_chunk::<HEADER_SIZE>() else {
        return Framed::Lacking(None);
    };
    let header = Header::parse(head);
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    if length > PAYLOAD_MAX {
        return Framed::TooLong;
    }
    let whole = HEADER_SIZE.saturating_add(length);
    match whole.checked_sub(bytes.len()) {
        None | Some(0) => Framed::Whole(header, whole),
        Some(lacking) => Framed::Lacking(u32::try_from(lacking).ok()),
    }
}

/// What a request uses up of its sender's share.
fn cost(record: &Record, bytes: u32) -> u64 {
    let nodes = record
        .changes
        .iter()
        .filter(|change| matches!(change, Change::Node { .. }))
        .count();
    let things = u64::try_from(nodes.saturating_add(record.outputs.len())).unwrap_or(u64::MAX);
    COST_OF_REQUEST
        .saturating_add(u64::from(bytes))
        .saturating_add(things.saturating_mul(COST_OF_CHANGE))
}
