//! A server without rings: requests go straight to `decide` and `apply`, and what they bring is seen at once.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod events;

use std::fmt;

use xenstore_core::tree::{Node, PlainMemory};
use xenstore_core::{Change, Channel, Configuration, ConnectionId, DomainState, Input, Limit, Quotas};
use xenstore_core::{Epoch, Record, Server, Time, World};
use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType, Path, Permission};

/// xorshift64*: the tests need repeatability, not quality.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % below
    }

    pub fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Domains 1 to 9 exist.
struct Few;

impl World for Few {
    fn domain(&self, domid: DomId) -> DomainState {
        match domid.0 {
            0..=9 => DomainState::ALIVE,
            _ => DomainState::ABSENT,
        }
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// What a request brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The payload, with `|` for NUL; an error has `!` before its name.
    pub reply: String,
    /// Each with the connection that is told, and `path token`.
    pub events: Vec<(u32, String)>,
}

/// A server and its clients.
#[derive(Clone)]
pub struct Host {
    pub server: Server<PlainMemory>,
    pub now: Time,
}

/// The connection of dom0; that of guest n is n + 1.
pub const DOM0: u32 = 1;

impl Host {
    /// dom0 and `guests` guests, no limits.
    pub fn without_limits(guests: u16) -> Host {
        let mut quotas = Quotas::default();
        for limit in Limit::ALL {
            quotas.set(limit, 0);
        }
        Host::with(
            Configuration {
                quotas,
                ..Configuration::default()
            },
            guests,
        )
    }

    pub fn with(configuration: Configuration, guests: u16) -> Host {
        Host::with_memory(configuration, guests, 16 << 20)
    }

    /// The tree may take so many bytes.
    pub fn with_memory(configuration: Configuration, guests: u16, bytes: usize) -> Host {
        let mut host = Host {
            server: Server::new(configuration, PlainMemory::new(bytes)),
            now: Time(1_000_000_000),
        };
        for domid in 0..=guests {
            let channel = Channel::Ring {
                port: u32::from(domid) + 1,
            };
            host.take(Input::Connected {
                domid: DomId(domid),
                channel,
                epoch: Epoch::default(),
            });
        }
        host
    }

    pub fn take(&mut self, input: Input<'_>) -> Record {
        let record = self.server.decide(self.now, &Few, input);
        self.server.apply(&record);
        record
    }

    /// A request and what came of it, which everybody takes at once. `|` in the payload stands for NUL.
    pub fn ask(&mut self, connection: u32, kind: MessageType, transaction: u32, payload: &str) -> Answer {
        self.ask_and_keep(connection, kind, transaction, payload).0
    }

    /// The same, and the record.
    pub fn ask_and_keep(
        &mut self,
        connection: u32,
        kind: MessageType,
        transaction: u32,
        payload: &str,
    ) -> (Answer, Record) {
        let record = self.would(connection, kind, transaction, payload);
        self.server.apply(&record);
        let mut answer = Answer {
            reply: String::from("no reply"),
            events: Vec::new(),
        };
        for output in &record.outputs {
            let bytes = &output.message.bytes;
            let header = Header::parse(bytes.first_chunk().unwrap());
            let text = String::from_utf8(bytes[HEADER_SIZE..].to_vec()).unwrap();
            let text = text.replace('\0', "|");
            if output.message.event {
                let text = text.trim_end_matches('|').replace('|', " ");
                answer.events.push((output.connection.0, text));
            } else if header.kind == MessageType::Error as u32 {
                answer.reply = format!("!{}", text.trim_end_matches('|'));
            } else {
                answer.reply = text;
            }
        }
        self.all_is_taken();
        (answer, record)
    }

    /// What a request would bring, if it came.
    pub fn would(&self, connection: u32, kind: MessageType, transaction: u32, payload: &str) -> Record {
        let payload = payload.replace('|', "\0");
        let header = Header {
            kind: kind as u32,
            request_id: 7,
            transaction_id: transaction,
            length: u32::try_from(payload.len()).unwrap(),
        };
        let request = Input::Request {
            connection: ConnectionId(connection),
            consumed: u32::try_from(HEADER_SIZE + payload.len()).unwrap(),
            header,
            payload: payload.as_bytes(),
        };
        self.server.decide(self.now, &Few, request)
    }

    /// The server is read back from what would be saved of it.
    pub fn save_and_restore(&mut self) {
        let saved = postcard::to_allocvec(&self.server.state()).unwrap();
        let state = postcard::from_bytes(&saved).unwrap();
        let memory = self.server.pages().clone();
        self.server = Server::restore(state, memory, &[]).unwrap_or_else(|_| panic!("what was saved cannot be read"));
    }

    fn all_is_taken(&mut self) {
        let waiting = self.server.connections();
        let waiting: Vec<(ConnectionId, usize)> = waiting
            .map(|(id, state)| (id, state.queue.bytes()))
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        for (connection, bytes) in waiting {
            let bytes = u32::try_from(bytes).unwrap();
            self.take(Input::Published { connection, bytes });
        }
    }

    pub fn begin(&mut self, connection: u32) -> u32 {
        let reply = self.ask(connection, MessageType::TransactionStart, 0, "|").reply;
        reply.trim_end_matches('|').parse().unwrap()
    }

    pub fn commit(&mut self, connection: u32, transaction: u32) -> String {
        self.ask(connection, MessageType::TransactionEnd, transaction, "T|")
            .reply
    }

    /// The node at this path of the store.
    pub fn node(&self, path: &str) -> Option<Node<'_>> {
        let tree = self.server.tree();
        tree.find(tree.current(), Path::new(path).unwrap())
    }

    pub fn permissions(&self, path: &str) -> Option<Vec<Permission>> {
        Some(self.node(path)?.permissions().iter().collect())
    }

    /// Every node with its value and permissions, each directory in its order, parents first.
    pub fn dump(&self) -> Vec<(String, Vec<u8>, Vec<Permission>)> {
        let tree = self.server.tree();
        let mut nodes = Vec::new();
        let mut stack = vec![(String::new(), tree.root_node(tree.current()))];
        while let Some((path, node)) = stack.pop() {
            let mut children: Vec<_> = tree.children(node).collect();
            children.reverse();
            stack.extend(
                children
                    .into_iter()
                    .map(|child| (format!("{path}/{}", child.name()), child)),
            );
            nodes.push((path, node.value().to_vec(), node.permissions().iter().collect()));
        }
        nodes
    }

    /// The paths at and below this one, each directory in its order, parents first.
    pub fn below(&self, path: &str) -> Vec<String> {
        let tree = self.server.tree();
        let mut paths = Vec::new();
        let mut stack: Vec<(String, Node<'_>)> = Vec::new();
        stack.extend(self.node(path).map(|node| (String::from(path), node)));
        while let Some((path, node)) = stack.pop() {
            let children: Vec<_> = tree.children(node).collect();
            let children = children.into_iter().rev();
            stack.extend(children.map(|child| (format!("{path}/{}", child.name()), child)));
            paths.push(path);
        }
        paths
    }
}

/// The node above.
pub fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        _ if path == "/" => None,
        Some(("", _)) => Some("/"),
        Some((parent, _)) => Some(parent),
        None => None,
    }
}

/// The topmost nodes that the writes of a record would change or make, of which the nodes above were there.
pub fn tops(record: &Record) -> Vec<String> {
    let written = record.changes.iter().filter_map(|change| match change {
        Change::Wrote { write, top, .. } => Some((write.path().as_str(), usize::from(*top))),
        _ => None,
    });
    written.map(|(path, top)| String::from(&path[..top])).collect()
}
