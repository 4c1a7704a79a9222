//! A machine whose clients are pipes in memory, and whose domains exist when a test says so.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use xenstore_core::{Channel, ConnectFailure, CrashKind, DomainState, Epoch, Fault, Time, World};
use xenstore_service::{Event, Link, LinkState, Machine};
use xenstore_wire::DomId;

/// One client's bytes, both ways.
#[derive(Default)]
pub struct Pipe {
    /// Sent and not taken yet.
    pub requests: RefCell<VecDeque<u8>>,
    /// Replies and events, as they came.
    pub replies: RefCell<Vec<u8>>,
    /// The client takes nothing.
    pub deaf: Cell<bool>,
}

/// The server's end of a pipe.
pub struct PipeLink(pub Rc<Pipe>);

impl Link for PipeLink {
    fn epoch(&self) -> Epoch {
        Epoch::default()
    }

    fn look(&mut self) -> LinkState {
        LinkState::Open {
            readable: self.0.requests.borrow().len() as u32,
            writable: if self.0.deaf.get() { 0 } else { 1 << 20 },
        }
    }

    fn peek(&self, skip: u32, out: &mut [u8]) -> usize {
        let requests = self.0.requests.borrow();
        let (front, back) = requests.as_slices();
        let skip = skip as usize;
        let mut done = 0;
        for part in [
            front.get(skip..).unwrap_or_default(),
            back.get(skip.saturating_sub(front.len())..).unwrap_or_default(),
        ] {
            let count = part.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&part[..count]);
            done += count;
        }
        done
    }

    fn consume(&mut self, count: u32) {
        self.0.requests.borrow_mut().drain(..count as usize);
    }

    fn publish(&mut self, bytes: &[u8]) -> usize {
        self.0.replies.borrow_mut().extend_from_slice(bytes);
        bytes.len()
    }

    fn restart(&mut self, _why: LinkState) {}

    fn set_error(&mut self, fault: Fault) {
        panic!("a client of a test broke the rules: {fault:?}");
    }

    fn take_notify(&mut self, _lacking: Option<u32>) -> bool {
        true
    }
}

/// What the machine and the test share.
#[derive(Default)]
pub struct Outside {
    /// Pipes by the ports that signal them.
    pub pipes: RefCell<BTreeMap<u32, Rc<Pipe>>>,
    pub pending: RefCell<VecDeque<Event>>,
    pub domains: RefCell<BTreeMap<u16, DomainState>>,
    pub now: Cell<u64>,
    pub last_port: Cell<u32>,
    /// The pipe of each domain that INTRODUCE has connected.
    pub introduced: RefCell<BTreeMap<u16, u32>>,
}

impl Outside {
    /// A new pipe and its port.
    pub fn pipe(&self) -> (Rc<Pipe>, u32) {
        let port = self.last_port.get() + 1;
        self.last_port.set(port);
        let pipe = Rc::new(Pipe::default());
        self.pipes.borrow_mut().insert(port, Rc::clone(&pipe));
        (pipe, port)
    }
}

/// The machine.
pub struct Pipes(pub Rc<Outside>);

impl World for Pipes {
    fn domain(&self, domid: DomId) -> DomainState {
        let domains = self.0.domains.borrow();
        domains.get(&domid.0).copied().unwrap_or(DomainState::ABSENT)
    }

    fn wall_clock(&self) -> u64 {
        self.0.now.get()
    }

    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

impl Machine for Pipes {
    type Link = PipeLink;

    fn now(&self) -> Time {
        Time(self.0.now.get())
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        while let Some(next) = self.0.pending.borrow_mut().pop_front() {
            event(next);
        }
    }

    /// The hypervisor is silent about domains: the tests end them with RELEASE.
    fn changed_domains(&mut self) -> Option<Vec<(DomId, DomainState)>> {
        Some(Vec::new())
    }

    fn connect(&mut self, domid: DomId, _port: u32, _features: u32) -> Result<(PipeLink, Channel), ConnectFailure> {
        let (pipe, port) = self.0.pipe();
        self.0.introduced.borrow_mut().insert(domid.0, port);
        Ok((PipeLink(pipe), Channel::Ring { port }))
    }

    fn rebind(&mut self, _old: Channel, _domid: DomId, _port: u32) -> Result<Channel, ConnectFailure> {
        Err(ConnectFailure::EventChannel)
    }

    fn disconnect(&mut self, _link: PipeLink, channel: Channel) {
        if let Channel::Ring { port } = channel {
            self.0.pipes.borrow_mut().remove(&port);
        }
    }

    fn notify(&mut self, _channel: Channel) {}

    fn wait(&mut self, _deadline: Option<Time>) {}

    fn crash(&mut self, kind: CrashKind) {
        panic!("{kind:?}");
    }

    fn log(&mut self, _line: String) {}
}
