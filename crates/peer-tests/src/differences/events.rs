//! When events may differ. Each function takes one difference away from what the two told; the table says why it may be there.

use xenstore_wire::MessageType::*;

use super::{ANSWER, Circumstances, Difference, Occasion, Rule, Told, rows};

/// The differences that together explain what each domain was told; `None` if they do not.
pub fn explain(circumstances: &Circumstances<'_>, peer: &Told, ours: &Told) -> Option<Vec<Difference>> {
    if peer == ours {
        return Some(Vec::new());
    }
    let rules = || {
        rows(circumstances.product).filter_map(|row| match row.rule {
            Rule::Events(take_away) => Some((row.name, take_away)),
            _ => None,
        })
    };
    // One alone is the better explanation.
    for (name, take_away) in rules() {
        let (mut there, mut here) = (peer.clone(), ours.clone());
        take_away(circumstances, &mut there, &mut here);
        if without_empty(&there) == without_empty(&here) {
            return Some(vec![name]);
        }
    }
    let (mut there, mut here) = (peer.clone(), ours.clone());
    let mut met = Vec::new();
    for (name, take_away) in rules() {
        let before = (there.clone(), here.clone());
        take_away(circumstances, &mut there, &mut here);
        if before != (there.clone(), here.clone()) {
            met.push(name);
        }
    }
    (without_empty(&there) == without_empty(&here)).then_some(met)
}

fn without_empty(told: &Told) -> Told {
    let lists = told.iter().filter(|(_, list)| !list.is_empty());
    lists.map(|(domid, list)| (*domid, list.clone())).collect()
}

fn sort(told: &mut Told) {
    told.values_mut().for_each(|list| list.sort());
}

/// Drops events of `from` that `other` has not (counted), if they are of this sort.
fn drop_unmatched(from: &mut Told, other: &Told, mut sort: impl FnMut(u16, &str) -> bool) {
    for (domid, list) in from {
        let mut left: Vec<&String> = other.get(domid).into_iter().flatten().collect();
        list.retain(|event| match left.iter().position(|kept| *kept == event) {
            Some(at) => {
                left.swap_remove(at);
                true
            }
            None => !sort(*domid, event),
        });
    }
}

/// Drops events of this sort of `from` that stand between those of `other`, where nothing else is different: so the right ones are
/// kept of several that are the same.
fn drop_between(from: &mut Told, other: &Told, sort: impl Fn(&str) -> bool) {
    for (domid, list) in from {
        let wanted: Vec<String> = other.get(domid).cloned().unwrap_or_default();
        let mut next = wanted.iter().peekable();
        let mut others = list.iter().filter(|event| next.next_if(|next| next == event).is_none());
        let all_of_this_sort = others.all(|event| sort(event));
        if all_of_this_sort && next.peek().is_none() {
            *list = wanted;
        }
    }
}

/// The path that an event names, made absolute for who got it.
fn path_of(domid: u16, event: &str) -> String {
    absolute(domid, event.split('|').next().unwrap_or_default())
}

fn absolute(domid: u16, path: &str) -> String {
    if path.starts_with(['/', '@']) {
        path.to_owned()
    } else {
        format!("/local/domain/{domid}/{path}")
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// The absolute paths that the changes of this type name.
fn changed(on: &Circumstances<'_>, kinds: &[xenstore_wire::MessageType]) -> Vec<String> {
    let of_kind = |kind: u32| kinds.iter().any(|known| *known as u32 == kind);
    let named = on.changes.requests.iter().filter(|(kind, _)| of_kind(*kind));
    named
        .map(|(_, payload)| {
            let path = String::from_utf8_lossy(super::answers::first(payload)).into_owned();
            absolute(on.domid, &path)
        })
        .collect()
}

pub(super) fn answer_first(on: &Circumstances<'_>, peer: &mut Told, _ours: &mut Told) {
    if on.is(&[Write, Mkdir, Rm, SetPerms])
        && let Some(list) = peer.get_mut(&on.domid)
        && list.first().is_some_and(|first| first == ANSWER)
    {
        list.rotate_left(1);
    }
}

pub(super) fn commit_order(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if on.is(&[TransactionEnd]) {
        sort(peer);
        sort(ours);
    }
}

pub(super) fn commit_tells_guests_more(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if on.is(&[TransactionEnd]) {
        drop_unmatched(ours, peer, |domid, event| domid != 0 && event != ANSWER);
    }
}

pub(super) fn release_answered_early(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if on.is(&[Release]) {
        for told in [peer, ours] {
            told.values_mut().for_each(|list| list.retain(|event| event != ANSWER));
        }
    }
}

pub(super) fn ends_merged(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if !matches!(on.occasion, Occasion::Life) {
        return;
    }
    for list in peer.values_mut().chain(ours.values_mut()) {
        let mut kept: Vec<String> = Vec::new();
        for event in list.drain(..) {
            if !event.starts_with("@releaseDomain") || !kept.contains(&event) {
                kept.push(event);
            }
        }
        *list = kept;
    }
}

pub(super) fn any_order(_on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    // The answer keeps its place, at one end or the other.
    for list in peer.values_mut().chain(ours.values_mut()) {
        let last = list.last().is_some_and(|last| last == ANSWER);
        let end = list.len() - usize::from(last);
        list[..end].sort();
    }
}

pub(super) fn below_the_removed(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    let removed = changed(on, &[Rm]);
    drop_unmatched(peer, ours, |domid, event| {
        let path = path_of(domid, event);
        removed.iter().any(|above| is_below(&path, above))
    });
}

pub(super) fn root(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if changed(on, &[Write, SetPerms]).iter().any(|path| path == "/") {
        drop_unmatched(ours, peer, |_, event| event.starts_with("/|"));
    }
}

pub(super) fn identical(_on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    let once = ours.clone();
    drop_unmatched(peer, ours, |domid, event| {
        once.get(&domid)
            .is_some_and(|list| list.iter().any(|other| other == event))
    });
}

pub(super) fn creator_sees(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    let repeated = on.is(&[TransactionEnd]) && on.changes.disturbed;
    if on.domid == 0 || !repeated && !on.is(&[Write, Mkdir]) {
        return;
    }
    let made = changed(on, &[Write, Mkdir]);
    let of_made = |domid: u16, event: &str| domid != 0 && made.contains(&path_of(domid, event));
    drop_unmatched(peer, ours, of_made);
    drop_unmatched(ours, peer, of_made);
}

pub(super) fn each_request(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if !on.is(&[TransactionEnd]) {
        return;
    }
    let named = changed(on, &[Write, Mkdir, Rm, SetPerms]);
    let (made, removed) = (changed(on, &[Write, Mkdir]), changed(on, &[Rm]));
    drop_unmatched(peer, ours, |domid, event| {
        let path = path_of(domid, event);
        let several = named.iter().filter(|other| **other == path).count() > 1;
        several || removed.contains(&path) && made.iter().any(|other| is_below(other, &path))
    });
}

pub(super) fn could_read_before(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if !on.is(&[TransactionEnd]) {
        return;
    }
    let (written, removed) = (changed(on, &[Write, Mkdir, SetPerms]), changed(on, &[Rm]));
    drop_unmatched(ours, peer, |domid, event| {
        let path = path_of(domid, event);
        // dom0 may read everything that is there.
        let gone = || removed.iter().any(|above| *above == path || is_below(&path, above));
        written.contains(&path) && (domid != 0 || gone())
    });
}

pub(super) fn could_read_the_parent(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if on.is(&[TransactionEnd]) {
        let removed = changed(on, &[Rm]);
        drop_unmatched(peer, ours, |domid, event| {
            domid != 0 && removed.contains(&path_of(domid, event))
        });
    }
}

pub(super) fn seen_in_snapshot(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if !on.is(&[TransactionEnd]) || !on.changes.disturbed {
        return;
    }
    let written = changed(on, &[Write, Mkdir, SetPerms]);
    drop_unmatched(peer, ours, |domid, event| {
        domid != 0 && written.contains(&path_of(domid, event))
    });
    let removed = changed(on, &[Rm]);
    drop_unmatched(ours, peer, |domid, event| {
        let path = path_of(domid, event);
        removed.iter().any(|above| is_below(&path, above))
    });
}

pub(super) fn special_by_root(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if matches!(on.occasion, Occasion::Life) || on.is(&[Introduce, Release]) {
        drop_unmatched(peer, ours, |domid, event| domid != 0 && event.starts_with('@'));
    }
}

pub(super) fn special_permissions(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if on.is(&[SetPerms]) && on.payload().starts_with(b"@") {
        let name = String::from_utf8_lossy(super::answers::first(on.payload())).into_owned() + "|";
        drop_unmatched(ours, peer, |_, event| event.starts_with(&name));
    }
}

pub(super) fn special_node(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if on.is(&[SetPerms]) && on.payload().starts_with(b"@") {
        // In oxenstored below the root, in C with the name alone.
        drop_unmatched(peer, ours, |_, event| event.starts_with("/@"));
        drop_between(peer, ours, |event| event.starts_with('@'));
    }
}

pub(super) fn silent_end(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if matches!(on.occasion, Occasion::Life) || on.is(&[Release]) {
        drop_unmatched(ours, peer, |_, event| {
            event.starts_with('/') || !event.starts_with(['@', '('])
        });
    }
}

pub(super) fn shutdown_again(on: &Circumstances<'_>, peer: &mut Told, ours: &mut Told) {
    if matches!(on.occasion, Occasion::Life) && on.any_shut {
        drop_unmatched(peer, ours, |_, event| event.starts_with("@releaseDomain|"));
    }
}
