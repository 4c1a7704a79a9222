//! A server together with its durable pages: the one way from a record to a change, and from a change to a client; and back
//! from the pages to the server.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::fmt::Write as _;

use xenstore_core::tree::Root;
use xenstore_core::{
    Change, Channel, Configuration, ConnectionId, DomainState, InHand, Input, Numbered, Policy, Record, Server, Step,
    Time, World,
};
use xenstore_wire::DomId;

use crate::checkpoint;
use crate::desk::{self, Mark};
use crate::encode::encoded;
use crate::extents::{DurablePages, NotOurs, TooSmall};
use crate::log::{Log, Side};
use crate::note::{self, Noted};
use crate::pages::Pages;
use crate::slots::{self, Slot};

/// Bytes of room in the tree below which more pages are asked for: more than a round of requests can take.
const ROOM_KEPT: usize = 1 << 20;

/// A log may grow to so many times its checkpoint, if there are extents for it: so a checkpoint's cost for each record has a bound,
/// however much is to be saved, and a restart reads little more than it would for a checkpoint alone.
const LOG_TO_CHECKPOINT: usize = 2;

/// Bytes of answers that the records of a log may name without holding them: when the log is read back, all of them wait in the heap once
/// more until it is known which of them clients have read. Where there is heap for that, as much as makes checkpoints rare.
const NAMED_MOST: usize = 128 * 1024;

/// The part of what clients' state may take of the heap that this, too, may take.
const NAMED_SHARE: usize = 4;

/// Records between two checkpoints that are made for want of room: a checkpoint costs about as much as some dozens of records.
const RECORDS_BETWEEN: u64 = 256;

/// Bytes of a checkpoint that do not grow with the number of clients: settings, counters, the last restarts (4 KiB), its head.
const CHECKPOINT_FIXED: u64 = 8192;

/// Lives that may begin one after the other without getting anything done: the next one goes by way of the older checkpoint.
pub const LIVES_BEFORE_OLDER: u32 = 3;

/// Lives after which that, too, was in vain: the state cannot be gone on with.
pub const LIVES_BEFORE_GIVING_UP: u32 = 6;

/// Records that are told in short when a life begins.
pub const LAST_RECORDS: usize = 16;

/// Everything committed so far is durable. Only [`Store::seal`] makes one, and every function that lets a client see
/// something wants to see it.
#[derive(Debug)]
pub struct Durable(());

/// A server whose every change is in the durable pages before anyone sees it.
pub struct Store<P: Pages> {
    server: Server<DurablePages<P>>,
    log: Log,
    places: Places,
    /// The roots that each side's checkpoint needs.
    held: [Vec<Root>; 2],
    /// The last record before the newest checkpoint.
    checkpointed: u64,
    /// Bytes of the newest checkpoint.
    checkpoint_bytes: usize,
    /// Bytes of answers that the records since then name.
    named: usize,
    /// Bytes of the heap that clients' state may take.
    heap: usize,
    /// The record that clients may know of.
    noted: Noted,
    figures: StoreFigures,
    encoded: Vec<u8>,
    /// Made anew for all that becomes visible.
    publication: Record,
    mark: Mark,
    /// What is being shown, and the place of its slot.
    intended: Option<(usize, Slot)>,
    /// Lives so far, this one included, that have not got anything done.
    attempts: u32,
    /// Ends the life at a step, on request.
    at_step: fn(Step),
}

/// What the store has done since it was made or recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreFigures {
    /// Records in the log, ever.
    pub records: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Records that found no room in the pages. They took effect, and a crash would lose them.
    pub undurable: u64,
    /// Records that were read back when this life began.
    pub replayed: u64,
}

/// Which slot belongs to which connection.
#[derive(Debug, Default)]
struct Places {
    by_connection: Numbered<ConnectionId, usize>,
    free: BTreeSet<usize>,
    next: usize,
}

impl Places {
    fn of(&mut self, connection: ConnectionId) -> usize {
        if let Some(known) = self.by_connection.get(&connection) {
            return *known;
        }
        let place = self.free.pop_first().unwrap_or_else(|| {
            self.next = self.next.saturating_add(1);
            self.next.saturating_sub(1)
        });
        self.by_connection.insert(connection, place);
        place
    }

    fn give_back(&mut self, connection: ConnectionId) {
        if let Some(place) = self.by_connection.remove(&connection) {
            self.free.insert(place);
        }
    }
}

/// A store that was read back, and what the rings must be asked about.
pub struct Recovered<P: Pages> {
    /// The store, as of the last record that was durable.
    pub store: Store<P>,
    /// Connections that were being published to: this many bytes more are visible if, and only if, the ring says so.
    pub publishing: Vec<(ConnectionId, u32)>,
    /// The last records that were read back, in short.
    pub last_records: String,
    /// What the life that ended was deciding, or had decided last.
    pub mark: Option<Mark>,
}

/// A way back to the state: the checkpoint of a side, with the number of its last record, and the record that the logs lead to from
/// there.
struct Road {
    side: Side,
    sequence: u64,
    reached: u64,
}

/// Why a store cannot be read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// The pages have no store in them, or one of another layout.
    Pages(NotOurs),
    /// Neither checkpoint verifies with the tree that it names and leads to the last record that clients may know of, or what is
    /// on the way there is no record.
    State {
        /// The number of that record; none if there is no note of it.
        expected: Option<u64>,
        /// The last record that can be read; none if no checkpoint can be.
        reached: Option<u64>,
    },
    /// [`LIVES_BEFORE_GIVING_UP`] lives ended before they got anything done.
    Loop,
}

impl<P: Pages> Store<P> {
    /// A new server in new pages.
    pub fn cold(configuration: Configuration, pages: P) -> Result<Self, TooSmall> {
        let server = Server::new(configuration, DurablePages::format(pages)?);
        let mut store = Store {
            server,
            log: Log::behind(Side::B, 0),
            places: Places::default(),
            held: Default::default(),
            checkpointed: 0,
            checkpoint_bytes: 0,
            named: 0,
            heap: 0,
            noted: Noted::default(),
            figures: StoreFigures::default(),
            encoded: Vec::new(),
            publication: Record::default(),
            mark: Mark::default(),
            intended: None,
            attempts: 0,
            at_step: |_| {},
        };
        store.checkpoint();
        Ok(store)
    }

    /// The server that an earlier life left in its pages: the newest checkpoint that verifies, and every record since. Where
    /// that does not lead to the last record that clients may know of, or has led to nothing [`LIVES_BEFORE_OLDER`] times, the
    /// older checkpoint and the records of both logs: the same state by another road, if that still leads there. If neither gets
    /// there, nothing is given back, rather than a state that was left behind. On failure the pages come back as they were, but for
    /// what nobody reads who begins there again; after [`Lost::Loop`] the count of lives begins anew.
    pub fn recover(pages: P) -> Result<Recovered<P>, (P, Lost)> {
        let mut pages = DurablePages::open(pages).map_err(|(pages, why)| (pages, Lost::Pages(why)))?;
        let attempts = desk::attempts(&pages).saturating_add(1);
        if attempts > LIVES_BEFORE_GIVING_UP {
            // Whoever starts again by hand may try again.
            desk::set_attempts(&mut pages, 0);
            return Err((pages.into_pages(), Lost::Loop));
        }
        let before = desk::attempts_as_they_lie(&pages);
        desk::set_attempts(&mut pages, attempts);
        let noted = note::read(&pages);
        let found = |side| Some((side, checkpoint::read(&pages, side)?));
        let mut candidates: Vec<_> = [Side::A, Side::B].into_iter().filter_map(found).collect();
        candidates.sort_by_key(|(_, (sequence, _))| core::cmp::Reverse(*sequence));
        if attempts > LIVES_BEFORE_OLDER {
            candidates.reverse();
        }
        let roots: Vec<(Side, Vec<Root>)> = candidates
            .iter()
            .map(|(side, (_, state))| (*side, state.roots()))
            .collect();
        // A road that ends before that checkpoint goes no further: the log that it went on in has begun anew behind it.
        let newest = candidates.iter().map(|(_, (sequence, _))| *sequence).max();
        let mut farthest = None;
        for (side, (sequence, state)) in candidates {
            // Asked before anything is replayed: replaying makes use of what an older checkpoint needs.
            let reached = Log::behind(side, sequence).reaches(&pages);
            farthest = farthest.max(Some(reached));
            let Some(noted) = noted.filter(|noted| noted.least <= reached && newest <= Some(reached)) else {
                continue;
            };
            // Another crash may make the next life take the other road: until that is closed, what it needs is kept, too.
            let other = roots.iter().find(|(of, _)| *of != side).map(|(_, roots)| roots.clone());
            let restored = match (
                Server::restore(state, pages, other.as_deref().unwrap_or_default()),
                other,
            ) {
                (Ok(server), other) => Ok((server, other)),
                (Err(unreadable), Some(_)) => match checkpoint::read(&unreadable.memory, side) {
                    Some((_, state)) => Server::restore(state, unreadable.memory, &[]).map(|server| (server, None)),
                    None => Err(unreadable),
                },
                (Err(unreadable), None) => Err(unreadable),
            };
            match restored {
                Ok((server, other)) => {
                    let road = Road {
                        side,
                        sequence,
                        reached,
                    };
                    return Self::replay(server, road, other, noted, (attempts, &before));
                }
                Err(unreadable) => pages = unreadable.memory,
            }
        }
        desk::put_attempts_back(&mut pages, &before);
        let lost = Lost::State {
            expected: noted.map(|noted| noted.least),
            reached: farthest,
        };
        Err((pages.into_pages(), lost))
    }

    fn replay(
        mut server: Server<DurablePages<P>>,
        Road {
            side,
            sequence,
            reached,
        }: Road,
        other: Option<Vec<Root>>,
        noted: Noted,
        (attempts, before): (u32, &[u8]),
    ) -> Result<Recovered<P>, (P, Lost)> {
        if other.is_none() {
            // What it needs is not kept, so nobody may go by it any more.
            checkpoint::erase(server.pages_mut(), side.other());
        }
        let mark = Mark::read(server.pages());
        let mut last = VecDeque::new();
        // Until the next checkpoint stands, another crash begins here again: what this one needs must not make room for the records.
        let roots = server.roots();
        server.hold(&roots);
        let mut replayed = 0u64;
        let mut log = Log::behind(side, sequence);
        let mut body = Vec::new();
        let mut applied = sequence;
        let mut named = 0usize;
        loop {
            let mut found = log.read(server.pages(), &mut body);
            if found.is_none() && log.side() == side {
                // Behind an older checkpoint and its log come the records of the other side, if they are the next ones.
                let mut next = Log::behind(side.other(), log.sequence());
                found = next.read(server.pages(), &mut body);
                if found.is_some() {
                    log = next;
                }
            }
            let Some(mut record) = found else { break };
            note(&mut last, &server, log.sequence(), &record);
            if !server.replay(&mut record) {
                break;
            }
            replayed = replayed.saturating_add(1);
            applied = log.sequence();
            named = named.saturating_add(record.named());
        }
        if applied != reached {
            // A whole frame around what is no record, or none of this store: no damage does that. Clients may know of what follows.
            let lost = Lost::State {
                expected: Some(reached),
                reached: Some(applied),
            };
            desk::put_attempts_back(server.pages_mut(), before);
            return Err((server.into_pages().into_pages(), lost));
        }
        let mut store = Store {
            server,
            log,
            places: Places::default(),
            held: match side {
                Side::A => [roots, other.unwrap_or_default()],
                Side::B => [other.unwrap_or_default(), roots],
            },
            checkpointed: sequence,
            checkpoint_bytes: 0,
            named,
            heap: 0,
            noted,
            figures: StoreFigures {
                records: sequence.saturating_add(replayed),
                replayed,
                ..StoreFigures::default()
            },
            encoded: Vec::new(),
            publication: Record::default(),
            mark: Mark::default(),
            intended: None,
            attempts,
            at_step: |_| {},
        };
        let publishing = store.settle_slots();
        store.server.end_of_replay();
        // Not in the place of the one that was read: until this one stands, it is all there is.
        store.checkpoint_on(side.other());
        Ok(Recovered {
            store,
            publishing,
            last_records: in_short(&last),
            mark,
        })
    }

    /// What the slots say became visible leaves the queues; what they leave open is returned.
    fn settle_slots(&mut self) -> Vec<(ConnectionId, u32)> {
        let mut halves: BTreeMap<ConnectionId, Vec<(usize, Slot)>> = BTreeMap::new();
        for (place, slot) in slots::read(self.server.pages()) {
            halves.entry(slot.connection).or_default().push((place, slot));
        }
        let mut open = Vec::new();
        let connections: Vec<_> = self
            .server
            .connections()
            .map(|(id, state)| (id, state.resets, state.bytes_out))
            .collect();
        for (connection, resets, bytes_out) in connections {
            let own = halves.get(&connection).map_or(&[][..], Vec::as_slice);
            let own = own.iter().filter(|(_, slot)| slot.resets == resets);
            if let Some((place, _)) = own.clone().next() {
                self.places.by_connection.insert(connection, *place);
                self.places.next = self.places.next.max(place.saturating_add(1));
            }
            let (visible, intended) = slots::settle(own.map(|(_, slot)| *slot));
            let visible = visible.max(bytes_out);
            let count = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            if visible > bytes_out {
                self.apply_published(connection, count(visible.saturating_sub(bytes_out)));
            }
            if let Some(intended) = intended.filter(|intended| *intended > visible) {
                open.push((connection, count(intended.saturating_sub(visible))));
            }
        }
        let used: BTreeSet<usize> = self.places.by_connection.values().copied().collect();
        self.places.free = (0..self.places.next).filter(|place| !used.contains(place)).collect();
        open
    }

    /// The state.
    pub fn server(&self) -> &Server<DurablePages<P>> {
        &self.server
    }

    /// From now on this policy decides who may do what: see [`Server::set_policy`].
    pub fn set_policy(&mut self, policy: &'static dyn Policy) {
        self.server.set_policy(policy);
    }

    /// What clients' state may take: `heap` bytes of the heap, and of a checkpoint what is left for one.
    pub fn set_heap_limit(&mut self, heap: u64) {
        let room = (self.server.pages().checkpoint_room() as u64).saturating_sub(CHECKPOINT_FIXED);
        self.heap = usize::try_from(heap).unwrap_or(usize::MAX);
        // The limit and half of it must fit.
        self.server.set_limits(heap, (room / 3).saturating_mul(2));
    }

    /// Decides an input and commits what comes of it. Returns what the machine has to do, once this is sealed.
    pub fn take(&mut self, now: Time, world: &dyn World, input: Input<'_>) -> Record {
        let served = matches!(input, Input::Request { .. });
        let world = WithFigures { world, store: self };
        let mut record = self.server.decide(now, &world, input);
        let mut named = record.named();
        if named > 0 && !self.may_name(named) {
            record.hold_all();
            named = 0;
        }
        self.commit(&record, named);
        if served && self.attempts != 0 {
            self.settle();
        }
        record
    }

    /// From here on `end` is called whenever the server comes to a step at which it is to end its life.
    pub fn set_end(&mut self, end: fn(Step)) {
        self.at_step = end;
    }

    /// The server has come to this step of its work: if that was ordered, its life ends.
    pub fn reached(&self, step: Step) {
        if self.server.strikes_at(step) {
            (self.at_step)(step);
        }
    }

    /// These bytes of a connection are about to be decided.
    pub fn about_to_decide(&mut self, connection: ConnectionId, message: &[u8]) {
        let Some(state) = self.server.connection(connection) else {
            return;
        };
        let in_hand = InHand {
            life: self.server.lives().number,
            connection,
            resets: state.resets,
            bytes_in: state.bytes_in,
            message,
        };
        self.mark.write(self.server.pages_mut(), in_hand);
    }

    /// They are put off.
    pub fn not_now(&mut self) {
        Mark::wipe(self.server.pages_mut());
    }

    /// This life has got something done, or has lasted: it is no part of a loop.
    pub fn settle(&mut self) {
        if self.attempts != 0 {
            self.attempts = 0;
            desk::set_attempts(self.server.pages_mut(), 0);
        }
    }

    /// [`Store::settle`] has something to do.
    pub fn is_unsettled(&self) -> bool {
        self.attempts != 0
    }

    /// Writes a record, which names so many bytes of answers, then applies it.
    fn commit(&mut self, record: &Record, named: usize) {
        // Only memory that runs out could make this fail, and that is a panic.
        let encoded = encoded(record, core::mem::take(&mut self.encoded));
        if !self.log.has_room(self.server.pages(), encoded.len()) && !self.log_may_grow() {
            self.checkpoint();
        }
        self.named = self.named.saturating_add(named);
        if self.log.append(self.server.pages_mut(), &encoded) {
            self.figures.records = self.figures.records.saturating_add(1);
        } else {
            self.figures.undurable = self.figures.undurable.saturating_add(1);
        }
        self.encoded = encoded;
        self.reached(Step::Logged);
        self.server.apply(record);
        self.reached(Step::Applied);
        for change in &record.changes {
            if let Change::Disconnected { connection } = change {
                self.places.give_back(*connection);
            }
        }
    }

    /// What may lie behind the newest checkpoint, for one that costs as much as it does.
    fn enough(&self) -> usize {
        self.checkpoint_bytes.saturating_mul(LOG_TO_CHECKPOINT)
    }

    /// So many bytes of answers may be named besides those that are. None where a record is not in the log: what they show may have come
    /// with that one.
    fn may_name(&self, bytes: usize) -> bool {
        if self.figures.undurable > 0 {
            return false;
        }
        let most = self.enough().min(self.heap / NAMED_SHARE).max(NAMED_MOST);
        self.named.saturating_add(bytes) <= most
    }

    /// It is too early for the next checkpoint, and extents are plenty.
    fn log_may_grow(&self) -> bool {
        self.log.bytes() < self.enough() && self.server.pages().may_extend(self.log.side().log())
    }

    /// Saves the state behind the last record and goes on with the other side's log. If the checkpoint does not fit, the
    /// present log goes on growing.
    fn checkpoint(&mut self) {
        self.checkpoint_on(self.log.side().other());
    }

    fn checkpoint_on(&mut self, side: Side) {
        let body = encoded(&self.server.state(), Vec::with_capacity(self.checkpoint_bytes));
        if body.is_empty() {
            return;
        }
        let roots = self.server.roots();
        let sequence = self.log.sequence();
        // What the side's old checkpoint needs is needed no longer: it is about to be overwritten.
        let [of_a, of_b] = &mut self.held;
        let held = if side == Side::A { of_a } else { of_b };
        let old = core::mem::replace(held, roots.clone());
        self.server.let_go(&old);
        self.server.hold(&roots);
        self.named = 0;
        self.reached(Step::Checkpoint);
        if checkpoint::write(self.server.pages_mut(), side, sequence, &body) {
            self.log = Log::behind(side, sequence);
            self.checkpointed = sequence;
            self.checkpoint_bytes = body.len();
            self.figures.checkpoints = self.figures.checkpoints.saturating_add(1);
            self.reached(Step::Checkpointed);
        }
    }

    #[cfg(test)]
    pub(crate) fn checkpoint_now(&mut self) {
        self.checkpoint();
    }

    /// A whole frame around these bytes.
    #[cfg(test)]
    pub(crate) fn log_bytes(&mut self, body: &[u8]) {
        let _there_is_room = self.log.append(self.server.pages_mut(), body);
    }

    #[cfg(test)]
    pub(crate) fn log_length(&self) -> usize {
        self.log.bytes()
    }

    #[cfg(test)]
    pub(crate) fn damage_newest_checkpoint(&mut self) {
        let kind = self.log.side().checkpoint();
        self.server.pages_mut().write(kind, 0, &[0xff; 4]);
    }

    /// Everything committed so far is durable when this returns.
    pub fn seal(&mut self) -> Durable {
        let sequence = self.log.sequence();
        let pages = self.server.pages_mut();
        pages.barrier();
        // Not before the records are durable. The note itself need not be: without it, only damage would be noticed less.
        self.noted.note(pages, sequence);
        self.reached(Step::Sealed);
        Durable(())
    }

    /// `bytes` of this connection's output are about to become visible.
    pub fn publishing(&mut self, _sealed: &Durable, connection: ConnectionId, bytes: u32) {
        self.intended = self.intend(connection, bytes);
        if let Some((place, slot)) = self.intended {
            self.write_slot(place, slot);
        }
        self.reached(Step::Intended);
    }

    /// So many of them are visible now.
    pub fn published(&mut self, connection: ConnectionId, bytes: u32) {
        self.apply_published(connection, bytes);
        let intended = self.intended.take().filter(|(_, slot)| slot.connection == connection);
        let result = match intended {
            Some((place, slot)) => {
                let visible = slot.from.saturating_add(u64::from(bytes));
                let (from, to) = (visible, visible);
                Some((place, Slot { from, to, ..slot }))
            }
            // Intended by the life before.
            None => self.intend(connection, 0),
        };
        if let Some((place, slot)) = result {
            self.write_slot(place, slot);
        }
        self.reached(Step::Resulted);
    }

    /// The slot is this record's durable form.
    fn apply_published(&mut self, connection: ConnectionId, bytes: u32) {
        self.publication.changes.clear();
        self.publication.changes.push(Change::Published { connection, bytes });
        self.server.apply(&self.publication);
    }

    /// What is to be written down before these bytes are shown, and where. Nothing for a socket: it does not outlive the server, so nobody
    /// will ask what it had been shown.
    fn intend(&mut self, connection: ConnectionId, bytes: u32) -> Option<(usize, Slot)> {
        let state = self.server.connection(connection);
        let state = state.filter(|state| state.channel != Channel::Socket)?;
        let (resets, from) = (state.resets, state.bytes_out);
        let slot = Slot {
            connection,
            resets,
            from,
            to: from.saturating_add(u64::from(bytes)),
        };
        Some((self.places.of(connection), slot))
    }

    fn write_slot(&mut self, place: usize, slot: Slot) {
        if !slots::write(self.server.pages_mut(), place, slot) {
            self.figures.undurable = self.figures.undurable.saturating_add(1);
        }
    }

    /// Background upkeep of at most about `budget` bytes of work; invisible to clients. More pages are asked for where few
    /// are left.
    pub fn tidy(&mut self, budget: usize) {
        self.reached(Step::Tidy);
        let room = self.server.tree().room();
        self.let_go_of_the_past(room);
        self.server.pages_mut().grow_when_short(room < ROOM_KEPT);
        self.server.tidy(budget);
    }

    /// Checkpoints keep the trees that they were made of, and with them all that was removed since. Where room is short, they are
    /// made sooner than the log asks for.
    fn let_go_of_the_past(&mut self, room: usize) {
        let since = self.log.sequence().saturating_sub(self.checkpointed);
        if since >= RECORDS_BETWEEN && room < self.server.tree().capacity() / 4 {
            self.checkpoint();
        }
    }

    /// What was done.
    pub fn figures(&self) -> StoreFigures {
        self.figures
    }

    /// The memory, as a crash would leave it.
    pub fn into_pages(self) -> P {
        self.server.into_pages().into_pages()
    }
}

/// A record that was read back: its number, whose input it was, and what happened.
type InShort = (u64, Option<DomId>, &'static str);

fn note<P: Pages>(last: &mut VecDeque<InShort>, server: &Server<DurablePages<P>>, sequence: u64, record: &Record) {
    if last.len() >= LAST_RECORDS {
        last.pop_front();
    }
    let (connection, what) = record.in_short();
    let domid = connection.and_then(|id| server.connection(id)).map(|state| state.domid);
    last.push_back((sequence, domid, what));
}

fn in_short(last: &VecDeque<InShort>) -> String {
    let mut text = String::new();
    for (sequence, domid, what) in last {
        let _infallible = match domid {
            Some(domid) => write!(text, "{sequence}:d{domid}:{what} "),
            None => write!(text, "{sequence}:{what} "),
        };
    }
    text
}

/// The world, which reports the figures of the store, too.
struct WithFigures<'w, P: Pages> {
    world: &'w dyn World,
    store: &'w Store<P>,
}

impl<P: Pages> World for WithFigures<'_, P> {
    fn domain(&self, domid: DomId) -> DomainState {
        self.world.domain(domid)
    }

    fn wall_clock(&self) -> u64 {
        self.world.wall_clock()
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.world.report(out)?;
        let store = self.store;
        let (figures, pages) = (store.figures, store.server.pages().figures());
        writeln!(
            out,
            "records: {}\nrecords-undurable: {}\nrecords-replayed: {}\nlog-bytes: {}\ncheckpoints: {}\ncheckpoint-bytes: {}\n\
             extents: {}\nextents-free: {}\nextents-chunks: {}\nextents-tables: {}",
            figures.records,
            figures.undurable,
            figures.replayed,
            store.log.bytes(),
            figures.checkpoints,
            store.checkpoint_bytes,
            pages.extents,
            pages.free,
            pages.chunks,
            pages.tables
        )
    }
}
