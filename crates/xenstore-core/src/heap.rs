//! What the state of a client takes in the heap and in a checkpoint, and who may still add to it.
//!
//! Watches, queued messages, transactions and the beginnings of messages lie in the heap, and a checkpoint has to find room for
//! them in the durable pages. Each is charged to its domain with estimates that are not below what it takes. Whoever runs the
//! server says how much there may be of both ([`crate::Server::set_limits`]); they are shared by the rule of `share`: the largest
//! account is refused first. Half as much again is for what cannot be refused: the replies to requests that were taken,
//! messages that began, and what the privileged domain is told. Requests of others wait while that is used up, and one that
//! would tell others more than fits fails.

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::share;

/// Bytes of a thing: of the heap, and of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub heap: u64,
    pub saved: u64,
}

impl Cost {
    const fn new(heap: u64, saved: u64) -> Cost {
        Cost { heap, saved }
    }

    pub const UNLIMITED: Cost = Cost::new(u64::MAX, u64::MAX);

    pub const fn and(self, other: Cost) -> Cost {
        Cost::new(
            self.heap.saturating_add(other.heap),
            self.saved.saturating_add(other.saved),
        )
    }

    pub const fn less(self, other: Cost) -> Cost {
        Cost::new(
            self.heap.saturating_sub(other.heap),
            self.saved.saturating_sub(other.saved),
        )
    }

    const fn each(self, count: u64) -> Cost {
        Cost::new(self.heap.saturating_mul(count), self.saved.saturating_mul(count))
    }

    /// A half more.
    const fn with_half(self) -> Cost {
        self.and(Cost::new(self.heap / 2, self.saved / 2))
    }

    const fn covers(self, other: Cost) -> bool {
        self.heap >= other.heap && self.saved >= other.saved
    }
}

/// A watch, besides the copies of its path and token: its places in the index, whose table doubles when it grows, among those on the
/// same path (the node of a map has room for eleven, and holds two at least), and in its connection.
const WATCH: Cost = Cost::new(768, 40);
/// A queued message, besides its bytes: its place in a queue that doubles when it grows, and its request's in the list of those
/// that are not consumed.
const MESSAGE: Cost = Cost::new(320, 64);
/// Something that a transaction used, besides the copies of its path and its value.
const ITEM: Cost = Cost::new(512, 32);
/// An open transaction: its place in its connection, where the first takes room for eleven.
pub(crate) const TRANSACTION: Cost = Cost::new(3072, 128);
/// A connection with its domain and all that is rebuilt with it, half as much again as test `room_of_connections` finds: what the loop and
/// the machine keep of it is not in that.
pub(crate) const CONNECTION: Cost = Cost::new(2304, 320);
/// The largest message, and the largest reply to it.
const EXCHANGE: Cost = of_message(4112).each(2);

/// What a watch with so many bytes of path and token takes: they stand in the index and in the connection.
pub(crate) const fn of_watch(bytes: u64) -> Cost {
    WATCH.and(Cost::new(2, 2).each(bytes))
}

/// What one message takes.
pub(crate) const fn of_message(bytes: u64) -> Cost {
    of_messages(1, bytes)
}

/// What messages of so many bytes take.
pub(crate) const fn of_messages(count: u64, bytes: u64) -> Cost {
    MESSAGE.each(count).and(Cost::new(1, 1).each(bytes))
}

/// What something takes that a transaction used: its path stands in up to four places, its value in one.
pub(crate) const fn of_item(path: u64, value: u64) -> Cost {
    ITEM.and(Cost::new(4, 4).each(path)).and(Cost::new(1, 1).each(value))
}

/// What the beginning of a message takes: a vector that grows has room for twice as much.
pub(crate) const fn of_partial(bytes: u64) -> Cost {
    Cost::new(2, 1).each(bytes)
}

/// The heap and the checkpoints as a whole, seen from one decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Heap {
    /// What accounts may take.
    pub limit: Cost,
    /// What the accounts of domains take for which limits hold.
    pub held: Cost,
    /// What the privileged domain's takes.
    pub privileged: Cost,
}

impl Heap {
    fn room(self) -> Cost {
        self.limit.less(self.held).less(self.privileged)
    }

    /// The largest account that may still grow.
    pub fn largest(self) -> Cost {
        let room = self.room();
        Cost::new(
            share::largest(room.heap, self.held.heap),
            share::largest(room.saved, self.held.saved),
        )
    }

    /// This account may have so much more.
    pub fn lets_grow(self, account: &Account, more: Cost) -> bool {
        let (has, room) = (account.cost(), self.room());
        share::may_grow(has.heap, more.heap, room.heap, self.held.heap)
            && share::may_grow(has.saved, more.saved, room.saved, self.held.saved)
    }

    /// What may be taken for replies and for the privileged domain until others have to wait.
    pub fn headroom(self) -> Cost {
        self.limit.with_half().less(self.held).less(self.privileged)
    }

    /// So much may be told.
    pub fn lets_tell(self, cost: Cost) -> bool {
        self.headroom().covers(cost)
    }

    /// Another request of this account may be taken, whose queue is empty or not.
    pub fn lets_read(self, account: &Account, queue_empty: bool) -> bool {
        self.lets_tell(EXCHANGE) && (queue_empty || self.largest().covers(account.cost()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(heap: i64) -> Account {
        Account {
            heap_bytes: heap,
            saved_bytes: heap,
            ..Account::default()
        }
    }

    const fn heap(limit: u64, held: u64, privileged: u64) -> Heap {
        Heap {
            limit: Cost::new(limit, limit),
            held: Cost::new(held, held),
            privileged: Cost::new(privileged, privileged),
        }
    }

    #[test]
    fn the_larger_account_is_refused_first_and_the_privileged_domain_takes_from_all() {
        let one = Cost::new(1000, 1000);
        let half_taken = heap(1_000_000, 500_000, 0);
        assert!(half_taken.lets_grow(&account(10_000), one));
        assert!(!half_taken.lets_grow(&account(20_000), one));
        assert!(!heap(1_000_000, 100_000, 900_000).lets_grow(&account(0), one));
    }

    #[test]
    fn who_has_something_waiting_is_read_only_within_its_share() {
        let half_taken = heap(1_000_000, 500_000, 0);
        assert!(half_taken.lets_read(&account(20_000), true));
        assert!(!half_taken.lets_read(&account(20_000), false));
        assert!(half_taken.lets_read(&account(10_000), false));
        // Beyond the limit and a half of it nobody is read, whatever took it.
        assert!(!heap(1_000_000, 100_000, 1_395_000).lets_read(&account(0), true));
        assert!(heap(u64::MAX, 100_000, 0).lets_read(&account(100_000), false));
    }
}
