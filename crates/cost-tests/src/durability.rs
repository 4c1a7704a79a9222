//! What durability costs: the same server answers the same WRITE requests of one client, one at a time, once with durable pages, as the
//! service does, and once in plain memory with no log. Each fires the one watch that there is.

use std::fmt;

use xenstore_core::tree::{CHUNK, Memory, PlainMemory};
use xenstore_core::{Change, Channel, ConnectionId, DomainState, Input, Record, Server, State, Time, World};
use xenstore_recovery::{DurablePages, SlicePages, Store};
use xenstore_service::TIDY_PER_ROUND;
use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType};

use crate::desk::{Desk, request};
use crate::dice::Dice;
use crate::host::{Host, Size};

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

/// A filled store and its watcher, as pages.
pub fn filled(size: Size) -> Vec<u8> {
    let mut desk = Desk::new(Host::bytes_for(size));
    let host = Host::fill(&mut desk, size);
    desk.must(host.dom0, MessageType::Watch, 0, "/local|token|");
    desk.rest();
    desk.into_bytes()
}

/// WRITE requests to entries anywhere.
pub fn requests(size: Size, count: usize) -> Vec<Vec<u8>> {
    let (host, mut dice) = (Host::again(size), Dice::new(1));
    let each = (0..count).map(|number| {
        let payload = format!("{}\0{number:016}", host.some_entry(&mut dice));
        request(MessageType::Write, 0, payload.as_bytes())
    });
    each.collect()
}

/// Nobody counts who looks at them.
type Pages = SlicePages<Vec<u8>>;

/// With durable pages.
pub struct Durable(Store<Pages>);

/// Without.
pub struct Plain(Server<PlainMemory>);

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

fn dom0<M: Memory>(server: &Server<M>) -> ConnectionId {
    let mut connections = server.connections();
    let found = connections.find(|(_, state)| state.domid == DomId::DOM0 && state.channel != Channel::Socket);
    found.map_or_else(|| panic!("dom0 is not connected"), |(id, _)| id)
}

fn ready<M: Memory>(server: &Server<M>, connection: ConnectionId, out: &mut [u8]) -> usize {
    server
        .connection(connection)
        .map_or(0, |state| state.queue.copy_out(out))
}

impl Durable {
    /// From pages that were filled.
    pub fn new(bytes: Vec<u8>) -> Durable {
        let recovered = Store::recover(SlicePages(bytes)).unwrap_or_else(|(_, why)| panic!("{why:?}"));
        let mut store = recovered.store;
        store.settle();
        Durable(store)
    }

    /// The same server without the pages.
    pub fn plain(&self) -> Plain {
        Plain(plain(self.0.server()))
    }

    /// Answers each request and shows the answer. Returns the bytes that were shown.
    pub fn run(&mut self, requests: &[Vec<u8>]) -> usize {
        let Durable(store) = self;
        let connection = dom0(store.server());
        let (mut out, mut shown) = ([0; 1024], 0);
        for message in requests {
            store.about_to_decide(connection, message);
            store.take(Time(0), &Alone, input(connection, message));
            let durable = store.seal();
            let bytes = ready(store.server(), connection, &mut out);
            store.publishing(&durable, connection, bytes as u32);
            store.published(connection, bytes as u32);
            shown += bytes;
            store.tidy(TIDY_PER_ROUND);
        }
        shown
    }
}

impl Plain {
    /// As [`Durable::run`].
    pub fn run(&mut self, requests: &[Vec<u8>]) -> usize {
        let Plain(server) = self;
        let connection = dom0(server);
        let (mut out, mut shown) = ([0; 1024], 0);
        for message in requests {
            let record = server.decide(Time(0), &Alone, input(connection, message));
            server.apply(&record);
            let bytes = ready(server, connection, &mut out);
            server.apply(&Record {
                changes: vec![Change::Published {
                    connection,
                    bytes: bytes as u32,
                }],
                ..Record::default()
            });
            shown += bytes;
            server.tidy(TIDY_PER_ROUND);
        }
        shown
    }
}

/// The same server in plain memory.
fn plain(server: &Server<DurablePages<Pages>>) -> Server<PlainMemory> {
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
