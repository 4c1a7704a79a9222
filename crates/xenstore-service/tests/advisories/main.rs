//! Every security advisory of Xenstore servers that we know of (27, from 2013 to 2026), each as a test named after it: what a
//! client could do then, and what it must see now. Where an advisory concerns the insides of C xenstored or oxenstored (memory
//! freed twice, an order of evaluation, a stack), the test is what a client sees of it.
//!
//! `mutations.txt` beside this file says for each how the server would have to be broken for its test to fail; the package
//! `mutations` breaks a copy of the sources so and looks whether exactly that test fails.

#[path = "../bed/mod.rs"]
mod bed;

mod accounts;
mod commits;
mod endings;
mod frames;
mod rights;

use bed::Bed;
use xenstore_core::Account;
use xenstore_wire::HEADER_SIZE;

/// The advisories by number.
const ADVISORIES: [u32; 27] = [
    38, 72, 115, 206, 233, 272, 322, 323, 324, 325, 326, 330, 352, 353, 414, 415, 416, 417, 418, 419, 420, 421, 425,
    440, 481, 483, 484,
];

const SOURCES: [&str; 5] = [
    include_str!("accounts.rs"),
    include_str!("commits.rs"),
    include_str!("endings.rs"),
    include_str!("frames.rs"),
    include_str!("rights.rs"),
];

/// The names of the tests that are named after an advisory.
fn names() -> impl Iterator<Item = &'static str> {
    let lines = SOURCES.iter().flat_map(|source| source.lines());
    let functions = lines.filter_map(|line| line.strip_prefix("fn ")?.split_once('('));
    functions.map(|(name, _)| name).filter(|name| name.starts_with("xsa_"))
}

#[test]
fn every_advisory_has_a_test_and_every_test_a_way_to_make_it_fail() {
    for advisory in ADVISORIES {
        let prefix = format!("xsa_{advisory}_");
        assert!(
            names().any(|name| name.starts_with(&prefix)),
            "no test for XSA-{advisory}"
        );
    }
    let mutations = include_str!("mutations.txt");
    for name in names() {
        let number = name.split('_').nth(1).and_then(|number| number.parse().ok());
        assert!(number.is_some_and(|number| ADVISORIES.contains(&number)), "{name}");
        let shown = mutations.lines().any(|line| line.strip_prefix("fails: ") == Some(name));
        assert!(shown, "mutations.txt does not say how to make {name} fail");
    }
}

/// What a domain is charged with now.
fn account(bed: &Bed, domid: u16) -> Account {
    let mut domains = bed.service().server().domains();
    domains
        .find(|(known, _)| known.0 == domid)
        .map(|(_, domain)| domain.account)
        .unwrap_or_default()
}

/// A header that announces `length` bytes, as a guest puts it into its ring.
fn header_announcing(length: u32) -> [u8; HEADER_SIZE] {
    xenstore_wire::Header {
        kind: 2,
        request_id: 77,
        transaction_id: 0,
        length,
    }
    .emit()
}

/// The limit `name` is `value` for domains that are started later.
fn limit(bed: &mut Bed, name: &str, value: u32) {
    let answer = bed.ask(
        0,
        xenstore_wire::MessageType::Control,
        0,
        &format!("quota|set|{name}|{value}|"),
    );
    assert_eq!(answer, "OK|");
}
