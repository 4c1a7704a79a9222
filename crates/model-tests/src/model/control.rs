//! CONTROL, GET_QUOTA and SET_QUOTA: what an administrator asks.

use super::arguments::{atoi, strings};
use super::limits::{LIMITS, place};
use super::requests::{Answer, ok, text};
use super::{Counts, Errno, Job};

/// The counts that `quota` shows, with their names.
fn rows(counts: &Counts) -> [(&'static str, u64); 5] {
    [
        ("nodes", counts.nodes),
        ("watches", counts.watches),
        ("outstanding", counts.outstanding),
        ("memory", counts.memory),
        ("transactions", counts.transactions),
    ]
}

impl Job<'_> {
    pub(super) fn control(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let words: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        match words.as_slice() {
            [b"help"] => self.made_for_people(vec!["quota-soft      [set <name> <val>]\n".into()]),
            [b"quota"] => self.made_for_people(self.defaults("")),
            [b"quota-soft"] => self.made_for_people(self.defaults("soft-")),
            [b"status"] => self.made_for_people(self.status()),
            [b"print", _] | [b"check"] => ok(),
            [b"log"] => {
                let [objects, io] = self.model.traces.map(|on| if on { "on" } else { "off" });
                text(format!("Log switch settings:\nobj     : {objects}\nio      : {io}\n"))
            }
            [b"log", word] => self.set_traces(word),
            [b"quota", b"set", name, value] => self.set_default(name, value, false),
            [b"quota-soft", b"set", name, value] => self.set_default(name, value, true),
            [b"quota", b"max"] => {
                let model = &self.model;
                let lasting = |name: &str| !model.restarted || !["outstanding", "memory"].contains(&name);
                let exact = |name: &str| lasting(name) && !model.most_is_forgotten;
                let rows = rows(&self.model.most).into_iter().filter(|(name, _)| exact(name));
                let rows = rows.map(|(name, most)| format!("{name:<17}: {most:8}\n"));
                self.made_for_people(rows.collect())
            }
            [b"quota", b"max", b"-r"] => {
                self.model.forget_most();
                let rows = rows(&Counts::default()).map(|(name, most)| format!("{name:<17}: {most:8}\n"));
                text(format!("Max. seen accounting values:\n{}", rows.concat()))
            }
            [b"quota", domid] => self.counts_of(domid),
            _ => Err("EINVAL"),
        }
    }

    /// An answer that must hold these beginnings of lines, each once; the rest is for people.
    fn made_for_people(&mut self, lines: Vec<String>) -> Answer {
        let answer = self.model.dictated.take().unwrap_or_default();
        let shown = String::from_utf8_lossy(&answer);
        let count = |line: &String| {
            shown
                .split_inclusive('\n')
                .filter(|shown| shown.starts_with(line))
                .count()
        };
        let holds = lines.iter().all(|line| count(line) == 1);
        if holds { Ok(answer) } else { text(lines.concat()) }
    }

    fn defaults(&self, prefix: &str) -> Vec<String> {
        let limits = LIMITS.iter().zip(&self.model.limits);
        let limits = limits.filter(|(name, _)| name.starts_with("soft-") != prefix.is_empty());
        limits
            .map(|(name, value)| format!("{:<17}: {value:8} ", name.trim_start_matches("soft-")))
            .collect()
    }

    fn set_traces(&mut self, word: &[u8]) -> Answer {
        let traces = match word {
            b"on" => [true; 2],
            b"off" => [false; 2],
            b"+obj" => [true, self.model.traces[1]],
            b"-obj" => [false, self.model.traces[1]],
            b"+io" => [self.model.traces[0], true],
            b"-io" => [self.model.traces[0], false],
            _ => return Err("EINVAL"),
        };
        self.model.traces = traces;
        ok()
    }

    fn set_default(&mut self, name: &[u8], value: &[u8], soft: bool) -> Answer {
        let value = u32::try_from(atoi(value))
            .ok()
            .filter(|value| *value > 0)
            .ok_or("EINVAL")?;
        let name = match (name, soft) {
            (b"memory", true) => "soft-memory",
            (_, true) | (b"soft-memory", false) => return Err("EINVAL"),
            (name, false) => limit(name)?,
        };
        self.model.limits[place(name)] = value;
        ok()
    }

    fn counts_of(&mut self, number: &[u8]) -> Answer {
        let domid = u16::try_from(atoi(number)).map_err(|_| "ENOENT")?;
        let domain = self.model.domains.get(&domid).ok_or("ENOENT")?;
        let now = self.model.counts(domid);
        let rows = rows(&now).into_iter().zip(rows(&domain.most));
        let rows: Vec<String> = rows
            .map(|((name, now), (_, most))| format!("{name:<17}: {now:8} (max {most:8})\n"))
            .collect();
        text(format!("Domain {domid}:\n{}", rows.concat()))
    }

    fn status(&self) -> Vec<String> {
        let model = &self.model;
        let connections = &model.connections;
        // This request is told as it was before it came.
        let figures = [
            ("requests", model.figures.requests - 1),
            ("connections", connections.len() as u64),
            ("domains", model.domains.len() as u64),
            (
                "watches",
                connections
                    .iter()
                    .map(|connection| connection.watches.len() as u64)
                    .sum(),
            ),
            (
                "transactions",
                connections
                    .iter()
                    .map(|connection| connection.transactions.len() as u64)
                    .sum(),
            ),
            (
                "ring-resets",
                connections.iter().map(|connection| connection.resets).sum(),
            ),
            ("generation", model.generation),
            ("events-queued", model.figures.queued),
            ("events-expired", model.figures.expired),
        ];
        figures.map(|(name, value)| format!("{name}: {value}\n")).to_vec()
    }

    pub(super) fn get_quota(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let value = match arguments.as_slice() {
            [] => return text(LIMITS.join(" ")),
            [name] => self.model.limits[place(limit(name)?)],
            [domid, name] => {
                let domid = self.existing(domid)?;
                let domain = self.model.domains.get(&domid);
                let limits = domain.map_or(&self.model.limits, |domain| &domain.limits);
                limits[place(limit(name)?)]
            }
            _ => return Err("EINVAL"),
        };
        text(value.to_string())
    }

    pub(super) fn set_quota(&mut self, payload: &[u8]) -> Answer {
        let arguments = strings(payload);
        let (domid, name, value) = match arguments.as_slice() {
            [name, value] => (None, name, value),
            [domid, name, value] => (Some(self.existing(domid)?), name, value),
            _ => return Err("EINVAL"),
        };
        let place = place(limit(name)?);
        let value = atoi(value) as u32;
        if value == u32::MAX {
            return Err("EINVAL");
        }
        match domid {
            None => self.model.limits[place] = value,
            Some(domid) => {
                self.now_known(domid);
                if let Some(domain) = self.model.domains.get_mut(&domid) {
                    domain.limits[place] = value;
                }
            }
        }
        ok()
    }
}

fn limit(name: &[u8]) -> Result<&'static str, Errno> {
    let found = LIMITS.into_iter().find(|limit| limit.as_bytes() == name);
    found.ok_or("EINVAL")
}
