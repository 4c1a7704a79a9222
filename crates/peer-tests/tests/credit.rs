//! Why ours runs without credit and leases beside C where clients interfere with each other: both show there, in what waits.
#![forbid(unsafe_code)]

use native_rings::packages::{self, Product};
use peer_tests::duel::{Duel, Mismatch};
use peer_tests::trace::Step;
use xenstore_core::ConflictLimits;
use xenstore_wire::MessageType::{self, *};

/// A guest makes six commits of domain 0 fail, and asks for something. Time stands still.
fn interfere(conflicts: ConflictLimits) -> Result<String, Box<Mismatch>> {
    let server = packages::obtain(Product::C417).unwrap_or_else(|failure| panic!("nothing to compare with: {failure}"));
    let mut duel = Duel::with(&server, conflicts).unwrap_or_else(|failure| panic!("{failure}"));
    let inside = |kind: MessageType, payload: &str| Step::Request {
        domid: 0,
        within: Some(0),
        kind: kind as u32,
        payload: payload.replace('|', "\0").into_bytes(),
    };
    duel.step(&Step::Revive { domid: 1 })?;
    duel.ask(1, Write, "data|0")?;
    for round in 1..=6 {
        duel.step(&Step::Start { domid: 0 })?;
        duel.step(&inside(Read, "/local/domain/1/data|"))?;
        duel.ask(1, Write, &format!("data|{round}"))?;
        duel.step(&inside(Write, "/tool/lost|x"))?;
        duel.step(&Step::End {
            domid: 0,
            which: 0,
            commit: true,
        })?;
    }
    duel.ask(1, Read, "data|")
}

#[test]
fn without_credit_and_leases_both_answer_alike() {
    let answer = interfere(ConflictLimits::NONE).unwrap_or_else(|mismatch| panic!("{mismatch}"));
    assert_eq!(answer, "6");
}

#[test]
fn a_guest_without_credit_waits_where_c_answers() {
    let credit = ConflictLimits {
        losses: 0,
        ..ConflictLimits::default()
    };
    assert!(interfere(credit).is_err());
}

#[test]
fn a_write_into_a_lease_waits_where_c_answers() {
    let leases = ConflictLimits {
        burst: 0,
        ..ConflictLimits::default()
    };
    assert!(interfere(leases).is_err());
}
