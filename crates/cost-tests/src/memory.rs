//! What is kept, in bytes of memory: for each node, connection, watch and open transaction, all in. Whoever calls says how much of the heap
//! is allocated; the pipes of this crate's own machine are taken off.

use xenstore_recovery::EXTENT;
use xenstore_wire::MessageType::{GetDomainPath, Introduce, TransactionStart, Watch, Write};

use crate::desk::Desk;
use crate::host::{Host, NODES_OF_A_DOMAIN, Size};
use crate::machine::Outside;

/// Domains that are connected, and transactions that are opened.
const MANY: usize = 1000;
/// Watches of each domain, with paths and tokens as long as those of a block device's.
const WATCHES: usize = 100;
/// Bytes of pages for everything but the nodes: a checkpoint has room for all watches in a part of them.
const ROOM: usize = 192 << 20;

/// What a node takes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OfNode {
    /// Right after all were made.
    pub at_once: usize,
    /// When there is nothing left to tidy up.
    pub rested: usize,
}

/// Bytes in use: the heap without the durable pages, and the extents of those that are used.
fn in_use(desk: &Desk, heap: &dyn Fn() -> usize) -> usize {
    let figures = desk.server().pages().figures();
    heap() - figures.extents * EXTENT + (figures.extents - figures.free) * EXTENT
}

/// What a node costs with everything that belongs to it: its block, its part of its parent's directory, of the table of ids and
/// of what is derived from them, of logs and checkpoints, and of chunks that are not full.
pub fn of_node(nodes: usize, heap: &dyn Fn() -> usize) -> OfNode {
    let empty = Size {
        nodes: 0,
        watches: 1,
        wide: 0,
    };
    let size = Size { nodes, ..empty };
    // Whole extents, so that the pages are all that the vector has.
    let mut desk = Desk::new(Host::bytes_for(size).next_multiple_of(EXTENT));
    let before = in_use(&desk, heap);
    let host = Host::fill(&mut desk, size);
    let nodes = host.domains() * NODES_OF_A_DOMAIN;
    let at_once = (in_use(&desk, heap) - before) / nodes;
    desk.rest();
    let rested = (in_use(&desk, heap) - before) / nodes;
    OfNode { at_once, rested }
}

/// What everything else takes: names, and bytes of the heap and of the pages for each.
pub fn of_clients(heap: &dyn Fn() -> usize) -> Vec<(&'static str, usize)> {
    let mut desk = Desk::new(ROOM);
    let dom0 = desk.dom0();
    let pipe = of_pipe(heap);
    let mut rows = Vec::new();
    let mut before = heap();
    let mut row = |name, count: usize, less: usize| {
        let now = heap();
        rows.push((name, (now.saturating_sub(before) / count).saturating_sub(less)));
        before = now;
    };
    for domid in 1..=MANY as u16 {
        desk.build(domid);
        desk.must(dom0, Introduce, 0, &format!("{domid}|1|1|"));
    }
    row("a domain that was introduced", MANY, pipe);
    for domid in 1..=MANY as u16 {
        let client = desk.client_of(domid);
        desk.must(client, GetDomainPath, 0, "0|");
    }
    row("the same after its first request", MANY, 0);
    for domid in 1..=MANY as u16 {
        let client = desk.client_of(domid);
        for watch in 0..WATCHES {
            let path = format!("/local/domain/{domid}/device/vbd/{watch}/state");
            desk.must(client, Watch, 0, &format!("{path}|FFFF88800{watch:07}|"));
        }
    }
    row("a watch", MANY * WATCHES, 0);
    let opened: Vec<String> = (0..MANY)
        .map(|_| desk.must(dom0, TransactionStart, 0, "|").text())
        .collect();
    row("an open transaction", MANY, 0);
    for (number, text) in opened.iter().enumerate() {
        let transaction = text.trim_end_matches('|').parse().unwrap_or_default();
        desk.must(dom0, Write, transaction, &format!("/local/written/{number}|value"));
    }
    row("one write in it", MANY, 0);
    rows
}

/// What a pipe takes that was used.
fn of_pipe(heap: &dyn Fn() -> usize) -> usize {
    let (outside, before) = (Outside::default(), heap());
    for domid in 0..MANY {
        let (_, port) = outside.pipe();
        outside.introduced.borrow_mut().insert(domid as u16, port);
    }
    (heap() - before) / MANY
}
