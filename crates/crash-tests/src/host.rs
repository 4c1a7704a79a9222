//! The machine: ring pages, clients that take and send as they are notified, domains, and lives of the server that end.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use model_tests::engine::{LinkEvent, Tested, configuration, state_of};
use model_tests::model::{Life, PORT_MAX, PRIVILEGED, Settings};
use seeded_random::Random;
use xenstore_core::{Channel, ConnectFailure, CrashKind, DomainState, Fault, Server, Time, World};
use xenstore_recovery::{DurablePages, Recovered, Store};
use xenstore_ring::{ConnectionError, RING_SIZE, SharedPage, feature, offset};
use xenstore_service::{Event, Machine, Reached, RingLink, Service};
use xenstore_wire::{DomId, MessageType};

use crate::checker::{Checker, Figures, Rings, words};
use crate::client::Client;
use crate::left_out::{Noticed, leave_out};
use crate::memory::{Extents, SimulatedPages, Watcher};
use crate::mutants::{Faces, Mutants, What, copy};
use crate::order::{Order, RingStore};
use crate::site::ring_site;

/// Extents to begin with.
const FIRST: usize = 40;
/// Extents that there may be.
const MOST: usize = 48;
/// Rounds after which the server should have come to rest.
const ROUNDS: u32 = 20_000;
/// Lives that end one after the other; with some more, the server would take it for a loop of crashes.
const IN_A_ROW: u32 = 4;

/// What a life ends with.
struct Crash;

/// What the hypervisor, the clients and the checker share.
pub struct Host {
    now: Cell<u64>,
    world: RefCell<BTreeMap<u16, DomainState>>,
    lists_changes: bool,
    changed: RefCell<BTreeSet<u16>>,
    pending: RefCell<VecDeque<Event>>,
    /// Local port → domain.
    bound: RefCell<BTreeMap<u32, u16>>,
    last_port: Cell<u32>,
    clients: RefCell<BTreeMap<u16, Rc<Client>>>,
    log: RefCell<Vec<String>>,
    checker: RefCell<Checker>,
    /// What goes on, and in which kind of state.
    during: Cell<(&'static str, &'static str)>,
    /// Every store is a crash that is tried.
    tries: bool,
    /// Stores until the life ends; 0 = it does not.
    fuse: Cell<u32>,
    /// The store of this site with this number is left out.
    left_out: Cell<Option<(&'static str, u32)>>,
    /// Histories that are not the server's.
    mutants: RefCell<Mutants>,
    /// Two things that clients see change places.
    order: RefCell<Order>,
    /// Before one of so many stores each saved field is left out; so many are left.
    fields: (u32, Cell<u32>),
    /// What came of that.
    noticed: RefCell<Noticed>,
    last_site: Cell<&'static str>,
}

impl Host {
    fn rings(&self) -> Rings {
        let clients = self.clients.borrow();
        clients
            .iter()
            .map(|(domid, client)| (*domid, words(&client.page)))
            .collect()
    }

    fn faces(&self) -> Faces {
        let clients = self.clients.borrow();
        let faces = clients
            .iter()
            .map(|(domid, client)| (*domid, Rc::new(copy(&client.page))));
        faces.collect()
    }

    /// Something that is durable or visible is about to happen. False: it is to be left out.
    fn about_to(&self, site: &'static str, what: What<'_>) -> bool {
        let mut checker = self.checker.borrow_mut();
        if !checker.live {
            return true;
        }
        if self.tries {
            let rings = self.rings();
            let store = match what {
                What::Pages(at, bytes) => Some((at, bytes)),
                _ => None,
            };
            checker.point(site, self.during.get(), &rings, store);
        }
        let mut mutants = self.mutants.borrow_mut();
        if mutants.wanted() {
            mutants.before(&mut checker, site, what, &self.rings(), || self.faces());
        }
        if self.fields.0 != 0 {
            // Where a checkpoint is all there is, always.
            let fresh = self.last_site.replace(site) == "checkpoint head";
            self.fields.1.set(self.fields.1.get() - 1);
            if self.fields.1.get() == 0 || fresh {
                self.fields.1.set(self.fields.0);
                leave_out(&mut checker, &self.rings(), &mut self.noticed.borrow_mut());
            }
        }
        drop((checker, mutants));
        match self.fuse.get() {
            0 => {}
            1 => {
                self.fuse.set(0);
                resume_unwind(Box::new(Crash));
            }
            left => self.fuse.set(left - 1),
        }
        match self.left_out.get() {
            Some((left_out, 0)) if left_out == site => {
                self.left_out.set(None);
                false
            }
            Some((left_out, count)) if left_out == site => {
                self.left_out.set(Some((site, count - 1)));
                true
            }
            _ => true,
        }
    }

    /// A client can see this from now on; or what comes next first, if these are to change places.
    fn in_order(&self, site: &'static str, store: RingStore) {
        let (now, look) = self.order.borrow_mut().next(site, store);
        for (number, store) in now.into_iter().enumerate() {
            let (client, domid) = (Rc::clone(&store.client), store.domid);
            self.make(store);
            // A client may look at any time; between the two it does.
            if look && number == 0 && client.act() {
                self.kick(domid);
            }
        }
    }

    fn make(&self, store: RingStore) {
        let before = store.client.page.load(offset::RSP_PROD);
        match store.make() {
            "ring producer" => {
                let shown = store.client.page.load(offset::RSP_PROD).wrapping_sub(before);
                self.checker.borrow_mut().published(store.domid, shown);
            }
            "ring restart" if store.at == offset::RSP_PROD => store.client.begin(),
            "ring error" => {
                store.client.outgoing.borrow_mut().clear();
                store.client.begun.borrow_mut().clear();
            }
            "notify" if store.client.notified() => self.kick(store.domid),
            _ => {}
        }
    }

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

    fn kick(&self, domid: u16) {
        let bound = self.bound.borrow();
        let ports = bound.iter().filter(|(_, bound)| **bound == domid);
        self.pending
            .borrow_mut()
            .extend(ports.map(|(port, _)| Event::Port(*port)));
    }

    fn client(&self, domid: u16) -> Rc<Client> {
        let clients = self.clients.borrow();
        let client = clients.get(&domid).cloned();
        client.unwrap_or_else(|| panic!("domain {domid} has no ring"))
    }
}

impl Watcher for Host {
    fn before(&self, at: usize, bytes: &[u8]) {
        let site = self.checker.borrow().site(at, bytes);
        self.about_to(site, What::Pages(at, bytes));
    }
    fn after(&self, at: usize, bytes: &[u8]) {
        self.mutants.borrow_mut().stored(at, bytes);
        self.checker.borrow_mut().stored(at, bytes);
    }
    fn barrier(&self) {}
    fn grown(&self, extents: usize) {
        self.mutants.borrow_mut().grown(extents);
        self.checker.borrow_mut().grown(extents);
    }
}

/// A ring page as the server sees it.
pub struct ServerPage {
    domid: u16,
    client: Rc<Client>,
    host: Rc<Host>,
}

impl SharedPage for ServerPage {
    fn load(&self, at: usize) -> u32 {
        let held = self.host.order.borrow().held(self.domid, at);
        held.unwrap_or_else(|| self.client.page.load(at))
    }

    fn store(&self, at: usize, value: u32) {
        let bytes = value.to_le_bytes();
        let site = ring_site(at, value);
        if self.host.about_to(site, What::Ring(self.domid, at, &bytes)) {
            self.host
                .in_order(site, RingStore::new(self.domid, &self.client, at, &bytes));
        }
    }

    fn read(&self, at: usize, out: &mut [u8]) {
        self.client.page.read(at, out);
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        if self.host.about_to("ring bytes", What::Ring(self.domid, at, bytes)) {
            self.host
                .in_order("ring bytes", RingStore::new(self.domid, &self.client, at, bytes));
        }
    }
}

/// The machine that a life of the server runs on.
pub struct Simulated(Rc<Host>);

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
    type Link = RingLink<ServerPage>;

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
        self.0.lists_changes.then(|| states.collect())
    }

    fn connect(&mut self, domid: DomId, port: u32, features: u32) -> Result<(Self::Link, Channel), ConnectFailure> {
        self.0.about_to("connect", What::Machine);
        let state = self.domain(domid);
        if !state.exists || state.dead {
            return Err(ConnectFailure::Grant);
        }
        if port > PORT_MAX {
            return Err(ConnectFailure::EventChannel);
        }
        let client = Rc::new(Client::default());
        self.0.clients.borrow_mut().insert(domid.0, Rc::clone(&client));
        let page = ServerPage {
            domid: domid.0,
            client,
            host: Rc::clone(&self.0),
        };
        Ok((RingLink::fresh(page, features), self.0.bind(domid.0)))
    }

    fn rebind(&mut self, old: Channel, domid: DomId, _port: u32) -> Result<Channel, ConnectFailure> {
        self.0.about_to("rebind", What::Machine);
        self.0.unbind(old);
        Ok(self.0.bind(domid.0))
    }

    fn disconnect(&mut self, _link: Self::Link, channel: Channel) {
        self.0.about_to("disconnect", What::Machine);
        self.0.unbind(channel);
    }

    fn notify(&mut self, channel: Channel) {
        if !self.0.about_to("notify", What::Machine) {
            return;
        }
        let Channel::Ring { port } = channel else { return };
        let domid = self.0.bound.borrow().get(&port).copied();
        let client = domid.and_then(|domid| Some((domid, self.0.clients.borrow().get(&domid).cloned()?)));
        if let Some((domid, client)) = client {
            self.0.in_order("notify", RingStore::new(domid, &client, 0, &[]));
        }
    }

    fn wait(&mut self, _deadline: Option<Time>) {}

    fn crash(&mut self, _kind: CrashKind) {}

    fn log(&mut self, line: String) {
        self.0.log.borrow_mut().push(line);
    }
}

type Life1 = Service<Simulated, SimulatedPages>;

/// How crashes are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Every store is a crash that is tried on a copy.
    pub tries: bool,
    /// A life ends after about so many stores, and another goes on; 0 = never.
    pub lives: u32,
    /// One of so many stores is left out of a copy of the pages, and changes places with the next; 0 = none.
    pub mutants: u32,
    /// Those that are left out are of this site.
    pub only: Option<&'static str>,
    /// The store of this site with this number is left out.
    pub left_out: Option<(&'static str, u32)>,
    /// What clients see first and second there changes places, the time with this number.
    pub swapped: Option<(&'static str, &'static str, u32)>,
    /// Before one of so many stores each saved field is left out in turn; 0 = never.
    pub fields: u32,
}

impl Plan {
    /// Nothing happens to the server.
    pub const QUIET: Plan = Plan {
        tries: false,
        lives: 0,
        mutants: 0,
        only: None,
        left_out: None,
        swapped: None,
        fields: 0,
    };
}

/// The server and its host.
pub struct Engine {
    host: Rc<Host>,
    service: Option<Life1>,
    random: Random,
    plan: Plan,
    ended: bool,
    /// Lives that ended since the server came to rest.
    in_a_row: u32,
}

impl Engine {
    /// A new server with the privileged domain connected.
    pub fn new(settings: &Settings, plan: Plan, seed: u64) -> Engine {
        let configuration = configuration(settings);
        let memory = Extents::new(FIRST);
        let checker = Checker::new(configuration.clone(), memory.clone(), seed);
        let host = Rc::new(Host {
            now: Cell::default(),
            world: RefCell::new([(PRIVILEGED, DomainState::ALIVE)].into()),
            lists_changes: settings.lists_changes,
            changed: RefCell::default(),
            pending: RefCell::default(),
            bound: RefCell::default(),
            last_port: Cell::default(),
            clients: RefCell::new([(PRIVILEGED, Rc::new(Client::default()))].into()),
            log: RefCell::default(),
            checker: RefCell::new(checker),
            during: Cell::new(("the start", "nothing else")),
            tries: plan.tries,
            fuse: Cell::default(),
            left_out: Cell::default(),
            mutants: RefCell::new(Mutants::new(plan.mutants, plan.only, seed)),
            order: RefCell::default(),
            fields: (plan.fields, Cell::new(plan.fields)),
            noticed: RefCell::default(),
            last_site: Cell::new(""),
        });
        let watcher: Rc<dyn Watcher> = host.clone();
        let store = Store::cold(configuration, SimulatedPages::watched(memory, MOST, watcher));
        let store = store.unwrap_or_else(|small| panic!("{small:?}"));
        let mut engine = Engine {
            service: Some(Service::new(Simulated(Rc::clone(&host)), store)),
            host,
            random: Random::new(seed ^ 0x5eed),
            plan,
            ended: false,
            in_a_row: 0,
        };
        engine.host.checker.borrow_mut().live = true;
        let channel = engine.host.bind(PRIVILEGED);
        let page = engine.page(PRIVILEGED);
        engine
            .service_mut()
            .adopt(DomId(PRIVILEGED), RingLink::adopt(page, settings.features), channel);
        // Nobody is notified of a server that begins: whoever starts it waits for it.
        engine.host.client(PRIVILEGED).notified();
        engine.settle();
        engine.host.left_out.set(plan.left_out);
        *engine.host.order.borrow_mut() = Order::new(plan.swapped);
        engine
    }

    /// What was counted.
    pub fn figures(&self) -> Figures {
        self.host.checker.borrow().figures.clone()
    }

    /// How often the lack of a saved field was noticed, and how often not.
    pub fn noticed(&self) -> Noticed {
        self.host.noticed.borrow().clone()
    }

    /// Which things that clients see came one behind the other, in one ring.
    pub fn pairs(&self) -> BTreeSet<(&'static str, &'static str)> {
        self.host.order.borrow().pairs.clone()
    }

    /// The two that were to change places have done so.
    pub fn swapped(&self) -> bool {
        self.host.order.borrow().done()
    }

    fn page(&self, domid: u16) -> ServerPage {
        ServerPage {
            domid,
            client: self.host.client(domid),
            host: Rc::clone(&self.host),
        }
    }

    fn service_mut(&mut self) -> &mut Life1 {
        self.service
            .as_mut()
            .unwrap_or_else(|| unreachable!("between two lives"))
    }

    fn during(&self, what: &'static str, state: &'static str) {
        self.host.during.set((what, state));
    }

    /// Whether somebody's messages wait.
    fn state(&self) -> &'static str {
        let waits = self.server().connections().any(|(_, state)| !state.queue.is_empty());
        let transactions = self
            .server()
            .connections()
            .any(|(_, state)| state.transaction_count() > 0);
        match (waits, transactions) {
            (true, _) => "messages wait",
            (false, true) => "transactions are open",
            _ => "nothing else",
        }
    }

    /// Goes on until nothing moves any more. Lives end meanwhile, if that is the plan.
    fn settle(&mut self) {
        self.arm();
        for _ in 0..ROUNDS {
            let Some(service) = &mut self.service else { return };
            let more = match catch_unwind(AssertUnwindSafe(|| service.round())) {
                Ok(more) => more,
                Err(what) if what.is::<Crash>() => {
                    self.next_life();
                    true
                }
                Err(what) => resume_unwind(what),
            };
            if !more && self.host.pending.borrow().is_empty() {
                self.host.fuse.set(0);
                self.in_a_row = 0;
                // Not each step has a request, but no life that came so far is part of a loop of crashes.
                if let Some(service) = &mut self.service {
                    service.settle();
                }
                let last = self.host.order.borrow_mut().release();
                if let Some(last) = last {
                    self.host.make(last);
                }
                self.clients_know();
                if self.plan == Plan::QUIET || self.plan.left_out.is_none() && self.plan.swapped.is_none() {
                    let service = self.service.as_ref().unwrap_or_else(|| unreachable!("it has just run"));
                    self.host.checker.borrow_mut().same(service.server());
                }
                return;
            }
        }
        panic!("the server does not come to rest");
    }

    /// Each client knows what it is offered and whether it was given up, and why: it was notified since that was stored.
    fn clients_know(&self) {
        let server = self.server();
        for (_, state) in server.connections() {
            let features = server.features_of(state.domid);
            let error = match state.ignored.filter(|_| features & feature::ERROR != 0) {
                None => ConnectionError::None,
                Some(Fault::RingIndex) => ConnectionError::RingIndex,
                Some(Fault::Protocol | Fault::Poison) => ConnectionError::Protocol,
            };
            let told = self.host.client(state.domid.0).told.get();
            assert_eq!(
                told,
                (features, error.code()),
                "what domain {} knows of its features and of the error",
                state.domid
            );
        }
    }

    fn arm(&mut self) {
        if self.plan.lives != 0 {
            // The next one lasts longer: a life that never comes to its end does its upkeep again and again.
            let most = 2 * self.plan.lives * (1 + self.in_a_row);
            self.host.fuse.set(1 + self.random.below(most));
        }
    }

    /// All that is left are the pages, the rings and the event channels.
    fn next_life(&mut self) {
        self.ended = true;
        self.service = None;
        loop {
            self.host.checker.borrow_mut().figures.lives += 1;
            self.in_a_row += 1;
            // Lives may end in their recoveries, too; but some must come further.
            self.host.fuse.set(0);
            if self.in_a_row < IN_A_ROW && self.random.one_in(3) {
                self.arm();
            }
            match catch_unwind(AssertUnwindSafe(|| self.recover())) {
                Ok(service) => {
                    // A request that ended a life must be served by the next one: after another end it would be set aside.
                    let blamed = service.server().connections().any(|(_, state)| state.kills() > 0);
                    self.service = Some(service);
                    self.host.fuse.set(0);
                    if !blamed && self.in_a_row < IN_A_ROW {
                        self.arm();
                    }
                    return;
                }
                Err(what) if what.is::<Crash>() => {}
                Err(what) => resume_unwind(what),
            }
        }
    }

    fn recover(&self) -> Life1 {
        let memory = self.host.checker.borrow().memory().clone();
        let watcher: Rc<dyn Watcher> = self.host.clone();
        let recovered = Store::recover(SimulatedPages::watched(memory, MOST, watcher));
        let recovered: Recovered<SimulatedPages> =
            recovered.unwrap_or_else(|(_, lost)| panic!("nothing to recover: {lost:?}"));
        // A port that was bound for an action whose outcome is not on record belongs to nobody.
        let owned = |port: &u32| {
            let mut connections = recovered.store.server().connections();
            connections.any(|(_, state)| state.channel == Channel::Ring { port: *port })
        };
        self.host.bound.borrow_mut().retain(|port, _| owned(port));
        Service::resume(Simulated(Rc::clone(&self.host)), recovered, |_, wanted| {
            let page = self.page(wanted.state.domid.0);
            let (link, published) = RingLink::recover(page, wanted.state, wanted.publishing, wanted.features);
            Some(Reached { link, published })
        })
    }

    fn act(&mut self, domid: u16) {
        self.host.client(domid).act();
        self.host.kick(domid);
        self.settle();
    }
}

impl Tested for Engine {
    type Memory = DurablePages<SimulatedPages>;

    fn server(&self) -> &Server<Self::Memory> {
        let service = self.service.as_ref();
        service.unwrap_or_else(|| unreachable!("between two lives")).server()
    }

    fn send(&mut self, domid: u16, bytes: &[u8]) {
        let (head, in_parts) = self.host.client(domid).begin_to_send(bytes);
        let state = match head {
            _ if in_parts => "in parts",
            Some(head) if head.transaction_id != 0 => "in a transaction",
            _ => self.state(),
        };
        let kind = head.map(|head| MessageType::from_wire(head.kind));
        // One that no server knows is refused whatever its number.
        let during = kind.map_or("a part of a message", |kind| kind.map_or("ERROR", MessageType::name));
        self.during(during, state);
        // What is remembered of peaks depends on when a life ended, and some answers tell of it.
        let lives = self.plan.lives;
        if kind == Some(Some(MessageType::Control)) {
            self.plan.lives = 0;
        }
        self.act(domid);
        self.plan.lives = lives;
    }

    fn link(&mut self, domid: u16, event: LinkEvent) {
        let client = self.host.client(domid);
        let page = &client.page;
        let name = match event {
            LinkEvent::Reset => {
                client.begin();
                for index in [offset::REQ_PROD, offset::REQ_CONS, offset::RSP_PROD, offset::RSP_CONS] {
                    page.store(index, 0);
                }
                "a reset"
            }
            LinkEvent::Reconnect => {
                client.begin();
                client.waits.set(true);
                page.store(offset::CONNECTION, 1);
                "a reconnect"
            }
            LinkEvent::Impossible => {
                let beyond = page.load(offset::REQ_CONS).wrapping_add(RING_SIZE + 7);
                page.store(offset::REQ_PROD, beyond);
                "misbehaviour"
            }
        };
        self.during(name, self.state());
        self.host.kick(domid);
        self.settle();
        // It goes on with the room that it has. One that asked waits until it is told.
        if event == LinkEvent::Reset {
            self.act(domid);
        }
    }

    fn room(&mut self, domid: u16, room: usize) {
        self.during("room", self.state());
        self.host.client(domid).room.set(room);
        self.act(domid);
    }

    fn pass(&mut self, nanoseconds: u64) {
        self.during("time", self.state());
        self.host.now.set(self.host.now.get() + nanoseconds);
        self.settle();
    }

    fn build(&mut self, domid: u16, life: Option<Life>) {
        self.host.world.borrow_mut().insert(domid, state_of(life));
    }

    fn changed(&mut self, domids: &[u16]) {
        self.during("domains", self.state());
        self.host.changed.borrow_mut().extend(domids);
        self.host.pending.borrow_mut().push_back(Event::DomainsChanged);
        self.settle();
    }

    fn restart(&mut self) {
        self.during("the end of a life", self.state());
        self.next_life();
        self.ended = false;
        self.settle();
    }

    fn take_seen(&mut self) -> BTreeMap<u16, Vec<u8>> {
        let clients = self.host.clients.borrow();
        let seen = clients.iter().map(|(domid, client)| (*domid, client.seen.take()));
        seen.filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    fn seen(&self) -> BTreeMap<u16, Vec<u8>> {
        let clients = self.host.clients.borrow();
        let seen = clients
            .iter()
            .map(|(domid, client)| (*domid, client.seen.borrow().clone()));
        seen.filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    fn take_log(&mut self) -> Vec<String> {
        self.host.log.take()
    }

    fn ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    fn lives_end(&self) -> bool {
        true
    }
}
