//! A store in plain memory and its clients, without rings: what is told stays in the queues unless a client "takes" it here, as
//! if its ring were full.

use std::fmt;

use xenstore_core::{Channel, Configuration, ConnectionId, DomainState, Epoch, Input, Quotas, Record, Time, World};
use xenstore_recovery::{SlicePages, Store};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::{DomId, HEADER_SIZE, Header};

/// Guests 1 to this one.
pub const GUESTS: u16 = 100;
pub const DOM0: ConnectionId = ConnectionId(1);

pub struct Host {
    pub dead: bool,
}

impl World for Host {
    fn domain(&self, domid: DomId) -> DomainState {
        if self.dead && domid != DomId::DOM0 {
            DomainState::ABSENT
        } else {
            DomainState::ALIVE
        }
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// The store and who uses it.
pub struct Bed {
    pub store: Option<Store<SlicePages<Vec<u8>>>>,
    pub host: Host,
    now: u64,
    /// Bytes of heap that the server is told of.
    heap: usize,
    /// How many dom0 has had.
    transactions: u32,
}

impl Bed {
    /// A cold server in so many bytes of durable pages, with so many of heap.
    pub fn new(quotas: Quotas, pages: usize, heap: usize) -> Bed {
        let configuration = Configuration {
            features: 15,
            quotas,
            ..Configuration::default()
        };
        Bed {
            store: Some(Store::cold(configuration, SlicePages(vec![0; pages])).unwrap()),
            host: Host { dead: false },
            now: 0,
            heap,
            transactions: 0,
        }
    }

    /// The store of this life.
    pub fn store(&mut self) -> &mut Store<SlicePages<Vec<u8>>> {
        self.store.as_mut().unwrap()
    }

    /// As the service does it in a round.
    pub fn take(&mut self, input: Input<'_>) -> Record {
        let (store, now, heap) = (self.store.as_mut().unwrap(), Time(self.now), self.heap);
        store.set_heap_limit(heap as u64 / 2);
        let record = store.take(now, &self.host, input);
        if store.server().is_short_of_room() {
            store.take(now, &self.host, Input::Shortage);
        }
        let _durable = store.seal();
        store.tidy(16 * 1024);
        record
    }

    pub fn connect(&mut self, domid: u16) {
        let channel = Channel::Ring {
            port: u32::from(domid) + 1,
        };
        self.take(Input::Connected {
            domid: DomId(domid),
            channel,
            epoch: Epoch::default(),
        });
    }

    /// The text of the reply; none if the request has to wait.
    pub fn ask(
        &mut self,
        connection: ConnectionId,
        kind: MessageType,
        transaction: u32,
        payload: &str,
    ) -> Option<String> {
        if !self.store().server().may_read(connection) {
            return None;
        }
        let payload = payload.replace('|', "\0");
        let header = Header {
            kind: kind as u32,
            request_id: 1,
            transaction_id: transaction,
            length: u32::try_from(payload.len()).unwrap(),
        };
        let consumed = u32::try_from(HEADER_SIZE + payload.len()).unwrap();
        let record = self.take(Input::Request {
            connection,
            consumed,
            header,
            payload: payload.as_bytes(),
        });
        let reply = |record: &Record| {
            let own = record.outputs.iter().filter(|output| output.connection == connection);
            let mut replies = own.filter(|output| !output.message.event);
            let bytes = &replies.next()?.message.bytes;
            assert!(replies.next().is_none());
            let text = String::from_utf8_lossy(&bytes[HEADER_SIZE..]).replace('\0', "|");
            let error = Header::parse(bytes.first_chunk().unwrap()).kind == Error as u32;
            Some(if error { format!("!{text}") } else { text })
        };
        reply(&record).or_else(|| {
            // INTRODUCE waits for the machine.
            let record = self.take(Input::ActionDone {
                requester: connection,
                outcome: Ok(Channel::Ring { port: 4000 }),
            });
            reply(&record)
        })
    }

    /// The client reads all that it was told.
    pub fn drain(&mut self, connection: ConnectionId) {
        let queue = self.store().server().connection(connection).map(|state| {
            let mut bytes = vec![0; state.queue.bytes()];
            state.queue.copy_out(&mut bytes)
        });
        if let Some(bytes) = queue.filter(|bytes| *bytes > 0) {
            let bytes = u32::try_from(bytes).unwrap();
            self.store().published(connection, bytes);
        }
    }

    /// Everything that the toolstack does, and every answer.
    pub fn dom0_works(&mut self, round: usize) {
        let value = "w".repeat(1500);
        let mut transaction = self.transactions;
        self.transactions += 2;
        let mut ask = |kind, transaction, payload: &str, answer: &str| {
            let got = self.ask(DOM0, kind, transaction, payload);
            assert_eq!(got.as_deref(), Some(answer), "{kind:?} {payload}, round {round}");
            self.drain(DOM0);
        };
        ask(Write, 0, &format!("/tool/work|{value}"), "OK|");
        ask(Read, 0, "/tool/work|", &value);
        ask(Mkdir, 0, "/tool/deep/er/and/deeper|", "OK|");
        ask(Watch, 0, "/tool/deep|t|", "OK|");
        ask(SetPerms, 0, "/tool/deep|n0|r1|r2|", "OK|");
        for end in ["T|", "F|"] {
            transaction += 1;
            ask(TransactionStart, 0, "|", &format!("{transaction}|"));
            ask(Write, transaction, "/tool/deep/er|in a transaction", "OK|");
            ask(Directory, transaction, "/tool/deep|", "er|");
            ask(TransactionEnd, transaction, end, "OK|");
        }
        ask(Rm, 0, "/tool/deep|", "OK|");
        ask(Rm, 0, "/tool/work|", "OK|");
        ask(Unwatch, 0, "/tool/deep|t|", "OK|");
        ask(Introduce, 0, "900|1|1|", "OK|");
        ask(Mkdir, 0, "/local/domain/900|", "OK|");
        ask(SetPerms, 0, "/local/domain/900|n900|", "OK|");
        ask(IsDomainIntroduced, 0, "900|", "T|");
        ask(Release, 0, "900|", "OK|");
        ask(IsDomainIntroduced, 0, "900|", "F|");
        ask(Control, 0, "check|", "OK|");
    }
}

/// Each guest with its connection.
pub fn guests() -> impl Iterator<Item = (u16, ConnectionId)> {
    (1..=GUESTS).map(|domid| (domid, ConnectionId(u32::from(domid) + 1)))
}
