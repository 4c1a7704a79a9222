//! A store to measure, and the work that is done on it.

use cost_tests::bare::{Bare, Durable};
use cost_tests::desk::{Desk, request};
use cost_tests::dice::Dice;
use cost_tests::host::{Host, Size};
use cost_tests::operations::{Asked, Operation, heard, put_transaction};
use xenstore_core::ConnectionId;
use xenstore_wire::MessageType::{
    self, Directory, Mkdir, Read, SetPerms, TransactionEnd, TransactionStart, Unwatch, Watch,
};

use super::{Setting, Work};
use cost_tests::image_pages::ImagePages;

/// Domains that own something in every store: each has an account, which a checkpoint saves. A store of a million nodes has as many anyway,
/// and the nodes are what is to make the difference.
const OWNERS: usize = 300;
/// Children of the directory that DIRECTORY shows: as many names of three letters as fit into a reply.
const THOUSAND: usize = 1_000;

impl Setting {
    fn size(self) -> Size {
        Size {
            nodes: self.nodes,
            watches: self.watches,
            wide: self.wide,
        }
    }
}

/// Pages of a filled store, with two clients of dom0.
pub fn filled(setting: Setting) -> Vec<u8> {
    let size = setting.size();
    let mut desk = Desk::new(Host::bytes_for(size));
    let host = Host::fill(&mut desk, size);
    desk.dom0();
    let digit = |number: usize| char::from_digit(number as u32 % 36, 36).unwrap_or('0');
    for number in 0..THOUSAND {
        let name: String = [number / 1296, number / 36, number].map(digit).into_iter().collect();
        desk.must(host.dom0, Mkdir, 0, &format!("/thousand/{name}|"));
    }
    for owner in 1..=OWNERS {
        desk.build(owner as u16);
        desk.must(host.dom0, Mkdir, 0, &format!("/owners/{owner}|"));
        desk.must(host.dom0, SetPerms, 0, &format!("/owners/{owner}|n{owner}|"));
    }
    desk.rest();
    desk.into_bytes()
}

/// A server, and who asks it.
pub struct Bed<B> {
    server: B,
    client: ConnectionId,
    other: ConnectionId,
    host: Host,
    dice: Dice,
}

/// The server with durable pages.
pub fn durable(setting: Setting, bytes: Vec<u8>) -> Bed<Durable<ImagePages>> {
    Bed::new(setting, Durable::new(ImagePages::from(bytes)))
}

impl Bed<Durable<ImagePages>> {
    /// The same without them.
    pub fn plain(&self, setting: Setting) -> Bed<cost_tests::bare::Plain> {
        Bed::new(setting, self.server.plain())
    }

    /// The pages, as a crash would leave them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.server.into_pages().into_bytes()
    }
}

impl<B: Bare> Bed<B> {
    fn new(setting: Setting, server: B) -> Self {
        let clients = server.clients();
        let mut bed = Bed {
            client: clients[0],
            other: clients[1],
            server,
            host: Host::again(setting.size()),
            dice: Dice::new(1),
        };
        for _ in 0..setting.open {
            let other = bed.other;
            let transaction = bed.ask(other, TransactionStart, 0, "|").unwrap_or_default();
            // The store as it is now is the one that it sees.
            bed.ask(other, Read, transaction, "/local|");
        }
        bed
    }

    fn ask(&mut self, client: ConnectionId, kind: MessageType, transaction: u32, payload: &str) -> Option<u32> {
        let bytes = request(kind, transaction, payload.replace('|', "\0").as_bytes());
        self.server.answer(client, None, &bytes);
        heard(&bytes, self.server.shown())
    }

    /// Requests for it, to be done so often; others each time.
    pub fn requests(&mut self, work: Work, times: usize) -> Vec<Asked> {
        match work {
            Work::Of(operation) => operation.requests(&self.host, times, &mut self.dice),
            Work::Commit => Operation::Transaction.requests(&self.host, times, &mut self.dice),
            Work::Thousand => vec![(request(Directory, 0, b"/thousand\0"), false); times],
        }
    }

    /// Who is told of it is there, if it is about that.
    pub fn prepare(&mut self, work: Work) -> Option<ConnectionId> {
        let listener = (work == Work::Of(Operation::WatchEvent)).then_some(self.other)?;
        let watched = format!("{}|token|", self.host.home(0));
        self.ask(listener, Watch, 0, &watched);
        Some(listener)
    }

    /// Who watched is gone.
    pub fn clear(&mut self, listener: Option<ConnectionId>) {
        if let Some(listener) = listener {
            let watched = format!("{}|token|", self.host.home(0));
            self.ask(listener, Unwatch, 0, &watched);
        }
    }

    /// Does what was prepared, with `around` called for each commit. Each request must succeed.
    pub fn run(
        &mut self,
        listener: Option<ConnectionId>,
        requests: &mut [Asked],
        mut around: impl FnMut(&mut dyn FnMut()),
    ) {
        let mut transaction = 0;
        for (bytes, inside) in requests {
            if *inside {
                put_transaction(bytes, transaction);
            }
            let (server, client) = (&mut self.server, self.client);
            let mut shown = [0; 2];
            if bytes[0] == TransactionEnd as u8 {
                around(&mut || shown = server.answer(client, listener, bytes));
            } else {
                shown = server.answer(client, listener, bytes);
            }
            match listener {
                Some(_) => assert!(shown[1] > 0, "no event came"),
                None => transaction = heard(bytes, self.server.shown()).unwrap_or(transaction),
            }
        }
    }
}
