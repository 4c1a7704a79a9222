//! Our server as a peer: the whole service over pages in memory, in this thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use native_rings::{Life, REMOTE_PORT_MAX};
use xenstore_core::{Channel, Configuration, ConnectFailure, DomainState, Time, World};
use xenstore_recovery::{SlicePages, Store};
use xenstore_ring::{MemoryPage, SharedPage};
use xenstore_service::{Event, Machine, RingLink, Service};
use xenstore_wire::{DomId, Header};

use crate::guests::{Guests, Message, Peer};

/// A page that both sides hold.
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

/// What the hypervisor knows.
#[derive(Default)]
struct Host {
    states: BTreeMap<u16, DomainState>,
    pages: BTreeMap<u16, Page>,
    pending: VecDeque<Event>,
    /// Local port → domain.
    bound: BTreeMap<u32, u16>,
    last_port: u32,
}

impl Host {
    fn bind(&mut self, domid: u16) -> Channel {
        self.last_port += 1;
        self.bound.insert(self.last_port, domid);
        Channel::Ring { port: self.last_port }
    }

    fn unbind(&mut self, channel: Channel) {
        if let Channel::Ring { port } = channel {
            self.bound.remove(&port);
        }
    }
}

#[derive(Clone)]
struct Simulated(Rc<RefCell<Host>>);

impl World for Simulated {
    fn domain(&self, domid: DomId) -> DomainState {
        self.0
            .borrow()
            .states
            .get(&domid.0)
            .copied()
            .unwrap_or(DomainState::ABSENT)
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

impl Machine for Simulated {
    type Link = RingLink<Page>;

    fn now(&self) -> Time {
        Time(0)
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        let pending = std::mem::take(&mut self.0.borrow_mut().pending);
        pending.into_iter().for_each(event);
    }

    fn connect(&mut self, domid: DomId, port: u32, features: u32) -> Result<(Self::Link, Channel), ConnectFailure> {
        let mut host = self.0.borrow_mut();
        let exists = host.states.get(&domid.0).is_some_and(|state| state.exists);
        let page = host
            .pages
            .get(&domid.0)
            .filter(|_| exists)
            .cloned()
            .ok_or(ConnectFailure::Grant)?;
        if port > REMOTE_PORT_MAX {
            return Err(ConnectFailure::EventChannel);
        }
        Ok((RingLink::fresh(page, features), host.bind(domid.0)))
    }

    fn rebind(&mut self, old: Channel, domid: DomId, port: u32) -> Result<Channel, ConnectFailure> {
        let mut host = self.0.borrow_mut();
        host.unbind(old);
        if port > REMOTE_PORT_MAX {
            Err(ConnectFailure::EventChannel)
        } else {
            Ok(host.bind(domid.0))
        }
    }

    fn disconnect(&mut self, _link: Self::Link, channel: Channel) {
        self.0.borrow_mut().unbind(channel);
    }

    fn notify(&mut self, _channel: Channel) {}
    fn wait(&mut self, _deadline: Option<Time>) {}
    fn crash(&mut self, _kind: xenstore_core::CrashKind) {}

    fn log(&mut self, _line: String) {}
}

/// Bytes of durable pages: what the store domain has by default.
const MEMORY: usize = 8 << 20;

/// Our server and its guests.
pub struct Ours {
    guests: Guests<Page>,
    service: Service<Simulated, SlicePages<Vec<u8>>>,
    host: Rc<RefCell<Host>>,
}

impl Ours {
    /// Starts it with domain 0 connected. It offers its guests no ring features, as 4.17 does not.
    pub fn start(configuration: Configuration) -> Ours {
        let host = Rc::new(RefCell::new(Host::default()));
        let features = configuration.features;
        let store = Store::cold(configuration, SlicePages(vec![0; MEMORY]))
            .unwrap_or_else(|_| panic!("{MEMORY} bytes are not enough to start"));
        let service = Service::new(Simulated(Rc::clone(&host)), store);
        let mut ours = Ours {
            guests: Guests::default(),
            service,
            host,
        };
        ours.build(0);
        let (page, channel) = {
            let mut host = ours.host.borrow_mut();
            (host.pages[&0].clone(), host.bind(0))
        };
        ours.service
            .adopt(DomId::DOM0, RingLink::adopt(page, features), channel);
        ours
    }
}

impl Peer for Ours {
    fn build(&mut self, domid: u16) {
        let page = Page(Rc::new(MemoryPage::new()));
        let mut host = self.host.borrow_mut();
        host.pages.insert(domid, page.clone());
        host.states.insert(domid, DomainState::ALIVE);
        self.guests.build(domid, page);
    }

    fn domain_is(&mut self, domid: u16, life: Life) {
        let alive = DomainState::ALIVE;
        let state = match life {
            Life::Absent => DomainState::ABSENT,
            Life::Alive => alive,
            Life::Shutdown => DomainState {
                shutdown: true,
                ..alive
            },
            Life::Dying => DomainState {
                shutdown: true,
                dead: true,
                ..alive
            },
        };
        let mut host = self.host.borrow_mut();
        host.states.insert(domid, state);
        host.pending.push_back(Event::DomainsChanged);
    }

    fn restart(&mut self, domid: u16) {
        self.guests.restart(domid);
    }

    fn send(&mut self, domid: u16, header: Header, payload: &[u8]) {
        self.guests.send(domid, header, payload);
    }

    fn settle(&mut self) -> Result<BTreeMap<u16, Vec<Message>>, String> {
        let mut kicks = Vec::new();
        // Twice nothing: the last round may have published without more to do for itself.
        let mut quiet = 0;
        for _ in 0..100_000 {
            let mut moved = self.guests.pump(&mut kicks);
            {
                let mut host = self.host.borrow_mut();
                for domid in kicks.drain(..) {
                    let port = host
                        .bound
                        .iter()
                        .find(|(_, bound)| **bound == domid)
                        .map(|(port, _)| *port);
                    host.pending.extend(port.map(Event::Port));
                }
            }
            moved |= self.service.round();
            quiet = if moved || !self.host.borrow().pending.is_empty() {
                0
            } else {
                quiet + 1
            };
            if quiet == 2 {
                return Ok(self.guests.take());
            }
        }
        Err("our server does not come to rest".into())
    }
}
