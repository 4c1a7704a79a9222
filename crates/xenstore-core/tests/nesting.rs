//! Children of transactions, which only users of the library have.

mod oracle;

use oracle::{DOM0, Host};
use xenstore_core::{ConnectionId, Input, NESTING_MAX, Nesting};
use xenstore_wire::MessageType::*;

fn step(host: &mut Host, transaction: u32, step: Nesting) -> bool {
    let connection = ConnectionId(DOM0);
    let record = host.take(Input::Nested {
        connection,
        transaction,
        step,
    });
    !record.changes.is_empty()
}

fn read(host: &mut Host, transaction: u32, path: &str) -> String {
    host.ask(DOM0, Read, transaction, &format!("{path}|")).reply
}

#[test]
fn a_child_sees_its_parent_and_becomes_part_of_it() {
    let mut host = Host::without_limits(1);
    let id = host.begin(DOM0);
    host.ask(DOM0, Write, id, "/a|parent");
    assert!(step(&mut host, id, Nesting::Begin));
    assert_eq!(read(&mut host, id, "/a"), "parent");
    host.ask(DOM0, Write, id, "/a|child");
    host.ask(DOM0, Write, id, "/b|child");
    assert!(step(&mut host, id, Nesting::Commit));
    assert_eq!(read(&mut host, id, "/a"), "child");
    assert_eq!(read(&mut host, 0, "/a"), "!ENOENT");
    assert_eq!(host.commit(DOM0, id), "OK|");
    assert_eq!(
        (read(&mut host, 0, "/a"), read(&mut host, 0, "/b")),
        ("child".into(), "child".into())
    );
}

#[test]
fn an_aborted_child_has_never_been() {
    let mut host = Host::without_limits(1);
    host.ask(DOM0, Write, 0, "/seen|");
    let id = host.begin(DOM0);
    host.ask(DOM0, Write, id, "/a|parent");
    assert!(step(&mut host, id, Nesting::Begin));
    host.ask(DOM0, Write, id, "/a|child");
    host.ask(DOM0, Rm, id, "/tool|");
    host.ask(DOM0, Write, id, "/b/c|child");
    assert_eq!(read(&mut host, id, "/seen"), "");
    assert!(step(&mut host, id, Nesting::Abort));
    assert_eq!(read(&mut host, id, "/a"), "parent");
    assert_eq!(read(&mut host, id, "/tool"), "");
    assert_eq!(read(&mut host, id, "/b"), "!ENOENT");
    // What only the child looked at may be another now.
    host.ask(DOM0, Write, 0, "/seen|changed");
    assert_eq!(host.commit(DOM0, id), "OK|");
    assert_eq!(host.ask(DOM0, Directory, 0, "/|").reply, "tool|seen|a|");
}

#[test]
fn children_survive_being_saved() {
    let mut host = Host::without_limits(1);
    let id = host.begin(DOM0);
    host.ask(DOM0, Write, id, "/a|parent");
    step(&mut host, id, Nesting::Begin);
    host.ask(DOM0, Write, id, "/a|child");
    step(&mut host, id, Nesting::Begin);
    host.ask(DOM0, Write, id, "/a|grandchild");
    host.save_and_restore();
    assert_eq!(read(&mut host, id, "/a"), "grandchild");
    step(&mut host, id, Nesting::Abort);
    assert_eq!(read(&mut host, id, "/a"), "child");
    step(&mut host, id, Nesting::Abort);
    assert_eq!(read(&mut host, id, "/a"), "parent");
    assert_eq!(host.commit(DOM0, id), "OK|");
    assert_eq!(host.server.roots().len(), 1);
}

#[test]
fn what_a_committed_child_observed_must_hold() {
    let mut host = Host::without_limits(1);
    let id = host.begin(DOM0);
    host.ask(DOM0, Write, id, "/a|parent");
    step(&mut host, id, Nesting::Begin);
    assert_eq!(read(&mut host, id, "/seen"), "!ENOENT");
    step(&mut host, id, Nesting::Commit);
    host.ask(DOM0, Write, 0, "/seen|");
    assert_eq!(host.commit(DOM0, id), "!EAGAIN");
}

#[test]
fn children_have_children_up_to_a_bound_and_end_innermost_first() {
    let mut host = Host::without_limits(1);
    let id = host.begin(DOM0);
    assert!(!step(&mut host, id, Nesting::Commit) && !step(&mut host, id, Nesting::Abort));
    for level in 0..NESTING_MAX {
        assert!(step(&mut host, id, Nesting::Begin));
        host.ask(DOM0, Write, id, &format!("/level|{level}"));
    }
    assert!(!step(&mut host, id, Nesting::Begin));
    assert_eq!(host.server.nesting(ConnectionId(DOM0), id), Some(NESTING_MAX));
    // The innermost goes, the next stays.
    step(&mut host, id, Nesting::Abort);
    step(&mut host, id, Nesting::Commit);
    assert_eq!(read(&mut host, id, "/level"), (NESTING_MAX - 2).to_string());
    for _ in 2..NESTING_MAX {
        assert!(step(&mut host, id, Nesting::Abort));
    }
    assert_eq!(read(&mut host, id, "/level"), "!ENOENT");
    assert!(!step(&mut host, 77, Nesting::Begin));
}

#[test]
fn the_end_of_a_transaction_ends_its_children() {
    let mut host = Host::without_limits(1);
    for (how, expected) in [("F|", "!ENOENT"), ("T|", "child")] {
        let id = host.begin(DOM0);
        step(&mut host, id, Nesting::Begin);
        step(&mut host, id, Nesting::Begin);
        host.ask(DOM0, Write, id, "/a|child");
        assert_eq!(host.ask(DOM0, TransactionEnd, id, how).reply, "OK|");
        assert_eq!(read(&mut host, 0, "/a"), expected);
    }
    // Nothing is held any more: no memory is charged, and the tree has one state.
    let (_, domain) = host.server.domains().next().unwrap();
    assert_eq!(domain.account.transaction_bytes, 0);
    assert_eq!(host.server.roots().len(), 1);
}
