//! What happens: steps that stand for themselves, so that a trace stays a trace when some are left out.

use std::fmt;

use native_rings::Life;
use xenstore_wire::MessageType::{self, *};

use crate::guests::readable;
use seeded_random::Random;

/// Guests that are there from the beginning and own a home.
pub const GUESTS: [u16; 3] = [1, 2, 3];
/// A domain that is there and never introduced.
pub const STRANGER: u16 = 7;
/// Domains that come and go.
pub const VISITORS: [u16; 3] = [4, 5, 6];

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A domain sends a request; left out if it is not connected.
    Request {
        /// Who.
        domid: u16,
        /// Which of its open transactions, counted round; outside if it has none.
        within: Option<u8>,
        /// The number of the type, known or not.
        kind: u32,
        /// What it carries.
        payload: Vec<u8>,
    },
    /// A domain starts a transaction.
    Start {
        /// Who.
        domid: u16,
    },
    /// A domain ends one of its transactions; left out if it has none.
    End {
        /// Who.
        domid: u16,
        /// Which, counted round.
        which: u8,
        /// Commit, not abort.
        commit: bool,
    },
    /// The hypervisor says this of a domain.
    Life {
        /// Of whom.
        domid: u16,
        /// What.
        life: Life,
    },
    /// A domain is built anew, introduced, and gets a home of its own.
    Revive {
        /// Which.
        domid: u16,
    },
    /// domain 0 reads everything that there is.
    ReadAll,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Request {
                domid,
                within,
                kind,
                payload,
            } => {
                match MessageType::from_wire(*kind) {
                    Some(kind) => write!(f, "d{domid} {kind:?}")?,
                    None => write!(f, "d{domid} type {kind}")?,
                }
                if let Some(which) = within {
                    write!(f, " in transaction {which}")?;
                }
                write!(f, " {}", readable(payload))
            }
            Step::Start { domid } => write!(f, "d{domid} TransactionStart"),
            Step::End { domid, which, commit } => {
                write!(f, "d{domid} TransactionEnd {which} {}", if *commit { "T" } else { "F" })
            }
            Step::Life { domid, life } => write!(f, "domain {domid} is {life:?}"),
            Step::Revive { domid } => write!(f, "domain {domid} is built and introduced"),
            Step::ReadAll => f.write_str("d0 reads everything"),
        }
    }
}

/// What a trace is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Requests come between those of open transactions.
    pub interleaved: bool,
    /// Domains are given targets. Permission lists then have one entry, because with more the servers differ on purpose.
    pub targets: bool,
    /// Domains shut down, die and come back.
    pub deaths: bool,
}

impl Style {
    /// The style of a seed: each combination has its turn.
    pub fn of_seed(seed: u64) -> Style {
        Style {
            interleaved: seed & 1 != 0,
            targets: seed & 6 == 6,
            deaths: seed & 2 != 0,
        }
    }
}

/// The trace of a seed.
pub fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut maker = Maker {
        random: Random::new(seed),
        style: Style::of_seed(seed),
        in_transaction: None,
    };
    let mut steps: Vec<Step> = GUESTS.iter().map(|domid| Step::Revive { domid: *domid }).collect();
    let (half, closed) = if maker.style.targets {
        ("r0|", "n0|")
    } else {
        ("r0|w2|", "n0|r1|")
    };
    for (path, permissions) in [("/shared", "b0|"), ("/shared/half", half), ("/closed", closed)] {
        steps.push(ask(0, Mkdir, &format!("{path}|")));
        steps.push(ask(0, SetPerms, &format!("{path}|{permissions}")));
    }
    while steps.len() < count {
        maker.next(&mut steps);
        if steps.len().is_multiple_of(500) {
            steps.push(Step::ReadAll);
        }
    }
    steps.push(Step::ReadAll);
    steps
}

/// Short traces for what random ones seldom or never come to.
pub fn rare() -> Vec<(&'static str, Vec<Step>)> {
    let revive = |domid| Step::Revive { domid };
    let life = |domid, life| Step::Life { domid, life };
    let inside = |domid, kind: MessageType, payload: &str| Step::Request {
        domid,
        within: Some(0),
        kind: kind as u32,
        payload: payload.replace('|', "\0").into_bytes(),
    };
    let within = |kind, payload: &str| inside(0, kind, payload);
    let commit = Step::End {
        domid: 0,
        which: 0,
        commit: true,
    };
    vec![
        (
            "the domain after dom0 in C's list is released",
            vec![revive(4), ask(0, Watch, "@releaseDomain|x|"), ask(0, Release, "4|")],
        ),
        (
            "a shutdown is found again beside the end of a domain before it in C's list",
            vec![
                revive(3),
                revive(4),
                life(4, Life::Shutdown),
                ask(0, Watch, "@releaseDomain|x|"),
                ask(0, Resume, "4|"),
                life(3, Life::Absent),
            ],
        ),
        (
            "the same beside one that is dying",
            vec![
                revive(4),
                ask(0, Watch, "@releaseDomain|x|"),
                life(4, Life::Shutdown),
                ask(0, Resume, "4|"),
                revive(6),
                life(6, Life::Dying),
            ],
        ),
        (
            "a transaction removes what is removed meanwhile",
            vec![
                revive(2),
                ask(2, Write, "a/b/c/d|v"),
                Step::Start { domid: 2 },
                inside(2, Rm, "a/b|"),
                ask(0, Rm, "/local/domain|"),
                Step::End {
                    domid: 2,
                    which: 0,
                    commit: true,
                },
            ],
        ),
        (
            "a guest sees a node by its parent alone, and both are made in one transaction, the node being touched first",
            vec![
                revive(1),
                ask(1, Watch, "/new|x|"),
                Step::Start { domid: 0 },
                within(Read, "/new/node|"),
                within(Mkdir, "/new|"),
                within(SetPerms, "/new|r0|"),
                within(Write, "/new/node|v"),
                within(SetPerms, "/new/node|n0|"),
                commit.clone(),
            ],
        ),
        (
            "what a transaction found missing is made by another",
            vec![
                Step::Start { domid: 0 },
                within(Read, "data|"),
                within(Write, "/tool/node|v"),
                ask(0, Write, "data|v"),
                commit.clone(),
            ],
        ),
        (
            "a node is made and removed in one transaction",
            vec![
                ask(0, Watch, "/tool|x|"),
                Step::Start { domid: 0 },
                within(Write, "/tool/node|v"),
                within(Rm, "/tool/node|"),
                commit,
            ],
        ),
    ]
}

/// A request outside transactions; `|` stands for NUL.
pub fn ask(domid: u16, kind: MessageType, payload: &str) -> Step {
    Step::Request {
        domid,
        within: None,
        kind: kind as u32,
        payload: payload.replace('|', "\0").into_bytes(),
    }
}

const NAMES: [&str; 8] = ["a", "b", "c", "a/b", "a/b/c", "b/a/c", "a/b/c/d", "data"];
const ROOTS: [&str; 14] = [
    "",
    "",
    "",
    "/",
    "/local/domain/1/",
    "/local/domain/2/",
    "/local/domain/3/",
    "/local/domain/4/",
    "/shared/",
    "/shared/",
    "/shared/half/",
    "/closed/",
    "/tool/",
    "/local/domain/0/",
];
const WHOLE: [&str; 10] = [
    "/",
    "/local",
    "/local/domain",
    "/local/domain/1",
    "/local/domain/2",
    "/shared",
    "/shared/half",
    "/closed",
    "/tool",
    "/tool/xenstored",
];
const SPECIAL: [&str; 6] = [
    "@releaseDomain",
    "@introduceDomain",
    "@releaseDomain",
    "@nothing",
    "@",
    "@releaseDomain/x",
];
const WRONG: [&str; 12] = [
    "",
    "//",
    "/a/",
    "/a//b",
    "a b",
    "/ä",
    "a\n",
    "/local/domain",
    ".",
    "..",
    "/a:b",
    "/a\u{1}",
];
const PERMISSIONS: [&str; 14] = [
    "n1|",
    "r2|w3|",
    "b0|",
    "n3|r1|b2|",
    "w1|",
    "r0|n2|",
    "n2|b1|r3|w0|",
    "n1|r2|",
    "r1|n2|r2|",
    "n0|b4|",
    "b5|r1|",
    "n1|r77|",
    "n1|r2|r3|b4|",
    "b1|w2|n3|r4|",
];
const WRONG_PERMISSIONS: [&str; 12] = [
    "", "n", "x1|", "n1x|", "1|", "n77|", "n1|q2|", "n-1|", "n 1|", "n0x1|", "n01|", "|",
];
const NUMBERS: [&str; 16] = [
    "0|", "1|", "2|", "3|", "4|", "5|", "6|", "7|", "32752|", "65535|", "x|", "|", "", "1", "2|1|", "1x|",
];

struct Maker {
    random: Random,
    style: Style,
    /// A trace that does not interleave is inside this domain's transaction.
    in_transaction: Option<u16>,
}

impl Maker {
    fn next(&mut self, steps: &mut Vec<Step>) {
        if let Some(domid) = self.in_transaction {
            if self.random.one_in(8) {
                self.in_transaction = None;
                steps.push(Step::End {
                    domid,
                    which: 0,
                    commit: !self.random.one_in(4),
                });
                return;
            }
            steps.push(self.request(domid, Some(0)));
            return;
        }
        let domid = self.random.of(&[0, 0, 1, 1, 2, 2, 3, 4, 5]);
        match self.random.below(100) {
            0..=3 => {
                steps.push(Step::Start { domid });
                if !self.style.interleaved {
                    self.in_transaction = Some(domid);
                }
            }
            4..=7 if self.style.interleaved => {
                let which = self.random.below(3) as u8;
                steps.push(Step::End {
                    domid,
                    which,
                    commit: !self.random.one_in(4),
                });
            }
            8..=11 => steps.push(self.toolstack()),
            12 if self.style.deaths => steps.push(self.fate()),
            13 => steps.push(self.malformed(domid)),
            _ => {
                let within = (self.style.interleaved && self.random.one_in(2)).then(|| self.random.below(3) as u8);
                steps.push(self.request(domid, within));
            }
        }
    }

    fn path(&mut self) -> String {
        match self.random.below(30) {
            0 => self.random.of(&WRONG).to_owned(),
            1 => self.random.of(&SPECIAL).to_owned(),
            2..=4 => self.random.of(&WHOLE).to_owned(),
            _ => format!("{}{}", self.random.of(&ROOTS), self.random.of(&NAMES)),
        }
    }

    fn permissions(&mut self) -> &'static str {
        if self.random.one_in(12) {
            return self.random.of(&WRONG_PERMISSIONS);
        }
        if self.style.targets {
            return self
                .random
                .of(&["n1|", "b0|", "r0|", "r2|", "w1|", "n3|", "b2|", "n4|"]);
        }
        self.random.of(&PERMISSIONS)
    }

    fn request(&mut self, domid: u16, within: Option<u8>) -> Step {
        let path = self.path();
        let token = self.random.of(&["x", "y", "", "token-3", "t/t@ !"]);
        let (kind, payload) = match self.random.below(48) {
            0..=10 => {
                let size = if self.random.one_in(20) { 1500 } else { 12 };
                let value = "v".repeat(self.random.below(size) as usize);
                (Write, format!("{path}|{value}"))
            }
            11..=14 => (Mkdir, format!("{path}|")),
            15..=18 => (Rm, format!("{path}|")),
            19..=22 => (SetPerms, format!("{path}|{}", self.permissions())),
            23..=25 => (GetPerms, format!("{path}|")),
            26..=32 => (Read, format!("{path}|")),
            33..=36 => (Directory, format!("{path}|")),
            37 => (
                DirectoryPart,
                format!(
                    "{path}|{}|",
                    self.random.of(&["0", "1", "2", "5", "-1", "", "x", "9999"])
                ),
            ),
            38..=41 => (Watch, self.watched(&path, token)),
            42 | 43 => (Unwatch, self.watched(&path, token)),
            44 if within.is_none() && self.random.one_in(4) => (ResetWatches, self.random.of(&["|", "", "x"]).into()),
            44 => (GetDomainPath, self.random.of(&NUMBERS).into()),
            45 => (IsDomainIntroduced, self.random.of(&NUMBERS).into()),
            46 => (Read, format!("/{}|", "a/b".repeat(self.random.below(1300) as usize))),
            _ => (Mkdir, format!("{path}|")),
        };
        Step::Request {
            domid,
            within,
            kind: kind as u32,
            payload: payload.replace('|', "\0").into_bytes(),
        }
    }

    fn watched(&mut self, path: &str, token: &str) -> String {
        if self.random.one_in(5) {
            format!("{}|{token}|", self.random.of(&SPECIAL))
        } else {
            format!("{path}|{token}|")
        }
    }

    /// What a toolstack asks; sometimes a guest tries it.
    fn toolstack(&mut self) -> Step {
        let domid = if self.random.one_in(6) {
            self.random.of(&GUESTS)
        } else {
            0
        };
        let visitor = self.random.of(&[3, 4, 5, 6]);
        match self.random.below(if self.style.targets { 14 } else { 10 }) {
            0..=2 => Step::Revive { domid: visitor },
            3 => ask(
                domid,
                Introduce,
                self.random.of(&["4|1|", "4|1|0|", "9|1|1|", "7|1|5000|", "x", ""]),
            ),
            4 => ask(domid, Introduce, &format!("{visitor}|1|{}|", self.random.below(9) + 1)),
            5 => ask(domid, Release, self.random.of(&["0|", "9|", "", "x|", "9", "4|5|"])),
            6 => ask(domid, Release, &format!("{visitor}|")),
            7 => ask(domid, Resume, &format!("{visitor}|")),
            8 => ask(domid, Resume, self.random.of(&["0|", "9|", "", "x|"])),
            9 => ask(domid, SetTarget, self.random.of(&["9|1|", "1|9|", "1|", "", "x|y|"])),
            _ => ask(
                domid,
                SetTarget,
                &format!("{}|{}|", self.random.of(&[4, 5]), self.random.of(&GUESTS)),
            ),
        }
    }

    fn fate(&mut self) -> Step {
        let domid = self.random.of(&[3, 4, 5, 6]);
        match self.random.below(6) {
            0 | 1 => Step::Life {
                domid,
                life: Life::Shutdown,
            },
            2 => Step::Life {
                domid,
                life: Life::Dying,
            },
            3 => Step::Life {
                domid,
                life: Life::Absent,
            },
            _ => Step::Revive { domid },
        }
    }

    /// Rubbish in the shape of a request.
    fn malformed(&mut self, domid: u16) -> Step {
        // CONTROL is left out: its answers are for people. So is TRANSACTION_START, which `Start` does.
        let kind = self.random.of(&[
            1,
            2,
            3,
            4,
            5,
            7,
            8,
            9,
            10,
            11,
            12,
            13,
            14,
            15,
            16,
            17,
            18,
            19,
            20,
            22,
            27,
            99,
            1 << 31,
        ]);
        let length = self.random.below(8);
        let mut payload: Vec<u8> = (0..length).map(|_| self.random.of(b"/ab\0\0@n1\x7f\xff-2")).collect();
        if self.random.one_in(3) {
            payload.push(0);
        }
        if kind == Watch as u32 {
            // 4.17 takes any special name, so that the two would no longer have the same number of watches.
            payload.retain(|byte| *byte != b'@');
        }
        if kind == SetPerms as u32 {
            // As a further entry C would store what ours refuses.
            payload.retain(|byte| *byte != b'-');
        }
        Step::Request {
            domid,
            within: None,
            kind,
            payload,
        }
    }
}
