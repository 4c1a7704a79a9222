//! The table of intended differences between C xenstored 4.17 and ours, which follows 4.22 and does some things better.
//!
//! An entry says exactly when it applies; whatever no entry explains fails the test. Where limits are counted differently
//! (4.17 tests some with `>` where 4.22 tests all with `>=`) the two are started with values that make the effective limits
//! equal, see [`LIMITS`]: so the difference is exactly that much.

use std::collections::{BTreeMap, BTreeSet};

use xenstore_core::{Configuration, Limit, Quotas};
use xenstore_wire::MessageType::{self, *};
use xenstore_wire::{atoi, one_string};

use crate::guests::Message;

/// Why an answer may differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    /// A guest's watches are at their limit: E2BIG until 4.21, ENOSPC since.
    WatchLimitError,
    /// Permission entries of dead domains: ignored until 4.21, removed since.
    DeadDomainsLeaveLists,
    /// A commit that conflicts in C and does not here; repeated on C at once, it gives what ours gave.
    ConflictOnlyInC,
    /// A commit that conflicts here, because we show one state from the first request on, and not in C, which fixes each
    /// node when it is touched; repeated on ours at once, it gives what C gave.
    ConflictOnlyInOurs,
    /// A transaction that changed nothing saw one state here, and in C the newest state of each node it touched.
    ReaderSawOneState,
    /// Ids of transactions, after one of them was repeated on one side.
    TransactionIds,
    /// GET_PERMS of special paths: EINVAL or ENOENT until 4.21, where they were no nodes; readable since.
    SpecialNodesAreNodes,
    /// Numbers of domains are checked since 4.18; 4.17 takes what atoi makes of anything. (Where that would change
    /// something, see [`is_left_out`].)
    DomainNumbersAreChecked,
    /// UNWATCH of a path that cannot be: ENOENT until 4.17, EINVAL since.
    UnwatchChecksPaths,
    /// C fires a commit's events while it writes node by node: whoever may see one only because of a parent made in the
    /// same transaction misses it. Ours asks when all is done.
    CommitToldByNewParent,
    /// A shutdown and an end found in one look: C tells one or both, as its list has them; ours tells one.
    ShutdownAndEndMerged,
    /// A commit that concerns nodes of a domain that died meanwhile: ENOMEM in C, EAGAIN here.
    CommitAfterOwnersEnd,
    /// RELEASE: where C's main loop still holds the connection, the domain ends, and its end is told, after the answer.
    ReleaseToldLate,
    /// The limit on paths holds for guests alone since 4.18; 4.17 holds dom0 to it too.
    PrivilegedPathsAreLong,
    /// A permission for a domain number that cannot be: C stores it or finds no such domain, ours says EINVAL (README).
    ImpossiblePermission,
    /// C tells a commit in the order in which the transaction first touched the nodes, the parents that it looked at on its
    /// way included; ours counts the nodes that requests named.
    CommitOrder,
}

impl Difference {
    /// All of them.
    pub const ALL: [Difference; 16] = [
        Difference::WatchLimitError,
        Difference::DeadDomainsLeaveLists,
        Difference::ConflictOnlyInC,
        Difference::ConflictOnlyInOurs,
        Difference::ReaderSawOneState,
        Difference::TransactionIds,
        Difference::SpecialNodesAreNodes,
        Difference::DomainNumbersAreChecked,
        Difference::UnwatchChecksPaths,
        Difference::CommitToldByNewParent,
        Difference::ReleaseToldLate,
        Difference::ShutdownAndEndMerged,
        Difference::CommitAfterOwnersEnd,
        Difference::PrivilegedPathsAreLong,
        Difference::ImpossiblePermission,
        Difference::CommitOrder,
    ];
}

/// A limit: ours, its value here, C's option with its value there, so that both allow equally much.
pub const LIMITS: [(Limit, u32, &[&str]); 5] = [
    // C: at 300 no further one is made. Ours: reaching 301 is refused.
    (Limit::Nodes, 301, &["-E", "300"]),
    // C: more than 12 is refused before one is added, so 13 are allowed. Ours: reaching 14 is refused.
    (Limit::Watches, 14, &["-W", "12"]),
    // C: with more than 4 open none is started, so 5 are allowed. Ours: reaching 6 is refused.
    (Limit::Transactions, 6, &["-t", "4"]),
    // C: more than 5 entries are refused. Ours: 6 or more.
    (Limit::NodePermissions, 6, &["-A", "5"]),
    // C: more than 2048 bytes are refused. Ours: 2049 or more.
    (Limit::PathMax, 2049, &["-M", "2048"]),
];

/// How ours is started.
pub fn our_configuration() -> Configuration {
    let mut quotas = Quotas::default();
    for (limit, value, _) in LIMITS {
        quotas.set(limit, value);
    }
    Configuration {
        quotas,
        event_timeout: 0,
        ..Configuration::default()
    }
}

/// How C is started.
pub fn c_options() -> Vec<String> {
    LIMITS
        .iter()
        .flat_map(|(_, _, options)| options.iter().map(|option| (*option).to_owned()))
        .collect()
}

/// What is known when two answers are held against each other.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Who asked.
    pub domid: u16,
    /// The type of the request.
    pub kind: u32,
    /// What it carried.
    pub payload: &'a [u8],
    /// Domains that were dead at some time.
    pub died: &'a BTreeSet<u16>,
    /// A transaction of this connection was repeated on one side.
    pub ids_differ: bool,
}

/// How two answers compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing differs.
    Same,
    /// Something differs that may.
    Named(Difference),
    /// Something differs that nothing explains.
    Unexplained,
}

/// Whether the answers are the same, or why they differ.
pub fn of_answers(circumstances: &Circumstances<'_>, c: &Message, ours: &Message) -> Verdict {
    let kind = MessageType::from_wire(circumstances.kind);
    let same_form = c.kind == ours.kind;
    if same_form && c.payload == ours.payload {
        return Verdict::Same;
    }
    let (c_text, our_text) = (c.text(), ours.text());
    match kind {
        Some(DirectoryPart) if same_form && without_generation(&c.payload) == without_generation(&ours.payload) => {
            Verdict::Same
        }
        Some(SetPerms) if c_text == "!ENOENT" && our_text == "!EINVAL" && impossible_owner(circumstances.payload) => {
            Verdict::Named(Difference::ImpossiblePermission)
        }
        Some(Read) if c_text == "!EINVAL" && our_text == "!ENOENT" && circumstances.domid == 0 => {
            let long = circumstances.payload.len() > 2048;
            if long {
                Verdict::Named(Difference::PrivilegedPathsAreLong)
            } else {
                Verdict::Unexplained
            }
        }
        Some(Watch) if c_text == "!E2BIG" && our_text == "!ENOSPC" => Verdict::Named(Difference::WatchLimitError),
        Some(Unwatch) if c_text == "!ENOENT" && our_text == "!EINVAL" => Verdict::Named(Difference::UnwatchChecksPaths),
        Some(TransactionStart) if same_form && circumstances.ids_differ => Verdict::Named(Difference::TransactionIds),
        Some(GetPerms) if same_form && entries_left_out(&c_text, &our_text, circumstances.died) => {
            Verdict::Named(Difference::DeadDomainsLeaveLists)
        }
        Some(GetPerms) if circumstances.payload.starts_with(b"@") && c_text == "!EINVAL" => {
            Verdict::Named(Difference::SpecialNodesAreNodes)
        }
        Some(GetDomainPath | IsDomainIntroduced | Release | Resume)
            if our_text == "!EINVAL" && !plain_number(first(circumstances.payload)) =>
        {
            Verdict::Named(Difference::DomainNumbersAreChecked)
        }
        _ => Verdict::Unexplained,
    }
}

/// The first permission names a domain beyond 16 bits, or a negative one.
fn impossible_owner(payload: &[u8]) -> bool {
    let first = payload.split(|byte| *byte == 0).nth(1).and_then(|entry| entry.get(1..));
    let number = first.and_then(|number| std::str::from_utf8(number).ok()?.parse::<i64>().ok());
    number.is_some_and(|number| u16::try_from(number).is_err())
}

fn without_generation(payload: &[u8]) -> Option<&[u8]> {
    let end = payload.iter().position(|byte| *byte == 0)?;
    payload.get(end..)
}

/// Ours is C's list without some entries, never the first, of domains that died.
fn entries_left_out(c: &str, ours: &str, died: &BTreeSet<u16>) -> bool {
    let mut left = ours.split_terminator('|');
    let mut next = left.next();
    for (index, entry) in c.split_terminator('|').enumerate() {
        if next == Some(entry) {
            next = left.next();
            continue;
        }
        let domid = entry.get(1..).and_then(|number| number.parse().ok());
        if index == 0 || !domid.is_some_and(|domid| died.contains(&domid)) {
            return false;
        }
    }
    next.is_none()
}

/// A decimal number of 16 bits and nothing else.
fn plain_number(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<u16>().is_ok())
}

/// The first string of a payload, terminated or not.
fn first(payload: &[u8]) -> &[u8] {
    payload.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Whether events of a commit that both made may differ like this: ours tells everything that C tells, in C's order, and
/// something more.
pub fn commit_tells_more(c: &BTreeMap<u16, Vec<String>>, ours: &BTreeMap<u16, Vec<String>>) -> bool {
    c.iter().all(|(domid, events)| {
        let mut told = ours.get(domid).into_iter().flatten();
        events.iter().all(|event| told.any(|other| other == event))
    })
}

/// Whether events differ only in when the answer came.
pub fn answer_came_elsewhere(c: &BTreeMap<u16, Vec<String>>, ours: &BTreeMap<u16, Vec<String>>) -> bool {
    let events = |all: &BTreeMap<u16, Vec<String>>| -> Vec<(u16, String)> {
        let each = all
            .iter()
            .flat_map(|(domid, list)| list.iter().map(|event| (*domid, event.clone())));
        each.filter(|(_, event)| event != ANSWER).collect()
    };
    events(c) == events(ours)
}

/// As [`commit_tells_more`], in any order.
pub fn commit_tells_more_anywhere(c: &BTreeMap<u16, Vec<String>>, ours: &BTreeMap<u16, Vec<String>>) -> bool {
    c.iter().all(|(domid, events)| {
        let mut left: Vec<&String> = ours.get(domid).into_iter().flatten().collect();
        events.iter().all(|event| {
            left.iter()
                .position(|other| *other == event)
                .map(|at| left.swap_remove(at))
                .is_some()
        })
    })
}

/// Whether each domain is told the same, in another order.
pub fn only_order_differs(c: &BTreeMap<u16, Vec<String>>, ours: &BTreeMap<u16, Vec<String>>) -> bool {
    let sorted = |all: &BTreeMap<u16, Vec<String>>| {
        let mut all = all.clone();
        all.values_mut().for_each(|list| list.sort());
        all
    };
    sorted(c) == sorted(ours)
}

/// Whether the events of ends and shutdowns differ only in how often `@releaseDomain` is told to the same watches.
pub fn ends_merged(c: &BTreeMap<u16, Vec<String>>, ours: &BTreeMap<u16, Vec<String>>) -> bool {
    let once = |all: &BTreeMap<u16, Vec<String>>| -> Vec<(u16, String)> {
        let mut events: Vec<(u16, String)> = Vec::new();
        for (domid, list) in all {
            for event in list {
                let event = (*domid, event.clone());
                if !event.1.starts_with("@releaseDomain") || !events.contains(&event) {
                    events.push(event);
                }
            }
        }
        events
    };
    once(c) == once(ours)
}

/// What stands in a list of messages for the answer to the request.
pub const ANSWER: &str = "(answer)";

/// Requests that are left out, because Debian's 4.17 may not survive them or does something else for good.
///
/// Where it forgets to set an error it takes the last one, and if there was none it answers nothing and aborts: with a
/// payload that is not one string where one is wanted, and with permissions for a special name that is none or not the
/// caller's. It removes the root with the domain that owns it. It takes anything for the number of a domain.
pub fn is_left_out(domid: u16, kind: u32, payload: &[u8]) -> bool {
    let mut strings = payload.split(|byte| *byte == 0);
    let (first, second) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
    match MessageType::from_wire(kind) {
        Some(Directory | Read | GetPerms | Mkdir | Rm) => one_string(payload).is_none(),
        Some(SetPerms) => match first {
            // Domains 0 to 2 do not end here.
            b"/" | b"@releaseDomain" | b"@introduceDomain" => {
                (first != b"/" && domid != 0)
                    || !second.get(1..).is_some_and(|owner| matches!(owner, b"0" | b"1" | b"2"))
            }
            _ => first.starts_with(b"@"),
        },
        // What domain 0 gets when it starts its own ring anew in the middle of a request is nothing to compare.
        Some(Introduce) => !plain_number(first) || first == b"0",
        Some(Release | Resume) => !plain_number(first) && atoi(first) != 0,
        Some(SetTarget) => !plain_number(first) || !plain_number(second),
        _ => false,
    }
}

/// The domain that the first string of a payload names, as the servers read it.
pub fn named_domain(payload: &[u8]) -> Option<u16> {
    u16::try_from(atoi(payload)).ok()
}
