//! dom0 and three guests at work on the whole server over rings, with everything that can go wrong: broken frames, indices
//! that lie, guests that do not read, that die, that begin anew, and lives of the server that end at any store.
//!
//! What must hold: every request is answered exactly once and in order, unless its connection ended or broke the rules; what
//! is derived from the tree agrees with it; and a restart changes nothing.

use std::collections::{BTreeMap, VecDeque};

use xenstore_core::tree::{Memory, Node, Tree};
use xenstore_core::{Configuration, DomainState};
use xenstore_ring::{SharedPage, offset};
use xenstore_wire::{HEADER_SIZE, Header, MessageType, PAYLOAD_MAX};

use crate::bed::Bed;
use crate::script::Script;

/// The guests. dom0 behaves: it is trusted, and it is how the others come and go.
const GUESTS: [u16; 3] = [1, 2, 3];
/// Bytes of durable pages: few enough to become full.
const PAGES: usize = 2 << 20;
/// Steps of one script, so that none takes long.
const STEPS: usize = 300;

const PATHS: [&str; 20] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "b/a",
    "/",
    "/tool",
    "/shared",
    "/shared/a",
    "/shared/a/b",
    "/local/domain/1",
    "/local/domain/1/a",
    "/local/domain/2/a/b",
    "/local/domain/3",
    "/new/1/2/3",
    "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a",
    "@introduceDomain",
    "@releaseDomain",
    "//",
    "",
];
const PERMISSIONS: [&str; 8] = [
    "n1",
    "b0",
    "r2",
    "w3",
    "n0|r1",
    "b0|n2|r3",
    "r77",
    "n1|r1|r2|r3|r0|w1|w2",
];
const COMMANDS: [&str; 12] = [
    "check|",
    "status|",
    "help|",
    "quota|",
    "quota|1|",
    "quota|max|-r|",
    "quota|set|nodes|12|",
    "quota|set|memory|20000|",
    "quota|set|transaction-nodes|5|",
    "quota|set|outstanding|3|",
    "log|+io|",
    "crash|panic|",
];

/// What a guest has sent and is owed.
#[derive(Default)]
struct Stream {
    /// Bytes that are no whole message yet.
    begun: Vec<u8>,
    /// Requests that wait for their replies.
    owed: VecDeque<u32>,
    /// It broke the rules, or was cut off: nothing is owed until it begins anew.
    uncertain: bool,
}

impl Stream {
    fn sent(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        while let Some(head) = self.begun.first_chunk::<HEADER_SIZE>() {
            let header = Header::parse(head);
            let length = header.length as usize;
            if length > PAYLOAD_MAX {
                self.uncertain = true;
                return;
            }
            if self.begun.len() < HEADER_SIZE + length {
                return;
            }
            self.owed.push_back(header.request_id);
            self.begun.drain(..HEADER_SIZE + length);
        }
    }
}

/// The bed, and what it must do.
struct Play {
    bed: Bed,
    streams: BTreeMap<u16, Stream>,
}

/// A script for all of them.
pub fn requests(data: &[u8]) {
    let mut script = Script(data);
    let configuration = Configuration {
        features: u32::from(script.byte() % 16) | 1,
        debug_crash: true,
        ..Configuration::default()
    };
    let mut play = Play {
        bed: Bed::with(configuration, PAGES),
        streams: BTreeMap::from([(0, Stream::default())]),
    };
    for domid in GUESTS {
        play.start(domid);
    }
    play.ask_dom0(MessageType::Mkdir, "/shared|");
    play.ask_dom0(MessageType::SetPerms, "/shared|b0|");
    for _ in 0..STEPS {
        if script.is_over() {
            break;
        }
        play.step(&mut script);
        for _ in 0..script.number(3) {
            play.bed.pump();
            play.bed.round();
        }
    }
    play.end();
}

impl Play {
    fn step(&mut self, script: &mut Script<'_>) {
        let guest = script.of(&GUESTS);
        match script.number(32) {
            0..=13 => self.request(guest, script),
            14..=18 => self.request(0, script),
            19 => self.raw(guest, script.bytes(48).to_vec()),
            20 => self.any_message(guest, script),
            21 => self.raw(guest, header(script, 4097 + script.0.len() as u32 * 99_991).to_vec()),
            22 => {
                let deaf = &mut self.guest(guest).deaf;
                *deaf = !*deaf;
            }
            23 => self.restart(),
            24 => self.bed.host.fuse.arm(u64::from(script.byte()) + 1),
            25 => self.reconnect(guest),
            26 => self.disturb(guest, script),
            27 => self.dies(guest),
            28 => self.domain_request(script),
            29 => {
                let host = &self.bed.host;
                host.now.set(host.now.get() + u64::from(script.byte()) * 100_000_000);
            }
            30 => self.collect(),
            _ => {
                for _ in 0..script.number(30) {
                    self.request(guest, script);
                }
            }
        }
    }

    /// A request that makes sense more or less.
    /// However many restarts a script asks for in a row, they are no loop of crashes.
    fn restart(&mut self) {
        self.bed.restart();
        self.bed.service_mut().settle();
    }

    fn request(&mut self, domid: u16, script: &mut Script<'_>) {
        use MessageType as T;
        let path = script.of(&PATHS);
        let (kind, payload) = match script.number(24) {
            0..=3 => (T::Write, format!("{path}|{}", "v".repeat(script.number(2100)))),
            4 => (T::Write, format!("{path}|{}", script.byte())),
            5 => (T::Mkdir, format!("{path}|")),
            6 | 7 => (T::Rm, format!("{path}|")),
            8 => (T::Read, format!("{path}|")),
            9 => (T::Directory, format!("{path}|")),
            10 => (T::DirectoryPart, format!("{path}|{}|", script.byte())),
            11 => (T::GetPerms, format!("{path}|")),
            12 | 13 => (T::SetPerms, format!("{path}|{}|", script.of(&PERMISSIONS))),
            14 => (T::Watch, format!("{path}|{}|", script.byte() % 8)),
            15 => (
                T::Watch,
                format!("{path}|{}|{}|", "t".repeat(script.number(3000)), script.byte() % 3),
            ),
            16 => (T::Unwatch, format!("{path}|{}|", script.byte() % 8)),
            17 | 18 => (T::TransactionStart, "|".into()),
            19 | 20 => (T::TransactionEnd, if script.one_in(4) { "F|" } else { "T|" }.into()),
            21 => (T::ResetWatches, "|".into()),
            22 => (T::Control, script.of(&COMMANDS).into()),
            _ => (T::SetTarget, format!("{}|{}|", script.of(&GUESTS), script.of(&GUESTS))),
        };
        let transaction = match kind {
            T::TransactionEnd => 1 + u32::from(script.byte() % 4),
            T::TransactionStart | T::Control | T::SetTarget => 0,
            _ => u32::from(script.byte() % 8).saturating_sub(3),
        };
        self.send(domid, kind as u32, transaction, payload.replace('|', "\0").as_bytes());
    }

    fn any_message(&mut self, domid: u16, script: &mut Script<'_>) {
        let (kind, transaction) = (script.byte() % 30, script.byte() % 4);
        let length = script.number(80);
        let payload = script.bytes(length).to_vec();
        self.send(domid, kind.into(), transaction.into(), &payload);
    }

    fn send(&mut self, domid: u16, kind: u32, transaction: u32, payload: &[u8]) {
        let request_id = self.bed.send_raw(domid, kind, transaction, payload);
        let header = Header {
            kind,
            request_id,
            transaction_id: transaction,
            length: payload.len() as u32,
        };
        let stream = self.streams.entry(domid).or_default();
        stream.sent(&[&header.emit(), payload].concat());
    }

    fn raw(&mut self, domid: u16, bytes: Vec<u8>) {
        self.guest(domid).send_bytes(&bytes);
        self.streams.entry(domid).or_default().sent(&bytes);
    }

    fn guest(&mut self, domid: u16) -> &mut crate::bed::Guest {
        self.bed.guests.get_mut(&domid).expect("every guest was built")
    }

    /// The peer writes into its page what it likes.
    fn disturb(&mut self, domid: u16, script: &mut Script<'_>) {
        let page = self.guest(domid).page.clone();
        for _ in 0..=script.number(3) {
            let word = script.of(&[
                offset::REQ_CONS,
                offset::REQ_PROD,
                offset::RSP_CONS,
                offset::RSP_PROD,
                offset::CONNECTION,
            ]);
            let near = page
                .load(word)
                .wrapping_add(u32::from(script.short()).wrapping_sub(1100));
            page.store(word, if script.one_in(2) { near } else { script.word() % 3 });
        }
        self.streams.entry(domid).or_default().uncertain = true;
        self.bed.kick(domid);
    }

    /// It begins anew, if the server still knows its ring.
    fn reconnect(&mut self, domid: u16) {
        self.collect();
        let page = self.guest(domid).page.clone();
        let offered = page.load(offset::SERVER_FEATURES) & 1 != 0;
        if self.bed.connection_of(domid).is_some() && offered {
            self.bed.reconnect(domid);
            self.streams.insert(domid, Stream::default());
        }
    }

    fn dies(&mut self, domid: u16) {
        self.collect();
        self.bed.domain_is(domid, DomainState::ABSENT);
        self.start(domid);
    }

    fn start(&mut self, domid: u16) {
        self.bed.start(domid);
        self.streams.insert(domid, Stream::default());
    }

    /// dom0 does something to a guest's connection.
    fn domain_request(&mut self, script: &mut Script<'_>) {
        use MessageType as T;
        let domid = script.of(&GUESTS);
        let (kind, payload) = match script.number(6) {
            0 => (T::Introduce, format!("{domid}|1|1|")),
            1 => (T::Introduce, format!("{domid}|1|9999|")),
            2 => (T::Release, format!("{domid}|")),
            3 => (T::Resume, format!("{domid}|")),
            4 => (T::SetQuota, format!("{domid}|nodes|{}|", script.byte())),
            _ => (T::SetFeature, format!("{domid}|{}|", script.byte() % 16)),
        };
        if matches!(kind, T::Introduce | T::Release) {
            self.streams.entry(domid).or_default().uncertain = true;
        }
        self.send(0, kind as u32, 0, payload.replace('|', "\0").as_bytes());
        if kind == T::Introduce {
            self.bed.settle();
        }
    }

    /// Everyone reads; replies are those that were owed, in their order.
    fn collect(&mut self) {
        self.bed.settle();
        for (domid, stream) in &mut self.streams {
            if stream.uncertain {
                continue;
            }
            let messages = self.bed.messages(*domid).into_iter();
            for reply in messages.filter(|message| message.kind != MessageType::WatchEvent) {
                assert_eq!(
                    stream.owed.pop_front(),
                    Some(reply.request),
                    "domain {domid}: {reply:?}"
                );
                assert!(reply.payload.len() <= PAYLOAD_MAX);
            }
        }
        let owed = &self.streams[&0].owed;
        assert!(owed.is_empty(), "dom0 is owed {owed:?}");
    }

    fn ask_dom0(&mut self, kind: MessageType, payload: &str) {
        self.collect();
        self.bed.ask(0, kind, 0, payload);
    }

    fn end(mut self) {
        self.bed.host.fuse.arm(0);
        for domid in GUESTS {
            self.guest(domid).deaf = false;
        }
        self.collect();
        for (domid, stream) in &self.streams {
            let server = self.bed.service().server();
            let read = self
                .bed
                .connection_of(*domid)
                .is_some_and(|connection| server.may_read(connection));
            // Who is over its limits is not read any more.
            assert!(
                stream.uncertain || !read || stream.owed.is_empty(),
                "domain {domid} is owed {:?}",
                stream.owed
            );
        }
        self.bed.check();
        let figures = self.bed.service().server().tree().figures();
        assert_eq!((figures.impossible, figures.exhausted), (0, 0), "{figures:?}");
        let log = self.bed.host.log.borrow().join("\n");
        if !log.contains("the durable pages are full") {
            let before = dump(self.bed.service().server().tree());
            self.restart();
            assert!(
                dump(self.bed.service().server().tree()) == before,
                "a restart changed the tree"
            );
            self.bed.settle();
            self.bed.check();
        }
    }
}

fn header(script: &mut Script<'_>, length: u32) -> [u8; HEADER_SIZE] {
    let header = Header {
        kind: script.byte().into(),
        request_id: 1,
        transaction_id: 0,
        length,
    };
    header.emit()
}

/// Everything in the tree, as text.
pub(crate) fn dump<M: Memory>(tree: &Tree<M>) -> String {
    let mut text = String::new();
    let mut stack: Vec<(usize, Node<'_>)> = vec![(0, tree.root_node(tree.current()))];
    while let Some((depth, node)) = stack.pop() {
        let entries = node.permissions().iter();
        let permissions: Vec<String> = entries
            .map(|entry| format!("{entry}{}", if entry.ignored { "!" } else { "" }))
            .collect();
        let line = format!(
            "{depth} {} {} {} {:?}\n",
            node.name(),
            permissions.join(" "),
            node.generation(),
            node.value()
        );
        text.push_str(&line);
        stack.extend(tree.children(node).map(|child| (depth + 1, child)));
    }
    text
}
