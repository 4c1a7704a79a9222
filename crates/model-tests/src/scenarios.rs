//! Short streams for what random ones seldom reach: each is about one thing, in the order in which it must happen. They stand in
//! `scenarios.txt`, one step on a line:
//!
//! * `scenario NAME` begins one; `set LIMIT VALUE`, `set features VALUE`, `set timeout SECONDS` and `set lists-changes` change its
//!   settings (no limits, all features, no time-outs otherwise).
//! * `1 WRITE a|v`: domain 1 asks. `|` stands for NUL, `<v*300>` for 300 times `v`, `<16384>` is type 16384. `1@0` asks in the
//!   first of its open transactions, `1@?` in one that is not open. `1/20 WRITE …` sends the first 20 bytes alone.
//! * `start 5`, `room 1 40`, `room 1 all`, `pass MILLISECONDS`, `fates 5 absent 6 dying` (and `unheard …`, of which the server is not
//!   told yet), `reset 1`, `reconnect 1`,
//!   `impossible 1`, `torn 1 20` (a reset in the middle of a message), `too-long 1`, `restart`, `compare`.
//!
//! Everything is compared at the end of each.

use xenstore_wire::MessageType;

use crate::engine::LinkEvent;
use crate::model::{LIMITS, Settings};
use crate::step::{Fate, Step, Within};

const TEXT: &str = include_str!("scenarios.txt");
/// No type of message has a number as large as this.
const TYPES: u32 = 64;

/// A stream with a name.
pub struct Scenario {
    /// What it is about.
    pub name: String,
    /// The settings that it needs.
    pub settings: Settings,
    /// What happens.
    pub steps: Vec<Step>,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    of(TEXT)
}

/// Those of another text.
pub fn of(text: &str) -> Vec<Scenario> {
    let mut all: Vec<Scenario> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("scenario ") {
            all.push(Scenario::new(name));
            continue;
        }
        let read = all.last_mut().and_then(|scenario| scenario.line(line));
        read.unwrap_or_else(|| panic!("scenarios.txt:{number}: {line}"));
    }
    for scenario in &mut all {
        scenario.steps.push(Step::Compare);
    }
    all
}

impl Scenario {
    fn new(name: &str) -> Scenario {
        Scenario {
            name: name.to_owned(),
            settings: Settings {
                credit: false,
                features: 15,
                timeout: 0,
                limits: vec![0; LIMITS.len()],
                lists_changes: false,
            },
            steps: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| words.get(place).and_then(|word| word.parse::<u16>().ok());
        let link = |event, torn| {
            Some(Step::Link {
                domid: number(0)?,
                event,
                torn,
            })
        };
        let step = match word {
            "set" => return self.set(&words),
            "start" => Step::Start { domid: number(0)? },
            "room" => Step::Room {
                domid: number(0)?,
                bytes: number(1),
            },
            "pass" => Step::Pass(words.first()?.parse().ok()?),
            "fates" => Step::Fates(fates(&words)?),
            "unheard" => Step::Unheard(fates(&words)?),
            "reset" => link(LinkEvent::Reset, 0)?,
            "torn" => link(LinkEvent::Reset, u8::try_from(number(1)?).ok()?)?,
            "reconnect" => link(LinkEvent::Reconnect, 0)?,
            "impossible" => link(LinkEvent::Impossible, 0)?,
            "too-long" => Step::TooLong { domid: number(0)? },
            "restart" => Step::Restart,
            "compare" => Step::Compare,
            _ => request(word, rest)?,
        };
        self.steps.push(step);
        Some(())
    }

    fn set(&mut self, words: &[&str]) -> Option<()> {
        let value = words.get(1).and_then(|word| word.parse::<u32>().ok());
        match *words.first()? {
            "lists-changes" => self.settings.lists_changes = true,
            "features" => self.settings.features = value?,
            "timeout" => self.settings.timeout = u64::from(value?),
            name => self.settings.limits[LIMITS.iter().position(|limit| *limit == name)?] = value?,
        }
        Some(())
    }
}

fn fates(words: &[&str]) -> Option<Vec<(u16, Fate)>> {
    let pairs = words.chunks(2).map(|pair| {
        let fate = match *pair.get(1)? {
            "alive" => Fate::Alive,
            "shutdown" => Fate::Shutdown,
            "dying" => Fate::Dying,
            "absent" => Fate::Absent,
            "replaced" => Fate::Replaced,
            _ => return None,
        };
        Some((pair.first()?.parse().ok()?, fate))
    });
    pairs.collect()
}

fn request(who: &str, rest: &str) -> Option<Step> {
    let (who, first) = who
        .split_once('/')
        .map_or((who, None), |(who, first)| (who, Some(first)));
    let (who, within) = match who.split_once('@') {
        None => (who, Within::Outside),
        Some((who, "?")) => (who, Within::Unknown),
        Some((who, place)) => (who, Within::Open(place.parse().ok()?)),
    };
    let (name, payload) = rest.split_once(' ').unwrap_or((rest, ""));
    let known = (0..TYPES).find(|kind| MessageType::from_wire(*kind).is_some_and(|kind| kind.name() == name));
    let other = || name.strip_prefix('<')?.strip_suffix('>')?.parse().ok();
    Some(Step::Request {
        domid: who.parse().ok()?,
        within,
        kind: known.or_else(other)?,
        payload: expanded(payload)?.replace('|', "\0").into_bytes(),
        first: first.and_then(|first| first.parse().ok()),
    })
}

/// The text with what stands for repetitions written out.
fn expanded(text: &str) -> Option<String> {
    let mut parts = text.split('<');
    let mut whole = parts.next()?.to_owned();
    for part in parts {
        let (repeated, rest) = part.split_once('>')?;
        let (unit, count) = repeated.rsplit_once('*')?;
        whole.push_str(&unit.repeat(count.parse().ok()?));
        whole.push_str(rest);
    }
    Some(whole)
}
