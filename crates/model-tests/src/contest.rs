//! Model and server get the same steps; what clients see of them is compared after each.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use xenstore_core::Server;
use xenstore_core::tree::Memory;
use xenstore_wire::{HEADER_SIZE, Header, MessageType, Permission};

use crate::coverage::Coverage;
use crate::engine::{Engine, LinkEvent, Tested};
use crate::model::tree::Entry;
use crate::model::{Known, Life, Model, PRIVILEGED, Settings, Tree};
use crate::step::{Fate, Step, Within};

/// What is not the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// In a few words; two failures with the same ones are taken for the same.
    pub what: String,
    /// What the model says.
    pub model: String,
    /// What the server says.
    pub server: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n    model:  {}\n    server: {}",
            self.what, self.model, self.server
        )
    }
}

type Checked = Result<(), Difference>;

/// Both, side by side.
pub struct Contest<E = Engine> {
    model: Model,
    engine: E,
    next_request: u32,
    next_unique: u64,
    unique_ids: bool,
    /// What clients have seen of a message that is not complete.
    partial: [BTreeMap<u16, Vec<u8>>; 2],
    coverage: Coverage,
    /// The model on each road that it may have taken in a step in which lives ended.
    roads: Vec<Model>,
    /// Whose counts are asked for next.
    asked: u16,
    /// Who has asked to begin anew without having begun, and how often it had begun anew before.
    asked_unused: BTreeMap<u16, u64>,
    /// Lines of the server's log.
    log: Vec<String>,
}

/// Runs steps from the beginning. The coverage, or where and how it failed.
pub fn run(settings: &Settings, steps: &[Step]) -> Result<Coverage, (usize, Difference)> {
    run_with(&mut Contest::new(settings), steps)
}

/// Runs steps with what is there already.
pub fn run_with<E: Tested>(contest: &mut Contest<E>, steps: &[Step]) -> Result<Coverage, (usize, Difference)> {
    for (index, step) in steps.iter().enumerate() {
        let outcome = catch_unwind(AssertUnwindSafe(|| contest.step(step)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Difference {
                what: "panic".into(),
                model: String::new(),
                server: text.unwrap_or_default(),
            })
        });
        outcome.map_err(|difference| (index, difference))?;
    }
    Ok(contest.coverage.clone())
}

impl Contest {
    /// Both, as new.
    pub fn new(settings: &Settings) -> Contest {
        Contest::with(settings, Engine::new(settings))
    }
}

impl<E: Tested> Contest<E> {
    /// The model as new, and another engine, which is as new, too.
    pub fn with(settings: &Settings, engine: E) -> Contest<E> {
        Contest {
            model: Model::new(settings.clone()),
            engine,
            next_request: 1,
            next_unique: 1,
            unique_ids: settings.lists_changes,
            partial: Default::default(),
            coverage: Coverage::default(),
            roads: Vec::new(),
            asked: 0,
            asked_unused: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// The server, with all that is around it.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The peaks that the server remembers.
    fn peaks(&self) -> BTreeMap<u16, (u64, u64)> {
        let domains = self.engine.server().domains();
        domains
            .map(|(domid, domain)| (domid.0, (domain.maxima.outstanding, domain.maxima.memory)))
            .collect()
    }

    /// The same of both. Where lives of the server ended meanwhile, the model's does, too: after what happened, before it, or both
    /// times. Whichever of them clients were told must be known as what the server knows.
    fn both(&mut self, server: impl FnOnce(&mut E), model: impl Fn(&mut Model)) {
        server(&mut self.engine);
        if !self.engine.ended() {
            model(&mut self.model);
            return;
        }
        let peaks = self.peaks();
        for (before, after) in [(true, true), (true, false), (false, true)] {
            let mut other = self.model.clone();
            if before {
                other.restart();
            }
            model(&mut other);
            if after {
                other.restart();
            }
            other.remember(&peaks);
            self.roads.push(other);
        }
    }

    /// Goes on with the model that took the server's road.
    fn choose(&mut self) {
        let told = self.engine.seen();
        let server = self.engine.server();
        let same = |model: &Model| {
            model.seen() == told && model.known() == known(server) && listed(model.store()) == nodes(server)
        };
        let place = self.roads.iter().position(same);
        let last = self.roads.len().checked_sub(1);
        if let Some(place) = place.or(last) {
            self.model = self.roads.swap_remove(place);
            self.roads.clear();
        }
    }

    /// One step of both, and the comparison.
    pub fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Request {
                domid,
                within,
                kind,
                payload,
                first,
            } => self.request(*domid, *within, *kind, payload, *first),
            Step::Start { domid } => self.start(*domid),
            Step::Fates(fates) => self.fates(fates),
            Step::Unheard(fates) => {
                for (domid, life) in self.lives(fates) {
                    self.model.build(domid, life);
                    self.engine.build(domid, life);
                }
                Ok(())
            }
            Step::Room { domid, bytes } => self.room(*domid, *bytes),
            Step::Link { domid, event, torn } => self.link(*domid, *event, *torn),
            Step::TooLong { domid } => self.too_long(*domid),
            Step::Pass(milliseconds) => {
                let nanoseconds = u64::from(*milliseconds) * 1_000_000;
                self.both(|engine| engine.pass(nanoseconds), |model| model.pass(nanoseconds));
                self.compare_seen("time")?;
                let woken = self.log.iter().find(|line| line.contains(": 0 events dropped"));
                self.same("a time-out without an event", "None", &format!("{woken:?}"))
            }
            Step::Restart => {
                self.engine.restart();
                self.model.restart();
                let peaks = self.peaks();
                self.model.peaks_are_possible(&peaks);
                self.model.remember(&peaks);
                self.compare_seen("a restart")?;
                self.compare_all()
            }
            Step::Compare => self.compare_all(),
        }
    }

    fn request(&mut self, domid: u16, within: Within, kind: u32, payload: &[u8], first: Option<u16>) -> Checked {
        self.uncounted_resets();
        let heard = self.model.may_read(domid);
        if !self.model.is_connected(domid) || self.model.is_ignored(domid) || !heard && self.model.pending().is_some() {
            return Ok(());
        }
        let open = self.model.transactions(domid);
        let transaction_id = match within {
            Within::Outside => 0,
            Within::Open(_) if open.is_empty() => 0,
            Within::Open(which) => open[usize::from(which) % open.len()],
            Within::Unknown => 1 << 30,
        };
        let header = Header {
            kind,
            request_id: self.next_request,
            transaction_id,
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        self.next_request += 1;
        let bytes = Engine::request(header, payload);
        let (one, other) = bytes.split_at(first.filter(|_| heard).map_or(0, usize::from).min(bytes.len()));
        if !one.is_empty() {
            self.both(|engine| engine.send(domid, one), |_| ());
            self.choose();
        }
        if domid == PRIVILEGED && kind == MessageType::Control as u32 {
            // No life ends in it.
            self.engine.send(domid, other);
            let answer = self.engine.seen().remove(&domid).unwrap_or_default();
            self.model
                .dictate(answer.get(HEADER_SIZE..).unwrap_or_default().to_vec());
            self.model.request(domid, header, payload);
        } else {
            self.both(
                |engine| engine.send(domid, other),
                |model| model.request(domid, header, payload),
            );
        }
        self.compare_seen(MessageType::from_wire(kind).map_or("unknown type", MessageType::name))?;
        if kind == MessageType::Control as u32 && payload.starts_with(b"check") {
            let wrong: Vec<&String> = self
                .log
                .iter()
                .filter(|line| line.starts_with("check:") && !line.ends_with("agree"))
                .collect();
            self.same("the server's own check", "[]", &format!("{wrong:?}"))?;
        }
        self.log.clear();
        Ok(())
    }

    fn ask(&mut self, kind: MessageType, payload: &str) -> Checked {
        let payload = payload.replace('|', "\0").into_bytes();
        self.request(PRIVILEGED, Within::Outside, kind as u32, &payload, None)
    }

    fn start(&mut self, domid: u16) -> Checked {
        if self.model.life(domid).is_none_or(|life| life.dead) {
            let life = self.life(Fate::Alive);
            self.model.build(domid, life);
            self.engine.build(domid, life);
        }
        self.ask(MessageType::Introduce, &format!("{domid}|1|{}|", domid + 1))?;
        self.partial_is_gone(domid);
        self.ask(MessageType::Mkdir, &format!("/local/domain/{domid}|"))?;
        self.ask(MessageType::SetPerms, &format!("/local/domain/{domid}|n{domid}|"))
    }

    fn life(&mut self, fate: Fate) -> Option<Life> {
        let unique = if self.unique_ids { self.next_unique } else { 0 };
        self.next_unique += 1;
        (fate != Fate::Absent).then_some(Life {
            shutdown: matches!(fate, Fate::Shutdown | Fate::Dying),
            dead: fate == Fate::Dying,
            unique,
        })
    }

    fn lives(&mut self, fates: &[(u16, Fate)]) -> Vec<(u16, Option<Life>)> {
        let mut lives = Vec::new();
        for (domid, fate) in fates {
            let mut life = self.life(*fate);
            // The same domain keeps its number.
            if let (Some(life), Some(known), false) = (&mut life, self.model.life(*domid), *fate == Fate::Replaced) {
                life.unique = known.unique;
            }
            lives.push((*domid, life));
        }
        lives
    }

    fn fates(&mut self, fates: &[(u16, Fate)]) -> Checked {
        let lives = self.lives(fates);
        for (domid, life) in &lives {
            self.engine.build(*domid, *life);
        }
        let domids: Vec<u16> = fates.iter().map(|(domid, _)| *domid).collect();
        self.both(|engine| engine.changed(&domids), |model| model.lives(&lives));
        self.compare_seen("the fate of domains")
    }

    fn room(&mut self, domid: u16, bytes: Option<u16>) -> Checked {
        if !self.model.is_connected(domid) {
            return Ok(());
        }
        let room = bytes.map_or(usize::MAX, usize::from);
        self.both(|engine| engine.room(domid, room), |model| model.room(domid, room));
        self.compare_seen("room")
    }

    fn link(&mut self, domid: u16, event: LinkEvent, torn: u8) -> Checked {
        // That a stream begins anew which has not begun cannot be seen.
        let unused = torn == 0 && self.model.is_unused(domid);
        let unseen = event == LinkEvent::Reset && unused;
        if !self.model.is_connected(domid) || unseen {
            return Ok(());
        }
        if unused && event == LinkEvent::Reconnect && self.engine.lives_end() {
            self.asked_unused.insert(domid, self.model.resets(domid));
        }
        if torn > 0 && self.model.may_read(domid) {
            let header = Header {
                kind: 11,
                request_id: 0,
                transaction_id: 0,
                length: 4000,
            };
            let bytes = Engine::request(header, &[b'x'; 256]);
            self.both(|engine| engine.send(domid, &bytes[..usize::from(torn)]), |_| ());
            self.choose();
        }
        self.both(
            |engine| engine.link(domid, event),
            |model| match event {
                LinkEvent::Reset => model.reset(domid, false),
                LinkEvent::Reconnect => model.reset(domid, true),
                LinkEvent::Impossible if model.is_ignored(domid) => {}
                LinkEvent::Impossible => model.misbehave(domid),
            },
        );
        self.partial_is_gone(domid);
        self.compare_seen("a link")
    }

    /// Where a life ends before it has noted the wish of a client that has nothing to forget, the next one takes that for the end of the
    /// restart before it, does what is asked, and counts nothing.
    fn uncounted_resets(&mut self) {
        let (engine, model) = (&self.engine, &mut self.model);
        self.asked_unused.retain(|&domid, &mut before| {
            let done = model.resets(domid) != before;
            let mut connections = engine.server().connections();
            let counted = connections.find(|(_, state)| state.domid.0 == domid);
            if model.resets(domid) == before + 1 && counted.is_some_and(|(_, state)| u64::from(state.resets) == before)
            {
                model.reset_was_not_counted(domid);
            }
            !done
        });
    }

    fn too_long(&mut self, domid: u16) -> Checked {
        if !self.model.may_read(domid) {
            return Ok(());
        }
        let header = Header {
            kind: 2,
            request_id: 0,
            transaction_id: 0,
            length: 4097,
        };
        self.both(
            |engine| engine.send(domid, &header.emit()),
            |model| model.misbehave(domid),
        );
        self.partial_is_gone(domid);
        self.compare_seen("too long a message")
    }

    fn partial_is_gone(&mut self, domid: u16) {
        for partial in &mut self.partial {
            partial.remove(&domid);
        }
    }

    fn same(&self, what: &str, model: &str, server: &str) -> Checked {
        if model == server {
            return Ok(());
        }
        Err(Difference {
            what: what.to_owned(),
            model: model.to_owned(),
            server: server.to_owned(),
        })
    }

    /// Who is refused for a limit is named in the log, and only then. (Not always: the log bears only so much of each domain.)
    fn refusals(&mut self, outcomes: &[(u32, &str)]) -> Checked {
        let mut refused: Vec<&str> = outcomes
            .iter()
            .filter(|(_, outcome)| ["ENOSPC", "ENOMEM"].contains(outcome))
            .map(|(kind, _)| MessageType::from_wire(*kind).map_or("?", MessageType::name))
            .collect();
        self.log.extend(self.engine.take_log());
        let lines = self.log.iter().filter(|line| line.contains(" refused, "));
        for line in lines {
            let place = refused
                .iter()
                .position(|kind| line.contains(&format!(": {kind} refused, ")));
            match place {
                Some(place) => refused.remove(place),
                None => return self.same("a line of the log about a refusal", "none", line),
            };
        }
        self.log.retain(|line| !line.contains(" refused, "));
        Ok(())
    }

    /// What every client has seen of both.
    fn compare_seen(&mut self, after: &str) -> Checked {
        self.choose();
        let sides = [self.model.take_seen(), self.engine.take_seen()];
        let outcomes = self.model.take_outcomes();
        for (kind, outcome) in &outcomes {
            self.coverage.count(*kind, outcome);
        }
        self.refusals(&outcomes)?;
        let same = sides[0] == sides[1];
        let mut shown = Vec::new();
        for (partial, seen) in self.partial.iter_mut().zip(sides) {
            shown.push(messages(partial, seen));
        }
        if same {
            self.coverage.events += events(&shown[0]);
            return Ok(());
        }
        let text = |all: &BTreeMap<u16, Vec<Message>>| format!("{all:?}");
        self.same(after, &text(&shown[0]), &text(&shown[1]))
    }

    /// All that the test knows how to compare.
    fn compare_all(&mut self) -> Checked {
        self.uncounted_resets();
        let (model, server) = (self.model.known(), known(self.engine.server()));
        self.same(
            "the connections",
            &format!("{:?}", model.connections),
            &format!("{:?}", server.connections),
        )?;
        let domids = |known: &Known| format!("{:?}", known.domains.keys());
        self.same("the domains", &domids(&model), &domids(&server))?;
        for (model, server) in model.domains.iter().zip(&server.domains) {
            self.same("a domain", &format!("{model:?}"), &format!("{server:?}"))?;
        }
        let (model, server) = (listed(self.model.store()), nodes(self.engine.server()));
        if model != server {
            let differing = model.iter().zip(&server).find(|(model, server)| model != server);
            let differing = differing.map(|(model, server)| (model.clone(), server.clone()));
            let (model, server) =
                differing.unwrap_or((format!("{} nodes", model.len()), format!("{} nodes", server.len())));
            return self.same("the store", &model, &server);
        }
        // One domain after the other, and the rest.
        let asked = self.asked % 10;
        self.asked = self.asked.wrapping_add(1);
        self.ask(MessageType::Control, &format!("quota|{asked}|"))?;
        self.ask(
            MessageType::Control,
            if asked.is_multiple_of(2) {
                "status|"
            } else {
                "quota|max|"
            },
        )?;
        self.ask(MessageType::GetPerms, "@releaseDomain|")?;
        self.ask(MessageType::GetPerms, "@introduceDomain|")?;
        self.ask(MessageType::Control, "check|")
    }
}

/// One message as it is compared when bytes differ.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Message(String, Vec<String>);

/// Splits what was seen into messages.
fn messages(partial: &mut BTreeMap<u16, Vec<u8>>, seen: BTreeMap<u16, Vec<u8>>) -> BTreeMap<u16, Vec<Message>> {
    let mut all = BTreeMap::new();
    for (domid, bytes) in seen {
        let stream = partial.entry(domid).or_default();
        stream.extend(bytes);
        let mut list = Vec::new();
        while let Some(head) = stream.first_chunk::<16>() {
            let header = Header::parse(head);
            let whole = 16 + header.length as usize;
            if stream.len() < whole {
                break;
            }
            let kind = MessageType::from_wire(header.kind).map_or("?", MessageType::name);
            let lines = String::from_utf8_lossy(&stream[16..whole]).replace('\0', "|");
            list.push(Message(
                format!("{kind} {} in {}", header.request_id, header.transaction_id),
                lines.split_inclusive('\n').map(str::to_owned).collect(),
            ));
            stream.drain(..whole);
        }
        if !stream.is_empty() {
            list.push(Message(format!("and {} bytes more", stream.len()), Vec::new()));
        }
        all.insert(domid, list);
    }
    all
}

fn events(all: &BTreeMap<u16, Vec<Message>>) -> u64 {
    let events = all
        .values()
        .flatten()
        .filter(|message| message.0.starts_with("WATCH_EVENT"));
    events.count() as u64
}

fn known<M: Memory>(server: &Server<M>) -> Known {
    use crate::model::Counts;
    let domains = server.domains().map(|(domid, domain)| {
        let connection = domain.connection.and_then(|id| server.connection(id));
        let counts = Counts {
            nodes: domain.account.node_count(),
            watches: connection.map_or(0, |connection| connection.watch_count() as u64),
            transactions: connection.map_or(0, |connection| connection.transaction_count() as u64),
            outstanding: connection.map_or(0, |connection| connection.outstanding() as u64),
            memory: domain.account.memory(),
        };
        (domid.0, (domain.features, counts))
    });
    Known {
        domains: domains.collect(),
        connections: server
            .connections()
            .map(|(_, connection)| {
                let mut waits = vec![0; connection.queue.bytes()];
                let length = connection.queue.copy_out(&mut waits);
                waits.truncate(length);
                (connection.domid.0, connection.ignored.is_some(), waits)
            })
            .collect(),
    }
}

fn entries(list: impl Iterator<Item = Entry>) -> String {
    let texts = list.map(|entry| {
        format!(
            "{}{}{}",
            entry.letter,
            entry.domid,
            if entry.ignored { "-" } else { "" }
        )
    });
    texts.collect::<Vec<_>>().join(",")
}

/// Every node of the model in order, children in theirs.
fn listed(tree: &Tree) -> Vec<String> {
    let all = tree.downwards("/").into_iter();
    all.filter_map(|path| {
        let node = tree.get(&path)?;
        let permissions = entries(node.permissions.iter().copied());
        Some(format!(
            "{path} {permissions} {} {:?}",
            node.generation,
            String::from_utf8_lossy(&node.value)
        ))
    })
    .collect()
}

/// Every node of the server in order, children in theirs.
fn nodes<M: Memory>(server: &Server<M>) -> Vec<String> {
    let tree = server.tree();
    let mut all = Vec::new();
    let mut stack = vec![(String::new(), tree.root_node(tree.current()))];
    while let Some((path, node)) = stack.pop() {
        let shown = if path.is_empty() { "/" } else { &path };
        let entry = |permission: Permission| Entry {
            letter: permission.access.letter(),
            domid: permission.domid.0,
            ignored: permission.ignored,
        };
        let permissions = entries(node.permissions().iter().map(entry));
        let value = String::from_utf8_lossy(node.value());
        all.push(format!("{shown} {permissions} {} {value:?}", node.generation()));
        let children: Vec<_> = tree
            .children(node)
            .map(|child| (format!("{path}/{}", child.name()), child))
            .collect();
        stack.extend(children.into_iter().rev());
    }
    all
}
