//! Random requests for dom0's client, and what our server answers to them when it runs in this process.
//!
//! A trace is a script of `bin/xenbus-client`: requests about nodes below `/trace`, watches there, and transactions one at a time,
//! so that none can conflict. Linux stands between the client and the store and keeps watches itself: each token is used once. It
//! knows nothing of beds; the scenario of the same name plays it.

use std::fmt::Write as _;

use anyhow::{Context, Result, anyhow};
use peer_tests::differences::ANSWER;
use peer_tests::differences::limits::our_configuration;
use peer_tests::duel::exchange::{id_of, one};
use peer_tests::guests::Message;
use peer_tests::ours::Ours;
use seeded_random::Random;
use xenstore_wire::MessageType::{self, *};

/// The peer in the bed is dom0's, who has no limits: any configuration will do.
const LIKE: native_rings::packages::Product = native_rings::packages::Product::C420;

const ROOTS: [&str; 4] = ["/trace/", "/trace/", "/trace/open/", "/trace/closed/"];
const NAMES: [&str; 8] = ["a", "b", "c", "a/b", "a/b/c", "b/a/c", "a/b/c/d", "data"];
const WRONG: [&str; 8] = [
    "",
    "//",
    "/trace/",
    "/trace//b",
    "/trace/a:b",
    "@nothing",
    ".",
    "/trace/a/",
];
const PERMISSIONS: [&str; 10] = [
    r"n0\0",
    r"r0\0",
    r"b0\0w0\0",
    r"n0\0r77\0",
    r"n0\0b99\0w77\0",
    r"n77\0",
    r"x0\0",
    r"n\0",
    r"n0x\0",
    "",
];
/// Watches that are open at a time.
const WATCHES: usize = 12;

struct Maker {
    random: Random,
    script: String,
    /// Path and token.
    watches: Vec<(String, String)>,
    tokens: u32,
    inside: bool,
}

/// A script with so many requests, not counting the questions for events.
pub fn script(seed: u64, requests: usize) -> String {
    let mut maker = Maker {
        random: Random::new(seed),
        script: String::new(),
        watches: Vec::new(),
        tokens: 0,
        inside: false,
    };
    for path in ["/trace", "/trace/open", "/trace/closed"] {
        maker.say(Mkdir, &format!(r"{path}\0"));
    }
    for _ in 0..requests {
        maker.next();
    }
    if maker.inside {
        maker.line("commit A");
    }
    maker.script
}

impl Maker {
    fn line(&mut self, line: &str) {
        self.script.push_str(line);
        self.script.push('\n');
    }

    fn say(&mut self, kind: MessageType, payload: &str) {
        let within = if self.inside { "in A " } else { "" };
        self.line(format!("{within}RAW {} {payload}", kind as u32).trim_end());
        if !self.inside && matches!(kind, Write | Mkdir | Rm | SetPerms | Watch) {
            self.line("events");
        }
    }

    fn next(&mut self) {
        match self.random.below(60) {
            0..=2 if !self.inside => {
                self.line("begin A");
                self.inside = true;
            }
            0..=4 if self.inside => {
                self.inside = false;
                let end = if self.random.one_in(4) { "abort A" } else { "commit A" };
                self.line(end);
                self.line("events");
            }
            5..=7 if !self.inside && self.watches.len() < WATCHES => {
                self.tokens = self.tokens.saturating_add(1);
                let (path, token) = (self.path(), format!("t{}", self.tokens));
                self.say(Watch, &format!(r"{path}\0{token}\0"));
                self.watches.push((path, token));
            }
            8 if !self.inside && !self.watches.is_empty() => {
                let at = self.random.below(u32::try_from(self.watches.len()).unwrap_or(1));
                let (path, token) = self.watches.swap_remove(at as usize);
                self.say(Unwatch, &format!(r"{path}\0{token}\0"));
            }
            _ => self.request(),
        }
    }

    fn path(&mut self) -> String {
        format!("{}{}", self.random.of(&ROOTS), self.random.of(&NAMES))
    }

    fn request(&mut self) {
        let path = if self.random.one_in(15) {
            self.random.of(&WRONG).to_owned()
        } else {
            self.path()
        };
        let (kind, payload) = match self.random.below(40) {
            0..=9 => {
                let size = if self.random.one_in(20) { 3000 } else { 12 };
                (
                    Write,
                    format!(r"{path}\0{}", "v".repeat(self.random.below(size) as usize)),
                )
            }
            10..=13 => (Mkdir, format!(r"{path}\0")),
            14..=17 => (Rm, format!(r"{path}\0")),
            18..=21 => (SetPerms, format!(r"{path}\0{}", self.random.of(&PERMISSIONS))),
            22..=26 => (GetPerms, format!(r"{path}\0")),
            27..=32 => (Read, format!(r"{path}\0")),
            33..=37 => (Directory, format!(r"{path}\0")),
            38 => (GetDomainPath, format!(r"{}\0", self.random.below(9))),
            _ => (
                Read,
                format!(r"/trace/{}\0", "n".repeat(self.random.below(3500) as usize)),
            ),
        };
        self.say(kind, &payload);
    }
}

/// What the client prints if the store answers as ours does in this process.
pub fn expected(script: &str) -> Result<String> {
    let mut ours = Ours::start(our_configuration(LIKE));
    let (mut transaction, mut request) = (0, 0);
    let mut events: Vec<String> = Vec::new();
    let mut text = String::new();
    for (index, line) in script.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (kind, id, payload) = match words.as_slice() {
            ["begin", _] => (TransactionStart as u32, 0, b"\0".to_vec()),
            ["commit", _] => (TransactionEnd as u32, transaction, b"T\0".to_vec()),
            ["abort", _] => (TransactionEnd as u32, transaction, b"F\0".to_vec()),
            ["in", _, "RAW", kind, rest @ ..] => (kind.parse()?, transaction, raw(rest)),
            ["RAW", kind, rest @ ..] => (kind.parse()?, 0, raw(rest)),
            _ => {
                let told = if events.is_empty() {
                    "none".to_owned()
                } else {
                    events.join(" ")
                };
                writeln!(text, "= {} {line} -> {told}", index.saturating_add(1))?;
                events.clear();
                continue;
            }
        };
        request += 1;
        let mut outcome = one(&mut ours, 0, request, kind, id, &payload).map_err(|error| anyhow!("{line}: {error}"))?;
        let told = outcome.told.remove(&0).unwrap_or_default();
        events.extend(
            told.iter()
                .filter(|event| *event != ANSWER)
                .map(|event| event_text(event)),
        );
        let mut shown = shown(&outcome.answer);
        if kind == TransactionStart as u32 {
            transaction = id_of(&outcome.answer).context("no transaction")?;
            shown = "ok".to_owned();
        }
        writeln!(text, "= {} {line} -> {shown}", index.saturating_add(1))?;
    }
    text.push_str("= end\n");
    Ok(text)
}

/// The payload that a RAW line means.
pub fn raw(words: &[&str]) -> Vec<u8> {
    words.concat().replace(r"\0", "\0").into_bytes()
}

/// `path|token|` as the client shows it.
fn event_text(event: &str) -> String {
    let mut strings = event.split('|');
    let (path, token) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
    format!("{path}:{token}")
}

/// An answer as the client shows it.
fn shown(answer: &Message) -> String {
    let text = |payload: &[u8]| -> String {
        let printed = payload.iter().map(|byte| match byte {
            0 => '|',
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        });
        printed.collect()
    };
    match (answer.kind, answer.payload.as_slice()) {
        (16, name) => text(name.strip_suffix(b"\0").unwrap_or(name)),
        (_, b"OK\0") => "ok".to_owned(),
        (_, long) if long.len() > 100 => format!(
            "\"{}...\" {} bytes",
            text(long.get(..8).unwrap_or_default()),
            long.len()
        ),
        (_, payload) => format!("\"{}\"", text(payload)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_requests_of_every_sort_and_an_expectation_for_each_line() {
        let script = script(1, 2000);
        let expected = expected(&script).unwrap();
        assert_eq!(expected.lines().count(), script.lines().count() + 1);
        for wanted in [
            "in A RAW 11 ",
            "commit A",
            "abort A",
            "RAW 4 ",
            "RAW 5 ",
            "RAW 14 ",
            "RAW 13 ",
        ] {
            assert!(script.lines().any(|line| line.starts_with(wanted)), "{wanted}");
        }
        for wanted in ["-> ok", "-> ENOENT", "-> EINVAL", "-> \"", ":t1", " bytes"] {
            assert!(expected.contains(wanted), "{wanted}");
        }
        assert!(!expected.contains("EAGAIN"));
    }
}
