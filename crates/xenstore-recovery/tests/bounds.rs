//! A hundred guests take all that they can get of everything at once, in the memory of the default domain: the heap stays within
//! its bounds at every moment, no record is without room in the durable pages, the privileged domain
//! gets every answer, and with the guests' end all is free again.
//!
//! No rings: what is told stays in the queues unless a client "takes" it here, as if its ring were full.
#![forbid(unsafe_code)]

use std::alloc::System;
use std::fmt;

use cap::Cap;
use xenstore_core::{Channel, Configuration, ConnectionId, DomainState, Epoch, Input, Record, Time, World};
use xenstore_recovery::{SlicePages, Store};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::{DomId, HEADER_SIZE, Header};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Heap and durable pages of the default domain of 8 MiB: half each of what image and page tables leave (README, "Numbers").
const HEAP: usize = 3400 * 1024;
const PAGES: usize = 3456 * 1024;
const GUESTS: u16 = 100;
const DOM0: ConnectionId = ConnectionId(1);

struct Host {
    dead: bool,
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

struct Bed {
    store: Option<Store<SlicePages<Vec<u8>>>>,
    host: Host,
    now: u64,
    /// How many dom0 has had.
    transactions: u32,
}

impl Bed {
    fn new() -> Bed {
        let configuration = Configuration {
            features: 15,
            ..Configuration::default()
        };
        Bed {
            store: Some(Store::cold(configuration, SlicePages(vec![0; PAGES])).unwrap()),
            host: Host { dead: false },
            now: 0,
            transactions: 0,
        }
    }

    fn store(&mut self) -> &mut Store<SlicePages<Vec<u8>>> {
        self.store.as_mut().unwrap()
    }

    /// As the service does it in a round.
    fn take(&mut self, input: Input<'_>) -> Record {
        let (store, now) = (self.store.as_mut().unwrap(), Time(self.now));
        store.set_heap_limit(HEAP as u64 / 2);
        let record = store.take(now, &self.host, input);
        if store.server().is_short_of_room() {
            store.take(now, &self.host, Input::Shortage);
        }
        let _durable = store.seal();
        store.tidy(16 * 1024);
        record
    }

    fn connect(&mut self, domid: u16) {
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
    fn ask(&mut self, connection: ConnectionId, kind: MessageType, transaction: u32, payload: &str) -> Option<String> {
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
    fn drain(&mut self, connection: ConnectionId) {
        let queue = self.store().server().connection(connection).map(|state| {
            let mut bytes = vec![0; 1 << 20];
            state.queue.copy_out(&mut bytes)
        });
        if let Some(bytes) = queue.filter(|bytes| *bytes > 0) {
            let bytes = u32::try_from(bytes).unwrap();
            self.store().published(connection, bytes);
        }
    }

    /// Everything that the toolstack does, and every answer.
    fn dom0_works(&mut self, round: usize) {
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

fn guests() -> impl Iterator<Item = (u16, ConnectionId)> {
    (1..=GUESTS).map(|domid| (domid, ConnectionId(u32::from(domid) + 1)))
}

/// Each kind of thing of which a guest can have much. None once it gets no more of it.
type Hoard = fn(&mut Bed, u16, ConnectionId, u32) -> bool;

fn granted(answer: Option<String>) -> bool {
    answer.is_some_and(|answer| !answer.starts_with('!'))
}

const HOARDS: [(&str, Hoard); 9] = [
    ("nodes with long names", |bed, _, id, turn| {
        granted(bed.ask(id, Mkdir, 0, &format!("nodes/{turn}-{}|", "n".repeat(60))))
    }),
    ("values", |bed, _, id, turn| {
        granted(bed.ask(id, Write, 0, &format!("value-{turn}|{}", "v".repeat(1900))))
    }),
    ("deep paths", |bed, _, id, turn| {
        granted(bed.ask(id, Write, 0, &format!("deep-{turn}{}|", "/d".repeat(60))))
    }),
    ("permissions", |bed, domid, id, turn| {
        let path = format!("perm-{turn}|");
        bed.ask(id, Mkdir, 0, &path);
        granted(bed.ask(id, SetPerms, 0, &format!("{path}n{domid}|r1|r2|r3|")))
    }),
    ("watches of long paths", |bed, _, id, turn| {
        granted(bed.ask(
            id,
            Watch,
            0,
            &format!("w{turn}{}|{}|", "x".repeat(1900), "t".repeat(1000)),
        ))
    }),
    ("watches", |bed, _, id, turn| {
        // Of what all of them change.
        granted(bed.ask(id, Watch, 0, &format!("/local/domain|token-{turn}|")))
    }),
    ("transactions", |bed, _, id, turn| {
        let opened = bed.ask(id, TransactionStart, 0, "|");
        let open = opened
            .as_deref()
            .and_then(|text| text.trim_end_matches('|').parse().ok());
        let transaction = open.unwrap_or(1 + turn % 9);
        let mut more = false;
        for number in 0..5 {
            let request = format!("t-{turn}-{number}|{}", "t".repeat(1000));
            more |= granted(bed.ask(id, Write, transaction, &request));
            more |= granted(bed.ask(id, Read, transaction, &format!("t-{turn}-{number}|")));
            let missing = format!("none-{turn}-{number}{}|", "p".repeat(1000));
            bed.ask(id, Read, transaction, &missing);
        }
        more
    }),
    ("replies not taken", |bed, domid, id, _| {
        granted(bed.ask(id, Read, 0, &format!("/local/domain/{domid}/big|")))
    }),
    ("beginnings of messages", |bed, _, id, _| {
        if !bed.store().server().may_read(id) {
            return false;
        }
        let state = bed.store().server().connection(id).unwrap();
        let more = state.partial.len() < 4000;
        if more {
            bed.take(Input::Partial {
                connection: id,
                bytes: &[1; 1000],
            });
        }
        more
    }),
];

/// How many kinds at the end of the list pile up only while nothing is taken.
const PILES: usize = 2;

/// At most so many turns for each guest; `XENSTORE_TURNS=n` for more.
fn turns() -> usize {
    let given = std::env::var("XENSTORE_TURNS").ok();
    given.and_then(|turns| turns.parse().ok()).unwrap_or(60)
}

#[test]
fn a_hundred_guests_at_all_their_limits_leave_memory_for_the_privileged_domain() {
    let mut bed = Bed::new();
    bed.connect(0);
    let before = ALLOCATOR.allocated();
    for (domid, id) in guests() {
        bed.connect(domid);
        for request in [
            (Mkdir, format!("/local/domain/{domid}|")),
            (SetPerms, format!("/local/domain/{domid}|b{domid}|")),
            (Write, format!("/local/domain/{domid}/big|{}", "b".repeat(1900))),
        ] {
            assert_eq!(bed.ask(DOM0, request.0, 0, &request.1).as_deref(), Some("OK|"));
            bed.drain(DOM0);
        }
        assert_eq!(id.0, u32::from(domid) + 1);
    }
    bed.dom0_works(0);
    let idle = (ALLOCATOR.allocated() - before) / usize::from(GUESTS);
    let tree = bed.store().server().tree().figures().live_bytes;

    // In turns, until nobody gets more of anything that stays. Whose turn it is rotates, so that all kinds compete.
    let mut hoards = [0u32; HOARDS.len()];
    let (mut most, mut round, mut idle_turns) = (0, 1usize, 0);
    let stays = HOARDS.len() - PILES;
    for turn in 0..turns() {
        let mut more = 0;
        for (domid, id) in guests() {
            bed.drain(id);
            let which = (usize::from(domid) + turn) % stays;
            if HOARDS[which].1(&mut bed, domid, id, u32::try_from(turn).unwrap()) {
                hoards[which] += 1;
                more += 1;
            }
            most = most.max(ALLOCATOR.allocated() - before);
            // What is told to the privileged domain is taken, as a kernel does.
            bed.drain(DOM0);
        }
        if turn % 20 == 0 {
            bed.dom0_works(round);
            round += 1;
        }
        idle_turns = if more == 0 { idle_turns + 1 } else { 0 };
        if idle_turns == stays {
            break;
        }
    }
    // Now nobody takes what it is told, while the privileged domain changes what all of them watch.
    for turn in 0..60 {
        for (domid, id) in guests() {
            if turn == 0 {
                bed.drain(id);
            }
            let which = stays + (usize::from(domid) + turn) % PILES;
            hoards[which] += u32::from(HOARDS[which].1(&mut bed, domid, id, u32::try_from(turn).unwrap()));
            let changed = format!("/local/domain/{domid}/{turn}-{}|", "e".repeat(200));
            assert_eq!(bed.ask(DOM0, Write, 0, &changed).as_deref(), Some("OK|"));
            assert_eq!(bed.ask(DOM0, Rm, 0, &changed).as_deref(), Some("OK|"));
            bed.drain(DOM0);
            most = most.max(ALLOCATOR.allocated() - before);
        }
    }
    round += 1;
    bed.dom0_works(round);
    let server = bed.store().server();
    let (held, saved) = (server.heap_held() as usize, server.saved_held());
    let now = ALLOCATOR.allocated() - before;
    println!(
        "{HOARDS:?}: {hoards:?}\nheap: {idle} bytes for each idle guest, {most} at most, {now} in the end, {held} charged; \
         {saved} bytes of a checkpoint charged; {:?}; {:?}",
        server.tree().figures(),
        bed.store().figures(),
        HOARDS = HOARDS.map(|(name, _)| name)
    );
    // The stated sum: three quarters of the heap for all clients together, and never more than all of it.
    assert!(most <= HEAP / 4 * 3, "{most} bytes");
    let peak = ALLOCATOR.max_allocated().saturating_sub(before);
    assert!(peak <= HEAP, "{peak} bytes at some moment");
    assert!(now <= held, "{now} bytes of heap, of which {held} are charged");
    assert_eq!(bed.store().figures().undurable, 0);
    let figures = bed.store().server().tree().figures();
    assert_eq!((figures.exhausted, figures.impossible), (0, 0));
    assert!(hoards.iter().all(|count| *count > 0), "{hoards:?}");

    // A crash: all of it is read back within the same heap.
    let pages = bed.store.take().unwrap().into_pages();
    let recovered = Store::recover(pages).map_err(|(_, lost)| lost).unwrap();
    bed.store = Some(recovered.store);
    bed.dom0_works(round + 1);
    assert_eq!(bed.store().server().heap_held() as usize, held);

    // All guests die at once.
    bed.host.dead = true;
    let gone: Vec<_> = guests().map(|(domid, _)| (DomId(domid), DomainState::ABSENT)).collect();
    bed.take(Input::DomainsChanged(&gone));
    bed.drain(DOM0);
    assert_eq!(bed.store().server().domains().count(), 1);
    bed.host.dead = false;
    for round in round + 2..round + 60 {
        bed.dom0_works(round);
    }
    assert_eq!(bed.store().figures().undurable, 0);
    let (held, server) = (bed.store().server().heap_held(), bed.store().server());
    assert!(held < 8192, "{held} bytes of heap still charged");
    // Extents that checkpoints took stay theirs; of the tree nothing is left but what dom0 works with.
    let left = server.tree().figures().live_bytes;
    assert!(left < tree, "{left} bytes of nodes left, {tree} with idle guests");
    let heap = ALLOCATOR.allocated().saturating_sub(before);
    assert!(heap < HEAP / 16, "{heap} bytes of heap still taken");
}
