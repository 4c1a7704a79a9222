//! The service with its clients: sends requests and takes the answers, one at a time or as they come.

use std::rc::Rc;

use xenstore_core::{Channel, Configuration, ConnectionId, DomainState, Quotas};
use xenstore_recovery::{DurablePages, Store};
use xenstore_service::{Event, Reached, Service};
use xenstore_wire::{DomId, HEADER_SIZE, Header, MessageType};

use crate::machine::{Outside, Pipe, PipeLink, Pipes};
use crate::pages::{CountedPages, Visits};

/// A client: the port by which its pipe is known.
pub type Client = u32;

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its type.
    pub kind: MessageType,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Answer {
    /// The payload with `|` for each NUL.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).replace('\0', "|")
    }
}

/// A request as it stands on the wire.
pub fn request(kind: MessageType, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind: kind as u32,
        request_id: 0,
        transaction_id: transaction,
        length: payload.len() as u32,
    };
    let mut bytes = header.emit().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The service and its clients.
pub struct Desk {
    service: Service<Pipes, CountedPages>,
    outside: Rc<Outside>,
    visits: Visits,
}

impl Desk {
    /// A cold service in so many bytes of durable pages. dom0 has no client yet.
    pub fn new(bytes: usize) -> Self {
        let configuration = Configuration {
            features: 15,
            hash_seed: 0x5EED,
            quotas: Quotas::default(),
            ..Configuration::default()
        };
        let pages = CountedPages::new(bytes);
        let visits = pages.visits();
        let store = Store::cold(configuration, pages).unwrap_or_else(|small| panic!("{small:?}"));
        let outside = Rc::new(Outside::default());
        outside.domains.borrow_mut().insert(0, DomainState::ALIVE);
        let service = Service::new(Pipes(Rc::clone(&outside)), store);
        Desk {
            service,
            outside,
            visits,
        }
    }

    /// A service that goes on with pages that another one left ([`Desk::into_bytes`]), each client with a new pipe behind its
    /// old port. Every domain that the server knows still exists.
    pub fn resume(bytes: Vec<u8>) -> Self {
        let pages = CountedPages::from(bytes);
        let visits = pages.visits();
        let recovered = Store::recover(pages).unwrap_or_else(|(_, why)| panic!("{why:?}"));
        let outside = Rc::new(Outside::default());
        let host = Rc::clone(&outside);
        for (domid, _) in recovered.store.server().domains() {
            outside.domains.borrow_mut().insert(domid.0, DomainState::ALIVE);
        }
        let service = Service::resume(Pipes(Rc::clone(&outside)), recovered, |_, wanted| {
            let domid = wanted.state.domid.0;
            let Channel::Ring { port } = wanted.state.channel else {
                return None;
            };
            let pipe = Rc::new(Pipe::default());
            host.pipes.borrow_mut().insert(port, Rc::clone(&pipe));
            host.introduced.borrow_mut().insert(domid, port);
            host.last_port.set(host.last_port.get().max(port));
            Some(Reached {
                link: PipeLink(pipe),
                published: false,
            })
        });
        let mut desk = Desk {
            service,
            outside,
            visits,
        };
        desk.settle();
        desk
    }

    /// The durable pages, as a crash would leave them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.service.into_parts().1.into_bytes()
    }

    /// The server's state.
    pub fn server(&self) -> &xenstore_core::Server<DurablePages<CountedPages>> {
        self.service.server()
    }

    /// How often a block of the tree was looked up so far.
    pub fn visits(&self) -> u64 {
        self.visits.get()
    }

    /// One more client of dom0.
    pub fn dom0(&mut self) -> Client {
        let (pipe, port) = self.outside.pipe();
        self.service.adopt(DomId::DOM0, PipeLink(pipe), Channel::Ring { port });
        self.settle();
        port
    }

    /// A domain exists from now on, without being introduced.
    pub fn build(&self, domid: u16) {
        self.outside.domains.borrow_mut().insert(domid, DomainState::ALIVE);
    }

    /// The client of a domain that was introduced.
    pub fn client_of(&self, domid: u16) -> Client {
        self.outside.introduced.borrow()[&domid]
    }

    /// The client takes no answers (or does again).
    pub fn set_deaf(&mut self, client: Client, deaf: bool) {
        self.pipe(client).deaf.set(deaf);
        self.outside.pending.borrow_mut().push_back(Event::Port(client));
    }

    /// The connection of a client.
    pub fn connection_of(&self, client: Client) -> ConnectionId {
        let mut connections = self.server().connections();
        let found = connections.find(|(_, state)| state.channel == Channel::Ring { port: client });
        found.map_or_else(|| panic!("client {client} is not connected"), |(id, _)| id)
    }

    fn pipe(&self, client: Client) -> Rc<Pipe> {
        Rc::clone(&self.outside.pipes.borrow()[&client])
    }

    /// Puts a request into a client's pipe.
    pub fn send(&mut self, client: Client, request: &[u8]) {
        self.pipe(client).requests.borrow_mut().extend(request);
        self.outside.pending.borrow_mut().push_back(Event::Port(client));
    }

    /// One round of the loop. False if nothing is left to do.
    pub fn round(&mut self) -> bool {
        self.service.round()
    }

    /// Rounds until nothing is left to do.
    pub fn settle(&mut self) {
        while self.round() {}
    }

    /// Rounds in which nothing happens but upkeep, until there is nothing left to keep up.
    pub fn rest(&mut self) {
        loop {
            let before = self.server().tree().figures();
            self.round();
            if self.server().tree().figures() == before {
                return;
            }
        }
    }

    /// Everything a client was told since the last time, as bytes.
    pub fn told(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut *self.pipe(client).replies.borrow_mut())
    }

    /// Everything a client was told since the last time.
    pub fn answers(&mut self, client: Client) -> Vec<Answer> {
        let bytes = self.told(client);
        let mut rest = bytes.as_slice();
        let mut answers = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<HEADER_SIZE>() {
            let header = Header::parse(head);
            let (payload, next) = after.split_at(header.length as usize);
            answers.push(Answer {
                kind: MessageType::from_wire(header.kind).unwrap_or(MessageType::Error),
                payload: payload.to_vec(),
            });
            rest = next;
        }
        answers
    }

    /// Sends a request and waits for its reply; events are dropped.
    pub fn ask(&mut self, client: Client, kind: MessageType, transaction: u32, payload: &[u8]) -> Answer {
        self.send(client, &request(kind, transaction, payload));
        self.settle();
        let mut answers = self.answers(client);
        answers.retain(|answer| answer.kind != MessageType::WatchEvent);
        match <[Answer; 1]>::try_from(answers) {
            Ok([answer]) => answer,
            Err(answers) => panic!("{} replies to one {kind:?}", answers.len()),
        }
    }

    /// [`Desk::ask`] for a request that must succeed; NULs of the payload are written as `|`.
    pub fn must(&mut self, client: Client, kind: MessageType, transaction: u32, payload: &str) -> Answer {
        let answer = self.ask(client, kind, transaction, payload.replace('|', "\0").as_bytes());
        assert_eq!(answer.kind, kind, "{kind:?} {payload}: {}", answer.text());
        answer
    }
}
