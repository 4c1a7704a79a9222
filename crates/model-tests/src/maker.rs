//! Makes a seed into settings and steps.
//!
//! Names are few, so that requests meet; limits are low, so that they are met; and each seed has a temper of its own: whether
//! transactions interleave, clients are slow, domains die, the clock runs.

use xenstore_wire::MessageType::{self, *};
use xenstore_wire::PAYLOAD_MAX;

use crate::engine::LinkEvent;
use crate::model::{LIMITS, Settings};
use crate::step::{Fate, Step, Within};
use seeded_random::Random;

/// Guests that are there from the beginning.
const GUESTS: [u16; 4] = [1, 2, 3, 4];
/// Domains that come and go.
const VISITORS: [u16; 3] = [5, 6, 7];
/// There, and never introduced by the toolstack.
const STRANGER: u16 = 8;

/// What kind of stream a seed is.
#[derive(Clone, Copy, Debug)]
struct Temper {
    /// Of a hundred requests, so many are made in transactions if there are any.
    in_transactions: u32,
    /// Clients sometimes take nothing.
    slow: bool,
    /// Domains shut down, die and come back.
    deaths: bool,
    /// Domains are given targets.
    targets: bool,
    /// Large directories are made.
    crowds: bool,
}

const NAMES: [&str; 10] = ["a", "b", "c", "a/b", "a/b/c", "b/a/c", "a-b", "a/b/c/d", "data", "A_0@"];
const ROOTS: [&str; 16] = [
    "",
    "",
    "",
    "",
    "",
    "/",
    "/local/domain/1/",
    "/local/domain/2/",
    "/local/domain/3/",
    "/local/domain/5/",
    "/shared/",
    "/shared/",
    "/shared/half/",
    "/closed/",
    "/tool/",
    "/local/domain/0/",
];
const WHOLE: [&str; 11] = [
    "/",
    "/local",
    "/local/domain",
    "/local/domain/1",
    "/local/domain/2",
    "/local/domain/5",
    "/shared",
    "/shared/half",
    "/closed",
    "/tool",
    "/crowd",
];
const SPECIAL: [&str; 10] = [
    "@releaseDomain",
    "@releaseDomain",
    "@introduceDomain",
    "@introduceDomain",
    "@nothing",
    "@",
    "@releaseDomain/5",
    "@releaseDomain/6",
    "@introduceDomain/5",
    "@releaseDomain/x",
];
/// Where transactions meet each other and themselves.
const FOCUS: [&str; 10] = [
    "/shared",
    "/shared/a",
    "/shared/a",
    "/shared/a/b",
    "/shared/a/b/c",
    "/shared/b",
    "/shared/c",
    "a",
    "a/b",
    "/local/domain/1/a",
];
const WRONG: [&str; 13] = [
    "",
    "//",
    "/a/",
    "/a//b",
    "a b",
    "/ä",
    "a\n",
    "/local/domain/",
    ".",
    "..",
    "/a:b",
    "/a\u{1}",
    "@a/",
];
const PERMISSIONS: [&str; 22] = [
    "n1|",
    "r2|w3|",
    "b0|",
    "n3|r1|b2|",
    "w1|",
    "r0|n2|",
    "n2|b1|r3|",
    "n1|r2|",
    "r1|n2|r2|",
    "n0|b4|",
    "b5|r1|",
    "n1|r77|",
    "n1|r32757|",
    "n2|r32757|n1|",
    "n4|",
    "n3|",
    "n2|",
    "b3|",
    "n5|b1|",
    "n1|b5|r6|",
    "r0x1|",
    "n01|w0x2|",
];
const WRONG_PERMISSIONS: [&str; 13] = [
    "", "n", "x1|", "n1x|", "1|", "n77|", "n1|q2|", "n-1|", "n 1|", "n65536|", "n08|", "|", "n",
];
const NUMBERS: [&str; 18] = [
    "0|", "1|", "2|", "3|", "4|", "5|", "6|", "8|", "32752|", "65535|", "99|", "x|", "|", "", "1", "2|1|", "1x|",
    "65536|",
];
const OFFSETS: [&str; 9] = ["0", "1", "2", "5", "-1", "", "x", "9999", "400"];
const TOKENS: [&str; 5] = ["x", "x", "y", "", "t/t@ !"];
const WATCHED: [&str; 9] = [
    "/",
    "a",
    "a/b",
    "/shared",
    "/shared/a",
    "/local/domain/1",
    "b",
    "/local",
    "/shared/a/b",
];

/// The settings and the stream of a seed.
pub fn stream(seed: u64, count: usize) -> (Settings, Vec<Step>) {
    let mut maker = Maker {
        random: Random::new(seed),
        temper: Temper {
            in_transactions: [10, 40, 70, 40][(seed % 4) as usize],
            slow: !seed.is_multiple_of(3),
            deaths: seed % 5 < 3,
            targets: seed % 7 < 3,
            crowds: seed.is_multiple_of(6),
        },
    };
    let settings = maker.settings();
    let mut steps: Vec<Step> = GUESTS.iter().map(|domid| Step::Start { domid: *domid }).collect();
    steps.push(Step::Fates(vec![(STRANGER, Fate::Alive)]));
    for (path, permissions) in [("/shared", "b0|"), ("/shared/half", "r0|w2|"), ("/closed", "n0|r1|")] {
        steps.push(ask(0, Mkdir, &format!("{path}|")));
        steps.push(ask(0, SetPerms, &format!("{path}|{permissions}")));
    }
    while steps.len() < count {
        let step = maker.step();
        steps.push(step);
        if steps.len().is_multiple_of(64) {
            steps.push(Step::Compare);
        }
        if steps.len().is_multiple_of(1500) {
            steps.push(Step::Restart);
        }
    }
    steps.push(Step::Compare);
    (settings, steps)
}

/// A request outside of transactions; `|` stands for NUL.
pub fn ask(domid: u16, kind: MessageType, payload: &str) -> Step {
    request(domid, Within::Outside, kind as u32, payload)
}

fn request(domid: u16, within: Within, kind: u32, payload: &str) -> Step {
    let mut payload = payload.replace('|', "\0").into_bytes();
    // What is longer is not a request, see `Step::TooLong`.
    payload.truncate(PAYLOAD_MAX);
    Step::Request {
        domid,
        within,
        kind,
        payload,
        first: None,
    }
}

struct Maker {
    random: Random,
    temper: Temper,
}

/// A stream in which one guest alone has transactions, with credit: as nobody makes others' commits fail that has to pay for
/// it, nobody notices. (What the privileged domain changes costs nothing.)
pub fn stream_of_a_lone_client(seed: u64, count: usize) -> (Settings, Vec<Step>) {
    let (mut settings, mut steps) = stream(seed, count);
    settings.credit = true;
    steps.retain(|step| match step {
        Step::Request { domid: 1, .. } => true,
        Step::Request { domid, kind, .. } => *domid == 0 && *kind != TransactionStart as u32,
        _ => true,
    });
    (settings, steps)
}

impl Maker {
    fn settings(&mut self) -> Settings {
        let random = &mut self.random;
        let mut limits = Vec::new();
        for name in LIMITS {
            let value = match name {
                "nodes" => random.of(&[7, 12, 25]),
                "watches" => random.of(&[3, 5, 9]),
                "outstanding" => random.of(&[2, 3, 20]),
                "memory" => random.of(&[2000, 4000, 100_000, 0]),
                "soft-memory" => 1000,
                "transactions" => random.of(&[2, 3, 4]),
                "transaction-nodes" => random.of(&[4, 8, 20]),
                "node-permissions" => random.of(&[3, 4, 5]),
                "path-max" => random.of(&[24, 60, 2048]),
                _ => random.of(&[40, 80, 2048]),
            };
            // Now and then one of them does not hold.
            limits.push(if random.one_in(12) { 0 } else { value });
        }
        Settings {
            features: random.of(&[15, 15, 15, 11, 7, 3]),
            timeout: random.of(&[20u64, 20, 5, 0]),
            limits,
            lists_changes: random.one_in(2),
            credit: false,
        }
    }

    fn step(&mut self) -> Step {
        let domid = self.random.of(&[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6]);
        match self.random.below(200) {
            0..=9 => request(domid, self.within(20), TransactionStart as u32, "|"),
            10..=21 => {
                let how = self
                    .random
                    .of(&["T|", "T|", "T|", "T|", "T|", "F|", "F|", "T", "x|", ""]);
                let within = if self.random.one_in(30) {
                    Within::Outside
                } else {
                    self.open()
                };
                request(domid, within, TransactionEnd as u32, how)
            }
            22..=29 => self.toolstack(),
            30..=33 => self.administration(),
            34..=37 if self.temper.deaths => self.fate(),
            38..=47 if self.temper.slow => self.slowness(),
            48..=50 => Step::Pass(self.random.of(&[1, 500, 2000, 4999, 5000, 12_000, 20_000, 21_000])),
            51 if self.random.one_in(3) => self.link(),
            52..=54 => self.malformed(domid),
            55..=58 if self.temper.crowds => self.crowd(),
            _ => self.work(domid),
        }
    }

    fn open(&mut self) -> Within {
        Within::Open(self.random.below(4) as u8)
    }

    /// Of a hundred requests so many in a transaction.
    fn within(&mut self, percent: u32) -> Within {
        match self.random.below(100) {
            0 => Within::Unknown,
            part if part < percent => self.open(),
            _ => Within::Outside,
        }
    }

    fn path(&mut self) -> String {
        match self.random.below(40) {
            0 => self.random.of(&WRONG).to_owned(),
            1 => self.random.of(&SPECIAL).to_owned(),
            2..=5 => self.random.of(&WHOLE).to_owned(),
            // About as long as may be.
            6 => {
                let root = self.random.of(&ROOTS);
                let length = self
                    .random
                    .of(&[20, 22, 23, 24, 25, 58, 59, 60, 61, 2046, 2047, 2048, 2049]);
                let used = if self.random.one_in(2) { root.len() } else { 0 };
                format!("{root}{}", "p".repeat((length as usize).saturating_sub(used).max(1)))
            }
            _ => format!("{}{}", self.random.of(&ROOTS), self.random.of(&NAMES)),
        }
    }

    fn permissions(&mut self) -> &'static str {
        if self.random.one_in(10) {
            self.random.of(&WRONG_PERMISSIONS)
        } else {
            self.random.of(&PERMISSIONS)
        }
    }

    fn value(&mut self) -> String {
        let size = match self.random.below(30) {
            0 => 1990 + self.random.below(60),
            1..=4 => self.random.below(100),
            _ => self.random.below(4),
        };
        self.random.of(&["v", "w"]).repeat(size as usize)
    }

    fn work(&mut self, domid: u16) -> Step {
        let within = self.within(self.temper.in_transactions);
        let path = match within {
            Within::Open(_) if !self.random.one_in(3) => self.random.of(&FOCUS).to_owned(),
            _ if self.temper.crowds && self.random.one_in(40) => "/crowd".to_owned(),
            _ => self.path(),
        };
        let (kind, payload) = match self.random.below(50) {
            0..=11 => {
                let value = self.value();
                (Write, format!("{path}|{value}"))
            }
            12..=15 => (Mkdir, format!("{path}|")),
            16..=19 => (Rm, format!("{path}|")),
            20..=24 => (SetPerms, format!("{path}|{}", self.permissions())),
            25..=27 => (GetPerms, format!("{path}|")),
            28..=33 => (Read, format!("{path}|")),
            34..=37 => (Directory, format!("{path}|")),
            38 | 39 => (DirectoryPart, format!("{path}|{}|", self.random.of(&OFFSETS))),
            40..=44 => (Watch, self.watched(&path)),
            45 | 46 => (Unwatch, self.watched(&path)),
            47 if self.random.one_in(6) => (ResetWatches, self.random.of(&["|", "", "x"]).into()),
            47 => (GetDomainPath, self.random.of(&NUMBERS).into()),
            48 => (GetFeature, self.random.of(&["", "", "1|", "9|", "x|", "1|2|"]).into()),
            _ => (SetPerms, format!("{path}|{}", self.permissions())),
        };
        let first = self.random.one_in(40).then(|| self.random.below(24) as u16);
        let step = request(domid, within, kind as u32, &payload);
        match step {
            Step::Request {
                domid,
                within,
                kind,
                payload,
                ..
            } => Step::Request {
                domid,
                within,
                kind,
                payload,
                first,
            },
            other => other,
        }
    }

    fn watched(&mut self, path: &str) -> String {
        let token = self.random.of(&TOKENS);
        let path = match self.random.below(10) {
            0 | 1 => self.random.of(&SPECIAL),
            2..=7 => self.random.of(&WATCHED),
            _ => path,
        };
        match self.random.below(12) {
            0..=2 => format!(
                "{path}|{token}|{}|",
                self.random.of(&["0", "1", "2", "-1", "", "x3", "4294967296"])
            ),
            // An event below it would be too long.
            3 if self.random.one_in(10) => format!("/|{}|", "T".repeat(4085)),
            _ => format!("{path}|{token}|"),
        }
    }

    /// What a toolstack asks; sometimes a guest tries it.
    fn toolstack(&mut self) -> Step {
        let domid = if self.random.one_in(5) {
            self.random.of(&GUESTS)
        } else {
            0
        };
        let visitor = self.random.of(&VISITORS);
        let within = self.within(6);
        let (kind, payload) = match self.random.below(20) {
            0..=4 => return Step::Start { domid: visitor },
            5 => (
                Introduce,
                self.random
                    .of(&[
                        "4|1|",
                        "4|1|0|",
                        "9|1|1|",
                        "8|1|5000|",
                        "x",
                        "",
                        "99|1|1|",
                        "65536|1|1|",
                        "5|1|-1|",
                    ])
                    .to_owned(),
            ),
            6 => (Introduce, format!("{visitor}|1|{}|", self.random.below(9) + 1)),
            7 if self.random.one_in(8) => (Introduce, "0|1|1|".to_owned()),
            7 => (Introduce, format!("{}|1|3|", self.random.of(&GUESTS))),
            8 => (
                Release,
                self.random
                    .of(&["0|", "9|", "", "x|", "9", "4|5|", "99|", "8|"])
                    .to_owned(),
            ),
            9 | 10 => (Release, format!("{visitor}|")),
            11 => (Resume, format!("{visitor}|")),
            12 => (Resume, self.random.of(&["0|", "9|", "", "x|", "1|", "8|"]).to_owned()),
            13 => (IsDomainIntroduced, self.random.of(&NUMBERS).to_owned()),
            14 => (
                SetTarget,
                self.random.of(&["9|1|", "1|9|", "1|", "", "x|y|", "8|1|"]).to_owned(),
            ),
            15 if self.temper.targets => (
                SetTarget,
                format!("{}|{}|", self.random.of(&[4, 5]), self.random.of(&GUESTS)),
            ),
            15 | 16 => (GetDomainPath, self.random.of(&NUMBERS).to_owned()),
            _ => return Step::Start { domid: visitor },
        };
        request(domid, within, kind as u32, &payload)
    }

    /// What an administrator asks and sets; sometimes a guest tries it.
    fn administration(&mut self) -> Step {
        let domid = if self.random.one_in(6) {
            self.random.of(&GUESTS)
        } else {
            0
        };
        let within = self.within(6);
        let who = self.random.of(&["1", "2", "3", "5", "8", "9", "x", "65536", "0"]);
        let limit = self.random.of(&LIMITS);
        let value = match limit {
            "memory" => self.random.of(&["2000", "5000", "0", "100000", "-1"]),
            "node-size" | "path-max" => self.random.of(&["0", "30", "80", "2048", "-1", "x"]),
            _ => self
                .random
                .of(&["0", "2", "3", "5", "9", "20", "-1", "x", "4294967295"]),
        };
        let (kind, payload) = match self.random.below(16) {
            0..=2 => (
                GetQuota,
                self.random
                    .of(&["", "nodes|", "memory ", "x|", "1|nodes|", "a|b|c|"])
                    .to_owned(),
            ),
            3 | 4 => (GetQuota, format!("{who}|{limit}|")),
            5 | 6 => (SetQuota, format!("{who}|{limit}|{value}|")),
            7 => (SetQuota, format!("{limit}|{value}|")),
            8 => (
                SetQuota,
                self.random
                    .of(&["", "nodes|", "x|5|", "1|x|5|", "1|nodes|5|6|"])
                    .to_owned(),
            ),
            9 => (GetFeature, format!("{who}|")),
            10 => (
                SetFeature,
                format!(
                    "{}|{}|",
                    self.random.of(&["5", "6", "8", "1", "9"]),
                    self.random.of(&["0", "3", "7", "15", "16", "x"])
                ),
            ),
            11 => (SetFeature, self.random.of(&["", "5|", "x|1|", "5|1|1|"]).to_owned()),
            12 => (Control, format!("quota|{who}|")),
            // Seldom: afterwards the largest values of all domains are not compared any more.
            13 if self.random.one_in(60) => (Control, "quota|max|-r|".to_owned()),
            13 => (
                Control,
                self.random
                    .of(&[
                        "quota|",
                        "quota-soft|",
                        "help|",
                        "log|",
                        "status|",
                        "print|hello|",
                        "check|",
                        "quota|max|",
                        "log|-obj|",
                    ])
                    .to_owned(),
            ),
            14 => (
                Control,
                self.random
                    .of(&[
                        "",
                        "x|",
                        "print|",
                        "print|a|b|",
                        "log|+x|",
                        "quota|set|x|1|",
                        "quota|set|nodes|0|",
                        "help",
                        "quota-soft|set|nodes|1|",
                        "quota|set|soft-memory|1|",
                        "quota|a|b|",
                        "log|x|",
                        "crash|panic|",
                    ])
                    .to_owned(),
            ),
            _ => (
                Control,
                self.random
                    .of(&[
                        "quota|set|nodes|20|",
                        "quota-soft|set|memory|77|",
                        "quota|set|watches|4|",
                    ])
                    .to_owned(),
            ),
        };
        request(domid, within, kind as u32, &payload)
    }

    fn fate(&mut self) -> Step {
        let fates = [
            Fate::Shutdown,
            Fate::Shutdown,
            Fate::Absent,
            Fate::Dying,
            Fate::Alive,
            Fate::Replaced,
        ];
        let count = self.random.of(&[1, 1, 1, 2, 3]);
        let all = (0..count).map(|_| (self.random.of(&[3, 4, 5, 6, 7, STRANGER]), self.random.of(&fates)));
        Step::Fates(all.collect())
    }

    fn slowness(&mut self) -> Step {
        // Not the administrator, whose answers the model must know before they are seen.
        let domid = self.random.of(&[1, 2, 3, 3, 4]);
        let bytes = match self.random.below(8) {
            0..=2 => None,
            3 => Some(0),
            _ => Some(self.random.of(&[1, 15, 16, 17, 40, 100, 300, 2000])),
        };
        Step::Room { domid, bytes }
    }

    fn link(&mut self) -> Step {
        let domid = self.random.of(&[1, 2, 3, 4, 5, 6]);
        let torn = if self.random.one_in(3) {
            self.random.below(200) as u8
        } else {
            0
        };
        let event = match self.random.below(6) {
            0 | 1 => LinkEvent::Reset,
            2 | 3 => LinkEvent::Reconnect,
            4 => LinkEvent::Impossible,
            _ => return Step::TooLong { domid },
        };
        Step::Link { domid, event, torn }
    }

    /// Many children with long names, and their end.
    fn crowd(&mut self) -> Step {
        if self.random.one_in(150) {
            return ask(0, Rm, "/crowd|");
        }
        let name = format!("{}{}", self.random.below(60), "n".repeat(self.random.of(&[1, 90, 130])));
        ask(0, Write, &format!("/crowd/{name}|"))
    }

    /// Rubbish in the shape of a request.
    fn malformed(&mut self, domid: u16) -> Step {
        let kind = self.random.of(&[
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 99,
        ]);
        let length = self.random.below(9);
        let mut payload: Vec<u8> = (0..length).map(|_| self.random.of(b"/ab\0\0@n1\x7f\xff-2")).collect();
        if self.random.one_in(3) {
            payload.push(0);
        }
        Step::Request {
            domid,
            within: self.within(10),
            kind,
            payload,
            first: None,
        }
    }
}
