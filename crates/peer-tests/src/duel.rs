//! Both servers side by side: each request to both, and what every guest then gets compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use native_rings::packages::Xenstored;
use native_rings::{Failure, Life};
use xenstore_wire::Header;
use xenstore_wire::MessageType::{self, *};

use crate::debian::Debian;
use crate::differences::{self, Circumstances, Difference, Verdict};
use crate::guests::{Message, Peer, readable};
use crate::ours::Ours;
use crate::trace::{STRANGER, Step};

/// The two gave different things and nothing explains it.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// What was asked.
    pub request: String,
    /// What differs.
    pub what: &'static str,
    /// C's side of it.
    pub c: String,
    /// Our side of it.
    pub ours: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} differ after {}\n    C:    {}\n    ours: {}",
            self.what, self.request, self.c, self.ours
        )
    }
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests to each of the two.
    pub requests: u64,
    /// Events that both sent.
    pub events: u64,
    /// Answers that were errors on both.
    pub errors: u64,
    /// How often each request type was answered with success by both.
    pub successes: BTreeMap<u32, u64>,
    /// How often each intended difference was met.
    pub differences: BTreeMap<Difference, u64>,
}

impl Figures {
    /// Adds another run's.
    pub fn add(&mut self, other: &Figures) {
        self.requests += other.requests;
        self.events += other.events;
        self.errors += other.errors;
        for (kind, count) in &other.successes {
            *self.successes.entry(*kind).or_default() += count;
        }
        for (difference, count) in &other.differences {
            *self.differences.entry(*difference).or_default() += count;
        }
    }
}

/// One request and its two answers.
#[derive(Clone, Debug)]
struct Asked {
    kind: u32,
    payload: Vec<u8>,
    c: Message,
    ours: Message,
}

impl Asked {
    /// It is about nodes, so that it belongs to its transaction.
    fn is_of_nodes(&self) -> bool {
        let others = [Read, Directory, DirectoryPart, GetPerms];
        is_change(self.kind) || others.iter().any(|other| *other as u32 == self.kind)
    }

    /// The other side must answer the same. Not so permissions that were refused: a domain that they name may exist by now.
    fn can_be_repeated(&self, answer: &Message) -> bool {
        self.is_of_nodes() && !(self.kind == SetPerms as u32 && answer.kind == 16)
    }

    /// A change that at least one of them made.
    fn changes(&self) -> bool {
        is_change(self.kind) && (self.c.kind != 16 || self.ours.kind != 16)
    }
}

/// A transaction that is open on both.
#[derive(Clone, Debug)]
struct Transaction {
    c: u32,
    ours: u32,
    asked: Vec<Asked>,
    /// Someone else may have changed something since it began.
    disturbed: bool,
}

/// A connected domain.
#[derive(Clone, Debug, Default)]
struct Client {
    transactions: Vec<Transaction>,
    /// A transaction was repeated on one side, so the next ids differ.
    ids_differ: bool,
}

/// What came of one request on one side.
struct Outcome {
    answer: Message,
    /// What each domain got, with the answer's place marked.
    all: BTreeMap<u16, Vec<String>>,
}

/// Both servers, and what the driver knows of them.
pub struct Duel {
    c: Debian,
    ours: Ours,
    clients: BTreeMap<u16, Client>,
    died: BTreeSet<u16>,
    /// A domain and what was its target at some time.
    targets: BTreeSet<(u16, u16)>,
    next_request: u32,
    figures: Figures,
}

type Checked<T> = Result<T, Box<Mismatch>>;

fn is_change(kind: u32) -> bool {
    [Write, Mkdir, Rm, SetPerms].iter().any(|change| *change as u32 == kind)
}

fn changes_domains(kind: u32) -> bool {
    [Introduce, Release, SetTarget]
        .iter()
        .any(|change| *change as u32 == kind)
}

impl Duel {
    /// Starts both with equal limits, and with what 4.17 lets guests see of other domains' ends: nothing.
    pub fn start(xenstored: &Xenstored) -> Result<Duel, Failure> {
        let mut duel = Duel {
            c: Debian::start(xenstored, &differences::c_options())?,
            ours: Ours::start(differences::our_configuration()),
            clients: BTreeMap::from([(0, Client::default())]),
            died: BTreeSet::new(),
            targets: BTreeSet::new(),
            next_request: 1,
            figures: Figures::default(),
        };
        duel.c.build(STRANGER);
        duel.ours.build(STRANGER);
        let alike = duel.ask(0, SetPerms, "@releaseDomain|n0|");
        alike.unwrap_or_else(|mismatch| panic!("{mismatch}"));
        Ok(duel)
    }

    /// What was seen so far.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The two, for what is not a request that both answer.
    pub fn both(&mut self) -> (&mut Debian, &mut Ours) {
        (&mut self.c, &mut self.ours)
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
                domid, kind, payload, ..
            } if differences::is_left_out(*domid, *kind, payload) => Ok(()),
            // 4.17 takes old permissions for the domain's next life if it is named before it begins.
            Step::Request { kind, payload, .. } if *kind == SetPerms as u32 && self.names_the_dead(payload) => Ok(()),
            // Targets are outside transactions: what was refused before may be granted when one is repeated.
            Step::Request { kind, payload, .. }
                if *kind == SetTarget as u32
                    && differences::named_domain(payload).is_some_and(|domid| self.is_in_transaction(domid)) =>
            {
                Ok(())
            }
            // In C a target lives on, unreachable, until the domain that has it ends.
            Step::Request { kind, payload, .. }
                if *kind == Release as u32
                    && differences::named_domain(payload).is_some_and(|domid| self.is_target(domid)) =>
            {
                Ok(())
            }
            Step::Life { domid, life } if *life != Life::Shutdown && self.is_target(*domid) => Ok(()),
            Step::Request {
                domid,
                within,
                kind,
                payload,
            } => {
                let Some(client) = self.clients.get(domid) else {
                    return Ok(());
                };
                let open = client.transactions.len();
                match within {
                    Some(which) if open > 0 => self.inside(*domid, usize::from(*which) % open, *kind, payload),
                    _ => self.outside(*domid, *kind, payload).map(drop),
                }
            }
            Step::Start { domid } if self.clients.contains_key(domid) => self.begin(*domid),
            Step::End { domid, which, commit } => {
                let open = self.clients.get(domid).map_or(0, |client| client.transactions.len());
                if open > 0 {
                    self.end(*domid, usize::from(*which) % open, *commit)
                } else {
                    Ok(())
                }
            }
            Step::Life { domid, life } if self.clients.contains_key(domid) => {
                self.life(*domid, *life)?;
                // What still has references to it goes on to its end, so that no domain stays half dead.
                if *life == Life::Dying {
                    self.life(*domid, Life::Absent)
                } else {
                    Ok(())
                }
            }
            Step::Revive { domid } if !self.clients.contains_key(domid) => self.revive(*domid),
            Step::ReadAll => self.read_all(),
            Step::Start { .. } | Step::Revive { .. } | Step::Life { .. } => Ok(()),
        }
    }

    /// A request of which both must think the same, outside transactions; `|` stands for NUL. C's answer.
    pub fn ask(&mut self, domid: u16, kind: MessageType, payload: &str) -> Checked<String> {
        let asked = self.outside(domid, kind as u32, payload.replace('|', "\0").as_bytes())?;
        Ok(asked.c.text())
    }

    fn outside(&mut self, domid: u16, kind: u32, payload: &[u8]) -> Checked<Asked> {
        let asked = self.compared(domid, kind, (0, 0), payload)?;
        let succeeded = asked.c.kind == kind && asked.ours.kind == kind;
        if asked.changes() || (changes_domains(kind) && succeeded) {
            self.disturb();
        }
        if succeeded {
            self.follow(domid, kind, payload);
            if kind == Release as u32 {
                self.count_generation()?;
            }
        }
        Ok(asked)
    }

    /// A domain has ended. 4.17 tells a permission for it from one for the next domain with its number by a count of writes,
    /// and is wrong if there was none between the one's end and the other's beginning (since 4.22 the permission is removed).
    fn count_generation(&mut self) -> Checked<()> {
        self.ask(0, Write, "/tool/xenstored|").map(drop)
    }

    fn gone(&mut self, domid: u16) {
        self.clients.remove(&domid);
        self.targets.retain(|(of, _)| *of != domid);
        self.died.insert(domid);
    }

    fn names_the_dead(&self, payload: &[u8]) -> bool {
        let entries = payload.split(|byte| *byte == 0).skip(1);
        let mut named = entries.filter_map(|entry| differences::named_domain(entry.get(1..)?));
        named.any(|domid| self.died.contains(&domid) && !self.clients.contains_key(&domid))
    }

    fn is_in_transaction(&self, domid: u16) -> bool {
        self.clients
            .get(&domid)
            .is_some_and(|client| !client.transactions.is_empty())
    }

    fn is_target(&self, domid: u16) -> bool {
        self.targets.iter().any(|(_, target)| *target == domid)
    }

    /// Someone changed something.
    fn disturb(&mut self) {
        for client in self.clients.values_mut() {
            for transaction in &mut client.transactions {
                transaction.disturbed = true;
            }
        }
    }

    /// Keeps the driver's knowledge up with a request that succeeded on both.
    fn follow(&mut self, domid: u16, kind: u32, payload: &[u8]) {
        let named = differences::named_domain(payload);
        if kind == ResetWatches as u32 {
            self.clients.entry(domid).or_default().transactions.clear();
        } else if kind == Introduce as u32
            && let Some(named) = named
        {
            self.c.restart(named);
            self.ours.restart(named);
            let ids_differ = self.clients.get(&named).is_some_and(|client| client.ids_differ);
            self.clients.insert(
                named,
                Client {
                    transactions: Vec::new(),
                    ids_differ,
                },
            );
        } else if kind == Release as u32
            && let Some(named) = named
        {
            self.gone(named);
        } else if kind == SetTarget as u32
            && let Some(named) = named
        {
            let second = payload.split(|byte| *byte == 0).nth(1);
            self.targets
                .extend(second.and_then(differences::named_domain).map(|target| (named, target)));
        }
    }

    /// Sends a request to both and compares everything.
    fn compared(&mut self, domid: u16, kind: u32, ids: (u32, u32), payload: &[u8]) -> Checked<Asked> {
        let (c, ours) = self.exchange(domid, kind, ids, payload)?;
        self.compare_answers(domid, kind, payload, &c.answer, &ours.answer)?;
        self.compare_events(domid, kind, payload, &c, &ours)?;
        Ok(Asked {
            kind,
            payload: payload.to_vec(),
            c: c.answer,
            ours: ours.answer,
        })
    }

    fn compare_answers(&mut self, domid: u16, kind: u32, payload: &[u8], c: &Message, ours: &Message) -> Checked<()> {
        let ids_differ = self.clients.get(&domid).is_some_and(|client| client.ids_differ);
        let circumstances = Circumstances {
            domid,
            kind,
            payload,
            died: &self.died,
            ids_differ,
        };
        match differences::of_answers(&circumstances, c, ours) {
            Verdict::Same if c.kind == 16 => self.figures.errors += 1,
            Verdict::Same => *self.figures.successes.entry(kind).or_default() += 1,
            Verdict::Named(difference) => self.met(difference),
            Verdict::Unexplained => return Err(mismatch(domid, kind, payload, "answers", c.text(), ours.text())),
        }
        Ok(())
    }

    fn met(&mut self, difference: Difference) {
        *self.figures.differences.entry(difference).or_default() += 1;
    }

    fn compare_events(&mut self, domid: u16, kind: u32, payload: &[u8], c: &Outcome, ours: &Outcome) -> Checked<()> {
        let commit = kind == TransactionEnd as u32;
        if commit && c.all != ours.all && differences::only_order_differs(&c.all, &ours.all) {
            self.met(Difference::CommitOrder);
        } else if commit && c.all != ours.all && differences::commit_tells_more(&c.all, &ours.all) {
            self.met(Difference::CommitToldByNewParent);
        } else if commit && c.all != ours.all && differences::commit_tells_more_anywhere(&c.all, &ours.all) {
            self.met(Difference::CommitToldByNewParent);
            self.met(Difference::CommitOrder);
        } else if c.all != ours.all && kind == Release as u32 && differences::answer_came_elsewhere(&c.all, &ours.all) {
            self.met(Difference::ReleaseToldLate);
        } else if c.all != ours.all {
            let text = |all: &BTreeMap<u16, Vec<String>>| format!("{all:?}");
            return Err(mismatch(domid, kind, payload, "events", text(&c.all), text(&ours.all)));
        }
        let messages: usize = c.all.values().map(Vec::len).sum();
        self.figures.events += u64::try_from(messages.saturating_sub(1)).unwrap_or(0);
        Ok(())
    }

    /// Sends a request to both and waits until both have done all there is to do.
    fn exchange(&mut self, domid: u16, kind: u32, ids: (u32, u32), payload: &[u8]) -> Checked<(Outcome, Outcome)> {
        let request = self.next_request;
        self.next_request += 1;
        self.figures.requests += 1;
        let c = one(&mut self.c, domid, request, kind, ids.0, payload);
        let ours = one(&mut self.ours, domid, request, kind, ids.1, payload);
        match (c, ours) {
            (Ok(c), Ok(ours)) => Ok((c, ours)),
            (c, ours) => {
                let text =
                    |side: Result<Outcome, String>| side.map_or_else(|text| text, |outcome| outcome.answer.text());
                Err(mismatch(domid, kind, payload, "single answers", text(c), text(ours)))
            }
        }
    }

    fn begin(&mut self, domid: u16) -> Checked<()> {
        let asked = self.compared(domid, TransactionStart as u32, (0, 0), b"\0")?;
        if let (Some(c), Some(ours)) = (id_of(&asked.c), id_of(&asked.ours))
            && let Some(client) = self.clients.get_mut(&domid)
        {
            client.transactions.push(Transaction {
                c,
                ours,
                asked: Vec::new(),
                disturbed: false,
            });
        }
        Ok(())
    }

    fn inside(&mut self, domid: u16, which: usize, kind: u32, payload: &[u8]) -> Checked<()> {
        let transaction = &self.clients[&domid].transactions[which];
        let ids = (transaction.c, transaction.ours);
        let disturbed = transaction.disturbed;
        let (c, ours) = self.exchange(domid, kind, ids, payload)?;
        if !disturbed {
            self.compare_answers(domid, kind, payload, &c.answer, &ours.answer)?;
        }
        self.compare_events(domid, kind, payload, &c, &ours)?;
        let asked = Asked {
            kind,
            payload: payload.to_vec(),
            c: c.answer,
            ours: ours.answer,
        };
        if let Some(client) = self.clients.get_mut(&domid) {
            client.transactions[which].asked.push(asked);
        }
        Ok(())
    }

    fn end(&mut self, domid: u16, which: usize, commit: bool) -> Checked<()> {
        let Some(client) = self.clients.get_mut(&domid) else {
            return Ok(());
        };
        let transaction = client.transactions.remove(which);
        let ids = (transaction.c, transaction.ours);
        let kind = TransactionEnd as u32;
        if !commit {
            return self.compared(domid, kind, ids, b"F\0").map(drop);
        }
        let (c, ours) = self.exchange(domid, kind, ids, b"T\0")?;
        let outcome = (c.answer.text(), ours.answer.text());
        match (outcome.0.as_str(), outcome.1.as_str()) {
            ("OK|", "OK|") => {
                self.disturb();
                *self.figures.successes.entry(kind).or_default() += 1;
                let by_c = changed(&transaction, |asked| &asked.c);
                let by_ours = changed(&transaction, |asked| &asked.ours);
                if transaction.disturbed && by_c != by_ours {
                    // To the one it was a mere reader, which committed what it saw.
                    self.met(Difference::ReaderSawOneState);
                    if by_c {
                        return self.repeat_on_ours(domid, &transaction, &c);
                    }
                    return self.repeat_on_c(domid, &transaction, &ours);
                }
                self.compare_events(domid, kind, b"T\0", &c, &ours)?;
                self.compare_what_both_saw(domid, &transaction)
            }
            ("!EAGAIN", "!EAGAIN") if transaction.disturbed => {
                self.figures.errors += 1;
                self.compare_events(domid, kind, b"T\0", &c, &ours)
            }
            ("!EAGAIN", "OK|") if transaction.disturbed => {
                self.met(Difference::ConflictOnlyInC);
                self.disturb();
                if changed(&transaction, |asked| &asked.ours) {
                    self.repeat_on_c(domid, &transaction, &ours)
                } else {
                    Ok(())
                }
            }
            ("OK|", "!EAGAIN") if transaction.disturbed => {
                self.met(Difference::ConflictOnlyInOurs);
                self.disturb();
                if changed(&transaction, |asked| &asked.c) {
                    self.repeat_on_ours(domid, &transaction, &c)
                } else {
                    Ok(())
                }
            }
            ("!ENOMEM", "!EAGAIN") if transaction.disturbed && !self.died.is_empty() => {
                self.met(Difference::CommitAfterOwnersEnd);
                Ok(())
            }
            ("!ENOMEM", "OK|") if transaction.disturbed && !self.died.is_empty() => {
                self.met(Difference::CommitAfterOwnersEnd);
                self.disturb();
                self.repeat_on_c(domid, &transaction, &ours)
            }
            _ => Err(mismatch(domid, kind, b"T\0", "commits", outcome.0, outcome.1)),
        }
    }

    /// Both committed: what they answered inside holds for both, unless it was a mere reader in ours.
    fn compare_what_both_saw(&mut self, domid: u16, transaction: &Transaction) -> Checked<()> {
        if !transaction.disturbed {
            return Ok(());
        }
        let reader = !transaction.asked.iter().any(Asked::changes);
        for asked in transaction.asked.iter().filter(|asked| asked.is_of_nodes()) {
            match self.compare_answers(domid, asked.kind, &asked.payload, &asked.c, &asked.ours) {
                Err(_) if reader => self.met(Difference::ReaderSawOneState),
                other => other?,
            }
        }
        Ok(())
    }

    /// Ours committed and C did not: repeated on C, the transaction must give what it gave on ours.
    fn repeat_on_c(&mut self, domid: u16, transaction: &Transaction, before: &Outcome) -> Checked<()> {
        if let Some(client) = self.clients.get_mut(&domid) {
            client.ids_differ = true;
        }
        let id = repeat_start(&mut self.c, domid, &mut self.next_request);
        for asked in transaction
            .asked
            .iter()
            .filter(|asked| asked.can_be_repeated(&asked.ours))
        {
            self.figures.requests += 1;
            let again = repeat(
                &mut self.c,
                domid,
                &mut self.next_request,
                asked.kind,
                id,
                &asked.payload,
            );
            self.compare_answers(domid, asked.kind, &asked.payload, &again.answer, &asked.ours)?;
        }
        let again = repeat(
            &mut self.c,
            domid,
            &mut self.next_request,
            TransactionEnd as u32,
            id,
            b"T\0",
        );
        self.compare_answers(
            domid,
            TransactionEnd as u32,
            b"T\0 (repeated on C)",
            &renumbered(&again, before),
            &before.answer,
        )?;
        self.compare_events(domid, TransactionEnd as u32, b"T\0 (repeated on C)", &again, before)
    }

    /// C committed and ours did not: the other way round.
    fn repeat_on_ours(&mut self, domid: u16, transaction: &Transaction, before: &Outcome) -> Checked<()> {
        if let Some(client) = self.clients.get_mut(&domid) {
            client.ids_differ = true;
        }
        let id = repeat_start(&mut self.ours, domid, &mut self.next_request);
        for asked in transaction.asked.iter().filter(|asked| asked.can_be_repeated(&asked.c)) {
            self.figures.requests += 1;
            let again = repeat(
                &mut self.ours,
                domid,
                &mut self.next_request,
                asked.kind,
                id,
                &asked.payload,
            );
            self.compare_answers(domid, asked.kind, &asked.payload, &asked.c, &again.answer)?;
        }
        let again = repeat(
            &mut self.ours,
            domid,
            &mut self.next_request,
            TransactionEnd as u32,
            id,
            b"T\0",
        );
        self.compare_answers(
            domid,
            TransactionEnd as u32,
            b"T\0 (repeated on ours)",
            &before.answer,
            &renumbered(&again, before),
        )?;
        self.compare_events(domid, TransactionEnd as u32, b"T\0 (repeated on ours)", before, &again)
    }

    fn life(&mut self, domid: u16, life: Life) -> Checked<()> {
        self.c.domain_is(domid, life);
        self.ours.domain_is(domid, life);
        let told = |text: String| {
            Box::new(Mismatch {
                request: format!("domain {domid} is {life:?}"),
                what: "lives",
                c: text,
                ours: String::new(),
            })
        };
        let sides = [self.c.settle().map_err(told)?, self.ours.settle().map_err(told)?];
        let [c, ours] = sides.map(|all| -> BTreeMap<u16, Vec<String>> {
            all.into_iter()
                .map(|(to, messages)| (to, messages.iter().map(Message::text).collect()))
                .collect()
        });
        if c != ours && differences::ends_merged(&c, &ours) {
            self.met(Difference::ShutdownAndEndMerged);
        } else if c != ours {
            let request = format!("domain {domid} is {life:?}");
            return Err(Box::new(Mismatch {
                request,
                what: "events",
                c: format!("{c:?}"),
                ours: format!("{ours:?}"),
            }));
        }
        self.figures.events += c.values().map(|list| list.len() as u64).sum::<u64>();
        if life == Life::Absent || life == Life::Dying {
            self.gone(domid);
            self.count_generation()?;
        }
        self.disturb();
        Ok(())
    }

    fn revive(&mut self, domid: u16) -> Checked<()> {
        self.c.build(domid);
        self.ours.build(domid);
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
                paths.extend(children.split_terminator('|').map(|child| format!("{below}/{child}")));
            }
        }
        Ok(())
    }
}

fn mismatch(domid: u16, kind: u32, payload: &[u8], what: &'static str, c: String, ours: String) -> Box<Mismatch> {
    let kind = MessageType::from_wire(kind).map_or_else(|| format!("type {kind}"), |kind| format!("{kind:?}"));
    Box::new(Mismatch {
        request: format!("d{domid} {kind} {}", readable(payload)),
        what,
        c,
        ours,
    })
}

/// The transaction changed something, by the answers of one side.
fn changed(transaction: &Transaction, side: impl Fn(&Asked) -> &Message) -> bool {
    transaction
        .asked
        .iter()
        .any(|asked| is_change(asked.kind) && side(asked).kind != 16)
}

fn id_of(start: &Message) -> Option<u32> {
    start.text().trim_end_matches('|').parse().ok()
}

/// One request to one server, and all that came of it. `Err`: not exactly one answer.
fn one(peer: &mut dyn Peer, domid: u16, request: u32, kind: u32, id: u32, payload: &[u8]) -> Result<Outcome, String> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    peer.send(
        domid,
        Header {
            kind,
            request_id: request,
            transaction_id: id,
            length,
        },
        payload,
    );
    let mut answer = None;
    let mut all = BTreeMap::new();
    for (to, messages) in peer.settle()? {
        let mut list = Vec::with_capacity(messages.len());
        for message in messages {
            if message.is_event() && (message.request, message.transaction) == (0, 0) {
                list.push(message.text());
            } else if to == domid && message.request == request && message.transaction == id && answer.is_none() {
                list.push(differences::ANSWER.into());
                answer = Some(message);
            } else {
                return Err(format!("unexpected for d{to}: {message:?}"));
            }
        }
        all.insert(to, list);
    }
    match answer {
        Some(answer) => Ok(Outcome { answer, all }),
        None => Err(format!("none, but {all:?}")),
    }
}

/// As [`one`], where failing to answer would be a bug of the driver.
fn repeat(peer: &mut dyn Peer, domid: u16, next: &mut u32, kind: u32, id: u32, payload: &[u8]) -> Outcome {
    let request = *next;
    *next += 1;
    one(peer, domid, request, kind, id, payload).unwrap_or_else(|text| panic!("repeating a transaction: {text}"))
}

fn repeat_start(peer: &mut dyn Peer, domid: u16, next: &mut u32) -> u32 {
    let started = repeat(peer, domid, next, TransactionStart as u32, 0, b"\0");
    id_of(&started.answer).unwrap_or_else(|| panic!("a transaction cannot be repeated: {}", started.answer.text()))
}

/// The answer to a repeated request with the number of the first one, for comparison.
fn renumbered(again: &Outcome, before: &Outcome) -> Message {
    Message {
        request: before.answer.request,
        ..again.answer.clone()
    }
}
