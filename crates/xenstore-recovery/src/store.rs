//! A server together with its durable pages: the one way from a record to a change, and from a change to a client.

use alloc::collections::{BTreeMap, BTreeSet};

use xenstore_core::{Change, Configuration, ConnectionId, Input, Record, Server, Time, World};

use crate::extents::{DurablePages, PageFigures, TooSmall};
use crate::log::Log;
use crate::pages::Pages;
use crate::slots::{self, Phase};

/// Everything committed so far is durable. Only [`Store::seal`] makes one, and every function that lets a client see
/// something wants to see it.
#[derive(Debug)]
pub struct Durable(());

/// A server whose every change is in the durable pages before anyone sees it.
pub struct Store<P: Pages> {
    server: Server<DurablePages<P>>,
    log: Log,
    places: Places,
}

/// Which slot belongs to which connection, and the offset of its output.
#[derive(Debug, Default)]
struct Places {
    by_connection: BTreeMap<ConnectionId, (usize, u64)>,
    free: BTreeSet<usize>,
}

impl Places {
    fn of(&mut self, connection: ConnectionId) -> (usize, u64) {
        if let Some(known) = self.by_connection.get(&connection) {
            return *known;
        }
        let place = self.free.pop_first().unwrap_or(self.by_connection.len());
        self.by_connection.insert(connection, (place, 0));
        (place, 0)
    }
}

impl<P: Pages> Store<P> {
    /// A new server in new pages.
    pub fn cold(configuration: Configuration, pages: P) -> Result<Self, TooSmall> {
        let server = Server::new(configuration, DurablePages::format(pages)?);
        Ok(Store {
            server,
            log: Log::default(),
            places: Places::default(),
        })
    }

    /// The state.
    pub fn server(&self) -> &Server<DurablePages<P>> {
        &self.server
    }

    /// Decides an input and commits what comes of it. Returns what the machine has to do, once this is sealed.
    pub fn take(&mut self, now: Time, world: &dyn World, input: Input<'_>) -> Record {
        let record = self.server.decide(now, world, input);
        self.commit(&record);
        record
    }

    /// Writes a record, then applies it.
    fn commit(&mut self, record: &Record) {
        self.log.append(self.server.pages_mut(), record);
        self.server.apply(record);
        for change in &record.changes {
            if let Change::Disconnected { connection } = change
                && let Some((place, _)) = self.places.by_connection.remove(connection)
            {
                self.places.free.insert(place);
            }
        }
    }

    /// Everything committed so far is durable when this returns.
    pub fn seal(&mut self) -> Durable {
        self.server.pages_mut().barrier();
        Durable(())
    }

    /// `bytes` of this connection's output are about to become visible.
    pub fn publishing(&mut self, _sealed: &Durable, connection: ConnectionId, bytes: u32) {
        let (place, from) = self.places.of(connection);
        let to = from.saturating_add(u64::from(bytes));
        slots::write(self.server.pages_mut(), place, connection, Phase::Publishing, from, to);
    }

    /// They are visible now.
    pub fn published(&mut self, now: Time, world: &dyn World, connection: ConnectionId, bytes: u32) {
        let (place, from) = self.places.of(connection);
        let to = from.saturating_add(u64::from(bytes));
        slots::write(self.server.pages_mut(), place, connection, Phase::Published, to, to);
        self.places.by_connection.insert(connection, (place, to));
        // The slot is this record's durable form.
        let record = self.server.decide(now, world, Input::Published { connection, bytes });
        self.server.apply(&record);
    }

    /// Background upkeep of at most about `budget` bytes of work; invisible to clients.
    pub fn tidy(&mut self, budget: usize) {
        self.server.tidy(budget);
    }

    /// How the pages are used.
    pub fn figures(&self) -> PageFigures {
        self.server.pages().figures()
    }

    /// Records written since the cold start.
    pub fn records(&self) -> u64 {
        self.log.sequence()
    }
}
