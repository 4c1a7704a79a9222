//! Both allow guests equally much, where they are started with limits that mean the same; and what lies beyond.
#![forbid(unsafe_code)]

use native_rings::packages::{self, Product};
use peer_tests::duel::Duel;
use peer_tests::trace::Step;
use xenstore_wire::MessageType::{self, *};

fn duel(product: Product) -> Duel {
    let server = packages::obtain(product).unwrap_or_else(|failure| panic!("nothing to compare with: {failure}"));
    let mut duel = Duel::start(&server).unwrap_or_else(|failure| panic!("{failure}"));
    duel.step(&Step::Revive { domid: 1 })
        .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    duel
}

/// Asks both until the peer refuses; both must have refused the same. How often it was granted, and the error.
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

const ALL: [Product; 3] = [Product::C417, Product::C420, Product::OCaml417];

#[test]
fn the_last_node_is_the_same() {
    // The home is one of the 300.
    for product in [Product::C417, Product::C420] {
        let refused = until_refused(&mut duel(product), Mkdir, |count| format!("n{count}|"));
        assert_eq!(refused, (299, "!ENOSPC".into()), "{product:?}");
    }
    // Here dom0 makes them, which has no limit; the guest makes the next one.
    let mut ocaml = duel(Product::OCaml417);
    for count in 0..299 {
        let made = ocaml.ask(0, Mkdir, &format!("/local/domain/1/n{count}|"));
        assert_eq!(made.unwrap_or_else(|mismatch| panic!("{mismatch}")), "OK|");
    }
    let refused = until_refused(&mut ocaml, Mkdir, |count| format!("m{count}|"));
    assert_eq!(refused, (0, "!EQUOTA".into()));
}

#[test]
fn the_last_watch_is_the_same() {
    for product in ALL {
        let error = if product == Product::OCaml417 {
            "!EQUOTA"
        } else {
            "!E2BIG"
        };
        let refused = until_refused(&mut duel(product), Watch, |count| format!("w|{count}|"));
        assert_eq!(refused, (13, error.into()), "{product:?}");
    }
}

#[test]
fn the_last_permission_is_the_same() {
    let list = |count: u32| format!("/local/domain/1|n1|{}", "r0|".repeat(count as usize));
    for product in [Product::C417, Product::C420] {
        let refused = until_refused(&mut duel(product), SetPerms, list);
        assert_eq!(refused, (5, "!ENOSPC".into()), "{product:?}");
    }
}

#[test]
fn the_longest_path_is_the_same() {
    for product in ALL {
        let mut duel = duel(product);
        for (length, answer) in [(2047, "!ENOENT"), (2048, "!ENOENT"), (2049, "!EINVAL")] {
            for prefix in ["", "/local/domain/1/"] {
                let got = duel
                    .ask(1, Read, &format!("{prefix}{}|", "p".repeat(length)))
                    .unwrap_or_else(|mismatch| panic!("{mismatch}"));
                assert_eq!(got, answer, "{product:?}: {prefix} and {length}");
            }
        }
    }
}

#[test]
fn over_long_requests_are_the_end_of_a_connection_in_both() {
    // Not in oxenstored, which takes the bytes beyond 4096 for the next request.
    let mut duel = duel(Product::C417);
    let whole = duel
        .ask(1, Read, &format!("{}|", "p".repeat(4095)))
        .unwrap_or_else(|mismatch| panic!("{mismatch}"));
    assert_eq!(whole, "!EINVAL");
    for peer in duel.both() {
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
