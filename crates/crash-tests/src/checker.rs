//! Knows from the stores alone what is durable and what clients see, and holds every crash against it.
//!
//! A second server, the shadow, never crashes. It gets each record at the moment when the last byte of its frame is stored, and
//! what is published when the ring's index is. So at every moment it is what the pages and the rings together must come to,
//! wherever a life ends. A crash is tried on a copy of the pages: it is recovered, the rings are asked, and the whole state
//! must be that of the shadow.

use std::collections::BTreeMap;
use std::rc::Rc;

use crc::{CRC_32_ISCSI, Crc};
use seeded_random::Random;
use xenstore_core::tree::PlainMemory;
use xenstore_core::{Change, Channel, Configuration, ConnectionId, Record, Server};
use xenstore_recovery::{DurablePages, Recovered, Store};
use xenstore_ring::{SharedPage, offset};
use xenstore_service::RingLink;

use crate::form::canonical;
use crate::memory::{Extents, Moments, SimulatedPages};
use crate::site::{FRAME, HEAD, Layout, kind};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Bytes that the shadow's tree may take.
const SHADOW: usize = 4 << 20;
/// Words of a ring page behind its rings that say something.
pub const WORDS: usize = 8;
/// A store of a recovery is a crash point, too, in one of so many recoveries.
const NESTED: u32 = 64;

/// The checksum of these bytes together.
pub fn crc(parts: &[&[u8]]) -> [u8; 4] {
    let mut digest = CRC.digest();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().to_le_bytes()
}

/// The words of the ring pages of connected domains.
pub type Rings = BTreeMap<u16, [u32; WORDS]>;

/// The rings of connections.
pub type Links<P> = Vec<(ConnectionId, RingLink<P>)>;

/// A ring page without its rings: what a recovery looks at.
struct Words(std::cell::RefCell<[u32; WORDS]>);

impl SharedPage for Words {
    fn load(&self, at: usize) -> u32 {
        let word = at.checked_sub(offset::REQ_CONS).map(|at| at / 4);
        word.and_then(|word| self.0.borrow().get(word).copied()).unwrap_or(0)
    }
    fn store(&self, at: usize, value: u32) {
        let word = at.checked_sub(offset::REQ_CONS).map(|at| at / 4);
        if let Some(word) = word.and_then(|word| self.0.borrow().get(word).map(|_| word)) {
            self.0.borrow_mut()[word] = value;
        }
    }
    fn read(&self, _: usize, out: &mut [u8]) {
        out.fill(0);
    }
    fn write(&self, _: usize, _: &[u8]) {}
}

/// The words of a page.
pub fn words(page: &impl SharedPage) -> [u32; WORDS] {
    std::array::from_fn(|word| page.load(offset::REQ_CONS + 4 * word))
}

/// What was counted.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    /// Crashes before a store.
    pub before: u64,
    /// Crashes in the middle of a store.
    pub torn: u64,
    /// Crashes in a recovery.
    pub nested: u64,
    /// Lives that really ended, after which the stream went on.
    pub lives: u64,
    /// Crashes by site, by what was going on, and by the kind of state.
    pub met: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    /// Stores left out by site: noticed, and not.
    pub dropped: BTreeMap<&'static str, (u64, u64)>,
    /// Stores that changed places with the one behind them, by their sites: noticed, and not.
    pub swapped: Noticed,
    /// Stores into rings that were made before a durable one that they should have come behind, at any distance: noticed, and not.
    pub early: Noticed,
}

/// For two sites how often it was noticed, and not.
pub type Noticed = BTreeMap<(&'static str, &'static str), (u64, u64)>;

impl Figures {
    /// All crashes.
    pub fn points(&self) -> u64 {
        self.before + self.torn + self.nested + self.lives
    }

    /// Those of another run, too.
    pub fn add(&mut self, other: &Figures) {
        self.before += other.before;
        self.torn += other.torn;
        self.nested += other.nested;
        self.lives += other.lives;
        for (key, count) in &other.met {
            *self.met.entry(*key).or_default() += count;
        }
        for (key, (noticed, not)) in &other.dropped {
            let sum = self.dropped.entry(key).or_default();
            *sum = (sum.0 + noticed, sum.1 + not);
        }
        for (sums, counts) in [(&mut self.swapped, &other.swapped), (&mut self.early, &other.early)] {
            for (key, (noticed, not)) in counts {
                let sum = sums.entry(*key).or_default();
                *sum = (sum.0 + noticed, sum.1 + not);
            }
        }
    }
}

/// The checker of one stream.
pub struct Checker {
    memory: Extents,
    layout: Layout,
    shadow: Server<PlainMemory>,
    /// The last record that is durable.
    sequence: u64,
    /// Kind of the log, and where its next frame goes.
    log: (u8, usize),
    /// Where the frame of the last record is.
    last_record: Option<(u8, usize)>,
    expected: Option<Rc<Vec<u8>>>,
    random: Random,
    /// It is not yet checked: the store is being made.
    pub live: bool,
    /// What was counted.
    pub figures: Figures,
}

impl Checker {
    /// For a server of this configuration in these pages, which are blank.
    pub fn new(configuration: Configuration, memory: Extents, seed: u64) -> Checker {
        Checker {
            layout: Layout::of(&memory),
            memory,
            shadow: Server::new(configuration, PlainMemory::new(SHADOW)),
            sequence: 0,
            log: (kind::LOG_A, 0),
            last_record: None,
            expected: None,
            random: Random::new(seed),
            live: false,
            figures: Figures::default(),
        }
    }

    /// The pages as they are.
    pub fn memory(&self) -> &Extents {
        &self.memory
    }

    /// What must have survived.
    pub fn shadow(&self) -> &Server<PlainMemory> {
        &self.shadow
    }

    /// The site of a store into the pages.
    pub fn site(&self, at: usize, bytes: &[u8]) -> &'static str {
        self.layout.site(at, bytes, self.log)
    }

    /// What every crash must come to now.
    pub fn expected(&mut self) -> Rc<Vec<u8>> {
        let shadow = &self.shadow;
        Rc::clone(self.expected.get_or_insert_with(|| Rc::new(canonical(shadow))))
    }

    /// The life could end here. `store`: what is stored into the pages next.
    pub fn point(
        &mut self,
        site: &'static str,
        during: (&'static str, &'static str),
        rings: &Rings,
        store: Option<(usize, &[u8])>,
    ) {
        *self.figures.met.entry((site, during.0, during.1)).or_default() += 1;
        let expected = self.expected();
        let moments = self.random.one_in(NESTED).then(Moments::default);
        self.figures.before += 1;
        let outcome = tried(self.memory.clone(), rings, moments.clone(), &expected);
        self.must(outcome, site, during);
        for moment in moments.map(|moments| moments.take()).unwrap_or_default() {
            self.figures.nested += 1;
            let outcome = tried(moment, rings, None, &expected);
            self.must(outcome, site, ("a recovery", during.0));
        }
        if let Some((at, bytes)) = store
            && bytes.len() > 8
        {
            self.tear(site, during, rings, at, bytes);
        }
    }

    /// The life ends in the middle of a store.
    fn tear(
        &mut self,
        site: &'static str,
        during: (&'static str, &'static str),
        rings: &Rings,
        at: usize,
        bytes: &[u8],
    ) {
        let cut = 1 + self.random.below(bytes.len() as u32 - 1) as usize;
        let mut torn = self.memory.clone();
        torn.write(at, &bytes[..cut]);
        let extent = torn.extent(at / xenstore_recovery::EXTENT);
        let inside = at % xenstore_recovery::EXTENT;
        // What was there may be the same bytes.
        if extent.get(inside..inside + bytes.len()) == Some(bytes) {
            return;
        }
        self.figures.torn += 1;
        let expected = self.expected();
        let outcome = tried(torn, rings, None, &expected);
        self.must(outcome, site, during);
    }

    fn must(&self, outcome: Result<(), String>, site: &str, during: (&str, &str)) {
        if let Err(other) = outcome {
            let shadow = format!("{:?}", self.shadow.state());
            panic!(
                "a crash before a store ({site}) during {} ({}) comes back as another state: {}",
                during.0,
                during.1,
                difference(&other, &shadow)
            );
        }
    }

    /// A store into the pages was made.
    pub fn stored(&mut self, at: usize, bytes: &[u8]) {
        self.memory.write(at, bytes);
        if Layout::changes(at) {
            self.layout = Layout::of(&self.memory);
        }
        let (of, place) = self.layout.place(at);
        if of == self.log.0 {
            while let Some((mut record, length)) = self.next_record() {
                assert!(self.shadow.make_whole(&mut record), "a record of another store");
                self.shadow.apply(&record);
                self.sequence += 1;
                self.last_record = Some(self.log);
                self.log.1 += FRAME + length;
                self.expected = None;
            }
        }
        let head = of >= kind::CHECKPOINT_A && place == 0 && bytes.len() == HEAD && bytes.iter().any(|byte| *byte != 0);
        if head {
            assert_eq!(
                bytes[..8],
                self.sequence.to_le_bytes(),
                "a checkpoint of another record than the last"
            );
            self.log = (of - 2, 0);
            self.last_record = None;
        }
    }

    /// Extents were added.
    pub fn grown(&mut self, extents: usize) {
        self.memory.add(extents);
        self.layout = Layout::of(&self.memory);
    }

    /// The record whose frame is next, if it is whole, and the length of its body.
    fn next_record(&self) -> Option<(Record, usize)> {
        let (log, at) = self.log;
        let frame = self.layout.read(&self.memory, log, at, FRAME)?;
        let length = u32::from_le_bytes(*frame.get(8..)?.first_chunk::<4>()?) as usize;
        if frame[..8] != (self.sequence + 1).to_le_bytes() || length > 1 << 20 {
            return None;
        }
        let body = self.layout.read(&self.memory, log, at + FRAME, length)?;
        if frame[12..] != crc(&[&frame[..12], &body]) {
            return None;
        }
        let record = postcard::from_bytes(&body).unwrap_or_else(|why| panic!("a record that cannot be read: {why}"));
        Some((record, length))
    }

    /// The number of the last record before the newest checkpoint, and the body of that.
    pub fn newest_checkpoint(&self) -> Option<(u64, Vec<u8>)> {
        let kind = self.log.0 + 2;
        let head = self.layout.read(&self.memory, kind, 0, HEAD)?;
        let sequence = u64::from_le_bytes(*head.first_chunk()?);
        let length = u64::from_le_bytes(*head[8..].first_chunk()?) as usize;
        Some((sequence, self.layout.read(&self.memory, kind, HEAD, length)?))
    }

    /// The number of the last record and its body, if it came after the newest checkpoint.
    pub fn last_record(&self) -> Option<(u64, Vec<u8>)> {
        let (log, at) = self.last_record?;
        let body = self
            .layout
            .read(&self.memory, log, at + FRAME, self.log.1 - at - FRAME)?;
        Some((self.sequence, body))
    }

    /// The pages with another newest checkpoint, and without the older one, which leads to the same state by another road.
    pub fn with_checkpoint(&self, bytes: &[u8]) -> Option<Extents> {
        let (newest, other) = (self.log.0 + 2, (self.log.0 + 2) ^ 1);
        let mut memory = self.with(newest, 0, bytes)?;
        memory.write(self.layout.at(other, 0)?, &[0; HEAD]);
        Some(memory)
    }

    /// The pages with another last record.
    pub fn with_record(&self, bytes: &[u8]) -> Option<Extents> {
        let (log, at) = self.last_record?;
        self.with(log, at, bytes)
    }

    fn with(&self, kind: u8, at: usize, bytes: &[u8]) -> Option<Extents> {
        let mut memory = self.memory.clone();
        for (offset, byte) in bytes.iter().enumerate() {
            memory.write(self.layout.at(kind, at + offset)?, &[*byte]);
        }
        Some(memory)
    }

    /// A client sees so many bytes more.
    pub fn published(&mut self, domid: u16, bytes: u32) {
        let mut connections = self.shadow.connections();
        let connection = connections.find(|(_, state)| state.domid.0 == domid).map(|(id, _)| id);
        drop(connections);
        if let Some(connection) = connection {
            let record = Record {
                changes: vec![Change::Published { connection, bytes }],
                ..Record::default()
            };
            self.shadow.apply(&record);
            self.expected = None;
        }
    }

    /// The live server is what it must be.
    pub fn same(&mut self, server: &Server<DurablePages<SimulatedPages>>) {
        let (live, expected) = (canonical(server), self.expected());
        if live != *expected {
            let texts = (format!("{:?}", server.state()), format!("{:?}", self.shadow.state()));
            panic!(
                "the live server is not what was made durable: {}",
                difference(&texts.0, &texts.1)
            );
        }
    }
}

/// Recovers from a copy of the pages and says whether that comes to what it must.
pub fn tried(memory: Extents, rings: &Rings, moments: Option<Moments>, expected: &[u8]) -> Result<(), String> {
    let page = |domid| rings.get(&domid).map(|words| Words((*words).into()));
    let (store, _) = reached(memory, moments, page)?;
    if canonical(store.server()) == *expected {
        Ok(())
    } else {
        Err(format!("{:?}", store.server().state()))
    }
}

/// A server from these pages, and the rings of its connections, which were asked.
pub fn reached<P: SharedPage>(
    memory: Extents,
    moments: Option<Moments>,
    page: impl Fn(u16) -> Option<P>,
) -> Result<(Store<SimulatedPages>, Links<P>), String> {
    let recovered = Store::recover(SimulatedPages::trial(memory, moments));
    let Recovered {
        mut store, publishing, ..
    } = recovered.map_err(|(_, lost)| format!("{lost:?}"))?;
    let mut shown: Vec<(ConnectionId, u32)> = Vec::new();
    let mut links = Vec::new();
    for (connection, state) in store.server().connections() {
        let open = publishing.iter().find(|(id, _)| *id == connection);
        let open = open.map_or(0, |(_, bytes)| *bytes);
        let page = page(state.domid.0).filter(|_| matches!(state.channel, Channel::Ring { .. }));
        if let Some(page) = page {
            let features = store.server().features_of(state.domid);
            let (link, published) = RingLink::recover(page, state, open, features);
            links.push((connection, link));
            if published {
                shown.push((connection, open));
            }
        }
    }
    for (connection, bytes) in shown {
        store.published(connection, bytes);
    }
    Ok((store, links))
}

/// Where two states differ, as text, but for roots and peaks. If only nodes do, nothing is shown.
fn difference(a: &str, b: &str) -> String {
    let readable = |text: &str| {
        let mut text = text.to_owned();
        for (before, after) in [("Root(", ')'), ("Maxima {", '}')] {
            let parts = text.split(before).enumerate();
            let left = parts.map(|(number, part)| match number {
                0 => part,
                _ => part.split_once(after).map_or(part, |(_, rest)| rest),
            });
            text = left.collect();
        }
        text.into_bytes()
    };
    let (a, b) = (readable(a), readable(b));
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let part = |text: &[u8]| {
        let end = (same + 300).min(text.len());
        String::from_utf8_lossy(&text[same.saturating_sub(200).min(end)..end]).into_owned()
    };
    format!("\n    {}\n    {}", part(&a), part(&b))
}
