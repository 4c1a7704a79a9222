//! A hundred guests fill every limit that they have, all at the same time, in a store that is large enough for what the limits
//! promise: each gets exactly what its limits say and is refused with C xenstored's error at each of them; heap and tree stay
//! within the sum that follows from the limits; the privileged domain gets every answer.
//!
//! (In a store that is too small for that sum guests compete for what there is: test `bounds`.)
//!
//! Some limits are smaller than the default ones, so that this takes seconds; the sum follows from whatever they are.
#![forbid(unsafe_code)]

mod bed;

use std::alloc::System;

use bed::{Bed, DOM0, GUESTS, guests};
use cap::Cap;
use xenstore_core::{ConnectionId, DomainState, Input, Limit, Quotas, Warned};
use xenstore_recovery::Store;
use xenstore_wire::DomId;
use xenstore_wire::MessageType::*;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Children in one directory of a guest: their names stay well within the limit `node-size`.
const CHILDREN: usize = 50;
/// Writes in each transaction; the rest of what it touches it looks at.
const WRITES: usize = 4;
/// Of a value that is read to fill the limit `outstanding`.
const SMALL: usize = 100;
/// What an account is charged with for a message besides its payload: a header of 16, and 128 (`connection.rs` in xenstore-core).
const MESSAGE: usize = 144;

/// The limits of this run.
fn quotas() -> Quotas {
    let mut quotas = Quotas::default();
    for (limit, value) in [
        (Limit::Nodes, 200),
        (Limit::NodeSize, 1024),
        (Limit::TransactionNodes, 64),
        (Limit::Memory, 240_000),
        (Limit::SoftMemory, 200_000),
    ] {
        quotas.set(limit, value);
    }
    quotas
}

/// What a guest may have of it: a limit is refused where it is reached.
fn most(limit: Limit) -> usize {
    quotas().get(limit) as usize - 1
}

/// The heap that guests within their limits take, at most. The bytes of each thing are those of `heap.rs` in xenstore-core: a
/// connection 3,072, a watch 768, a transaction 3,072, something that it used 512, a message 320; and each byte of a path
/// or token, all of which the limit `memory` counts, in up to four copies.
fn stated_heap() -> usize {
    let transactions = most(Limit::Transactions);
    let things = transactions * most(Limit::TransactionNodes);
    let fixed = 3072
        + most(Limit::Watches) * 768
        + transactions * 3072
        + things * 512
        + quotas().get(Limit::Outstanding) as usize * (320 + MESSAGE + SMALL);
    usize::from(GUESTS) * (fixed + 4 * quotas().get(Limit::Memory) as usize)
}

/// The room in the tree that guests within their limits take, at most: what `memory` counts with the unused ends of chunks, and 96
/// bytes for each node and for each thing that a transaction used (`account.rs` in xenstore-core).
fn stated_tree() -> usize {
    let memory = quotas().get(Limit::Memory) as usize;
    let things = most(Limit::Nodes) + most(Limit::Transactions) * most(Limit::TransactionNodes);
    usize::from(GUESTS) * (memory + memory * 3 / 8 + things * 96)
}

/// Together they may take six tenths of what there is, and still the last of a hundred gets its full share (`share.rs`).
fn with_room_to_share(bytes: usize) -> usize {
    bytes / 6 * 10
}

struct Guest {
    domid: u16,
    id: ConnectionId,
    transactions: Vec<u32>,
}

impl Guest {
    fn home(&self) -> String {
        format!("/local/domain/{}", self.domid)
    }

    /// The `number`-th of its nodes that are neither directories nor its home.
    fn node(&self, number: usize) -> String {
        format!("{}/d{:02}/{:02}", self.home(), number / CHILDREN, number % CHILDREN)
    }

    fn ask(&self, bed: &mut Bed, kind: xenstore_wire::MessageType, transaction: u32, payload: &str) -> String {
        bed.drain(self.id);
        let answer = bed.ask(self.id, kind, transaction, payload);
        bed.drain(self.id);
        let answer = answer.map(|text| match text.strip_prefix('!') {
            Some(_) => text.trim_end_matches('|').to_owned(),
            None => text,
        });
        answer.unwrap_or_else(|| panic!("{} is not heard: {kind:?} {payload:.80}", self.domid))
    }

    /// Granted, and the next one is not.
    fn is(&self, bed: &mut Bed, kind: xenstore_wire::MessageType, transaction: u32, payload: &str, answer: &str) {
        let got = self.ask(bed, kind, transaction, payload);
        assert_eq!(got, answer, "{}: {kind:?} {payload:.80}", self.domid);
    }

    fn account(&self, bed: &mut Bed) -> (u64, usize, Warned) {
        let mut domains = bed.store().server().domains();
        let (_, domain) = domains.find(|(domid, _)| domid.0 == self.domid).unwrap();
        let memory = usize::try_from(domain.account.memory()).unwrap();
        (domain.account.node_count(), memory, domain.warned)
    }

    fn fill_permissions(&self, bed: &mut Bed) {
        let list = |count: usize| format!("{}|b{}|{}", self.home(), self.domid, "r0|".repeat(count - 1));
        let most = most(Limit::NodePermissions);
        self.is(bed, SetPerms, 0, &list(most + 1), "!ENOSPC");
        // What it makes from now on has as many.
        self.is(bed, SetPerms, 0, &list(most), "OK|");
    }

    /// Nodes that are not directories nor its home.
    fn leaves() -> usize {
        // One directory for each fifty.
        let below_home = most(Limit::Nodes) - 1;
        below_home - below_home.div_ceil(CHILDREN + 1)
    }

    fn fill_nodes(&self, bed: &mut Bed) {
        for number in 0..Self::leaves() {
            self.is(bed, Mkdir, 0, &format!("{}|", self.node(number)), "OK|");
        }
        let owned = self.account(bed).0;
        assert_eq!(owned as usize, most(Limit::Nodes));
        for request in [
            (Mkdir, "one-more|"),
            (Write, "one-more|"),
            (Write, "d00/one-more|value"),
        ] {
            self.is(bed, request.0, 0, request.1, "!ENOSPC");
        }
    }

    fn fill_watches(&self, bed: &mut Bed) {
        // The limit holds for the path behind its home.
        let long = most(Limit::PathMax);
        let watch = |length: usize| format!("{}|t|", "p".repeat(length));
        self.is(bed, Watch, 0, &watch(long + 1), "!EINVAL");
        self.is(bed, Watch, 0, &watch(long), "OK|");
        self.is(bed, Read, 0, &format!("{}|", "p".repeat(long + 1)), "!EINVAL");
        for number in 1..most(Limit::Watches) {
            self.is(bed, Watch, 0, &format!("d{:02}|token-{number}|", number % 40), "OK|");
        }
        self.is(bed, Watch, 0, "d00|one-more|", "!ENOSPC");
    }

    fn fill_transactions(&mut self, bed: &mut Bed) {
        for _ in 0..most(Limit::Transactions) {
            let opened = self.ask(bed, TransactionStart, 0, "|");
            let id = opened.trim_end_matches('|').parse();
            self.transactions.push(id.unwrap_or_else(|_| panic!("{opened}")));
        }
        self.is(bed, TransactionStart, 0, "|", "!ENOSPC");
        let value = "t".repeat(500);
        for id in &self.transactions {
            for number in 0..WRITES {
                self.is(bed, Write, *id, &format!("{}|{value}", self.node(number)), "OK|");
            }
            for number in WRITES..most(Limit::TransactionNodes) {
                // Not allowed, which it has seen then.
                let path = format!("/tool/not-allowed-{number:09}-{:02}|", self.domid % 100);
                self.is(bed, Read, *id, &path, "!EACCES");
            }
            self.is(bed, Read, *id, "one-more|", "!ENOSPC");
        }
    }

    /// Values until the limit `memory` stops it, each as large as the limit `node-size` lets it be.
    fn fill_memory(&self, bed: &mut Bed) {
        let (limit, largest) = (
            most(Limit::Memory),
            most(Limit::NodeSize) - 16 - 8 * most(Limit::NodePermissions),
        );
        let value = |length: usize| "v".repeat(length);
        self.is(
            bed,
            Write,
            0,
            &format!("{}|{}", self.node(0), value(largest + 1)),
            "!ENOSPC",
        );
        for number in 0..Self::leaves() {
            let left = limit - self.account(bed).1;
            if left < largest {
                self.is(
                    bed,
                    Write,
                    0,
                    &format!("{}|{}", self.node(number), value(left + 1)),
                    "!ENOMEM",
                );
                self.is(bed, Write, 0, &format!("{}|{}", self.node(number), value(left)), "OK|");
                assert_eq!(self.account(bed).1, limit);
                assert!(number > Self::leaves() / 2, "{number} nodes are full");
                self.is(bed, Unwatch, 0, "d01|token-1|", "OK|");
                self.is(bed, Watch, 0, "d01|token-1!|", "!ENOMEM");
                self.is(bed, Watch, 0, "d01|token-1|", "OK|");
                return;
            }
            self.is(
                bed,
                Write,
                0,
                &format!("{}|{}", self.node(number), value(largest)),
                "OK|",
            );
        }
        panic!("{} bytes, and all nodes are full", self.account(bed).1);
    }

    /// Requests whose replies it does not take: as many as the limit says, the last of which brings it to the limit `memory`, too.
    fn fill_outstanding(&self, bed: &mut Bed) {
        let limit = quotas().get(Limit::Outstanding) as usize;
        // Room for all replies but a half, by values that are shorter now.
        let room = (MESSAGE + SMALL) * limit - SMALL / 2;
        let largest = most(Limit::NodeSize) - 16 - 8 * most(Limit::NodePermissions);
        let mut freed = 0;
        for number in 0.. {
            let less = (room - freed).min(largest - SMALL);
            let value = "v".repeat(largest - less);
            self.is(bed, Write, 0, &format!("{}|{value}", self.node(number)), "OK|");
            freed += less;
            if freed == room {
                break;
            }
        }
        let shortest = format!("{}|", self.node(0));
        for number in 0..limit {
            let answer = bed.ask(self.id, Read, 0, &shortest);
            assert_eq!(answer.map(|value| value.len()), Some(SMALL), "{}: {number}", self.domid);
        }
        assert_eq!(bed.store().server().connection(self.id).unwrap().outstanding(), limit);
        assert!(self.account(bed).1 > most(Limit::Memory));
        assert_eq!(bed.ask(self.id, Read, 0, &shortest), None, "it is not heard");
    }
}

#[test]
fn a_hundred_guests_fill_every_limit_at_once() {
    let (heap, tree) = (stated_heap(), stated_tree());
    // An eighth of the pages is for checkpoints, and another for blocks that are not full; a checkpoint holds what the heap does.
    let pages = with_room_to_share(tree) / 6 * 8 + with_room_to_share(heap) * 4;
    let mut bed = Bed::new(quotas(), pages, 2 * with_room_to_share(heap));
    bed.connect(0);
    let before = ALLOCATOR.allocated();
    for (domid, _) in guests() {
        bed.connect(domid);
        let home = format!("/local/domain/{domid}|");
        assert_eq!(bed.ask(DOM0, Mkdir, 0, &home).as_deref(), Some("OK|"));
        assert_eq!(
            bed.ask(DOM0, SetPerms, 0, &format!("{home}b{domid}|")).as_deref(),
            Some("OK|")
        );
        bed.drain(DOM0);
    }
    let mut guests: Vec<Guest> = guests()
        .map(|(domid, id)| Guest {
            domid,
            id,
            transactions: Vec::new(),
        })
        .collect();

    let mut round = 0;
    let mut dom0_works = |bed: &mut Bed| {
        bed.dom0_works(round);
        round += 1;
    };
    dom0_works(&mut bed);
    guests.iter().for_each(|guest| guest.fill_permissions(&mut bed));
    guests.iter().for_each(|guest| guest.fill_nodes(&mut bed));
    dom0_works(&mut bed);
    guests.iter().for_each(|guest| guest.fill_watches(&mut bed));
    guests.iter_mut().for_each(|guest| guest.fill_transactions(&mut bed));
    dom0_works(&mut bed);
    guests.iter().for_each(|guest| guest.fill_memory(&mut bed));
    for guest in &guests {
        assert_ne!(guest.account(&mut bed).2, Warned::No, "{}", guest.domid);
    }
    guests.iter().for_each(|guest| guest.fill_outstanding(&mut bed));

    // All of it at once.
    let connections = guests.iter().map(|guest| guest.id);
    for id in connections {
        let state = bed.store().server().connection(id).unwrap();
        let counts = (state.watch_count(), state.outstanding());
        assert_eq!(
            counts,
            (most(Limit::Watches), quotas().get(Limit::Outstanding) as usize)
        );
    }
    for guest in &guests {
        let (nodes, _, warned) = guest.account(&mut bed);
        assert_eq!(
            (nodes as usize, warned),
            (most(Limit::Nodes), Warned::Hard),
            "{}",
            guest.domid
        );
    }
    dom0_works(&mut bed);
    let now = ALLOCATOR.allocated() - before;
    let peak = ALLOCATOR.max_allocated().saturating_sub(before);
    let (held, figures) = (
        bed.store().server().heap_held() as usize,
        bed.store().server().tree().figures(),
    );
    println!(
        "heap: {now} bytes, {peak} at most, {held} charged, {heap} stated; tree: {} bytes, {tree} stated; {pages} bytes of pages; \
         {:?}",
        figures.live_bytes,
        bed.store().figures()
    );
    assert!(
        now <= held && held <= heap,
        "{now} bytes of heap, {held} charged, {heap} stated"
    );
    assert!(
        figures.live_bytes <= tree,
        "{} bytes of tree, {tree} stated",
        figures.live_bytes
    );
    assert_eq!((figures.exhausted, figures.impossible), (0, 0));
    assert_eq!(bed.store().figures().undurable, 0);

    // One loses its nodes: dom0 is answered, and the guest has what it had besides.
    let seventh = &guests[6];
    assert_eq!(
        bed.ask(DOM0, Rm, 0, &format!("{}|", seventh.home())).as_deref(),
        Some("OK|")
    );
    bed.drain(DOM0);
    assert_eq!(seventh.account(&mut bed).0, 0);
    dom0_works(&mut bed);

    // A crash: all of it is read back, and who takes its replies is heard again. What went beyond a limit is lost, the rest goes on.
    let held = bed.store().server().heap_held();
    let pages = bed.store.take().unwrap().into_pages();
    bed.store = Some(Store::recover(pages).map_err(|(_, lost)| lost).unwrap().store);
    assert_eq!(bed.store().server().heap_held(), held);
    dom0_works(&mut bed);
    for guest in &guests {
        for (number, id) in guest.transactions.iter().enumerate() {
            let (end, answer) = if number == 0 { ("T|", "!ENOMEM") } else { ("F|", "OK|") };
            guest.is(&mut bed, TransactionEnd, *id, end, answer);
        }
        guest.is(&mut bed, TransactionEnd, guest.transactions[0], "F|", "!ENOENT");
    }

    bed.host.dead = true;
    let gone: Vec<_> = guests
        .iter()
        .map(|guest| (DomId(guest.domid), DomainState::ABSENT))
        .collect();
    bed.take(Input::DomainsChanged(&gone));
    bed.drain(DOM0);
    assert_eq!(bed.store().server().domains().count(), 1);
    bed.host.dead = false;
    dom0_works(&mut bed);
    let left = bed.store().server().heap_held();
    assert!(left < 8192, "{left} bytes of heap still charged");
    let left = ALLOCATOR.allocated().saturating_sub(before);
    assert!(left < heap / 16, "{left} bytes of heap still taken");
    assert_eq!(bed.store().figures().undurable, 0);
}
