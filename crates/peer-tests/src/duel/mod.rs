//! A peer and ours side by side: each request to both, and what every guest then gets compared.

mod commits;
pub mod domains;
pub mod exchange;
mod figures;
mod owners;

use std::collections::BTreeMap;

use native_rings::packages::{Product, Server};
use native_rings::{Failure, Life};
use xenstore_core::{Configuration, ConflictLimits};
use xenstore_wire::MessageType::{self, *};

use crate::debian::Debian;
use crate::differences::answers::Verdict;
use crate::differences::left_out::{self, Asking};
use crate::differences::{Changes, Circumstances, Difference, Occasion, Told, answers, events, limits};
use crate::guests::{Message, Peer, readable};
use crate::ours::Ours;
use crate::trace::{STRANGER, Step};
use domains::{Asked, Domains, Transaction};
use exchange::{Outcome, changes_domains, id_of, is_change, one};

pub use figures::{Figures, Mismatch};

/// Both servers, and what the driver knows of them.
pub struct Duel {
    product: Product,
    peer: Box<dyn Peer>,
    ours: Box<dyn Peer>,
    domains: Domains,
    next_request: u32,
    figures: Figures,
}

/// What is known of a node before MKDIR or RM in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nobody needs to know.
    NotNeeded,
    /// Whether it is there, on the peer and on ours.
    Found([bool; 2]),
    /// Ours may see another state than the peer and does not tell, so that the transaction cannot be followed any further.
    Hidden,
}

/// `Err`: something that nothing explains.
pub type Checked<T> = Result<T, Box<Mismatch>>;

impl Duel {
    /// Starts both with equal limits and a tree that is alike, and with what 4.17 lets guests see of other domains' ends:
    /// nothing. Ours without credit and leases.
    pub fn start(server: &Server) -> Result<Duel, Failure> {
        Duel::with(server, ConflictLimits::NONE)
    }

    /// The same with these ways of ours to pay for conflicts.
    pub fn with(server: &Server, conflicts: ConflictLimits) -> Result<Duel, Failure> {
        let product = server.product;
        let peer = Debian::start(server, &limits::options(product))?;
        let ours = Ours::start(Configuration {
            conflicts,
            ..limits::our_configuration(product)
        });
        let mut duel = Duel::new(product, Box::new(peer), Box::new(ours));
        duel.peer.build(STRANGER);
        duel.ours.build(STRANGER);
        let first = [
            (SetPerms, "@releaseDomain|n0|"),
            (Mkdir, "/local|"),
            (Write, "/tool/xenstored|"),
        ];
        for (kind, payload) in first {
            duel.ask(0, kind, payload)
                .unwrap_or_else(|mismatch| panic!("{mismatch}"));
        }
        Ok(duel)
    }

    /// Two that have been started already, with domain 0 connected.
    pub fn new(product: Product, peer: Box<dyn Peer>, ours: Box<dyn Peer>) -> Duel {
        Duel {
            product,
            peer,
            ours,
            domains: Domains::new(),
            next_request: 1,
            figures: Figures::default(),
        }
    }

    /// What was seen so far.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The two, for what is not a request that both answer.
    pub fn both(&mut self) -> [&mut dyn Peer; 2] {
        [self.peer.as_mut(), self.ours.as_mut()]
    }

    /// Carries out a whole trace.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), (usize, Box<Mismatch>)> {
        for (index, step) in steps.iter().enumerate() {
            self.step(step).map_err(|mismatch| (index, mismatch))?;
        }
        Ok(())
    }

    /// Carries out one step.
    pub fn step(&mut self, step: &Step) -> Checked<()> {
        match step {
            Step::Request {
                domid,
                within,
                kind,
                payload,
            } if self.domains.is_connected(*domid) && !self.leaves_out(*domid, within.is_some(), *kind, payload) => {
                let open = self.domains.open(*domid);
                match within {
                    Some(which) if open > 0 => self.inside(*domid, usize::from(*which) % open, *kind, payload),
                    _ => self.outside(*domid, *kind, payload).map(drop),
                }
            }
            Step::Start { domid } if self.domains.is_connected(*domid) => self.begin(*domid),
            Step::End { domid, which, commit } if self.domains.is_in_transaction(*domid) => {
                self.end(*domid, usize::from(*which) % self.domains.open(*domid), *commit)
            }
            // In C a target lives on, unreachable, until the domain that has it ends.
            Step::Life { domid, life } if *life != Life::Shutdown && self.domains.is_target(*domid) => Ok(()),
            // As in the table of what is left out.
            Step::Life { domid, life }
                if *life != Life::Shutdown && self.repeats_by_itself() && self.domains.is_named_inside(*domid) =>
            {
                Ok(())
            }
            Step::Life { domid, life } if self.domains.is_connected(*domid) => {
                self.life(*domid, *life)?;
                // What still has references to it goes on to its end, so that no domain stays half dead.
                if *life == Life::Dying {
                    self.life(*domid, Life::Absent)
                } else {
                    Ok(())
                }
            }
            Step::Revive { domid } if !self.domains.is_connected(*domid) => self.revive(*domid),
            Step::ReadAll => self.read_all(),
            Step::Request { .. } | Step::Start { .. } | Step::End { .. } => Ok(()),
            Step::Revive { .. } | Step::Life { .. } => Ok(()),
        }
    }

    /// The table says that this is not asked.
    fn leaves_out(&mut self, domid: u16, inside: bool, kind: u32, payload: &[u8]) -> bool {
        let asking = Asking {
            domid,
            kind,
            payload,
            inside: inside && self.domains.is_in_transaction(domid),
            domains: &self.domains,
        };
        let row = left_out::reason(self.product, &asking);
        if let Some(row) = row {
            *self.figures.left_out.entry(row.what).or_default() += 1;
        }
        row.is_some()
    }

    /// It repeats transactions that conflict before it gives up, which takes ids.
    fn repeats_by_itself(&self) -> bool {
        self.product == Product::OCaml417
    }

    /// A request of which both must think the same, outside transactions; `|` stands for NUL. The peer's answer.
    pub fn ask(&mut self, domid: u16, kind: MessageType, payload: &str) -> Checked<String> {
        let asked = self.outside(domid, kind as u32, payload.replace('|', "\0").as_bytes())?;
        Ok(asked.peer.text())
    }

    fn outside(&mut self, domid: u16, kind: u32, payload: &[u8]) -> Checked<Asked> {
        let seen = self.figures.times(Difference::CreatorSees);
        let asked = self.compared(domid, kind, (0, 0), payload)?;
        let only_creator_sees = self.figures.times(Difference::CreatorSees) > seen;
        let owned = self.figures.times(Difference::CreatorOwns);
        let succeeded = asked.peer.kind == kind && asked.ours.kind == kind;
        if asked.changes() || (changes_domains(kind) && succeeded) {
            self.domains.disturb();
        }
        if succeeded {
            if let Some(started) = self.domains.follow(domid, kind, payload) {
                self.peer.restart(started);
                self.ours.restart(started);
            }
            if kind == Release as u32 {
                self.count_generation()?;
            }
            if self.may_make_for_others(domid, kind) {
                self.give_to_creator(domid, payload)?;
            }
            if only_creator_sees && self.figures.times(Difference::CreatorOwns) == owned {
                let text = "seen as if its owner differed".to_owned();
                return Err(mismatch(domid, kind, payload, "events", text, String::new()));
            }
        }
        Ok(asked)
    }

    fn may_make_for_others(&self, domid: u16, kind: u32) -> bool {
        let makes = kind == Write as u32 || kind == Mkdir as u32;
        self.product == Product::OCaml417 && domid != 0 && makes
    }

    /// A domain has ended. C tells a permission for it from one for the next domain with its number by a count of writes, and
    /// is wrong if there was none between the one's end and the other's beginning (since 4.22 the permission is removed).
    fn count_generation(&mut self) -> Checked<()> {
        self.ask(0, Write, "/tool/xenstored|").map(drop)
    }

    /// Sends a request to both and compares everything.
    fn compared(&mut self, domid: u16, kind: u32, ids: (u32, u32), payload: &[u8]) -> Checked<Asked> {
        let (peer, ours) = self.exchange(domid, kind, ids, payload)?;
        self.compare_answers(domid, kind, payload, &peer.answer, &ours.answer)?;
        let outside = ids == (0, 0) && is_change(kind);
        let mut changes = Changes::default();
        if outside {
            changes.requests.push((kind, payload.to_vec()));
        }
        self.compare_events(domid, kind, payload, &changes, (&peer, &ours))?;
        Ok(Asked::new(kind, payload, peer.answer, ours.answer))
    }

    fn circumstances<'a>(&'a self, domid: u16, occasion: Occasion<'a>, changes: &'a Changes) -> Circumstances<'a> {
        Circumstances {
            product: self.product,
            domid,
            occasion,
            died: self.domains.died(),
            any_shut: self.domains.any_shut(),
            ids_differ: self.domains.ids_differ(domid),
            changes,
        }
    }

    fn compare_answers(
        &mut self,
        domid: u16,
        kind: u32,
        payload: &[u8],
        peer: &Message,
        ours: &Message,
    ) -> Checked<()> {
        let none = Changes::default();
        let circumstances = self.circumstances(domid, Occasion::Request { kind, payload }, &none);
        match answers::compare(&circumstances, peer, ours) {
            Verdict::Same if peer.kind == 16 => self.figures.errors += 1,
            Verdict::Same => *self.figures.successes.entry(kind).or_default() += 1,
            Verdict::Named(difference) => self.figures.met(difference),
            Verdict::Unexplained => return Err(mismatch(domid, kind, payload, "answers", peer.text(), ours.text())),
        }
        Ok(())
    }

    fn compare_events(
        &mut self,
        domid: u16,
        kind: u32,
        payload: &[u8],
        changes: &Changes,
        (peer, ours): (&Outcome, &Outcome),
    ) -> Checked<()> {
        let circumstances = self.circumstances(domid, Occasion::Request { kind, payload }, changes);
        let Some(met) = events::explain(&circumstances, &peer.told, &ours.told) else {
            let text = |told: &Told| format!("{told:?}");
            return Err(mismatch(
                domid,
                kind,
                payload,
                "events",
                text(&peer.told),
                text(&ours.told),
            ));
        };
        met.into_iter().for_each(|difference| self.figures.met(difference));
        let messages: usize = peer.told.values().map(Vec::len).sum();
        self.figures.events += u64::try_from(messages.saturating_sub(1)).unwrap_or(0);
        Ok(())
    }

    /// Sends a request to both and waits until both have done all there is to do.
    fn exchange(&mut self, domid: u16, kind: u32, ids: (u32, u32), payload: &[u8]) -> Checked<(Outcome, Outcome)> {
        let request = self.next_request;
        self.next_request += 1;
        self.figures.requests += 1;
        let peer = one(self.peer.as_mut(), domid, request, kind, ids.0, payload);
        let ours = one(self.ours.as_mut(), domid, request, kind, ids.1, payload);
        match (peer, ours) {
            (Ok(peer), Ok(ours)) => {
                let named = (peer.answer.transaction, ours.answer.transaction);
                let is_of_watches = kind == Watch as u32 || kind == Unwatch as u32;
                if named == (0, ids.1) && ids.0 != 0 && is_of_watches && self.product == Product::OCaml417 {
                    self.figures.met(Difference::WatchAnswerOutside);
                } else if named != ids {
                    let text = |id: u32| format!("names transaction {id}");
                    return Err(mismatch(domid, kind, payload, "ids", text(named.0), text(named.1)));
                }
                Ok((peer, ours))
            }
            (peer, ours) => {
                let text =
                    |side: Result<Outcome, String>| side.map_or_else(|text| text, |outcome| outcome.answer.text());
                Err(mismatch(domid, kind, payload, "single answers", text(peer), text(ours)))
            }
        }
    }

    fn begin(&mut self, domid: u16) -> Checked<()> {
        let asked = self.compared(domid, TransactionStart as u32, (0, 0), b"\0")?;
        if let (Some(peer), Some(ours)) = (id_of(&asked.peer), id_of(&asked.ours))
            && let Some(client) = self.domains.client(domid)
        {
            client.transactions.push(Transaction {
                peer,
                ours,
                asked: Vec::new(),
                disturbed: false,
            });
        }
        Ok(())
    }

    fn inside(&mut self, domid: u16, which: usize, kind: u32, payload: &[u8]) -> Checked<()> {
        let Some(transaction) = self
            .domains
            .client(domid)
            .and_then(|client| client.transactions.get(which))
        else {
            return Ok(());
        };
        let (ids, disturbed) = ((transaction.peer, transaction.ours), transaction.disturbed);
        let look = self.look_first(domid, which, kind, payload)?;
        if look == Look::Hidden {
            return self.end(domid, which, false);
        }
        let (peer, ours) = self.exchange(domid, kind, ids, payload)?;
        if !disturbed {
            self.compare_answers(domid, kind, payload, &peer.answer, &ours.answer)?;
        }
        self.compare_events(domid, kind, payload, &Changes::default(), (&peer, &ours))?;
        let mut asked = Asked::new(kind, payload, peer.answer, ours.answer);
        if let Look::Found(was_there) = look {
            asked.idle = was_there.map(|was_there| was_there == (kind == Mkdir as u32));
        }
        let succeeded = asked.peer.kind == kind && asked.ours.kind == kind;
        if let Some(client) = self.domains.client(domid) {
            client.transactions[which].asked.push(asked);
        }
        if succeeded && self.may_make_for_others(domid, kind) {
            return self.end_if_not_creators(domid, which, payload);
        }
        Ok(())
    }

    /// oxenstored commits a transaction that changed nothing whatever others did, so the driver must know whether MKDIR and RM
    /// will change something: whether the node is there, on the peer (which hides that from nobody) and on ours.
    fn look_first(&mut self, domid: u16, which: usize, kind: u32, payload: &[u8]) -> Checked<Look> {
        let may_be_idle = kind == Mkdir as u32 || kind == Rm as u32;
        if self.product != Product::OCaml417 || !may_be_idle {
            return Ok(Look::NotNeeded);
        }
        self.inside(domid, which, Read as u32, payload)?;
        let transaction = self
            .domains
            .client(domid)
            .and_then(|client| client.transactions.get(which));
        let Some((looked, disturbed)) = transaction.and_then(|one| Some((one.asked.last()?, one.disturbed))) else {
            return Ok(Look::NotNeeded);
        };
        let there = looked.peer.text() != "!ENOENT";
        if looked.ours.text() != "!EACCES" {
            Ok(Look::Found([there, looked.ours.kind != 16]))
        } else if !disturbed {
            Ok(Look::Found([there, there]))
        } else {
            Ok(Look::Hidden)
        }
    }

    fn life(&mut self, domid: u16, life: Life) -> Checked<()> {
        if life == Life::Shutdown {
            self.domains.shut_down(domid);
        }
        self.peer.domain_is(domid, life);
        self.ours.domain_is(domid, life);
        let differ = |what, peer, ours| {
            let request = format!("domain {domid} is {life:?}");
            Box::new(Mismatch {
                request,
                what,
                peer,
                ours,
            })
        };
        let silent = |text: String| differ("lives", text, String::new());
        let sides = [self.peer.settle().map_err(silent)?, self.ours.settle().map_err(silent)?];
        let [peer, ours] = sides.map(|all| -> Told {
            let texts = |messages: Vec<Message>| messages.iter().map(Message::text).collect();
            all.into_iter()
                .map(|(to, messages)| (to, texts(messages)))
                .collect::<BTreeMap<_, _>>()
        });
        let none = Changes::default();
        let circumstances = self.circumstances(domid, Occasion::Life, &none);
        let Some(met) = events::explain(&circumstances, &peer, &ours) else {
            return Err(differ("events", format!("{peer:?}"), format!("{ours:?}")));
        };
        met.into_iter().for_each(|difference| self.figures.met(difference));
        self.figures.events += peer.values().map(|list| list.len() as u64).sum::<u64>();
        if life == Life::Absent || life == Life::Dying {
            self.domains.gone(domid);
            self.domains.not_shut_down(domid);
            self.count_generation()?;
        }
        self.domains.disturb();
        Ok(())
    }

    fn revive(&mut self, domid: u16) -> Checked<()> {
        self.peer.build(domid);
        self.ours.build(domid);
        self.domains.not_shut_down(domid);
        self.ask(0, Introduce, &format!("{domid}|1|{}|", domid + 1))?;
        self.ask(0, Mkdir, &format!("/local/domain/{domid}|"))?;
        self.ask(0, SetPerms, &format!("/local/domain/{domid}|n{domid}|"))
            .map(drop)
    }

    fn read_all(&mut self) -> Checked<()> {
        let mut paths = vec!["/".to_owned()];
        while let Some(path) = paths.pop() {
            let payload = format!("{path}|");
            self.ask(0, Read, &payload)?;
            self.ask(0, GetPerms, &payload)?;
            let children = self.ask(0, Directory, &payload)?;
            if !children.starts_with('!') {
                let below = if path == "/" { "" } else { &path };
                let children = children.split_terminator('|').filter(|child| !child.starts_with('@'));
                paths.extend(children.map(|child| format!("{below}/{child}")));
            }
        }
        Ok(())
    }
}

fn mismatch(domid: u16, kind: u32, payload: &[u8], what: &'static str, peer: String, ours: String) -> Box<Mismatch> {
    let kind = MessageType::from_wire(kind).map_or_else(|| format!("type {kind}"), |kind| format!("{kind:?}"));
    Box::new(Mismatch {
        request: format!("d{domid} {kind} {}", readable(payload)),
        what,
        peer,
        ours,
    })
}
