//! Ending the server's life on purpose, with `--debug-crash`: at once, after some requests, or at a named step of the loop.
//!
//! What is armed is state like any other: it survives a restart. It strikes once. A life that begins after it could have struck
//! disarms it, whatever ended the life before.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::fmt::Write as _;

use serde::{Deserialize, Serialize};
use xenstore_wire::Errno;

use crate::control::text;
use crate::decide::simple;
use crate::decision::{Answer, Decision, Outcome};
use crate::input::Time;
use crate::record::{Action, Change, CrashKind, Record};
use crate::server::Server;
use crate::tree::Memory;

/// The steps at which a life can be ended, in the order in which the loop comes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Step {
    /// What happened outside was asked for.
    Polled,
    /// A message is in hand, and durable memory says so.
    BeforeDecide,
    /// Its record is in the log.
    Logged,
    /// Its record is applied.
    Applied,
    /// Everything committed in the round is durable.
    Sealed,
    /// The slot says what is about to be published.
    Intended,
    /// The bytes are in the ring; the index does not say so yet.
    Publishing,
    /// The index says so.
    Published,
    /// The slot says that it is done.
    Resulted,
    /// The client is about to be notified.
    BeforeNotify,
    /// Background upkeep begins.
    Tidy,
    /// A checkpoint is about to be written.
    Checkpoint,
    /// A checkpoint stands.
    Checkpointed,
    /// A life has read back what the one before left, and has not taken up its clients yet.
    Recovered,
}

impl Step {
    /// All of them; a step's number is its place here.
    pub const ALL: [Step; 14] = [
        Step::Polled,
        Step::BeforeDecide,
        Step::Logged,
        Step::Applied,
        Step::Sealed,
        Step::Intended,
        Step::Publishing,
        Step::Published,
        Step::Resulted,
        Step::BeforeNotify,
        Step::Tidy,
        Step::Checkpoint,
        Step::Checkpointed,
        Step::Recovered,
    ];

    /// The name in `crash at NAME`.
    pub fn name(self) -> &'static str {
        match self {
            Step::Polled => "polled",
            Step::BeforeDecide => "before-decide",
            Step::Logged => "logged",
            Step::Applied => "applied",
            Step::Sealed => "sealed",
            Step::Intended => "slot-intent",
            Step::Publishing => "publishing",
            Step::Published => "published",
            Step::Resulted => "slot-result",
            Step::BeforeNotify => "before-notify",
            Step::Tidy => "tidy",
            Step::Checkpoint => "checkpoint",
            Step::Checkpointed => "checkpointed",
            Step::Recovered => "recovered",
        }
    }

    fn from_word(word: &[u8]) -> Option<Step> {
        let number = core::str::from_utf8(word)
            .ok()
            .and_then(|word| word.parse::<usize>().ok());
        let mut named = Step::ALL.into_iter();
        match number {
            Some(number) => Step::ALL.get(number).copied(),
            None => named.find(|step| step.name().as_bytes() == word),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Strike {
    /// Once a request is done.
    Kind(CrashKind),
    /// With a panic, at this step.
    Step(Step),
}

/// A strike that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Armed {
    strike: Strike,
    /// It strikes when the server has had so many requests.
    from: u64,
}

const KINDS: [(&str, CrashKind); 5] = [
    ("panic", CrashKind::Panic),
    ("fault", CrashKind::Fault),
    ("stack", CrashKind::Stack),
    ("hang", CrashKind::Hang),
    ("oom", CrashKind::Memory),
];

impl<M: Memory> Server<M> {
    fn ripe(&self) -> Option<Strike> {
        let armed = self.armed.as_ref()?;
        (self.requests >= armed.from).then_some(armed.strike)
    }

    /// The life is to be ended at this step, which it has come to.
    pub fn strikes_at(&self, step: Step) -> bool {
        self.armed.is_some() && self.ripe() == Some(Strike::Step(step))
    }

    /// It is time for [`crate::Input::Strike`].
    pub fn strikes_now(&self) -> bool {
        self.armed.is_some() && matches!(self.ripe(), Some(Strike::Kind(_)))
    }

    /// What was armed may have struck in the life before.
    pub(crate) fn has_struck(&self) -> bool {
        self.ripe().is_some()
    }
}

/// The strike that waits for requests comes, once.
pub(crate) fn strike<M: Memory>(server: &Server<M>, now: Time) -> Record {
    let kind = match server.ripe() {
        Some(Strike::Kind(kind)) => Some(Action::Crash(kind)),
        _ => None,
    };
    simple(now, [Change::CrashArmed { armed: None }], kind)
}

impl<M: Memory> Decision<'_, M> {
    /// `crash help`, `crash KIND [after N [requests]]`, `crash at STEP [after N [requests]]`.
    pub fn crash(&mut self, arguments: &[&[u8]]) -> Outcome {
        if !self.server.configuration.debug_crash {
            return Err(Errno::EINVAL);
        }
        let (what, rest) = match arguments {
            [b"help"] => return help(),
            [b"at", step, rest @ ..] => match Step::from_word(step) {
                Some(step) => (Strike::Step(step), rest),
                None => return wrong(step, "is no step"),
            },
            [kind, rest @ ..] => match KINDS.iter().find(|(name, _)| name.as_bytes() == *kind) {
                Some((_, kind)) => (Strike::Kind(*kind), rest),
                None => return wrong(kind, "is no kind of crash"),
            },
            [] => return wrong(b"crash", "wants to know how"),
        };
        let after = match rest {
            [] => None,
            [b"after", count] | [b"after", count, b"requests"] => {
                let number = core::str::from_utf8(count)
                    .ok()
                    .and_then(|count| count.parse::<u64>().ok());
                match number {
                    Some(number) => Some(number),
                    None => return wrong(count, "is no number of requests"),
                }
            }
            [word, ..] => return wrong(word, "is not understood"),
        };
        match (what, after) {
            (Strike::Kind(kind), None) => self.actions.push(Action::Crash(kind)),
            (strike, after) => {
                // This request is one, too.
                let from = self
                    .server
                    .requests
                    .saturating_add(1)
                    .saturating_add(after.unwrap_or(0));
                self.change(Change::CrashArmed {
                    armed: Some(Armed { strike, from }),
                });
            }
        }
        Ok(Answer::ok())
    }
}

fn wrong(word: &[u8], what: &str) -> Outcome {
    text(format!("crash: '{}' {what}, see crash help\n", word.escape_ascii()))
}

fn help() -> Outcome {
    let mut out = String::from("crash KIND [after N requests]\ncrash at STEP [after N requests]\nKIND:");
    for (name, _) in KINDS {
        let _infallible = write!(out, " {name}");
    }
    out.push_str("\nSTEP:");
    for (number, step) in Step::ALL.into_iter().enumerate() {
        let _infallible = write!(out, " {number}={step}");
    }
    out.push_str("\nA WRITE of the value \"xenstore-stubdom: crash now\" ends the server in its place.\n");
    text(out)
}
