//! What a commit is worth, judged by doing its requests again.
//!
//! Random requests of dom0 and three guests, plain and in up to seven open transactions, in random order on few paths. At each
//! commit a copy of the server does the requests of the transaction one after the other, plainly. A commit that was accepted
//! must have brought the same replies, the same tree and the events that the README promises; for one that was refused, some
//! reply must come out differently, or it belongs to one of the classes that are counted and printed.
//!
//! `XENSTORE_SEED=n` runs one interleaving alone and tells what it does, `XENSTORE_SEEDS=n` as many.

mod oracle;

use std::ops::AddAssign;

use oracle::events::{Expected, Seen, Watcher, seen};
use oracle::{DOM0, Host, Random, parent, tops};
use xenstore_core::{Configuration, ConflictLimits, Limit, Quotas};
use xenstore_wire::MessageType::{self, *};

const INTERLEAVINGS: u64 = 100_000;
/// In so many every class of refusals is met.
const ENOUGH: u64 = 10_000;
/// Requests in each.
const REQUESTS: usize = 36;
const OPEN_AT_ONCE: usize = 7;

const PATHS: [&str; 16] = [
    "/", "/s", "/s", "/s/a", "/s/a", "/s/b", "/s/a/x", "/s/a/y", "/s/a/x/k", "/s/b/x", "/s/b/x/k", "/t", "/t/a",
    "/t/a/x", "/u", "/u/a/x",
];
const PERMISSIONS: [&str; 12] = [
    "n0|",
    "r0|",
    "b0|",
    "w0|",
    "n0|r1|",
    "n0|w2|",
    "n1|",
    "n1|b2|",
    "n2|r1|w3|",
    "b2|n3|",
    "n3|r2|",
    "r0|n1|",
];

const WATCHERS: [Watcher; 5] = [
    Watcher {
        connection: DOM0,
        path: "/",
        token: "all",
    },
    Watcher {
        connection: DOM0,
        path: "/s/a/x",
        token: "one",
    },
    Watcher {
        connection: DOM0 + 1,
        path: "/s",
        token: "s",
    },
    Watcher {
        connection: DOM0 + 2,
        path: "/",
        token: "root",
    },
    Watcher {
        connection: DOM0 + 3,
        path: "/t/a",
        token: "t",
    },
];

/// The store before each interleaving: rights differ from guest to guest, and guest 2 has those of guest 1, too.
fn host() -> Host {
    let mut quotas = Quotas::default();
    for limit in Limit::ALL {
        quotas.set(limit, 0);
    }
    let conflicts = ConflictLimits {
        // So that there are leases: few clients lose three times in so few requests.
        losses: 1,
        ..ConflictLimits::default()
    };
    let configuration = Configuration {
        quotas,
        conflicts,
        ..Configuration::default()
    };
    let mut host = Host::with(configuration, 3);
    let nodes = [
        ("/s", "b0|"),
        ("/s/a", "n1|r2|"),
        ("/s/a/x", "n1|b3|"),
        ("/s/b", "n2|w1|r3|"),
        ("/t", "w0|n1|"),
        ("/t/a", "n3|"),
    ];
    for (path, permissions) in nodes {
        host.ask(DOM0, Mkdir, 0, &format!("{path}|"));
        host.ask(DOM0, SetPerms, 0, &format!("{path}|{permissions}"));
    }
    assert_eq!(host.ask(DOM0, SetTarget, 0, "2|1|").reply, "OK|");
    for watcher in WATCHERS {
        let watch = format!("{}|{}|", watcher.path, watcher.token);
        host.ask(watcher.connection, Watch, 0, &watch);
    }
    host
}

/// A request that was sent in a transaction, and its reply.
struct Sent {
    kind: MessageType,
    path: &'static str,
    payload: String,
    reply: String,
    /// The topmost node that it wrote.
    top: Option<String>,
}

struct Open {
    connection: u32,
    id: u32,
    sent: Vec<Sent>,
    wrote: bool,
}

/// How the commits of transactions that wrote went.
#[derive(Clone, Copy, Default, Debug)]
struct Figures {
    accepted: u64,
    events: u64,
    refused: u64,
    /// Refused, although the replies would be the same: a node above what it wrote is gone.
    refused_gone_above: u64,
    /// ... : it read a part of a directory, and another part changed.
    refused_part_of_directory: u64,
    /// ... : it was not allowed to give a node away, and the node has another owner now.
    refused_other_owner: u64,
    /// ... : another client has a lease.
    refused_by_lease: u64,
    read_only: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.accepted += other.accepted;
        self.events += other.events;
        self.refused += other.refused;
        self.refused_gone_above += other.refused_gone_above;
        self.refused_part_of_directory += other.refused_part_of_directory;
        self.refused_other_owner += other.refused_other_owner;
        self.refused_by_lease += other.refused_by_lease;
        self.read_only += other.read_only;
    }
}

fn request(random: &mut Random, step: usize) -> (MessageType, &'static str, String) {
    let path = random.of(&PATHS);
    match random.below(20) {
        0..=5 => (
            Write,
            path,
            format!("{path}|{}", random.of(&["", "old", "new", "step"])),
        ),
        6 | 7 => (Mkdir, path, format!("{path}|")),
        8 | 9 => (Rm, path, format!("{path}|")),
        10 | 11 => (SetPerms, path, format!("{path}|{}", random.of(&PERMISSIONS))),
        12 | 13 => (GetPerms, path, format!("{path}|")),
        14..=16 => (Read, path, format!("{path}|")),
        17 | 18 => (Directory, path, format!("{path}|")),
        _ => (DirectoryPart, path, format!("{path}|{}|", step % 3)),
    }
}

/// DIRECTORY_PART begins with the generation, which is not compared.
fn without_generation(kind: MessageType, reply: &str) -> &str {
    match (kind, reply.split_once('|')) {
        (DirectoryPart, Some((_, names))) => names,
        _ => reply,
    }
}

struct Interleaving {
    seed: u64,
    host: Host,
    open: Vec<Open>,
    figures: Figures,
    aloud: bool,
}

impl Interleaving {
    fn run(&mut self) {
        let mut random = Random::new(self.seed);
        for step in 0..REQUESTS {
            let connection = DOM0 + u32::try_from(random.below(4)).unwrap();
            if self.open.len() < 3 || (self.open.len() < OPEN_AT_ONCE && random.below(12) == 0) {
                let id = self.host.begin(connection);
                self.open.push(Open {
                    connection,
                    id,
                    sent: Vec::new(),
                    wrote: false,
                });
            }
            match random.below(10) {
                0 | 1 => {
                    let (kind, _, payload) = request(&mut random, step);
                    let answer = self.host.ask(connection, kind, 0, &payload);
                    self.say(connection, 0, kind, &payload, &answer.reply);
                }
                2 => {
                    let open = self.open.remove(random.below(self.open.len()));
                    self.end(open);
                }
                _ => {
                    let place = random.below(self.open.len());
                    self.send(place, request(&mut random, step));
                }
            }
        }
        for open in std::mem::take(&mut self.open) {
            self.end(open);
        }
    }

    fn say(&self, connection: u32, transaction: u32, kind: MessageType, payload: &str, reply: &str) {
        if self.aloud {
            println!("d{} tx {transaction} {kind:?} {payload} -> {reply}", connection - DOM0);
        }
    }

    fn send(&mut self, place: usize, (kind, path, payload): (MessageType, &'static str, String)) {
        let open = &mut self.open[place];
        let (connection, id) = (open.connection, open.id);
        let (answer, record) = self.host.ask_and_keep(connection, kind, id, &payload);
        assert_eq!(answer.events, [], "seed {}", self.seed);
        let top = tops(&record).pop();
        open.wrote |= top.is_some();
        open.sent.push(Sent {
            kind,
            path,
            payload: payload.clone(),
            reply: answer.reply.clone(),
            top,
        });
        self.say(connection, id, kind, &payload, &answer.reply);
    }

    fn end(&mut self, open: Open) {
        let seed = self.seed;
        let root = self.host.server.tree().current();
        let by_lease = self.host.server.conflict_figures().by_lease;
        let mut again = open.wrote.then(|| self.host.clone());
        let answer = self.host.ask(open.connection, TransactionEnd, open.id, "T|");
        self.say(open.connection, open.id, TransactionEnd, "T|", &answer.reply);
        let Some(again) = &mut again else {
            assert_eq!(answer.reply, "OK|", "seed {seed}: a transaction that only read");
            assert_eq!(self.host.server.tree().current(), root, "seed {seed}");
            self.figures.read_only += 1;
            return;
        };
        let seen_before = if answer.reply == "OK|" {
            seen(again)
        } else {
            Seen::new()
        };
        let redone = redo(again, &open);
        if answer.reply == "OK|" {
            if let Some(different) = redone.different {
                panic!("seed {seed}: a commit that must fail: {different}");
            }
            assert!(!redone.gone_above, "seed {seed}: what is above what it wrote was gone");
            assert_eq!(self.host.dump(), again.dump(), "seed {seed}: the tree");
            let expected = redone.expected.told(&WATCHERS, &seen_before, &seen(&self.host));
            assert_eq!(answer.events, expected, "seed {seed}: the events");
            self.figures.accepted += 1;
            self.figures.events += expected.len() as u64;
            return;
        }
        assert_eq!(answer.reply, "!EAGAIN", "seed {seed}");
        assert_eq!(answer.events, [], "seed {seed}");
        let unchanged = self.host.server.tree().current() == root;
        assert!(unchanged, "seed {seed}: a refused commit changes nothing");
        self.figures.refused += 1;
        if redone.different.is_some() {
            return;
        }
        if self.host.server.conflict_figures().by_lease > by_lease {
            self.figures.refused_by_lease += 1;
        } else if redone.gone_above {
            self.figures.refused_gone_above += 1;
        } else if open.sent.iter().any(|sent| sent.kind == DirectoryPart) {
            self.figures.refused_part_of_directory += 1;
        } else if open.sent.iter().any(|sent| sent.reply == "!EPERM") {
            self.figures.refused_other_owner += 1;
        } else {
            panic!("seed {seed}: refused without a reason");
        }
    }
}

/// What came of doing the requests of a transaction again.
struct Redone {
    /// The first reply that is another.
    different: Option<String>,
    /// A node above one that was written was there in the transaction and is gone.
    gone_above: bool,
    expected: Expected,
}

fn redo(again: &mut Host, open: &Open) -> Redone {
    let mut redone = Redone {
        different: None,
        gone_above: false,
        expected: Expected::default(),
    };
    for sent in &open.sent {
        let above = sent.top.as_deref().and_then(parent);
        redone.gone_above |= above.is_some_and(|above| again.node(above).is_none());
        let succeeds = !sent.reply.starts_with('!');
        redone.expected.named(again, sent.kind, sent.path, succeeds);
        let reply = again.ask(open.connection, sent.kind, 0, &sent.payload).reply;
        let (then, now) = (
            without_generation(sent.kind, &sent.reply),
            without_generation(sent.kind, &reply),
        );
        if then != now && redone.different.is_none() {
            redone.different = Some(format!("{:?} {}: {then} then, {now} now", sent.kind, sent.payload));
        }
    }
    redone
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn run(base: &Host, seed: u64, aloud: bool) -> Figures {
    let mut interleaving = Interleaving {
        seed,
        host: base.clone(),
        open: Vec::new(),
        figures: Figures::default(),
        aloud,
    };
    interleaving.run();
    interleaving.figures
}

#[test]
fn a_commit_is_what_its_requests_one_by_one_would_be() {
    let base = host();
    if let Some(seed) = number("XENSTORE_SEED") {
        println!("{:#?}", run(&base, seed, true));
        return;
    }
    let seeds = number("XENSTORE_SEEDS").unwrap_or(INTERLEAVINGS);
    println!("seeds 0 to {seeds}; one alone: XENSTORE_SEED=n cargo test -p xenstore-core --test transaction_oracle");
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let mut total = Figures::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..workers)
            .map(|worker| {
                let base = base.clone();
                scope.spawn(move || {
                    let mut figures = Figures::default();
                    for seed in (worker..seeds).step_by(workers as usize) {
                        figures += run(&base, seed, false);
                    }
                    figures
                })
            })
            .collect();
        for part in parts {
            total += part.join().expect("a seed failed: see above");
        }
    });
    println!("{seeds} interleavings: {total:#?}");
    // Neither side of the comparison is empty, and every class of refusals that the replies do not show is met: an engine that no
    // longer refuses those is another one than what is written here.
    assert!(total.accepted > seeds && total.refused > seeds / 4 && total.events > seeds);
    let classes = [
        total.refused_gone_above,
        total.refused_part_of_directory,
        total.refused_other_owner,
        total.refused_by_lease,
        total.read_only,
    ];
    assert!(seeds < ENOUGH || classes.iter().all(|class| *class > 0), "{total:#?}");
}
