//! Commits by name: what conflicts, and what does not.

mod oracle;

use oracle::{DOM0, Host};
use xenstore_wire::MessageType::*;

/// dom0 and two guests, who may both write below `/s`; guest 1 may write at the root, too.
fn host() -> Host {
    let mut host = Host::without_limits(3);
    host.ask(DOM0, SetPerms, 0, "/|n0|w1|");
    host.ask(DOM0, Mkdir, 0, "/s|");
    host.ask(DOM0, SetPerms, 0, "/s|b0|");
    host
}

const ONE: u32 = DOM0 + 1;
const TWO: u32 = DOM0 + 2;

#[test]
fn two_transactions_that_make_the_same_missing_parents_both_succeed() {
    let mut host = host();
    let (first, second) = (host.begin(DOM0), host.begin(ONE));
    assert_eq!(host.ask(DOM0, Write, first, "/s/a/b/one|1").reply, "OK|");
    assert_eq!(host.ask(ONE, Write, second, "/s/a/b/two|2").reply, "OK|");
    assert_eq!(host.commit(ONE, second), "OK|");
    assert_eq!(host.commit(DOM0, first), "OK|");
    assert_eq!(host.ask(DOM0, Directory, 0, "/s/a/b|").reply, "two|one|");
    // They belong to who made them first.
    assert_eq!(host.ask(DOM0, GetPerms, 0, "/s/a|").reply, "b1|");
}

#[test]
fn siblings_do_not_conflict() {
    let mut host = host();
    let (first, second) = (host.begin(ONE), host.begin(TWO));
    host.ask(ONE, Mkdir, first, "/s/one|");
    host.ask(TWO, Mkdir, second, "/s/two|");
    host.ask(DOM0, Write, 0, "/s/three|");
    assert_eq!(host.commit(TWO, second), "OK|");
    assert_eq!(host.commit(ONE, first), "OK|");
    assert_eq!(host.ask(DOM0, Directory, 0, "/s|").reply, "three|two|one|");
}

/// Found by comparing with C xenstored (seed 139): the node would have had other permissions than the transaction saw.
#[test]
fn permissions_that_a_transaction_saw_on_its_own_node_are_those_it_gets() {
    let mut host = host();
    let open = host.begin(DOM0);
    host.ask(DOM0, Write, open, "/s/a/b|");
    assert_eq!(host.ask(DOM0, GetPerms, open, "/s/a/b|").reply, "b0|");
    host.ask(DOM0, SetPerms, 0, "/s|n0|r2|");
    assert_eq!(host.commit(DOM0, open), "!EAGAIN");
}

#[test]
fn what_a_guest_found_hidden_below_its_own_removal_is_found_hidden_again() {
    let mut host = host();
    host.ask(DOM0, Write, 0, "/s/a/b|");
    host.ask(DOM0, SetPerms, 0, "/s/a|n1|");
    host.ask(DOM0, SetPerms, 0, "/s/a/b|n1|");
    let open = host.begin(ONE);
    assert_eq!(host.ask(ONE, Rm, open, "/s/a|").reply, "OK|");
    // Not there, and the guest may know, because it may read the node above what it removed.
    assert_eq!(host.ask(ONE, Read, open, "/s/a/b|").reply, "!ENOENT");
    host.ask(DOM0, SetPerms, 0, "/s|w0|");
    assert_eq!(host.commit(ONE, open), "!EAGAIN");
}

#[test]
fn the_root_that_could_not_be_removed_may_not_become_forbidden_meanwhile() {
    let mut host = host();
    let open = host.begin(ONE);
    assert_eq!(host.ask(ONE, Rm, open, "/|").reply, "!EINVAL");
    host.ask(ONE, Write, open, "/s/a|");
    host.ask(DOM0, SetPerms, 0, "/|n0|");
    assert_eq!(host.commit(ONE, open), "!EAGAIN");
}

#[test]
fn a_directory_that_was_removed_by_others_is_not_made_again_by_a_commit() {
    let mut host = host();
    host.ask(DOM0, Mkdir, 0, "/s/domain|");
    let open = host.begin(ONE);
    host.ask(ONE, Write, open, "/s/domain/state|");
    host.ask(DOM0, Rm, 0, "/s/domain|");
    assert_eq!(host.commit(ONE, open), "!EAGAIN");
}

#[test]
fn a_node_that_is_gone_either_way_is_no_conflict() {
    let mut host = host();
    host.ask(DOM0, Write, 0, "/s/old|");
    let open = host.begin(DOM0);
    assert_eq!(host.ask(DOM0, Rm, open, "/s/old|").reply, "OK|");
    assert_eq!(host.ask(DOM0, Rm, open, "/s/new|").reply, "OK|");
    host.ask(DOM0, Rm, 0, "/s/old|");
    host.ask(DOM0, Write, 0, "/s/new|");
    assert_eq!(host.commit(DOM0, open), "OK|");
    assert_eq!(host.ask(DOM0, Directory, 0, "/s|").reply, "");
}

#[test]
fn who_is_given_other_rights_in_a_transaction_begins_it_again() {
    let mut host = host();
    host.ask(DOM0, Write, 0, "/s/secret|");
    host.ask(DOM0, SetPerms, 0, "/s/secret|n2|");
    let open = host.begin(ONE);
    assert_eq!(host.ask(ONE, Read, open, "/s/secret|").reply, "!EACCES");
    host.ask(ONE, Write, open, "/s/none|");
    host.ask(DOM0, SetTarget, 0, "1|2|");
    assert_eq!(host.commit(ONE, open), "!EAGAIN");
}

/// 128 clients, each with 500 transactions that read one path that all read and write paths of their own.
#[test]
fn readers_of_one_path_that_write_their_own_never_conflict() {
    const CLIENTS: u16 = 128;
    const ROUNDS: u32 = 500;
    let mut host = Host::without_limits(CLIENTS);
    host.ask(DOM0, Write, 0, "/common|shared");
    host.ask(DOM0, SetPerms, 0, "/common|r0|");
    for domid in 1..=CLIENTS {
        let home = format!("/local/domain/{domid}|");
        host.ask(DOM0, Mkdir, 0, &home);
        host.ask(DOM0, SetPerms, 0, &format!("{home}n{domid}|"));
    }
    let mut lost = 0;
    for round in 0..ROUNDS {
        // All are open at once; they end in another order than they began.
        let open: Vec<(u32, u32)> = (1..=u32::from(CLIENTS))
            .map(|domid| (DOM0 + domid, host.begin(DOM0 + domid)))
            .collect();
        for (client, id) in &open {
            assert_eq!(host.ask(*client, Read, *id, "/common|").reply, "shared");
            host.ask(*client, Write, *id, &format!("data/state|{round}"));
            host.ask(*client, Write, *id, &format!("data/{}|x", round % 8));
        }
        let mut ends = open;
        ends.reverse();
        ends.rotate_left(round as usize % usize::from(CLIENTS));
        for (client, id) in ends {
            lost += u32::from(host.commit(client, id) != "OK|");
        }
    }
    assert_eq!(lost, 0);
    for domid in 1..=CLIENTS {
        let state = format!("/local/domain/{domid}/data/state|");
        assert_eq!(host.ask(DOM0, Read, 0, &state).reply, (ROUNDS - 1).to_string());
    }
}
