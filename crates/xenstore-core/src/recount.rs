//! Everything that is kept although it follows from the rest, made anew and compared: what domains are charged with, the sums of
//! that, who waits for whom, when events are dropped, where watches stand. `CONTROL check` tells what does not agree, and so do
//! tests after whatever they do.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xenstore_wire::DomId;

use crate::account::{Account, Sums, node_size, signed};
use crate::apply::watch_bytes;
use crate::connection::{Connection, ConnectionId};
use crate::heap;
use crate::input::Time;
use crate::server::Server;
use crate::tree::Memory;

impl<M: Memory> Server<M> {
    /// What every domain is to be charged with, counted anew from the tree and from its connections.
    pub(crate) fn charges(&self) -> BTreeMap<DomId, Account> {
        let mut charges: BTreeMap<DomId, Account> = BTreeMap::new();
        let root = self.tree.root_node(self.tree.current());
        // Each with the length of its path.
        let mut stack = Vec::from([(root, 0usize)]);
        while let Some((node, length)) = stack.pop() {
            let permissions = node.permissions();
            let account = charges.entry(permissions.owner()).or_default();
            let size = node_size(node.value().len(), permissions.iter().count(), node.child_names_len())
                .saturating_add(length.max(1) as u64);
            account.nodes = account.nodes.saturating_add(1);
            account.node_bytes = account.node_bytes.saturating_add(signed(size));
            for child in self.tree.children(node) {
                stack.push((child, length.saturating_add(child.name().len()).saturating_add(1)));
            }
        }
        for connection in self.connections.values() {
            charge_connection(charges.entry(connection.domid).or_default(), connection);
        }
        for ((id, _), watch) in self.watches.all() {
            if let Some(connection) = self.connections.get(&id) {
                let (account, bytes) = (charges.entry(connection.domid).or_default(), watch_bytes(watch));
                account.watch_bytes = account.watch_bytes.saturating_add(bytes);
                account.add(heap::of_watch(bytes.unsigned_abs()));
            }
        }
        charges
    }

    /// What does not agree, each as a line for the log.
    pub(crate) fn discrepancies(&self, charges: &BTreeMap<DomId, Account>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut sums = Sums::default();
        for (domid, domain) in self.domains.iter() {
            let (charged, found) = (domain.account, charges.get(domid).copied().unwrap_or_default());
            let cost = if *domid == self.configuration.privileged {
                &mut sums.privileged
            } else {
                sums.tree = sums.tree.saturating_add(charged.tree());
                &mut sums.cost
            };
            *cost = cost.and(charged.cost());
            if charged != found {
                wrong.push(format!(
                    "check: domain {domid} is charged with {} nodes, {} bytes but owns {} nodes, {} bytes; {charged:?}, {found:?}",
                    charged.nodes, charged.node_bytes, found.nodes, found.node_bytes
                ));
            }
        }
        if sums != self.sums {
            wrong.push(format!(
                "check: the sums of all accounts are {sums:?}, not {:?}",
                self.sums
            ));
        }
        let transactions = self
            .connections
            .values()
            .map(|connection| connection.transactions.len());
        if transactions.fold(0, usize::saturating_add) != self.transactions {
            wrong.push(format!("check: there are not {} transactions", self.transactions));
        }
        self.compare_queues(&mut wrong);
        self.compare_watches(&mut wrong);
        wrong
    }

    /// Who waits for messages to be taken, and when the first event of each queue is dropped.
    fn compare_queues(&self, wrong: &mut Vec<String>) {
        let mut waiting: BTreeMap<(ConnectionId, u64), u32> = BTreeMap::new();
        for connection in self.connections.values() {
            for cause in connection.queue.causes() {
                let count = waiting.entry((cause.connection, cause.request)).or_default();
                *count = count.saturating_add(1);
            }
        }
        let mut deadlines: BTreeSet<(Time, ConnectionId)> = BTreeSet::new();
        for (id, connection) in self.connections.iter() {
            let domid = connection.domid;
            for (request, left) in &connection.unconsumed {
                if waiting.get(&(*id, *request)) != Some(left) {
                    wrong.push(format!(
                        "check: {left} messages of a request of domain {domid} do not wait"
                    ));
                }
            }
            if !connection.queue.adds_up() {
                wrong.push(format!("check: the queue of domain {domid} is of another size"));
            }
            if connection.deadline != connection.queue.next_deadline() {
                wrong.push(format!(
                    "check: the first event of domain {domid} is dropped at another time"
                ));
            }
            deadlines.extend(connection.deadline.map(|deadline| (deadline, *id)));
        }
        if deadlines != self.deadlines {
            wrong.push(format!(
                "check: events are dropped at {deadlines:?}, not at {:?}",
                self.deadlines
            ));
        }
    }

    /// Each watch stands in the index and at its connection.
    fn compare_watches(&self, wrong: &mut Vec<String>) {
        let mut count = 0usize;
        for ((id, number), watch) in self.watches.all() {
            count = count.saturating_add(1);
            let known = self.connections.get(&id).and_then(|state| state.watches.get(&number));
            if known != Some(&watch.path) {
                wrong.push(format!("check: nobody has watch {number} on {}", watch.path.key()));
            }
        }
        let own = self.connections.values().map(|connection| connection.watches.len());
        let own = own.fold(0, usize::saturating_add);
        if own != count || count != self.watches.len() {
            wrong.push(format!(
                "check: {count} watches, {own} of connections, {} counted",
                self.watches.len()
            ));
        }
    }
}

/// What a connection takes besides its watches.
fn charge_connection(account: &mut Account, connection: &Connection) {
    let (messages, bytes) = (connection.queue.len() as u64, connection.queue.bytes() as u64);
    account.queue_bytes = account.queue_bytes.saturating_add(signed(bytes));
    account.add(heap::CONNECTION);
    account.add(heap::of_messages(messages, bytes));
    account.add(heap::of_partial(connection.partial.len() as u64));
    for open in connection.transactions.values() {
        account.transaction_bytes = account.transaction_bytes.saturating_add(signed(open.bytes as u64));
        account.transaction_items = account.transaction_items.saturating_add(signed(open.items));
        account.add(heap::TRANSACTION);
        account.add(open.cost);
    }
    if let Some(losing) = &connection.losing {
        let used = losing.used();
        account.transaction_bytes = account.transaction_bytes.saturating_add(signed(used.bytes as u64));
        account.transaction_items = account.transaction_items.saturating_add(signed(used.items));
        account.add(used.cost);
    }
}
