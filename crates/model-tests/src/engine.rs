//! The server with its loop and its durable pages, on links whose every byte the test lets through.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use xenstore_core::tree::Memory;
use xenstore_core::{
    Channel, Configuration, ConflictLimits, ConnectFailure, CrashKind, DomainState, Epoch, Fault, Limit, Quotas,
    Server, Time, World,
};
use xenstore_recovery::{DurablePages, SlicePages, Store};
use xenstore_service::{Event, Link, LinkState, Machine, Reached, Service};
use xenstore_wire::{DomId, Header};

use crate::model::{self, Life, OWN, PORT_MAX, PRIVILEGED};

/// Bytes of durable pages: more than any stream fills.
const BYTES: usize = 8 << 20;
/// Rounds after which the server should have come to rest.
const ROUNDS: u32 = 10_000;

/// What lies between a client and the server.
#[derive(Default)]
struct Wire {
    requests: RefCell<VecDeque<u8>>,
    seen: RefCell<Vec<u8>>,
    /// Bytes that the client still takes.
    room: Cell<usize>,
    /// Something happens to the link.
    event: Cell<Option<LinkState>>,
}

/// The server's end of a wire.
struct End(Rc<Wire>);

impl Link for End {
    fn epoch(&self) -> Epoch {
        Epoch::default()
    }

    fn look(&mut self) -> LinkState {
        let at_most = |bytes: usize| u32::try_from(bytes.min(1024)).unwrap_or(0);
        self.0.event.get().unwrap_or_else(|| LinkState::Open {
            readable: at_most(self.0.requests.borrow().len()),
            writable: at_most(self.0.room.get()),
        })
    }

    fn peek(&self, skip: u32, out: &mut [u8]) -> usize {
        let requests = self.0.requests.borrow();
        let bytes = requests.iter().skip(skip as usize).zip(out);
        bytes.map(|(byte, place)| *place = *byte).count()
    }

    fn consume(&mut self, count: u32) {
        self.0.requests.borrow_mut().drain(..count as usize);
    }

    fn publish(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.0.room.get());
        self.0.seen.borrow_mut().extend_from_slice(&bytes[..count]);
        if self.0.room.get() != usize::MAX {
            self.0.room.set(self.0.room.get() - count);
        }
        count
    }

    fn restart(&mut self, _why: LinkState) {
        self.0.requests.borrow_mut().clear();
        self.0.seen.borrow_mut().clear();
        self.0.event.set(None);
    }

    fn set_error(&mut self, _fault: Fault) {
        self.0.event.set(None);
        self.0.requests.borrow_mut().clear();
    }

    fn take_notify(&mut self, _lacking: Option<u32>) -> bool {
        false
    }
}

/// What the hypervisor and the clients share.
#[derive(Default)]
struct Host {
    now: Cell<u64>,
    world: RefCell<BTreeMap<u16, DomainState>>,
    lists_changes: Cell<bool>,
    changed: RefCell<BTreeSet<u16>>,
    pending: RefCell<VecDeque<Event>>,
    /// Local port → domain.
    bound: RefCell<BTreeMap<u32, u16>>,
    last_port: Cell<u32>,
    wires: RefCell<BTreeMap<u16, Rc<Wire>>>,
    log: RefCell<Vec<String>>,
}

impl Host {
    fn bind(&self, domid: u16) -> Channel {
        let port = self.last_port.get() + 1;
        self.last_port.set(port);
        self.bound.borrow_mut().insert(port, domid);
        Channel::Ring { port }
    }

    fn unbind(&self, channel: Channel) {
        if let Channel::Ring { port } = channel {
            self.bound.borrow_mut().remove(&port);
        }
    }

    fn new_wire(&self, domid: u16) -> Rc<Wire> {
        let wire = Rc::new(Wire::default());
        wire.room.set(usize::MAX);
        self.wires.borrow_mut().insert(domid, Rc::clone(&wire));
        wire
    }
}

/// The machine that the server runs on.
struct Simulated(Rc<Host>);

impl World for Simulated {
    fn domain(&self, domid: DomId) -> DomainState {
        let world = self.0.world.borrow();
        world.get(&domid.0).copied().unwrap_or(DomainState::ABSENT)
    }

    fn wall_clock(&self) -> u64 {
        self.0.now.get()
    }

    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

impl Machine for Simulated {
    type Link = End;

    fn now(&self) -> Time {
        Time(self.0.now.get())
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        while let Some(next) = self.0.pending.borrow_mut().pop_front() {
            event(next);
        }
    }

    fn changed_domains(&mut self) -> Option<Vec<(DomId, DomainState)>> {
        let changed = std::mem::take(&mut *self.0.changed.borrow_mut());
        let states = changed
            .into_iter()
            .map(|domid| (DomId(domid), self.domain(DomId(domid))));
        self.0.lists_changes.get().then(|| states.collect())
    }

    fn connect(&mut self, domid: DomId, port: u32, _features: u32) -> Result<(End, Channel), ConnectFailure> {
        let state = self.domain(domid);
        if !state.exists || state.dead {
            return Err(ConnectFailure::Grant);
        }
        if port > PORT_MAX {
            return Err(ConnectFailure::EventChannel);
        }
        Ok((End(self.0.new_wire(domid.0)), self.0.bind(domid.0)))
    }

    fn rebind(&mut self, old: Channel, domid: DomId, _port: u32) -> Result<Channel, ConnectFailure> {
        self.0.unbind(old);
        Ok(self.0.bind(domid.0))
    }

    fn disconnect(&mut self, _link: End, channel: Channel) {
        self.0.unbind(channel);
    }

    fn notify(&mut self, _channel: Channel) {}

    fn wait(&mut self, _deadline: Option<Time>) {}

    fn crash(&mut self, _kind: CrashKind) {}

    fn log(&mut self, line: String) {
        self.0.log.borrow_mut().push(line);
    }
}

/// What happens to a client's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// All indices are zero.
    Reset,
    /// It asks to begin anew.
    Reconnect,
    /// Its indices are impossible.
    Impossible,
}

/// A server that is held against the model, with all that is around it. What clients do reaches it at once, and everything that
/// follows from that has happened when a function returns.
pub trait Tested {
    /// The memory of its tree.
    type Memory: Memory;

    /// The server's state.
    fn server(&self) -> &Server<Self::Memory>;
    /// A client's request, or the beginning of one.
    fn send(&mut self, domid: u16, bytes: &[u8]);
    /// Something happens to a client's link.
    fn link(&mut self, domid: u16, event: LinkEvent);
    /// The client takes so many bytes from now on.
    fn room(&mut self, domid: u16, room: usize);
    /// Time passes.
    fn pass(&mut self, nanoseconds: u64);
    /// The hypervisor knows a domain, or does not, and says nothing.
    fn build(&mut self, domid: u16, life: Option<Life>);
    /// The hypervisor says that some domains changed.
    fn changed(&mut self, domids: &[u16]);
    /// The life of the server ends; the next one has the durable pages and the links.
    fn restart(&mut self);
    /// What clients have seen since [`Tested::take_seen`].
    fn seen(&self) -> BTreeMap<u16, Vec<u8>>;
    /// What clients have seen since this was asked last.
    fn take_seen(&mut self) -> BTreeMap<u16, Vec<u8>>;
    /// The lines of the log since this was asked last.
    fn take_log(&mut self) -> Vec<String>;

    /// A life of the server ended by itself since this was asked last.
    fn ended(&mut self) -> bool {
        false
    }

    /// Lives of the server end by themselves.
    fn lives_end(&self) -> bool {
        false
    }
}

/// What the hypervisor says of a domain with this life.
pub fn state_of(life: Option<Life>) -> DomainState {
    life.map_or(DomainState::ABSENT, |life| DomainState {
        exists: true,
        shutdown: life.shutdown,
        dead: life.dead,
        unique_id: Some(life.unique).filter(|unique| *unique != 0),
    })
}

/// How the server is started for these settings.
pub fn configuration(settings: &model::Settings) -> Configuration {
    let mut quotas = Quotas::default();
    for (limit, value) in Limit::ALL.into_iter().zip(&settings.limits) {
        quotas.set(limit, *value);
    }
    Configuration {
        privileged: DomId(PRIVILEGED),
        own: DomId(OWN),
        features: settings.features,
        event_timeout: u32::try_from(settings.timeout).unwrap_or(0),
        quotas,
        // The model knows no leases, which are charged to whoever keeps losing, even to a lone client.
        conflicts: if settings.credit {
            ConflictLimits {
                losses: 0,
                ..ConflictLimits::default()
            }
        } else {
            ConflictLimits::NONE
        },
        ..Configuration::default()
    }
}

/// The server and its host.
pub struct Engine {
    host: Rc<Host>,
    service: Option<Service<Simulated, SlicePages<Vec<u8>>>>,
}

impl Engine {
    /// A new server with the privileged domain connected.
    pub fn new(settings: &model::Settings) -> Engine {
        let configuration = configuration(settings);
        let host = Rc::new(Host::default());
        host.lists_changes.set(settings.lists_changes);
        let store = Store::cold(configuration, SlicePages(vec![0; BYTES]));
        let store = store.unwrap_or_else(|_| panic!("{BYTES} bytes are not enough to start"));
        let mut engine = Engine {
            service: Some(Service::new(Simulated(Rc::clone(&host)), store)),
            host,
        };
        engine.host.world.borrow_mut().insert(PRIVILEGED, DomainState::ALIVE);
        let (wire, channel) = (engine.host.new_wire(PRIVILEGED), engine.host.bind(PRIVILEGED));
        engine.service_mut().adopt(DomId(PRIVILEGED), End(wire), channel);
        engine.settle();
        engine
    }

    fn service_mut(&mut self) -> &mut Service<Simulated, SlicePages<Vec<u8>>> {
        self.service
            .as_mut()
            .unwrap_or_else(|| unreachable!("between two lives"))
    }

    /// The bytes of a request.
    pub fn request(header: Header, payload: &[u8]) -> Vec<u8> {
        [&header.emit()[..], payload].concat()
    }

    fn wire(&self, domid: u16) -> Rc<Wire> {
        let wires = self.host.wires.borrow();
        let wire = wires.get(&domid).cloned();
        wire.unwrap_or_else(|| panic!("domain {domid} has no link"))
    }

    fn kick(&mut self, domid: u16) {
        let bound = self.host.bound.borrow();
        let ports = bound.iter().filter(|(_, bound)| **bound == domid);
        let events = ports.map(|(port, _)| Event::Port(*port));
        self.host.pending.borrow_mut().extend(events);
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let more = self.service_mut().round();
            if !more && self.host.pending.borrow().is_empty() {
                return;
            }
        }
        panic!("the server does not come to rest");
    }
}

impl Tested for Engine {
    type Memory = DurablePages<SlicePages<Vec<u8>>>;

    fn server(&self) -> &Server<Self::Memory> {
        let service = self.service.as_ref();
        service.unwrap_or_else(|| unreachable!("between two lives")).server()
    }

    fn send(&mut self, domid: u16, bytes: &[u8]) {
        self.wire(domid).requests.borrow_mut().extend(bytes);
        self.kick(domid);
        self.settle();
    }

    fn link(&mut self, domid: u16, event: LinkEvent) {
        self.wire(domid).event.set(Some(match event {
            LinkEvent::Reset => LinkState::Reset,
            LinkEvent::Reconnect => LinkState::Reconnect,
            LinkEvent::Impossible => LinkState::Broken(Fault::RingIndex),
        }));
        self.kick(domid);
        self.settle();
        // Nobody looked, if the client was given up already.
        self.wire(domid).event.set(None);
    }

    fn room(&mut self, domid: u16, room: usize) {
        self.wire(domid).room.set(room);
        self.kick(domid);
        self.settle();
    }

    fn pass(&mut self, nanoseconds: u64) {
        self.host.now.set(self.host.now.get() + nanoseconds);
        self.settle();
    }

    fn build(&mut self, domid: u16, life: Option<Life>) {
        self.host.world.borrow_mut().insert(domid, state_of(life));
    }

    fn changed(&mut self, domids: &[u16]) {
        self.host.changed.borrow_mut().extend(domids);
        self.host.pending.borrow_mut().push_back(Event::DomainsChanged);
        self.settle();
    }

    fn restart(&mut self) {
        let Some(service) = self.service.take() else { return };
        let (_, pages) = service.into_parts();
        let recovered = Store::recover(pages).unwrap_or_else(|(_, lost)| panic!("nothing to recover: {lost:?}"));
        let machine = Simulated(Rc::clone(&self.host));
        self.service = Some(Service::resume(machine, recovered, |machine, wanted| {
            let wire = machine.0.wires.borrow().get(&wanted.state.domid.0).cloned()?;
            assert_eq!(wanted.publishing, 0, "nothing was being published");
            Some(Reached {
                link: End(wire),
                published: false,
            })
        }));
        // However many restarts come in a row, none of them is a crash.
        if let Some(service) = &mut self.service {
            service.settle();
        }
        self.settle();
    }

    fn take_seen(&mut self) -> BTreeMap<u16, Vec<u8>> {
        let wires = self.host.wires.borrow();
        let seen = wires.iter().map(|(domid, wire)| (*domid, wire.seen.take()));
        seen.filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    fn seen(&self) -> BTreeMap<u16, Vec<u8>> {
        let wires = self.host.wires.borrow();
        let seen = wires.iter().map(|(domid, wire)| (*domid, wire.seen.borrow().clone()));
        seen.filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    fn take_log(&mut self) -> Vec<String> {
        self.host.log.take()
    }
}
