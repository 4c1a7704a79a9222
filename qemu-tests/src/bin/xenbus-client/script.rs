//! A script: one request per line, and what to do with it. What follows ` -> ` is what somebody expects and is not read here; lines
//! that begin with a blank or `#` are for others too.
//!
//! | line | what it does |
//! |---|---|
//! | `READ name` | the request of that type; its words are strings, each with a NUL, except for the value of WRITE |
//! | `RAW 2 name` | the request with that number; `\0` in the word is a NUL, and nothing is added |
//! | `begin A`, `in A WRITE …`, `commit A`, `abort A` | a transaction, by a name of the script's own; `abort all` ends those that are left |
//! | `until 200 WATCH n% t` | the request with numbers from 0 in place of `%`, until one fails |
//! | `events` | what watches have told since the last time |
//! | `hand-over NAME` | waits until somebody has written NAME into `data/hand-over` |
//!
//! In a word, `x*300` at the end or alone means three hundred times the letter before the `*`.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crate::bus::{Bus, Event, NONE, READ, Reply, WRITE, number_of, show};

/// Longer answers are shown by their beginning and length.
const SHOWN: usize = 100;

/// A node of the guest's own that is written, and watched, to learn that all events before have come.
const FENCE: &str = "data/fence";

/// The part of a line that is to be done, if there is one.
pub fn request(line: &str) -> Option<&str> {
    let request = line.split(" -> ").next().unwrap_or(line).trim_end();
    (!request.is_empty() && !request.starts_with([' ', '\t', '#'])).then_some(request)
}

/// Plays a script on one open device.
pub struct Player {
    bus: Bus,
    transactions: HashMap<String, u32>,
    fence: u32,
}

impl Player {
    pub fn new(mut bus: Bus) -> io::Result<Player> {
        bus.must(number("WATCH")?, NONE, format!("{FENCE}\0fence\0").as_bytes())?;
        // Every new watch is told once.
        bus.wait_for_event()?;
        Ok(Player {
            bus,
            transactions: HashMap::new(),
            fence: 0,
        })
    }

    /// Does what a line says; the outcome as text. An error is one of the script or the device, not of a request.
    pub fn play(&mut self, line: &str) -> io::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["begin", name] => {
                let started = self.bus.ask(number("TRANSACTION_START")?, NONE, b"\0")?;
                Ok(match started {
                    Ok(id) => {
                        let id = show(id.strip_suffix(b"\0").unwrap_or(&id));
                        self.transactions
                            .insert((*name).to_owned(), id.parse().map_err(io::Error::other)?);
                        "ok".to_owned()
                    }
                    Err(error) => error,
                })
            }
            ["in", name, rest @ ..] => {
                let id = self.transaction(name)?;
                self.request(id, rest).map(outcome)
            }
            ["abort", "all"] => {
                for (_, id) in std::mem::take(&mut self.transactions) {
                    self.bus.end(id, false)?.map_err(io::Error::other)?;
                }
                Ok("ok".to_owned())
            }
            [end @ ("commit" | "abort"), name] => {
                let id = self.transaction(name)?;
                self.transactions.remove(*name);
                self.bus.end(id, *end == "commit").map(outcome)
            }
            ["until", limit, rest @ ..] => self.until(limit.parse().map_err(io::Error::other)?, rest),
            ["events"] => self.events(),
            ["hand-over", name] => self.hand_over(name),
            rest => self.request(NONE, rest).map(outcome),
        }
    }

    fn request(&mut self, transaction: u32, words: &[&str]) -> io::Result<Reply> {
        match words {
            ["RAW", number, rest @ ..] => {
                let payload = rest.concat().replace("\\0", "\0");
                let number = number.parse().map_err(io::Error::other)?;
                self.bus.ask(number, transaction, payload.as_bytes())
            }
            [name, rest @ ..] => self.bus.ask(number(name)?, transaction, &payload(name, rest)?),
            [] => Err(io::Error::other("no request")),
        }
    }

    /// Repeats a request; its outcome says how many worked, and how the last one failed.
    fn until(&mut self, limit: u32, words: &[&str]) -> io::Result<String> {
        for count in 0..limit {
            let numbered: Vec<String> = words.iter().map(|word| word.replace('%', &count.to_string())).collect();
            let numbered: Vec<&str> = numbered.iter().map(String::as_str).collect();
            // A line of its own, so that a transaction of each can be begun.
            let outcome = self.play(&numbered.join(" "))?;
            if outcome.starts_with('E') {
                return Ok(format!("{outcome} after {count}"));
            }
        }
        Ok(format!("{limit} worked"))
    }

    /// Events keep their order, so after one that we cause ourselves nothing older can come.
    fn events(&mut self) -> io::Result<String> {
        self.fence = self.fence.saturating_add(1);
        self.bus
            .must(WRITE, NONE, format!("{FENCE}\0{}", self.fence).as_bytes())?;
        let mut seen = Vec::new();
        loop {
            let (path, token): Event = self.bus.wait_for_event()?;
            if token == "fence" {
                break;
            }
            seen.push(format!("{path}:{token}"));
        }
        Ok(if seen.is_empty() {
            "none".to_owned()
        } else {
            seen.join(" ")
        })
    }

    /// Looks again and again rather than watching, so that no watch of our own is in the way.
    fn hand_over(&mut self, name: &str) -> io::Result<String> {
        crate::say(&format!("= hand-over {name}"))?;
        while self.bus.ask(READ, NONE, b"data/hand-over\0")? != Ok(name.as_bytes().to_vec()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok("ok".to_owned())
    }

    fn transaction(&self, name: &str) -> io::Result<u32> {
        self.transactions
            .get(name)
            .copied()
            .ok_or_else(|| io::Error::other(format!("there is no transaction {name}")))
    }
}

fn number(name: &str) -> io::Result<u32> {
    number_of(name).ok_or_else(|| io::Error::other(format!("there is no request {name}")))
}

fn payload(kind: &str, words: &[&str]) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    for (index, word) in words.iter().enumerate() {
        payload.extend(expanded(word)?.bytes());
        if kind != "WRITE" || index == 0 {
            payload.push(0);
        }
    }
    Ok(payload)
}

/// `x*300` as three hundred letters.
fn expanded(word: &str) -> io::Result<String> {
    let Some((before, times)) = word.split_once('*') else {
        return Ok(word.to_owned());
    };
    let letter = before.chars().last().map(String::from).unwrap_or_default();
    let times: usize = times.parse().map_err(io::Error::other)?;
    Ok(format!(
        "{}{}",
        before.strip_suffix(&letter).unwrap_or_default(),
        letter.repeat(times)
    ))
}

fn outcome(reply: Reply) -> String {
    match reply {
        Ok(payload) if payload == b"OK\0" => "ok".to_owned(),
        Ok(payload) if payload.len() > SHOWN => {
            let beginning = payload.get(..8).unwrap_or_default();
            format!("\"{}...\" {} bytes", show(beginning), payload.len())
        }
        Ok(payload) => format!("\"{}\"", show(&payload)),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_of_a_line_is_done() {
        assert_eq!(request("READ name -> \"guest\""), Some("READ name"));
        assert_eq!(request("    ours: ENOSPC"), None);
        assert_eq!(request("# READ name"), None);
        assert_eq!(request(""), None);
    }

    #[test]
    fn words_become_strings_and_a_value_has_no_end() {
        assert_eq!(payload("SET_PERMS", &["a", "n1"]).unwrap(), b"a\0n1\0");
        assert_eq!(payload("WRITE", &["a", "value"]).unwrap(), b"a\0value");
        assert_eq!(payload("READ", &["data/x*3"]).unwrap(), b"data/xxx\0");
    }

    #[test]
    fn outcomes_are_short() {
        assert_eq!(outcome(Ok(b"OK\0".to_vec())), "ok");
        assert_eq!(outcome(Ok(b"one\0two\0".to_vec())), "\"one|two|\"");
        assert_eq!(outcome(Ok(vec![b'x'; 200])), "\"xxxxxxxx...\" 200 bytes");
        assert_eq!(outcome(Err("EACCES".to_owned())), "EACCES");
    }
}
