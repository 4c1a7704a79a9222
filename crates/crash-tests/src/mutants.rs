//! Histories that are not the server's: one store is left out, or two change places. Whoever makes stores in a wrong order, or
//! forgets one, makes such histories; that the checker notices them shows that it can notice.
//!
//! A store that is left out is lacking in a copy of the pages, and the next crashes are tried on that. Of two stores that change
//! places only one moment is new: the second is made and the first is not. A crash at that moment must come to what it comes to
//! before both or behind both; before both only if no client can know of the second, behind both only if none should know of the
//! first. What a crash comes to is the state, what each ring then looks like to the server, and what is in it to be read.

use std::collections::BTreeMap;
use std::rc::Rc;

use seeded_random::Random;
use xenstore_ring::{MemoryPage, RING_SIZE, SharedPage, offset};
use xenstore_service::{Link, LinkState};

use crate::checker::{Checker, Figures, Rings, WORDS, reached, tried};
use crate::form::canonical;
use crate::memory::Extents;

/// Crashes that a history without a store is tried at before it counts as not noticed.
const PATIENCE: u32 = 60;
/// Histories without a store that are followed at once.
const FOLLOWED: usize = 4;
/// Stores that a store into a ring is made too early by, at most: more than lie between a record and its reply.
const EARLY: u32 = 12;

/// What is about to happen.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// A store into the durable pages.
    Pages(usize, &'a [u8]),
    /// A store into the ring page of a domain.
    Ring(u16, usize, &'a [u8]),
    /// Something that the machine is asked to do.
    Machine,
}

/// The ring pages of connected domains, whole.
pub type Faces = BTreeMap<u16, Rc<MemoryPage>>;

/// A copy of a ring page.
pub fn copy(page: &impl SharedPage) -> MemoryPage {
    let copy = MemoryPage::new();
    let mut rings = [0; offset::REQ_CONS];
    page.read(offset::REQUESTS, &mut rings);
    copy.write(offset::REQUESTS, &rings);
    for word in 0..WORDS {
        let at = offset::REQ_CONS + 4 * word;
        copy.store(at, page.load(at));
    }
    copy
}

/// What a life can leave: pages and rings.
#[derive(Clone)]
struct Left {
    memory: Extents,
    faces: Faces,
}

impl Left {
    /// With one thing more done. None if it is the machine's.
    fn with(&self, what: What<'_>) -> Option<Left> {
        let mut left = self.clone();
        match what {
            What::Pages(at, bytes) => left.memory.write(at, bytes),
            What::Ring(domid, at, bytes) => {
                let page = copy(&**left.faces.get(&domid)?);
                match bytes.first_chunk() {
                    Some(word) if at >= offset::REQ_CONS => page.store(at, u32::from_le_bytes(*word)),
                    _ => page.write(at, bytes),
                }
                left.faces.insert(domid, Rc::new(page));
            }
            What::Machine => return None,
        }
        Some(left)
    }

    /// What a crash comes to.
    fn outcome(&self) -> Outcome {
        let (store, rings) = reached(self.memory.clone(), None, |domid| {
            self.faces.get(&domid).map(|page| copy(&**page))
        })?;
        let mut looks = Vec::new();
        for (connection, mut link) in rings {
            let domid = store.server().connection(connection).map_or(0, |state| state.domid.0);
            let look = link.look();
            looks.push((domid, look, shown(&link.into_page())));
        }
        Ok((canonical(store.server()), looks))
    }
}

/// State, and of each ring what it looks like and what is in it to be read; or why there is none.
type Outcome = Result<(Vec<u8>, Vec<(u16, LinkState, Vec<u8>)>), String>;

/// What a client has not taken yet.
fn shown(page: &impl SharedPage) -> Vec<u8> {
    let from = page.load(offset::RSP_CONS);
    let length = page.load(offset::RSP_PROD).wrapping_sub(from).min(RING_SIZE);
    let mut bytes = vec![0; length as usize];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let place = from.wrapping_add(at as u32) % RING_SIZE;
        page.read(offset::RESPONSES + place as usize, std::slice::from_mut(byte));
    }
    bytes
}

/// Pages from which one store was left out.
struct Lacking {
    site: &'static str,
    memory: Extents,
    patience: u32,
    /// The store is about to be made.
    now: bool,
}

/// What was there before a store, which later ones may overtake.
struct Overtaken {
    site: &'static str,
    place: Option<(Option<u16>, usize, usize)>,
    left: Left,
    age: u32,
}

/// Two stores changed places, and the second is about to be made.
struct Swapped {
    first: &'static str,
    second: &'static str,
    next: bool,
    before: Outcome,
    between: Outcome,
}

/// All mutants of a stream.
pub struct Mutants {
    one_in: u32,
    only: Option<&'static str>,
    random: Random,
    lacking: Vec<Lacking>,
    overtaken: Vec<Overtaken>,
    swapped: Vec<Swapped>,
}

impl Mutants {
    /// One of so many stores is left out, and one changes places; 0 = none. Only those of one site are left out, if that is named.
    pub fn new(one_in: u32, only: Option<&'static str>, seed: u64) -> Mutants {
        Mutants {
            one_in,
            only,
            random: Random::new(seed ^ 0x3a17),
            lacking: Vec::new(),
            overtaken: Vec::new(),
            swapped: Vec::new(),
        }
    }

    /// There are to be some.
    pub fn wanted(&self) -> bool {
        self.one_in != 0
    }

    /// Something is about to happen at this site. What came before it is tried.
    pub fn before(
        &mut self,
        checker: &mut Checker,
        site: &'static str,
        what: What<'_>,
        rings: &Rings,
        faces: impl Fn() -> Faces,
    ) {
        self.try_lacking(checker, rings);
        if !self.swapped.is_empty() {
            let after = left(checker, &faces).outcome();
            for swapped in self.swapped.drain(..) {
                swapped.count(&after, &mut checker.figures);
            }
        }
        self.overtake(site, what);
        let wanted = matches!(what, What::Pages(..)) && self.only.is_none_or(|only| only == site);
        if wanted && self.lacking.len() < FOLLOWED && self.random.one_in(self.one_in) {
            self.lacking.push(Lacking {
                site,
                memory: checker.memory().clone(),
                patience: PATIENCE,
                now: true,
            });
        }
        if !matches!(what, What::Machine) && self.overtaken.is_empty() && self.random.one_in(self.one_in) {
            self.overtaken.push(Overtaken {
                site,
                place: place(what),
                left: left(checker, &faces),
                age: 0,
            });
        }
    }

    /// A store into the pages was made.
    pub fn stored(&mut self, at: usize, bytes: &[u8]) {
        for lacking in &mut self.lacking {
            if !std::mem::take(&mut lacking.now) {
                lacking.memory.write(at, bytes);
            }
        }
    }

    /// Extents were added.
    pub fn grown(&mut self, extents: usize) {
        self.lacking.iter_mut().for_each(|lacking| lacking.memory.add(extents));
        // What was there before them is not comparable any more.
        self.overtaken.clear();
    }

    fn try_lacking(&mut self, checker: &mut Checker, rings: &Rings) {
        let expected = checker.expected();
        self.lacking.retain_mut(|lacking| {
            let noticed = tried(lacking.memory.clone(), rings, None, &expected).is_err();
            lacking.patience -= 1;
            let counts = checker.figures.dropped.entry(lacking.site).or_default();
            match (noticed, lacking.patience) {
                (true, _) => counts.0 += 1,
                (false, 0) => counts.1 += 1,
                (false, _) => return true,
            }
            false
        });
    }

    /// This comes before what it should come behind.
    fn overtake(&mut self, site: &'static str, what: What<'_>) {
        let into_ring = matches!(what, What::Ring(_, at, _) if at >= offset::REQ_CONS);
        for overtaken in &mut self.overtaken {
            overtaken.age += 1;
            let next = overtaken.age == 1;
            let overtakes = next || into_ring && overtaken.is_durable();
            if !overtakes || overtaken.meets(what) {
                continue;
            }
            if let Some(between) = overtaken.left.with(what) {
                self.swapped.push(Swapped {
                    first: overtaken.site,
                    second: site,
                    next,
                    before: overtaken.left.outcome(),
                    between: between.outcome(),
                });
            }
        }
        self.overtaken.retain(|overtaken| overtaken.age < EARLY);
    }
}

fn left(checker: &Checker, faces: impl Fn() -> Faces) -> Left {
    Left {
        memory: checker.memory().clone(),
        faces: faces(),
    }
}

/// Where a store goes: into whose ring page or the pages, from where to where.
fn place(what: What<'_>) -> Option<(Option<u16>, usize, usize)> {
    match what {
        What::Pages(at, bytes) => Some((None, at, at + bytes.len())),
        What::Ring(domid, at, bytes) => Some((Some(domid), at, at + bytes.len())),
        What::Machine => None,
    }
}

impl Overtaken {
    fn is_durable(&self) -> bool {
        matches!(self.place, Some((None, ..)))
    }

    /// Both go to the same place: whichever comes last would be what stays.
    fn meets(&self, what: What<'_>) -> bool {
        let both = self.place.zip(place(what));
        both.is_some_and(|(a, b)| a.0 == b.0 && a.1 < b.2 && b.1 < a.2)
    }
}

impl Swapped {
    fn count(self, after: &Outcome, figures: &mut Figures) {
        let visible = |site| site == "ring producer";
        let as_before = self.between == self.before && !visible(self.second);
        let as_after = self.between == *after && !visible(self.first);
        let counts = if self.next {
            &mut figures.swapped
        } else {
            &mut figures.early
        };
        let counts = counts.entry((self.first, self.second)).or_default();
        if (as_before || as_after) && self.between.is_ok() {
            counts.1 += 1;
        } else {
            counts.0 += 1;
        }
    }
}
