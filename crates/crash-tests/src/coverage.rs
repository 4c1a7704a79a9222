//! At which stores lives must have ended, during what, and why not during the rest.

use std::collections::BTreeMap;

use xenstore_wire::MessageType;

use crate::checker::Figures;
use crate::site::SITES;

/// During which operations a site must be met.
enum During {
    /// Each request.
    Requests,
    /// These.
    These(&'static [&'static str]),
    /// Any.
    Any,
    /// None.
    None,
}

use During::{Any, None, Requests, These};

/// For each site: during what lives must have ended there, and why not during the rest.
const EXPECTED: [(&str, During, &str); 26] = [
    (
        "log body",
        Requests,
        "what else happens makes records, too, but not always",
    ),
    ("log frame", Requests, "as log body"),
    ("note", Requests, "as log body"),
    ("lives", Any, "a life begins or has served a request, whichever"),
    ("mark", Requests, "only what clients send is blamed"),
    (
        "slot intent",
        Requests,
        "every request is answered; what else happens may tell nobody",
    ),
    ("slot result", Requests, "as slot intent"),
    ("ring bytes", Requests, "as slot intent"),
    ("ring producer", Requests, "as slot intent"),
    ("ring consumer", Requests, "only requests are taken"),
    ("notify", Requests, "as slot intent"),
    ("block", These(&CHANGES), "the others change no node"),
    ("table", These(&CHANGES), "the others change no node"),
    (
        "checkpoint erased",
        Any,
        "when it is time for a checkpoint does not depend on what goes on",
    ),
    ("checkpoint body", Any, "as checkpoint erased"),
    ("checkpoint head", Any, "as checkpoint erased"),
    (
        "new extent",
        Any,
        "when something is full does not depend on what goes on",
    ),
    ("directory", Any, "as new extent"),
    ("length", Any, "pages grow between requests"),
    ("connect", These(&["INTRODUCE"]), "only dom0 connects domains"),
    (
        "rebind",
        These(&["INTRODUCE"]),
        "only for a domain that is introduced again",
    ),
    (
        "disconnect",
        These(&["RELEASE", "domains"]),
        "only when a domain is released or gone",
    ),
    (
        "ring features",
        These(&["INTRODUCE"]),
        "a ring that goes on has them already",
    ),
    (
        "ring restart",
        These(&["INTRODUCE", "a reconnect"]),
        "a client that resets does it itself",
    ),
    (
        "ring error",
        These(&["misbehaviour"]),
        "only a client that broke the rules is told so",
    ),
    ("header", None, "it is written once, before there is anything to lose"),
];

/// What changes nodes of the store or of a transaction.
const CHANGES: [&str; 6] = ["WRITE", "MKDIR", "RM", "SET_PERMS", "TRANSACTION_END", "domains"];

/// In which kinds of state each request must have been stopped at its record.
const STATES: [&str; 3] = ["nothing else", "transactions are open", "messages wait"];

/// Requests that are tried in transactions, too.
const IN_TRANSACTIONS: [MessageType; 8] = [
    MessageType::Directory,
    MessageType::Read,
    MessageType::GetPerms,
    MessageType::Write,
    MessageType::Mkdir,
    MessageType::Rm,
    MessageType::SetPerms,
    MessageType::TransactionEnd,
];

/// What should have been met and was not.
pub fn gaps(figures: &Figures) -> Vec<String> {
    let mut gaps = Vec::new();
    let met = |site: &str, during: &str| figures.met.keys().any(|(of, what, _)| (*of, *what) == (site, during));
    for site in SITES {
        let Some((_, during, _)) = EXPECTED.iter().find(|(name, _, _)| *name == site) else {
            gaps.push(format!("{site} is in no list"));
            continue;
        };
        let wanted: Vec<&str> = match during {
            Requests => MessageType::ALL.iter().map(|kind| kind.name()).collect(),
            These(list) => list.to_vec(),
            Any if figures.met.keys().any(|(of, _, _)| *of == site) => continue,
            Any => vec!["anything"],
            None => continue,
        };
        let lacking = wanted.into_iter().filter(|what| !met(site, what));
        gaps.extend(lacking.map(|what| format!("no life ended at {site} during {what}")));
    }
    for kind in MessageType::ALL {
        let in_transactions = IN_TRANSACTIONS.contains(&kind).then_some("in a transaction");
        for state in STATES.into_iter().chain(in_transactions) {
            if !figures.met.contains_key(&("log frame", kind.name(), state)) {
                gaps.push(format!("no life ended at the record of {kind} while: {state}"));
            }
        }
    }
    gaps
}

/// How often lives ended at each site, the most and the least met operation with it, and why not during others.
pub fn table(figures: &Figures) -> String {
    let mut text = String::new();
    for (site, _, reason) in &EXPECTED {
        let mut during: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, what, _), count) in figures.met.iter().filter(|((of, _, _), _)| of == site) {
            *during.entry(what).or_default() += count;
        }
        let all: u64 = during.values().sum();
        text += &format!("{site:<18} {all:>9} during {:>2} operations ({reason})\n", during.len());
    }
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for ((_, _, state), count) in &figures.met {
        *states.entry(state).or_default() += count;
    }
    text + &format!("{states:?}\n")
}
