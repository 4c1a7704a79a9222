//! `traces`: thousands of random requests over dom0's ring; every answer and event as our server gives them in this process, or as
//! the table of differences from C xenstored says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use native_rings::packages::Product;
use peer_tests::differences::answers::{self, Verdict};
use peer_tests::differences::{Changes, Circumstances, Difference, Occasion, rows};
use peer_tests::guests::Message;

use super::{Kind, PLAIN, Scenario};
use crate::archive::Archive;
use crate::client_guest;
use crate::markers::Transcript;
use crate::parts::Parts;
use crate::store::Store;
use crate::traces;

pub const SCENARIO: Scenario = Scenario {
    name: "traces",
    about: "4,000 random requests over dom0's ring: answers and events as in this process, or as the table of differences says for C",
    kind: Kind::Served(include_str!("../../dom0/traces.sh")),
    stores: &[Store::Pvh, Store::Pv, Store::C],
    only_by_name: true,
    extras,
    judge,
    ..PLAIN
};

/// What the trace is made of, and how many requests it has; `XENSTORE_SEED` gives another one.
const SEED: u64 = 1;
const REQUESTS: usize = 4000;

/// The step whose output has the lines that differ.
const STEP: &str = "outcomes-that-differ";

fn seed() -> u64 {
    let given = std::env::var("XENSTORE_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

fn extras(_: &Parts) -> Result<Archive> {
    let script = traces::script(seed(), REQUESTS);
    let mut archive = Archive::default();
    archive.file("bed/expected", traces::expected(&script)?);
    archive.file("bed/trace", script);
    archive.program("usr/bin/xenbus-client", client_guest::client()?);
    Ok(archive)
}

fn judge(transcript: &mut Transcript, store: Store) {
    let Some(output) = transcript.output_of(STEP) else {
        return;
    };
    let bed = output
        .iter()
        .find_map(|line| line.strip_prefix("bed "))
        .unwrap_or_default();
    let product = match (store, bed.trim()) {
        (Store::C, "4.17") => Some(Product::C417),
        (Store::C, _) => Some(Product::C420),
        _ => None,
    };
    let (met, unexplained) = explain(product, output);
    println!(
        "        seed {}, {REQUESTS} requests; differences that have a name: {met:?}",
        seed()
    );
    for line in &unexplained {
        println!("        {line}");
    }
    if let Some(first) = unexplained.first() {
        let count = unexplained.len();
        transcript.reject(
            STEP,
            format!("{count} outcomes are not as expected, the first: {first}"),
        );
    }
}

/// What the lines of `diff` mean: how often each difference was met, and what has no name.
fn explain(product: Option<Product>, output: &[String]) -> (BTreeMap<Difference, u32>, Vec<String>) {
    let mut pairs: BTreeMap<u32, [Option<(&str, &str)>; 2]> = BTreeMap::new();
    let mut unexplained = Vec::new();
    for line in output {
        let (side, line) = match (line.strip_prefix("< "), line.strip_prefix("> ")) {
            (Some(line), _) => (0, line),
            (_, Some(line)) => (1, line),
            _ => continue,
        };
        match numbered(line.trim_end()) {
            Some((number, request, outcome)) => {
                pairs.entry(number).or_default()[side] = Some((request, outcome));
            }
            None => unexplained.push(line.to_owned()),
        }
    }
    let mut met = BTreeMap::new();
    for (number, pair) in pairs {
        let [Some((request, here)), Some((_, there))] = pair else {
            unexplained.push(format!("line {number}: {pair:?}"));
            continue;
        };
        match product.and_then(|product| name_of(product, request, there, here)) {
            Some(difference) => *met.entry(difference).or_default() += 1,
            None => unexplained.push(format!("line {number}: {request}: {there}, not {here}")),
        }
    }
    (met, unexplained)
}

/// `= NUMBER REQUEST -> OUTCOME`.
fn numbered(line: &str) -> Option<(u32, &str, &str)> {
    let (number, rest) = line.strip_prefix("= ")?.split_once(' ')?;
    let (request, outcome) = rest.rsplit_once(" -> ")?;
    Some((number.parse().ok()?, request, outcome))
}

/// The row of the table that lets the peer's outcome differ from ours.
fn name_of(product: Product, request: &str, there: &str, here: &str) -> Option<Difference> {
    if request == "events" {
        let sorted = |events: &str| {
            let mut events: Vec<String> = events.split(' ').map(str::to_owned).collect();
            events.sort();
            events
        };
        // Only those of commits can be in another order, and only what is asked after one has several paths.
        let orders = rows(product).any(|row| row.name == Difference::CommitOrder);
        return (orders && sorted(there) == sorted(here)).then_some(Difference::CommitOrder);
    }
    let words: Vec<&str> = request.split(' ').filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| *word == "RAW")?;
    let kind: u32 = words.get(at.checked_add(1)?)?.parse().ok()?;
    let payload = traces::raw(words.get(at.checked_add(2)?..)?);
    let (died, changes) = (BTreeSet::new(), Changes::default());
    let circumstances = Circumstances {
        product,
        domid: 0,
        occasion: Occasion::Request {
            kind,
            payload: &payload,
        },
        died: &died,
        any_shut: false,
        ids_differ: false,
        changes: &changes,
    };
    match answers::compare(&circumstances, &message(kind, there), &message(kind, here)) {
        Verdict::Named(difference) => Some(difference),
        _ => None,
    }
}

/// The message that the client showed like this.
fn message(kind: u32, shown: &str) -> Message {
    let (kind, payload) = match shown.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) => (kind, text.replace('|', "\0")),
        None if shown == "ok" => (kind, "OK\0".to_owned()),
        None => (16, format!("{shown}\0")),
    };
    Message {
        kind,
        request: 0,
        transaction: 0,
        payload: payload.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_difference_needs_a_name_in_the_table_of_the_peer() {
        let long = "= 3 events -> /trace/a:t1 /trace/b:t1";
        let lines = output(&[
            "bed 4.20",
            "3c3",
            &format!("< {long}"),
            "> = 3 events -> /trace/b:t1 /trace/a:t1",
            r"< = 9 RAW 2 /trace/a\0 -> ENOENT",
            r#"> = 9 RAW 2 /trace/a\0 -> "v""#,
        ]);
        let (met, unexplained) = explain(Some(Product::C420), &lines);
        assert_eq!(met, BTreeMap::from([(Difference::CommitOrder, 1)]));
        assert_eq!(unexplained, [r#"line 9: RAW 2 /trace/a\0: "v", not ENOENT"#]);
        // On our own image nothing may differ.
        assert_eq!(explain(None, &lines).1.len(), 2);
    }

    #[test]
    fn a_missing_line_is_a_difference() {
        let lines = output(&[r"< = 9 RAW 2 /trace/a\0 -> ENOENT", "< = end"]);
        assert_eq!(explain(Some(Product::C420), &lines).1.len(), 2);
    }
}
