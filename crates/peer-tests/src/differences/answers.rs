//! When answers may differ. Each function is the condition of one row of the table, which says why.

use std::collections::BTreeSet;

use xenstore_wire::MessageType::*;
use xenstore_wire::one_string;

use super::{Circumstances, Difference, Rule, rows};
use crate::guests::Message;

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
pub fn compare(circumstances: &Circumstances<'_>, peer: &Message, ours: &Message) -> Verdict {
    let same_form = peer.kind == ours.kind;
    if same_form && peer.payload == ours.payload {
        return Verdict::Same;
    }
    // Generations mean nothing beyond one server.
    let generations = circumstances.is(&[DirectoryPart]) && same_form;
    if generations && without_generation(&peer.payload) == without_generation(&ours.payload) {
        return Verdict::Same;
    }
    let explains = |rule: &Rule| matches!(rule, Rule::Answers(applies) if applies(circumstances, peer, ours));
    rows(circumstances.product)
        .find(|row| explains(&row.rule))
        .map_or(Verdict::Unexplained, |row| Verdict::Named(row.name))
}

fn without_generation(payload: &[u8]) -> Option<&[u8]> {
    let end = payload.iter().position(|byte| *byte == 0)?;
    payload.get(end..)
}

fn gave(peer: &Message, there: &str, ours: &Message, here: &str) -> bool {
    peer.text() == there && ours.text() == here
}

pub(super) fn watch_limit_error(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[Watch]) && on.domid != 0 && gave(peer, "!E2BIG", ours, "!ENOSPC")
}

pub(super) fn quota_error(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    let limit = on.is(&[Watch, TransactionStart, Write, Mkdir]) && gave(peer, "!EQUOTA", ours, "!ENOSPC");
    on.domid != 0 && (limit || on.is(&[Watch]) && gave(peer, "!EQUOTA", ours, "!EEXIST"))
}

/// Ours is the peer's list without some entries, never the first, of domains that died.
pub(super) fn entries_of_the_dead(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[GetPerms]) && peer.kind == ours.kind && entries_left_out(&peer.text(), &ours.text(), on.died)
}

fn entries_left_out(peer: &str, ours: &str, died: &BTreeSet<u16>) -> bool {
    let mut left = ours.split_terminator('|');
    let mut next = left.next();
    for (index, entry) in peer.split_terminator('|').enumerate() {
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

pub(super) fn special_permissions(on: &Circumstances<'_>, peer: &Message, _ours: &Message) -> bool {
    on.is(&[GetPerms]) && on.payload().starts_with(b"@") && peer.text() == "!EINVAL"
}

pub(super) fn below_a_special_node(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    let below = on.payload().starts_with(b"@") && first(on.payload()).contains(&b'/');
    let errors = gave(peer, "!EACCES", ours, "!ENOENT") || gave(peer, "!ENOENT", ours, "!EACCES");
    on.is(&[GetPerms]) && on.domid != 0 && below && errors
}

pub(super) fn unchecked_domain_number(on: &Circumstances<'_>, _peer: &Message, ours: &Message) -> bool {
    let asks = on.is(&[GetDomainPath, IsDomainIntroduced, Release, Resume]);
    asks && ours.text() == "!EINVAL" && !plain_number(first(on.payload()))
}

pub(super) fn not_one_string(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    let several = one_string(on.payload()).is_none() && ours.text() == "!EINVAL";
    let empty = on.payload() == b"\0" && on.is(&[IsDomainIntroduced]) && peer.text() == "!EINVAL";
    on.is(&[IsDomainIntroduced, Resume]) && (several || empty)
}

pub(super) fn unwatch_of_a_wrong_path(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[Unwatch]) && gave(peer, "!ENOENT", ours, "!EINVAL")
}

pub(super) fn long_path_of_dom0(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[Read]) && on.domid == 0 && on.payload().len() > 2048 && gave(peer, "!EINVAL", ours, "!ENOENT")
}

/// The first permission names a domain beyond 16 bits, or a negative one.
pub(super) fn impossible_owner(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    let owner = || {
        let second = on.payload().split(|byte| *byte == 0).nth(1)?;
        std::str::from_utf8(second.get(1..)?).ok()?.parse::<i64>().ok()
    };
    on.is(&[SetPerms])
        && gave(peer, "!ENOENT", ours, "!EINVAL")
        && owner().is_some_and(|number| u16::try_from(number).is_err())
}

pub(super) fn missing_is_hidden(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    if on.domid == 0 || ours.text() != "!EACCES" {
        return false;
    }
    match peer.text().as_str() {
        "!ENOENT" => on.is(&[Read, Directory, GetPerms, SetPerms, Rm, Write, Mkdir]),
        "OK|" => on.is(&[Rm]),
        _ => false,
    }
}

pub(super) fn root(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[Mkdir]) && on.domid != 0 && on.payload() == b"/\0" && gave(peer, "OK|", ours, "!EACCES")
}

pub(super) fn owner_change(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[SetPerms]) && on.domid != 0 && gave(peer, "!EACCES", ours, "!EPERM")
}

pub(super) fn no_directory_part(on: &Circumstances<'_>, peer: &Message, _ours: &Message) -> bool {
    on.is(&[DirectoryPart]) && peer.text() == "!ENOSYS"
}

pub(super) fn sorted_children(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    if !on.is(&[Directory]) || peer.kind == 16 || ours.kind == 16 {
        return false;
    }
    let names = |message: &Message| -> Vec<Vec<u8>> {
        let text = message.payload.strip_suffix(b"\0").unwrap_or(&message.payload);
        text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    };
    let mut expected = names(ours);
    if on.payload() == b"/\0" {
        expected.extend([b"@releaseDomain".to_vec(), b"@introduceDomain".to_vec()]);
    }
    expected.sort();
    names(peer) == expected
}

pub(super) fn special_name(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    let asks = on.is(&[Read, Directory, Write, Mkdir, Rm, SetPerms]);
    asks && on.payload().starts_with(b"@") && ours.text() == "!EINVAL" && peer.text() != "!EINVAL"
}

pub(super) fn unknown_domain(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    let unknown = on.is(&[Release, Resume]) && gave(peer, "!EINVAL", ours, "!ENOENT");
    let dom0 = on.is(&[Resume]) && first(on.payload()) == b"0" && gave(peer, "OK|", ours, "!EINVAL");
    on.domid == 0 && (unknown || dom0)
}

pub(super) fn other_ids(on: &Circumstances<'_>, peer: &Message, ours: &Message) -> bool {
    on.is(&[TransactionStart]) && peer.kind == ours.kind && on.ids_differ
}

/// A decimal number of 16 bits and nothing else.
pub(super) fn plain_number(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<u16>().is_ok())
}

/// The first string of a payload, terminated or not.
pub(super) fn first(payload: &[u8]) -> &[u8] {
    payload.split(|byte| *byte == 0).next().unwrap_or_default()
}
