//! `unprivileged`: what a guest may ask and what not, each outcome compared with what C xenstored 4.20 gave on the same bed.

use super::{Kind, PLAIN, Scenario};
use crate::client_guest;
use crate::markers::Transcript;
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "unprivileged",
    about: "a guest's requests about permissions, limits, paths, transactions and watches have the outcomes of C xenstored",
    kind: Kind::Served(include_str!("../../dom0/unprivileged.sh")),
    stores: &[Store::Pvh, Store::Pv, Store::C],
    extras: client_guest::extras,
    judge,
    ..PLAIN
};

/// The requests, and their outcomes.
const LIST: &str = include_str!("../../guest/unprivileged.txt");

/// The step whose output has the guest's console.
const STEP: &str = "requests";

fn judge(transcript: &mut Transcript, store: Store) {
    let Some(output) = transcript.output_of(STEP) else {
        return;
    };
    let bed = output
        .iter()
        .find_map(|line| line.strip_prefix("bed "))
        .unwrap_or_default();
    let differences = differences(LIST, output, if store.is_ours() { "ours" } else { "c" }, bed.trim());
    for line in &differences {
        println!("        {line}");
    }
    if let Some(first) = differences.first() {
        let count = differences.len();
        transcript.reject(
            STEP,
            format!("{count} outcomes are not as recorded, the first: {first}"),
        );
    }
}

/// One request of the list.
struct Request<'a> {
    /// Its line, from 1.
    line: usize,
    text: &'a str,
    outcome: &'a str,
    /// Who else gives another outcome: `ours`, `c`, with or without the version of a bed.
    elsewhere: Vec<(&'a str, &'a str)>,
}

impl Request<'_> {
    fn expected(&self, who: &str, bed: &str) -> &str {
        let exactly = format!("{who} {bed}");
        let of = |name: &str| self.elsewhere.iter().find(|(other, _)| *other == name);
        of(&exactly)
            .or_else(|| of(who))
            .map_or(self.outcome, |(_, outcome)| *outcome)
    }
}

fn requests(list: &str) -> Vec<Request<'_>> {
    let mut requests: Vec<Request> = Vec::new();
    for (index, line) in list.lines().enumerate() {
        if let Some((who, outcome)) = line.strip_prefix("    ").and_then(|line| line.split_once(": ")) {
            // Why it differs follows behind two blanks and #.
            let outcome = outcome.split("  #").next().unwrap_or(outcome).trim();
            if let Some(request) = requests.last_mut() {
                request.elsewhere.push((who, outcome));
            }
        } else if let Some((text, outcome)) = line.split_once(" -> ").filter(|_| !line.starts_with('#')) {
            requests.push(Request {
                line: index.saturating_add(1),
                text,
                outcome,
                elsewhere: Vec::new(),
            });
        }
    }
    requests
}

/// Every request whose outcome is missing or another than recorded.
fn differences(list: &str, output: &[String], who: &str, bed: &str) -> Vec<String> {
    let seen = |request: &Request| {
        let beginning = format!("= {} {} -> ", request.line, request.text);
        output
            .iter()
            .find_map(|line| line.trim_end().strip_prefix(beginning.as_str()))
    };
    requests(list)
        .iter()
        .filter_map(|request| {
            let expected = request.expected(who, bed);
            let outcome = seen(request);
            let same = outcome.is_some_and(|outcome| matches(expected, outcome));
            (!same).then(|| {
                let outcome = outcome.unwrap_or("no outcome");
                format!("line {}: {}: {outcome}, not {expected}", request.line, request.text)
            })
        })
        .collect()
}

/// Whether the text is as the pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at.saturating_add(part.len())..).unwrap_or_default();
        open = part.is_empty();
    }
    open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "# a comment -> not a request\nREAD a -> \"1\"\nWATCH a t -> E2BIG\n    ours: ENOSPC  # since 4.22\n    c 4.17: EINVAL\n";

    fn output(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn outcomes_are_those_of_the_list_or_of_who_gives_another() {
        let c = output(&["= 2 READ a -> \"1\"", "= 3 WATCH a t -> E2BIG"]);
        let ours = output(&["= 2 READ a -> \"1\"", "= 3 WATCH a t -> ENOSPC"]);
        assert!(differences(SHORT, &c, "c", "4.20").is_empty());
        assert!(differences(SHORT, &ours, "ours", "4.17").is_empty());
        assert_eq!(differences(SHORT, &c, "c", "4.17").len(), 1);
        assert_eq!(differences(SHORT, &c, "ours", "4.20").len(), 1);
    }

    #[test]
    fn a_missing_outcome_is_a_difference() {
        let short = output(&["= 2 READ a -> \"1\""]);
        assert_eq!(
            differences(SHORT, &short, "c", "4.20"),
            ["line 3: WATCH a t: no outcome, not E2BIG"]
        );
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("ENOSPC after 9*", "ENOSPC after 985"));
        assert!(!matches("ENOSPC after 9*", "ENOSPC after 85"));
        assert!(matches("\"*|a|\"", "\"77|a|\""));
        assert!(!matches("\"*|a|\"", "\"77|a|b|\""));
        assert!(!matches("ok", "okay"));
    }

    #[test]
    fn the_list_is_well_formed() {
        let requests = requests(LIST);
        assert!(requests.len() > 100);
        assert!(requests.iter().all(|request| request.outcome != "?"));
    }
}
