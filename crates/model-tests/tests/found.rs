//! What the model once found wrong in the server, each as short as it can be. (`Compare` holds everything that is known of both
//! against each other: nodes, what is charged to whom, and what an administrator is shown.)
#![forbid(unsafe_code)]

use model_tests::contest;
use model_tests::maker::ask;
use model_tests::model::{LIMITS, Settings};
use model_tests::step::{Step, Within};
use xenstore_wire::MessageType::{self, *};

fn same(steps: &[Step]) {
    let settings = Settings {
        features: 15,
        timeout: 20,
        limits: vec![0; LIMITS.len()],
        lists_changes: false,
        credit: false,
    };
    if let Err((index, difference)) = contest::run(&settings, steps) {
        panic!("step {index}: {difference}");
    }
}

fn inside(domid: u16, kind: MessageType, payload: &str) -> Step {
    match ask(domid, kind, payload) {
        Step::Request {
            domid,
            kind,
            payload,
            first,
            ..
        } => Step::Request {
            domid,
            within: Within::Open(0),
            kind,
            payload,
            first,
        },
        other => other,
    }
}

/// Its nodes were removed from the transaction's own view only, and fell to the next domain with its number.
#[test]
fn xsa_322_a_domain_released_inside_a_transaction_ends_in_the_store() {
    same(&[
        Step::Start { domid: 6 },
        ask(0, Watch, "/local/domain|x|"),
        ask(0, TransactionStart, "|"),
        inside(0, Release, "6|"),
        Step::Compare,
        inside(0, TransactionEnd, "F|"),
        Step::Compare,
    ]);
}

/// In C it is not linked to the request; here a client that did not take it could ask less.
#[test]
fn the_first_event_of_a_watch_does_not_keep_its_request_outstanding() {
    same(&[
        Step::Start { domid: 4 },
        Step::Room {
            domid: 4,
            bytes: Some(40),
        },
        ask(4, Watch, "@nothing|y|"),
        Step::Compare,
    ]);
}

#[test]
fn a_watch_on_a_relative_path_is_charged_like_one_on_the_same_absolute_path() {
    same(&[Step::Start { domid: 3 }, ask(3, Watch, "a/b/c|x|"), Step::Compare]);
}

/// A client that polls by writing the same node in a transaction paid for each time, until it was not heard any more.
#[test]
fn a_value_written_again_in_a_transaction_is_held_and_charged_once() {
    same(&[
        Step::Start { domid: 5 },
        ask(5, TransactionStart, "|"),
        inside(5, Write, "a|a long value that will be replaced"),
        inside(5, Write, "a|short"),
        Step::Compare,
    ]);
}

#[test]
fn the_nodes_of_a_new_server_count_as_the_most_so_far() {
    same(&[Step::Compare]);
}

/// Nothing leaves the queues while a log is replayed, so that all answers since the checkpoint seemed to wait at once.
#[test]
fn a_restart_makes_no_peaks_that_never_were() {
    let mut steps = vec![Step::Start { domid: 6 }];
    steps.extend((0..50).map(|_| ask(6, Read, "a|")));
    steps.extend([Step::Compare, Step::Restart]);
    same(&steps);
}

/// What counts for a commit's events is the store before and after, not what the transaction made and removed in between.
#[test]
fn who_could_only_have_seen_a_node_within_a_transaction_hears_nothing_of_it() {
    same(&[
        Step::Start { domid: 2 },
        ask(0, Mkdir, "/shared|"),
        ask(0, SetPerms, "/shared|b0|"),
        ask(2, Watch, "/shared|x|"),
        ask(0, TransactionStart, "|"),
        inside(0, Write, "/shared/a/b|v"),
        inside(0, Rm, "/shared|"),
        inside(0, Write, "/shared/a/b|w"),
        inside(0, TransactionEnd, "T|"),
        Step::Compare,
    ]);
}
