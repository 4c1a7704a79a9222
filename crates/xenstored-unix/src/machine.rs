//! The machine that is a Unix socket: clients come by themselves, domains do not exist.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::process::{Signal, getpid, kill_process};
use xenstore_core::{Channel, ConnectFailure, ConnectionId, CrashKind, DomainState, Step, Time, World};
use xenstore_service::{Event, Machine};
use xenstore_wire::DomId;

use crate::failure::Failure;
use crate::link::SocketLink;
use crate::log;

/// Every other token is a connection's number, which is never given twice.
const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);
/// Events fetched at once; the rest is fetched in the next round.
const EVENTS: usize = 1024;

/// Ends [`crate::Daemon::run`] from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Waker>);

impl Stopper {
    /// The daemon finishes its round and returns.
    pub fn stop(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// The socket and all its clients.
pub struct SocketMachine {
    poll: Poll,
    events: Events,
    /// Events were fetched and not handed over.
    fetched: bool,
    listener: UnixListener,
    waker: Arc<Waker>,
    /// Clients may wait to be accepted.
    waiting: bool,
    stopping: bool,
    clients: usize,
    most_clients: usize,
    /// Clients turned away, ever; and whether the last one was, which is logged once.
    turned_away: u64,
    crowded: bool,
    started: Time,
    state: String,
    last_end: &'static str,
}

impl SocketMachine {
    /// A machine for at most `most_clients` clients of this socket. `state`: where the store is kept, for reports; `last_end`: how
    /// the process ended that had it before.
    pub fn new(
        listener: StdListener,
        most_clients: usize,
        state: String,
        last_end: &'static str,
    ) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::Poll)?;
        let mut listener = UnixListener::from_std(listener);
        let registry = poll.registry();
        registry
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(Failure::Poll)?;
        let waker = Waker::new(registry, STOP).map_err(Failure::Poll)?;
        Ok(SocketMachine {
            poll,
            events: Events::with_capacity(EVENTS),
            fetched: false,
            listener,
            waker: Arc::new(waker),
            waiting: true,
            stopping: false,
            clients: 0,
            most_clients,
            turned_away: 0,
            crowded: false,
            started: log::now(),
            state,
            last_end,
        })
    }

    /// Something that ends the loop.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.waker))
    }

    /// A [`Stopper`] was used.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The next client that wants in, to be known as `connection`.
    pub fn accept(&mut self, connection: ConnectionId) -> Option<SocketLink> {
        while self.waiting {
            match self.listener.accept() {
                Ok((stream, _)) if self.clients >= self.most_clients => self.turn_away(stream),
                Ok((mut stream, _)) => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(usize::try_from(connection.0).unwrap_or(0));
                    if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
                        log::line(&format!("a client is turned away: {error}"));
                        continue;
                    }
                    self.clients += 1;
                    return Some(SocketLink::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors, say. It is tried again when a client comes or goes.
                    self.waiting = false;
                    if error.kind() != ErrorKind::WouldBlock {
                        log::line(&format!("clients have to wait: {error}"));
                    }
                }
            }
        }
        None
    }

    /// Whoever asked sees the end of the stream at once, instead of waiting for an answer that does not come.
    fn turn_away(&mut self, stream: UnixStream) {
        drop(stream);
        self.turned_away += 1;
        if !self.crowded {
            self.crowded = true;
            log::line(&format!(
                "{} clients are connected, others are turned away (--max-clients, RLIMIT_NOFILE)",
                self.clients
            ));
        }
    }

    fn fetch(&mut self, timeout: Option<Duration>) {
        // Interrupted by a signal: nothing came, and the loop goes on.
        self.fetched = self.poll.poll(&mut self.events, timeout).is_ok();
    }
}

impl World for SocketMachine {
    fn domain(&self, _domid: DomId) -> DomainState {
        DomainState::ABSENT
    }

    fn wall_clock(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let uptime = log::now().0.saturating_sub(self.started.0) / 1_000_000_000;
        writeln!(
            out,
            "machine: unix socket\nuptime-seconds: {uptime}\nclients: {}\nclients-maximum: {}\nclients-turned-away: {}\n\
             state: {}",
            self.clients, self.most_clients, self.turned_away, self.state
        )
    }
}

impl Machine for SocketMachine {
    type Link = SocketLink;

    fn now(&self) -> Time {
        log::now()
    }

    fn poll(&mut self, event: &mut dyn FnMut(Event)) {
        if !self.fetched {
            self.fetch(Some(Duration::ZERO));
        }
        if !core::mem::take(&mut self.fetched) {
            return;
        }
        for token in self.events.iter().map(|event| event.token()) {
            match token {
                LISTENER => self.waiting = true,
                STOP => self.stopping = true,
                Token(number) => event(Event::Client(ConnectionId(u32::try_from(number).unwrap_or(u32::MAX)))),
            }
        }
    }

    fn connect(&mut self, domid: DomId, _port: u32, _features: u32) -> Result<(SocketLink, Channel), ConnectFailure> {
        log::line(&format!(
            "domain {domid} cannot be introduced: there are no domains here"
        ));
        Err(ConnectFailure::Grant)
    }

    fn rebind(&mut self, _old: Channel, _domid: DomId, _port: u32) -> Result<Channel, ConnectFailure> {
        Err(ConnectFailure::EventChannel)
    }

    fn disconnect(&mut self, link: SocketLink, _channel: Channel) {
        // Closing also ends the polling of it.
        drop(link);
        self.clients = self.clients.saturating_sub(1);
        self.crowded = false;
        self.waiting = true;
    }

    fn notify(&mut self, _channel: Channel) {}

    fn wait(&mut self, deadline: Option<Time>) {
        if self.fetched || self.waiting || self.stopping {
            return;
        }
        let left = deadline.map(|Time(at)| Duration::from_nanos(at.saturating_sub(log::now().0)));
        self.fetch(left);
    }

    fn crash(&mut self, kind: CrashKind) {
        log::line("crash on request");
        match kind {
            // As the operating system and Rust end a process for each of them.
            CrashKind::Panic | CrashKind::Memory => std::process::abort(),
            CrashKind::Fault | CrashKind::Stack => {
                let _cannot_fail = kill_process(getpid(), Signal::SEGV);
            }
            CrashKind::Hang => log::line("it goes on: nothing watches over this process, so a hang would be for ever"),
        }
    }

    fn reached(step: Step) {
        log::line(&format!("crash on request at step {step}"));
        std::process::abort()
    }

    fn last_end(&mut self) -> String {
        self.last_end.to_owned()
    }

    fn log(&mut self, line: String) {
        log::line(&line);
    }
}
