//! Requests and transactions that are done wholly or not at all.

use xenstore_core::DomainState;
use xenstore_wire::MessageType::{Directory, Mkdir, Read, Rm, SetPerms, TransactionEnd, Watch, Write};

use crate::bed::Bed;
use crate::{account, limit};

/// One client that writes all the time made the commits of all others fail.
#[test]
fn xsa_206_a_guest_that_writes_all_the_time_does_not_keep_others_from_committing() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(0, Mkdir, 0, "/local/domain/5/device|");
    bed.ask(0, SetPerms, 0, "/local/domain/5/device|n5|");
    for round in 0..50 {
        let transaction = bed.begin(0);
        bed.ask(0, Read, transaction, "/local/domain/5|");
        for number in 0..10 {
            assert_eq!(bed.ask(5, Write, 0, &format!("device/{number}|{round}")), "OK|");
            assert_eq!(bed.ask(5, Write, 0, &format!("data{number}|{round}")), "OK|");
        }
        bed.ask(0, Write, transaction, &format!("/local/domain/5/device/vif{round}|"));
        bed.ask(0, Write, transaction, &format!("/vm/{round}|"));
        assert_eq!(bed.commit(0, transaction), "OK|", "round {round}");
    }
    bed.check();
}

/// C xenstored undid a failed creation with the wrong context and wrote where it should not.
#[test]
fn xsa_414_a_creation_that_fails_leaves_nothing_of_itself() {
    let mut bed = Bed::new();
    limit(&mut bed, "nodes", 4);
    bed.start(5);
    bed.ask(0, Watch, 0, "/|all|");
    bed.events(0);
    let before = account(&bed, 5);
    for payload in [
        "a/b/c/d|v".into(),
        format!("a/b|{}", "v".repeat(2048)),
        format!("{}|v", "a/".repeat(900) + "a"),
    ] {
        for _ in 0..3 {
            assert_eq!(bed.ask(5, Write, 0, &payload), "!ENOSPC");
            assert_eq!(bed.ask(5, Read, 0, "a|"), "!ENOENT");
            assert_eq!(account(&bed, 5), before);
            assert!(bed.events(0).is_empty());
        }
    }
    assert_eq!(bed.ask(5, Write, 0, "a/b|v"), "OK|");
    bed.check();
}

/// A limit that was met inside a transaction left nodes without their parents' knowing.
#[test]
fn xsa_415_a_request_that_fails_in_a_transaction_changes_nothing_in_it() {
    let mut bed = Bed::new();
    limit(&mut bed, "nodes", 6);
    bed.start(5);
    let transaction = bed.begin(5);
    assert_eq!(bed.ask(5, Write, transaction, "a/b|"), "OK|");
    for _ in 0..3 {
        assert_eq!(bed.ask(5, Write, transaction, "c/d/e|"), "!ENOSPC");
        assert_eq!(bed.ask(5, Read, transaction, "c|"), "!ENOENT");
        assert_eq!(bed.ask(5, Directory, transaction, "/local/domain/5|"), "a|");
    }
    assert_eq!(bed.ask(5, Write, transaction, "c/d|"), "OK|");
    assert_eq!(bed.commit(5, transaction), "OK|");
    assert_eq!(bed.ask(0, Directory, 0, "/local/domain/5|"), "a|c|");
    assert_eq!(bed.ask(0, Directory, 0, "/local/domain/5/c|"), "d|");
    assert_eq!(account(&bed, 5).nodes, 5);
    bed.check();
}

/// A node that one transaction made and removed was half committed, and counted for ever.
#[test]
fn xsa_421_create_and_delete_in_one_transaction() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Write, 0, "old/x|");
    bed.ask(5, Watch, 0, "/local/domain/5|t|");
    bed.events(5);
    let before = account(&bed, 5);
    for _ in 0..20 {
        let transaction = bed.begin(5);
        bed.ask(5, Write, transaction, "new/a/b|v");
        bed.ask(5, Rm, transaction, "new|");
        bed.ask(5, Write, transaction, "new/a|w");
        bed.ask(5, Rm, transaction, "new/a|");
        bed.ask(5, Rm, transaction, "new|");
        bed.ask(5, Write, transaction, "old/y|");
        bed.ask(5, Rm, transaction, "old/y|");
        assert_eq!(bed.commit(5, transaction), "OK|");
        assert_eq!(account(&bed, 5), before);
    }
    assert!(bed.events(5).is_empty());
    let transaction = bed.begin(5);
    bed.ask(5, Write, transaction, "new/a|v");
    bed.ask(5, Rm, transaction, "old|");
    bed.ask(5, Rm, transaction, "new|");
    bed.ask(5, Write, transaction, "old/x|again");
    assert_eq!(bed.commit(5, transaction), "OK|");
    assert_eq!(bed.ask(5, Directory, 0, "/local/domain/5|"), "old|");
    assert_eq!(bed.ask(5, Read, 0, "old/x|"), "again");
    bed.check();
}

/// Two transactions that each removed fifty nodes made a count negative for a moment, and C xenstored asserted that it was not.
#[test]
fn xsa_440_two_transactions_remove_the_same_fifty_nodes() {
    let mut bed = Bed::new();
    bed.start(5);
    for number in 0..50 {
        bed.ask(5, Write, 0, &format!("d/{number}|"));
    }
    let (first, second) = (bed.begin(5), bed.begin(5));
    for transaction in [first, second] {
        for number in 0..50 {
            assert_eq!(bed.ask(5, Rm, transaction, &format!("d/{number}|")), "OK|");
        }
    }
    assert_eq!(bed.commit(5, first), "OK|");
    assert_eq!(account(&bed, 5).nodes, 2);
    // The count that the second one sees is negative now.
    assert_eq!(bed.ask(5, Write, second, "new|"), "OK|");
    let answer = bed.commit(5, second);
    assert!(["OK|", "!EAGAIN"].contains(&answer.as_str()), "{answer}");
    assert_eq!(bed.ask(5, Directory, 0, "/local/domain/5/d|"), "");
    bed.check();
    // Aborted ones, and those that a death ends, count nothing either.
    let (third, fourth) = (bed.begin(5), bed.begin(5));
    for transaction in [third, fourth] {
        bed.ask(5, Rm, transaction, "d|");
    }
    assert_eq!(bed.ask(5, TransactionEnd, third, "F|"), "OK|");
    bed.check();
    bed.domain_is(5, DomainState::ABSENT);
    bed.start(5);
    assert_eq!(account(&bed, 5).nodes, 1);
    bed.check();
}
