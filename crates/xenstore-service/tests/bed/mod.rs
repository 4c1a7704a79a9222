//! A machine of rings in plain memory: the whole server with real ring pages and simulated domains, in one thread.
#![allow(dead_code, reason = "each test file uses a part of the bed")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use xenstore_core::{Channel, Configuration, ConnectFailure, ConnectionId, CrashKind, DomainState, Step, Time, World};
use xenstore_recovery::{Pages, Store};
use xenstore_ring::{ClientRing, ClientVisit, MemoryPage, SharedPage};
use xenstore_service::{Event, Machine, Reached, RingLink, Service};
use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType};

/// Ends a life of the server after a number of durable or ring-visible stores.
#[derive(Default)]
pub struct Fuse {
    /// Stores left; 0 = not armed.
    left: Cell<u64>,
    /// Stores made.
    pub burnt: Cell<u64>,
}

/// What a burnt fuse unwinds with.
pub struct Crash;

impl Fuse {
    /// The life ends before the `count`-th store from now.
    pub fn arm(&self, count: u64) {
        self.left.set(count);
    }

    fn burn(&self) {
        self.burnt.set(self.burnt.get() + 1);
        match self.left.get() {
            0 => {}
            1 => {
                self.left.set(0);
                std::panic::resume_unwind(Box::new(Crash));
            }
            left => self.left.set(left - 1),
        }
    }
}

/// The server's durable memory.
pub struct DurableMemory {
    bytes: Vec<u8>,
    fuse: Rc<Fuse>,
    /// Where the bytes go when a life ends that cannot hand them over.
    wreck: Rc<RefCell<Vec<u8>>>,
}

impl Drop for DurableMemory {
    fn drop(&mut self) {
        *self.wreck.borrow_mut() = std::mem::take(&mut self.bytes);
    }
}

impl Pages for DurableMemory {
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        self.bytes.get(at..at + length).unwrap_or_default()
    }
    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.fuse.burn();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A page as the server sees it: its stores burn the fuse, too.
#[derive(Clone)]
pub struct ServerPage(Page, Rc<Fuse>);

impl SharedPage for ServerPage {
    fn load(&self, offset: usize) -> u32 {
        self.0.load(offset)
    }
    fn store(&self, offset: usize, value: u32) {
        self.1.burn();
        self.0.store(offset, value);
    }
    fn read(&self, offset: usize, out: &mut [u8]) {
        self.0.read(offset, out);
    }
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.1.burn();
        self.0.write(offset, bytes);
    }
}

#[derive(Clone)]
pub struct Page(Rc<MemoryPage>);

impl SharedPage for Page {
    fn load(&self, offset: usize) -> u32 {
        self.0.load(offset)
    }
    fn store(&self, offset: usize, value: u32) {
        self.0.store(offset, value);
    }
    fn read(&self, offset: usize, out: &mut [u8]) {
        self.0.read(offset, out);
    }
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.0.write(offset, bytes);
    }
}

/// What the hypervisor and the guests of the simulation share.
#[derive(Default)]
pub struct Host {
    pub now: Cell<u64>,
    pub domains: RefCell<BTreeMap<u16, DomainState>>,
    pages: RefCell<BTreeMap<u16, Page>>,
    pending: RefCell<VecDeque<Event>>,
    /// Local port → domain.
    bound: RefCell<BTreeMap<u32, u16>>,
    next_port: Cell<u32>,
    /// Notifications each domain got.
    pub notified: RefCell<BTreeMap<u16, u32>>,
    pub mapped: RefCell<BTreeSet<u16>>,
    pub log: RefCell<Vec<String>>,
    /// The hypervisor lists the domains that changed, as Xen 4.21 does.
    pub lists_changes: Cell<bool>,
    changed: RefCell<BTreeSet<u16>>,
    /// Bytes of the machine's heap; 0 = as many as it likes.
    pub heap: Cell<u64>,
    /// Of which domains the server has asked by number.
    pub asked: RefCell<Vec<u16>>,
    pub fuse: Rc<Fuse>,
    /// What the next life is told of the end of this one.
    pub last_end: RefCell<String>,
    /// Until when the server waits.
    pub deadline: Cell<Option<Time>>,
    /// How often it has let others have the processor.
    pub yields: Cell<u32>,
}

pub struct Simulated {
    pub host: Rc<Host>,
}

impl World for Simulated {
    fn domain(&self, domid: DomId) -> DomainState {
        self.host.asked.borrow_mut().push(domid.0);
        self.host
            .domains
            .borrow()
            .get(&domid.0)
            .copied()
            .unwrap_or(DomainState::ABSENT)
    }
    fn wall_clock(&self) -> u64 {
        self.host.now.get()
    }
    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "machine: simulated")
    }
}

impl Machine for Simulated {
    type Link = RingLink<ServerPage>;

    fn now(&self) -> Time {
        Time(self.host.now.get())
    }

    fn heap(&self) -> u64 {
        match self.host.heap.get() {
            0 => u64::MAX,
            bytes => bytes,
        }
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        while let Some(next) = self.host.pending.borrow_mut().pop_front() {
            event(next);
        }
    }

    fn changed_domains(&mut self) -> Option<Vec<(DomId, DomainState)>> {
        let changed = std::mem::take(&mut *self.host.changed.borrow_mut());
        let domains = self.host.domains.borrow();
        let state = |domid| domains.get(&domid).copied().unwrap_or(DomainState::ABSENT);
        let states = changed.into_iter().map(|domid| (DomId(domid), state(domid)));
        self.host.lists_changes.get().then(|| states.collect())
    }

    fn connect(
        &mut self,
        domid: DomId,
        remote_port: u32,
        features: u32,
    ) -> Result<(Self::Link, Channel), ConnectFailure> {
        let page = self
            .host
            .pages
            .borrow()
            .get(&domid.0)
            .cloned()
            .ok_or(ConnectFailure::Grant)?;
        if remote_port > 4096 {
            return Err(ConnectFailure::EventChannel);
        }
        self.host.mapped.borrow_mut().insert(domid.0);
        let page = ServerPage(page, Rc::clone(&self.host.fuse));
        Ok((RingLink::fresh(page, features), self.host.bind(domid.0)))
    }

    fn rebind(&mut self, old: Channel, domid: DomId, _remote_port: u32) -> Result<Channel, ConnectFailure> {
        self.host.unbind(old);
        Ok(self.host.bind(domid.0))
    }

    fn disconnect(&mut self, _link: Self::Link, channel: Channel) {
        if let Some(domid) = self.host.unbind(channel) {
            self.host.mapped.borrow_mut().remove(&domid);
        }
    }

    fn notify(&mut self, channel: Channel) {
        if let Channel::Ring { port } = channel
            && let Some(domid) = self.host.bound.borrow().get(&port)
        {
            *self.host.notified.borrow_mut().entry(*domid).or_default() += 1;
        }
    }

    fn wait(&mut self, deadline: Option<Time>) {
        self.host.deadline.set(deadline);
    }

    fn yield_processor(&mut self) {
        self.host.yields.set(self.host.yields.get() + 1);
    }

    fn crash(&mut self, _kind: CrashKind) {
        std::panic::resume_unwind(Box::new(Crash));
    }

    fn reached(_step: Step) {
        std::panic::resume_unwind(Box::new(Crash));
    }

    fn last_end(&mut self) -> String {
        self.host.last_end.take()
    }

    fn log(&mut self, line: String) {
        self.host.log.borrow_mut().push(line);
    }
}

impl Host {
    fn bind(&self, domid: u16) -> Channel {
        let port = self.next_port.get() + 1;
        self.next_port.set(port);
        self.bound.borrow_mut().insert(port, domid);
        Channel::Ring { port }
    }

    fn unbind(&self, channel: Channel) -> Option<u16> {
        let Channel::Ring { port } = channel else { return None };
        self.bound.borrow_mut().remove(&port)
    }

    /// The event channel of this domain fires.
    fn kick(&self, domid: u16) {
        let bound = self.bound.borrow();
        let port = bound.iter().find(|(_, bound)| **bound == domid);
        if let Some((port, _)) = port {
            self.pending.borrow_mut().push_back(Event::Port(*port));
        }
    }
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageType,
    pub request: u32,
    pub transaction: u32,
    pub payload: Vec<u8>,
}

impl Message {
    /// The payload with `|` for each NUL.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).replace('\0', "|")
    }
}

/// A guest's side.
pub struct Guest {
    pub page: Page,
    ring: ClientRing,
    outgoing: VecDeque<u8>,
    incoming: Vec<u8>,
    next_request: u32,
    /// Does not read what it is sent.
    pub deaf: bool,
}

impl Guest {
    /// Puts bytes into the stream as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
    }
}

/// The server and its guests.
pub struct Bed {
    service: Option<Service<Simulated, DurableMemory>>,
    /// Lives of the server that ended.
    pub crashes: u32,
    /// Arms the fuse with this after each crash.
    pub crash_every: Option<u64>,
    /// Arms the fuse with these for the recoveries to come, one after the other.
    pub crash_recoveries: VecDeque<u64>,
    pub host: Rc<Host>,
    pub guests: BTreeMap<u16, Guest>,
}

impl Bed {
    /// A server with dom0 connected.
    pub fn new() -> Bed {
        Bed::with(
            Configuration {
                features: 3,
                ..Configuration::default()
            },
            8 << 20,
        )
    }

    pub fn with(configuration: Configuration, bytes: usize) -> Bed {
        let privileged = configuration.privileged;
        let mut bed = Bed::unconnected(configuration, bytes);
        bed.new_page(privileged.0);
        bed.connect(privileged);
        bed.settle();
        bed
    }

    /// dom0 has written this (WRITE) into its ring before there was a server.
    pub fn with_request_waiting(payload: &str) -> Bed {
        let mut bed = Bed::unconnected(Configuration::default(), 8 << 20);
        bed.new_page(0);
        bed.send(0, MessageType::Write, 0, payload);
        bed.pump();
        bed.connect(DomId::DOM0);
        bed
    }

    fn connect(&mut self, domid: DomId) {
        self.host.domains.borrow_mut().insert(domid.0, DomainState::ALIVE);
        let page = self.host.pages.borrow()[&domid.0].clone();
        let channel = self.host.bind(domid.0);
        let features = self.service().server().configuration().features;
        let fuse = Rc::clone(&self.host.fuse);
        self.service_mut()
            .adopt(domid, RingLink::adopt(ServerPage(page, fuse), features), channel);
    }

    fn unconnected(configuration: Configuration, bytes: usize) -> Bed {
        let host = Rc::new(Host::default());
        let store = Store::cold(
            configuration,
            DurableMemory {
                bytes: vec![0; bytes],
                fuse: Rc::clone(&host.fuse),
                wreck: Rc::default(),
            },
        )
        .unwrap();
        let service = Service::new(Simulated { host: Rc::clone(&host) }, store);
        Bed {
            service: Some(service),
            crashes: 0,
            crash_every: None,
            crash_recoveries: VecDeque::new(),
            host,
            guests: BTreeMap::new(),
        }
    }

    fn new_page(&mut self, domid: u16) -> Page {
        let page = Page(Rc::new(MemoryPage::new()));
        self.host.pages.borrow_mut().insert(domid, page.clone());
        let guest = Guest {
            page: page.clone(),
            ring: ClientRing::adopt(&page),
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            next_request: 1,
            deaf: false,
        };
        self.guests.insert(domid, guest);
        page
    }

    /// A domain comes to life, without being introduced.
    pub fn build(&mut self, domid: u16) {
        self.host.domains.borrow_mut().insert(domid, DomainState::ALIVE);
        self.new_page(domid);
    }

    /// A domain comes to life and dom0 introduces it and makes it a home that it owns.
    pub fn start(&mut self, domid: u16) {
        self.start_as(domid, DomainState::ALIVE);
    }

    /// [`Bed::start`] for a domain of which the hypervisor says more.
    pub fn start_as(&mut self, domid: u16, state: DomainState) {
        self.build(domid);
        self.host.domains.borrow_mut().insert(domid, state);
        assert_eq!(self.ask(0, MessageType::Introduce, 0, &format!("{domid}|1|1|")), "OK|");
        self.ask(0, MessageType::Mkdir, 0, &format!("/local/domain/{domid}|"));
        self.ask(0, MessageType::SetPerms, 0, &format!("/local/domain/{domid}|n{domid}|"));
    }

    /// The guest's event channel fires without a reason.
    pub fn kick(&mut self, domid: u16) {
        self.host.kick(domid);
    }

    /// The guest zeroes its indices, as hvmloader does, and goes on from there.
    pub fn reset_silently(&mut self, domid: u16) {
        let guest = self.guests.get_mut(&domid).unwrap();
        guest.ring.reset_silently(&guest.page);
    }

    /// The guest asks to start anew, and waits until it may.
    pub fn reconnect(&mut self, domid: u16) {
        let guest = self.guests.get_mut(&domid).unwrap();
        // What was under way belongs to the old stream.
        guest.outgoing.clear();
        guest.incoming.clear();
        assert!(guest.ring.request_reconnect(&guest.page));
        assert!(guest.ring.take_notify());
        self.host.kick(domid);
        self.settle();
    }

    /// dom0 introduces a domain that it has introduced already.
    pub fn introduce_again(&mut self, domid: u16) {
        assert_eq!(self.ask(0, MessageType::Introduce, 0, &format!("{domid}|1|2|")), "OK|");
        let guest = self.guests.get_mut(&domid).unwrap();
        guest.outgoing.clear();
        guest.incoming.clear();
        guest.ring = ClientRing::adopt(&guest.page);
    }

    /// The hypervisor says something of a domain.
    pub fn domain_is(&mut self, domid: u16, state: DomainState) {
        self.host.domains.borrow_mut().insert(domid, state);
        self.host.changed.borrow_mut().insert(domid);
        self.host.pending.borrow_mut().push_back(Event::DomainsChanged);
        self.settle();
    }

    /// Writes a request into the guest's stream; `|` stands for NUL. Returns its request id.
    pub fn send(&mut self, domid: u16, kind: MessageType, transaction: u32, payload: &str) -> u32 {
        self.send_raw(domid, kind as u32, transaction, payload.replace('|', "\0").as_bytes())
    }

    pub fn send_raw(&mut self, domid: u16, kind: u32, transaction: u32, payload: &[u8]) -> u32 {
        let guest = self.guests.get_mut(&domid).unwrap();
        let request_id = guest.next_request;
        guest.next_request += 1;
        let length = u32::try_from(payload.len()).unwrap();
        let header = Header {
            kind,
            request_id,
            transaction_id: transaction,
            length,
        };
        guest.outgoing.extend(header.emit());
        guest.outgoing.extend(payload);
        request_id
    }

    pub fn service(&self) -> &Service<Simulated, DurableMemory> {
        self.service.as_ref().unwrap()
    }

    pub fn service_mut(&mut self) -> &mut Service<Simulated, DurableMemory> {
        self.service.as_mut().unwrap()
    }

    /// One round of the server; when its life ends in it, the next one begins.
    pub fn round(&mut self) -> bool {
        let service = self.service.as_mut().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| service.round()));
        match outcome {
            Ok(more) => more,
            Err(what) if what.is::<Crash>() => {
                self.restart();
                true
            }
            Err(what) => std::panic::resume_unwind(what),
        }
    }

    /// The server's life ends here; all that the next one has are the pages, the rings and the event channels.
    pub fn restart(&mut self) {
        self.crashes += 1;
        let mut pages = self.service.take().unwrap().into_parts().1;
        // A crash in the middle of a recovery is another crash.
        loop {
            let wreck = Rc::clone(&pages.wreck);
            let host = Rc::clone(&self.host);
            host.fuse.arm(self.crash_recoveries.pop_front().unwrap_or(0));
            let life = std::panic::AssertUnwindSafe(|| {
                let recovered =
                    Store::recover(pages).unwrap_or_else(|(_, lost)| panic!("nothing to recover: {lost:?}"));
                // A port that was bound for an action whose outcome is not on record belongs to nobody.
                let owned = |port: &u32| {
                    let mut connections = recovered.store.server().connections();
                    connections.any(|(_, state)| state.channel == Channel::Ring { port: *port })
                };
                host.bound.borrow_mut().retain(|port, _| owned(port));
                let machine = Simulated { host: Rc::clone(&host) };
                Service::resume(machine, recovered, |machine, wanted| {
                    let page = machine.host.pages.borrow().get(&wanted.state.domid.0).cloned()?;
                    let page = ServerPage(page, Rc::clone(&machine.host.fuse));
                    let (link, published) = RingLink::recover(page, wanted.state, wanted.publishing, wanted.features);
                    Some(Reached { link, published })
                })
            });
            match std::panic::catch_unwind(life) {
                Ok(service) => {
                    self.service = Some(service);
                    self.host.fuse.arm(self.crash_every.unwrap_or(0));
                    return;
                }
                Err(what) if what.is::<Crash>() => {
                    self.crashes += 1;
                    assert!(self.crashes < 1000, "a loop of crashes");
                    pages = DurableMemory {
                        bytes: wreck.take(),
                        fuse: Rc::clone(&self.host.fuse),
                        wreck,
                    };
                }
                Err(what) => std::panic::resume_unwind(what),
            }
        }
    }

    /// Until when the server would wait now, in nanoseconds.
    pub fn deadline(&mut self) -> Option<u64> {
        self.service_mut().wait();
        self.host.deadline.get().map(|deadline| deadline.0)
    }

    /// Lets everyone go on until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let sent = self.pump();
            let more = self.round();
            // The round may have shown something that nobody has read yet.
            let read = self.pump();
            if !sent && !more && !read && self.host.pending.borrow().is_empty() {
                return;
            }
        }
        panic!("the bed does not settle");
    }

    /// Moves bytes between guests and their rings, and sends the events that a guest must send.
    pub fn pump(&mut self) -> bool {
        let mut moved = false;
        for (domid, guest) in &mut self.guests {
            let ClientVisit::Open { writable, readable } = guest.ring.visit(&guest.page) else {
                continue;
            };
            if writable > 0 && !guest.outgoing.is_empty() {
                let bytes: Vec<u8> = guest.outgoing.iter().copied().take(writable as usize).collect();
                let sent = guest.ring.send(&guest.page, &bytes);
                guest.outgoing.drain(..sent);
                moved |= sent > 0;
            }
            if readable > 0 && !guest.deaf {
                let mut bytes = vec![0; readable as usize];
                let got = guest.ring.receive(&guest.page, &mut bytes);
                guest.incoming.extend_from_slice(&bytes[..got]);
                moved |= got > 0;
            }
            if guest.ring.take_notify() {
                self.host.kick(*domid);
            }
        }
        moved
    }

    /// What the guest has got since the last call.
    pub fn messages(&mut self, domid: u16) -> Vec<Message> {
        let guest = self.guests.get_mut(&domid).unwrap();
        let mut messages = Vec::new();
        let mut rest = guest.incoming.as_slice();
        while let Some(head) = rest.first_chunk::<HEADER_SIZE>() {
            let header = Header::parse(head);
            let whole = HEADER_SIZE + header.length as usize;
            let Some(message) = rest.get(..whole) else { break };
            messages.push(Message {
                kind: MessageType::from_wire(header.kind).unwrap(),
                request: header.request_id,
                transaction: header.transaction_id,
                payload: message[HEADER_SIZE..].to_vec(),
            });
            rest = &rest[whole..];
        }
        guest.incoming = rest.to_vec();
        messages
    }

    /// One request, and the text of its reply (`!` before the name of an error). Events that come with it are dropped.
    pub fn ask(&mut self, domid: u16, kind: MessageType, transaction: u32, payload: &str) -> String {
        let request = self.send(domid, kind, transaction, payload);
        self.settle();
        let messages = self.messages(domid);
        let mut replies = messages
            .iter()
            .filter(|m| m.kind != MessageType::WatchEvent && m.request == request);
        let reply = replies
            .next()
            .unwrap_or_else(|| panic!("no reply to {kind:?} {payload}: {messages:?}"));
        assert!(replies.next().is_none(), "two replies to {kind:?} {payload}");
        match reply.kind {
            MessageType::Error => format!("!{}", reply.text().trim_end_matches('|')),
            got => {
                assert_eq!(got, kind);
                reply.text()
            }
        }
    }

    /// The events (`path token`) that a domain has got since it was asked last.
    pub fn events(&mut self, domid: u16) -> Vec<String> {
        self.settle();
        let messages = self.messages(domid).into_iter();
        let events = messages.filter(|message| message.kind == MessageType::WatchEvent);
        events
            .map(|event| event.text().trim_end_matches('|').replace('|', " "))
            .collect()
    }

    pub fn begin(&mut self, domid: u16) -> u32 {
        let id = self.ask(domid, MessageType::TransactionStart, 0, "|");
        id.trim_end_matches('|')
            .parse()
            .unwrap_or_else(|_| panic!("no transaction: {id}"))
    }

    pub fn commit(&mut self, domid: u16, transaction: u32) -> String {
        self.ask(domid, MessageType::TransactionEnd, transaction, "T|")
    }

    pub fn connection_of(&self, domid: u16) -> Option<ConnectionId> {
        let mut domains = self.service().server().domains();
        domains
            .find(|(known, _)| known.0 == domid)
            .and_then(|(_, domain)| domain.connection)
    }

    /// The accounts agree with the tree.
    pub fn check(&mut self) {
        self.host.log.borrow_mut().clear();
        assert_eq!(self.ask(0, MessageType::Control, 0, "check|"), "OK|");
        let log = self.host.log.borrow();
        assert!(log.iter().any(|line| line.ends_with("all accounts agree")), "{log:?}");
    }
}
