//! Both allow guests equally much, where they are started with limits that mean the same; and what lies beyond.
#![forbid(unsafe_code)]

use native_rings::packages;
use peer_tests::duel::Duel;
use peer_tests::guests::Peer;
use peer_tests::trace::Step;
use xenstore_wire::MessageType::{self, *};

fn duel() -> Duel {
    let xenstored = packages::xenstored().unwrap_or_else(|failure| panic!("no C xenstored to compare with: {failure}"));
    let mut duel = Duel::start(&xenstored).unwrap_or_else(|failure| panic!("{failure}"));
    duel.step(&Step::Revive { domid: 1 })
        .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    duel
}

/// Asks both until C refuses; both must have refused the same. How often it was granted, and the error.
fn until_refused(duel: &mut Duel, kind: MessageType, payload: impl Fn(u32) -> String) -> (u32, String) {
    for count in 0..5000 {
        let answer = duel
            .ask(1, kind, &payload(count))
            .unwrap_or_else(|mismatch| panic!("{mismatch}"));
        if answer != "OK|" {
            return (count, answer);
        }
    }
    panic!("no limit on {kind:?}");
}

#[test]
fn the_last_node_is_the_same() {
    // The home is one of the 300.
    assert_eq!(
        until_refused(&mut duel(), Mkdir, |count| format!("n{count}|")),
        (299, "!ENOSPC".into())
    );
}

#[test]
fn the_last_watch_is_the_same() {
    assert_eq!(
        until_refused(&mut duel(), Watch, |count| format!("w|{count}|")),
        (13, "!E2BIG".into())
    );
}

#[test]
fn the_last_permission_is_the_same() {
    let list = |count: u32| format!("/local/domain/1|n1|{}", "r0|".repeat(count as usize));
    assert_eq!(until_refused(&mut duel(), SetPerms, list), (5, "!ENOSPC".into()));
}

#[test]
fn the_longest_path_is_the_same() {
    let mut duel = duel();
    for (length, answer) in [(2047, "!ENOENT"), (2048, "!ENOENT"), (2049, "!EINVAL")] {
        for prefix in ["", "/local/domain/1/"] {
            let got = duel
                .ask(1, Read, &format!("{prefix}{}|", "p".repeat(length)))
                .unwrap_or_else(|mismatch| panic!("{mismatch}"));
            assert_eq!(got, answer, "{prefix} and {length}");
        }
    }
}

#[test]
fn over_long_requests_are_the_end_of_a_connection_in_both() {
    let mut duel = duel();
    let whole = duel
        .ask(1, Read, &format!("{}|", "p".repeat(4095)))
        .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    assert_eq!(whole, "!EINVAL");
    let (c, ours) = duel.both();
    for peer in [c as &mut dyn Peer, ours] {
        for length in [4097u32, 1] {
            let header = xenstore_wire::Header {
                kind: Read as u32,
                request_id: 9,
                transaction_id: 0,
                length,
            };
            peer.send(1, header, &vec![b'p'; length as usize]);
            assert_eq!(
                peer.settle().unwrap_or_else(|text| panic!("{text}")),
                std::collections::BTreeMap::new()
            );
        }
    }
    // Nobody else is hurt, and it can be released.
    let answer = duel
        .ask(0, Release, "1|")
        .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    assert_eq!(answer, "OK|");
}
