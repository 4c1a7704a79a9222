//! How much a decision tells whom.

use alloc::collections::BTreeMap;

use crate::connection::ConnectionId;

/// Messages and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub messages: u64,
    pub bytes: u64,
}

/// What each connection is told. Most requests only bring their sender a reply, and that takes no memory here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    first: Option<(ConnectionId, Amount)>,
    others: BTreeMap<ConnectionId, Amount>,
}

impl Told {
    /// One message more.
    pub fn add(&mut self, connection: ConnectionId, bytes: u64) {
        let amount = match &mut self.first {
            Some((first, amount)) if *first == connection => amount,
            Some(_) => self.others.entry(connection).or_default(),
            none => &mut none.insert((connection, Amount::default())).1,
        };
        amount.messages = amount.messages.saturating_add(1);
        amount.bytes = amount.bytes.saturating_add(bytes);
    }

    /// What this one is told.
    pub fn to(&self, connection: ConnectionId) -> Amount {
        match self.first {
            Some((first, amount)) if first == connection => amount,
            _ => self.others.get(&connection).copied().unwrap_or_default(),
        }
    }

    /// The only one that is told anything.
    pub fn only(&self) -> Option<(ConnectionId, Amount)> {
        self.first.filter(|_| self.others.is_empty())
    }

    /// Everyone, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, Amount)> {
        let others = self.others.iter().map(|(connection, amount)| (*connection, *amount));
        self.first.into_iter().chain(others)
    }

    pub fn clear(&mut self) {
        *self = Told::default();
    }
}
