//! The server without a loop around it: one request after another, each from the bytes of its message to the bytes of its reply and of the
//! event that it causes, with durable pages as the service has them, and in plain memory with no log.

use std::fmt;

use xenstore_core::tree::{CHUNK, Memory, PlainMemory};
use xenstore_core::{Change, Channel, ConnectionId, DomainState, Input, Record, Server, State, Time, World};
use xenstore_recovery::{Durable as Sealed, DurablePages, Pages, Store};
use xenstore_service::TIDY_PER_ROUND;
use xenstore_wire::{DomId, HEADER_SIZE, Header};

/// More than the longest message.
const LONGEST: usize = 8192;

/// Every domain exists.
struct Alone;

impl World for Alone {
    fn domain(&self, _: DomId) -> DomainState {
        DomainState::ALIVE
    }

    fn wall_clock(&self) -> u64 {
        0
    }

    fn report(&self, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// A server that is asked directly.
pub trait Bare {
    /// The clients of dom0, in the order in which they came.
    fn clients(&self) -> Vec<ConnectionId>;

    /// Answers a request of `client`, and shows the answer; and to `listener` what it is told because of it. Returns how many bytes each
    /// was shown.
    fn answer(&mut self, client: ConnectionId, listener: Option<ConnectionId>, message: &[u8]) -> [usize; 2];

    /// What was shown last: the answer, unless there was a listener.
    fn shown(&self) -> &[u8];
}

/// With durable pages.
pub struct Durable<P: Pages> {
    store: Store<P>,
    out: Vec<u8>,
}

/// In plain memory.
pub struct Plain {
    server: Server<PlainMemory>,
    out: Vec<u8>,
}

fn input<'m>(connection: ConnectionId, message: &'m [u8]) -> Input<'m> {
    let (head, payload) = message
        .split_first_chunk::<HEADER_SIZE>()
        .unwrap_or((&[0; HEADER_SIZE], &[]));
    Input::Request {
        connection,
        consumed: message.len() as u32,
        header: Header::parse(head),
        payload,
    }
}

fn clients<M: Memory>(server: &Server<M>) -> Vec<ConnectionId> {
    let connections = server.connections();
    let of_dom0 = connections.filter(|(_, state)| state.domid == DomId::DOM0 && state.channel != Channel::Socket);
    of_dom0.map(|(id, _)| id).collect()
}

fn ready<M: Memory>(server: &Server<M>, connection: ConnectionId, out: &mut [u8]) -> usize {
    server
        .connection(connection)
        .map_or(0, |state| state.queue.copy_out(out))
}

impl<P: Pages> Durable<P> {
    /// From pages that were filled.
    pub fn new(pages: P) -> Durable<P> {
        let recovered = Store::recover(pages).unwrap_or_else(|(_, why)| panic!("{why:?}"));
        let mut store = recovered.store;
        store.settle();
        Durable {
            store,
            out: vec![0; LONGEST],
        }
    }

    /// The same server without the pages.
    pub fn plain(&self) -> Plain {
        Plain {
            server: plain(self.store.server()),
            out: vec![0; LONGEST],
        }
    }

    /// The pages, as a crash would leave them.
    pub fn into_pages(self) -> P {
        self.store.into_pages()
    }

    fn show(&mut self, sealed: &Sealed, connection: ConnectionId) -> usize {
        let bytes = ready(self.store.server(), connection, &mut self.out);
        self.store.publishing(sealed, connection, bytes as u32);
        self.store.published(connection, bytes as u32);
        bytes
    }
}

impl<P: Pages> Bare for Durable<P> {
    fn clients(&self) -> Vec<ConnectionId> {
        clients(self.store.server())
    }

    fn answer(&mut self, client: ConnectionId, listener: Option<ConnectionId>, message: &[u8]) -> [usize; 2] {
        self.store.about_to_decide(client, message);
        self.store.take(Time(0), &Alone, input(client, message));
        let sealed = self.store.seal();
        let answer = self.show(&sealed, client);
        let event = listener.map_or(0, |listener| self.show(&sealed, listener));
        self.store.tidy(TIDY_PER_ROUND);
        [answer, event]
    }

    fn shown(&self) -> &[u8] {
        &self.out
    }
}

impl Plain {
    fn show(&mut self, connection: ConnectionId) -> usize {
        let bytes = ready(&self.server, connection, &mut self.out);
        self.server.apply(&Record {
            changes: vec![Change::Published {
                connection,
                bytes: bytes as u32,
            }],
            ..Record::default()
        });
        bytes
    }
}

impl Bare for Plain {
    fn clients(&self) -> Vec<ConnectionId> {
        clients(&self.server)
    }

    fn answer(&mut self, client: ConnectionId, listener: Option<ConnectionId>, message: &[u8]) -> [usize; 2] {
        let record = self.server.decide(Time(0), &Alone, input(client, message));
        self.server.apply(&record);
        let answer = self.show(client);
        let event = listener.map_or(0, |listener| self.show(listener));
        self.server.tidy(TIDY_PER_ROUND);
        [answer, event]
    }

    fn shown(&self) -> &[u8] {
        &self.out
    }
}

/// The same server in plain memory.
fn plain<P: Pages>(server: &Server<DurablePages<P>>) -> Server<PlainMemory> {
    let from = server.tree().memory();
    let mut memory = PlainMemory::new(2 * from.chunk_count() as usize * CHUNK);
    for chunk in 0..from.chunk_count() {
        assert!(memory.grow(), "no room for a chunk");
        memory.store(chunk, 0, from.chunk(chunk));
    }
    while memory.table_len() < from.table_len() && memory.grow_table() {}
    for id in 0..from.table_len() {
        memory.set_location(id, from.location(id));
    }
    let saved = postcard::to_allocvec(&server.state()).unwrap_or_else(|why| panic!("{why}"));
    let state: State = postcard::from_bytes(&saved).unwrap_or_else(|why| panic!("{why}"));
    Server::restore(state, memory, &[]).unwrap_or_else(|unreadable| panic!("{:?}", unreadable.why))
}
