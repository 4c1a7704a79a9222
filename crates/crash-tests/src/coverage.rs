//! At which stores lives must have ended, during what and in which kinds of state; where they cannot end, and why; and what is left
//! to chance.

use std::collections::BTreeMap;

use xenstore_wire::MessageType;

use crate::checker::Figures;
use crate::site::SITES;

/// What else goes on than requests.
const OTHERS: [&str; 8] = [
    "a part of a message",
    "a reset",
    "a reconnect",
    "misbehaviour",
    "room",
    "time",
    "domains",
    "the end of a life",
];

/// The kinds of state: of the rest of the server, or of the message.
const STATES: [&str; 5] = [
    "nothing else",
    "transactions are open",
    "messages wait",
    "in a transaction",
    "in parts",
];

/// What must be so of a store during something in a kind of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Lives must have ended there.
    Wanted,
    /// There is no such moment, and why.
    Never(&'static str),
    /// There may be, and why it depends on chance.
    Chance(&'static str),
}

use Verdict::{Chance, Never, Wanted};

const OTHERS_GO_ON: &str = "somebody who waited may go on";
const WHEN_FULL: &str = "when something is full does not depend on what goes on";
const UPKEEP: &str = "this changes no node; the tree's upkeep stores at any time";
const SAID_AGAIN: &str = "a life that begins says again what was wrong";
const NO_LIFE_ENDS: &str = "lives do not end during it, because its answers tell of lives; a log may be full";

/// Changes nodes of the store, or of its transaction.
fn changes_nodes(during: &str, state: &str) -> bool {
    match during {
        "WRITE" | "MKDIR" | "RM" | "SET_PERMS" | "domains" => true,
        "TRANSACTION_END" => ["in a transaction", "in parts"].contains(&state),
        _ => false,
    }
}

fn verdict(site: &str, during: &str, state: &str) -> Verdict {
    let request = !OTHERS.contains(&during);
    let of_a_message = ["in a transaction", "in parts"].contains(&state);
    match (during, state) {
        ("a part of a message", "in parts") => {}
        ("a part of a message", _) => return Never("a part is a part"),
        _ if !request && of_a_message => return Never("it is no message"),
        _ => {}
    }
    match site {
        "header" => Never("it is written once, before there is anything to lose"),
        "connect" | "rebind" if during == "INTRODUCE" => Wanted,
        "connect" | "rebind" => Never("only INTRODUCE connects domains"),
        "disconnect" if ["RELEASE", "domains"].contains(&during) => Wanted,
        "disconnect" => Never("a domain is disconnected when it is released or gone"),
        "ring features" if during == "INTRODUCE" => Wanted,
        "ring restart" if ["INTRODUCE", "a reconnect"].contains(&during) => Wanted,
        "ring features" | "ring restart" if during == "a reconnect" => {
            Chance("a life that ended in it began the ring anew")
        }
        "ring features" | "ring restart" => {
            Never("only INTRODUCE and a reconnect begin a ring; a reset is the client's")
        }
        "ring error" if during == "misbehaviour" => Wanted,
        "ring error" => Chance(SAID_AGAIN),
        "new extent" | "directory" | "length" => Chance(WHEN_FULL),
        "lives" | "checkpoint erased" | "checkpoint body" | "checkpoint head" => match during {
            "CONTROL" => Chance(NO_LIFE_ENDS),
            "the end of a life" => Wanted,
            _ if request => Wanted,
            _ => Chance(WHEN_FULL),
        },
        "block" | "table" if changes_nodes(during, state) => Wanted,
        "block" | "table" => Chance(UPKEEP),
        _ if request => Wanted,
        _ => besides_requests(site, during, state),
    }
}

/// Stores of records, slots and rings where no request is sent.
fn besides_requests(site: &str, during: &str, state: &str) -> Verdict {
    let record = ["log body", "log frame", "note"].contains(&site);
    let reply = ["slot intent", "slot result", "ring bytes", "ring producer", "notify"].contains(&site);
    match during {
        "a part of a message" if record || ["mark", "ring consumer"].contains(&site) => Wanted,
        "a reset" | "a reconnect" | "misbehaviour" | "the end of a life" if record || site == "notify" => Wanted,
        "room" if state == "messages wait" && reply => Wanted,
        "time" if state == "messages wait" && record => Wanted,
        "domains" if record || reply => Wanted,
        _ => Chance(OTHERS_GO_ON),
    }
}

fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let requests = || MessageType::ALL.iter().map(|kind| kind.name());
    SITES.into_iter().flat_map(move |site| {
        let during = requests().chain(OTHERS);
        during.flat_map(move |during| STATES.map(|state| (site, during, state)))
    })
}

/// What should have been met and was not, and what was met and cannot be.
pub fn gaps(figures: &Figures) -> Vec<String> {
    let mut gaps = impossible(figures);
    for (site, during, state) in all() {
        if verdict(site, during, state) == Wanted && !figures.met.contains_key(&(site, during, state)) {
            gaps.push(format!("no life ended at {site} during {during}, {state}"));
        }
    }
    // What depends on chance must have been met at all.
    for site in SITES {
        if site != "header" && !figures.met.keys().any(|(of, ..)| *of == site) {
            gaps.push(format!("no life ended at {site}"));
        }
    }
    gaps
}

/// What was met though it is said to be impossible.
pub fn impossible(figures: &Figures) -> Vec<String> {
    let met = figures.met.keys().filter(|(_, during, _)| *during != "the start");
    met.filter_map(|(site, during, state)| match verdict(site, during, state) {
        Never(why) => Some(format!("a life ended at {site} during {during}, {state}, but {why}")),
        _ => None,
    })
    .collect()
}

/// How often lives ended at each site; of the combinations with it, how many must have been met, how many were met of those that
/// depend on chance, and how many cannot be.
pub fn table(figures: &Figures) -> String {
    let mut text = String::from("site                    lives   wanted   met by chance, of   impossible\n");
    let mut sums = [0; 4];
    for site in SITES {
        let count: u64 = figures
            .met
            .iter()
            .filter(|((of, ..), _)| *of == site)
            .map(|(_, count)| count)
            .sum();
        let mut row = [0; 4];
        for (_, during, state) in all().filter(|(of, ..)| *of == site) {
            match verdict(site, during, state) {
                Wanted => row[0] += 1,
                Chance(_) => {
                    row[1] += u64::from(figures.met.contains_key(&(site, during, state)));
                    row[2] += 1;
                }
                Never(_) => row[3] += 1,
            }
        }
        sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        text += &format!(
            "{site:<18} {count:>10} {:>8} {:>15} {:>4} {:>12}\n",
            row[0], row[1], row[2], row[3]
        );
    }
    text += &format!(
        "all combinations             {:>9} {:>15} {:>4} {:>12}\n",
        sums[0], sums[1], sums[2], sums[3]
    );
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for ((_, _, state), count) in &figures.met {
        *states.entry(state).or_default() += count;
    }
    text + &format!("{states:?}\n")
}
