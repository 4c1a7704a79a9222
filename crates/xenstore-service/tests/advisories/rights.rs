//! Who may see and do what, and who it is.

use xenstore_core::DomainState;
use xenstore_wire::MessageType::{
    Control, Directory, DirectoryPart, GetPerms, Introduce, IsDomainIntroduced, Mkdir, Read, Rm, SetPerms, Unwatch,
    Watch, Write,
};

use crate::bed::Bed;

/// A watch on `/` told everything to everybody.
#[test]
fn xsa_115_a_watch_tells_only_what_its_owner_may_see() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Watch, 0, "/|root|");
    bed.ask(5, Watch, 0, "x|mine|");
    bed.ask(0, Write, 0, "/secret|");
    bed.ask(0, Write, 0, "/local/domain/5/x|");
    assert_eq!(bed.events(5), ["/local/domain/5/x root", "x mine"]);
    let transaction = bed.begin(0);
    bed.ask(0, Write, transaction, "/secret|");
    bed.ask(0, Rm, transaction, "/tool|");
    assert_eq!(bed.commit(0, transaction), "OK|");
    assert!(bed.events(5).is_empty());
}

/// A guest learns that it lost a right: what it could see before counts, too. What happens then is not told.
#[test]
fn xsa_115_losing_access_is_told_and_nothing_after_it() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(0, Write, 0, "/d/x|");
    bed.ask(0, SetPerms, 0, "/d/x|n0|r5|");
    bed.ask(5, Watch, 0, "/d/x|t|");
    bed.events(5);
    bed.send(0, SetPerms, 0, "/d/x|n0|");
    assert_eq!(bed.events(5), ["/d/x t"]);
    bed.send(0, Write, 0, "/d/x|2");
    bed.send(0, Rm, 0, "/d/x|");
    assert!(bed.events(5).is_empty());
}

/// Watches on special names had no permissions at all.
#[test]
fn xsa_115_special_watches_obey_the_permissions_of_their_names() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Watch, 0, "@introduceDomain|new|");
    bed.events(5);
    bed.start(6);
    assert!(bed.events(5).is_empty(), "who comes is not for everybody");
    assert_eq!(bed.ask(5, SetPerms, 0, "@introduceDomain|n5|"), "!EACCES");
    assert_eq!(bed.ask(0, SetPerms, 0, "@introduceDomain|n0|r5|"), "OK|");
    // Of the change itself those are told who may read it now.
    assert_eq!(bed.events(5), ["@introduceDomain new"]);
    bed.start(7);
    assert_eq!(bed.events(5), ["@introduceDomain new"]);
}

/// A transaction id on WATCH put the watch into a snapshot. And whether another domain is there was told to anybody.
#[test]
fn xsa_115_watches_are_outside_of_transactions_and_other_domains_are_none_of_a_guests_business() {
    let mut bed = Bed::new();
    bed.start(5);
    let transaction = bed.begin(5);
    assert_eq!(bed.ask(5, Watch, transaction, "x|in|"), "OK|");
    assert_eq!(bed.ask(5, Watch, 999, "x|none|"), "OK|");
    bed.events(5);
    bed.ask(0, Write, 0, "/local/domain/5/x|");
    assert_eq!(bed.events(5), ["x in", "x none"]);
    assert_eq!(bed.ask(5, Unwatch, 998, "x|none|"), "OK|");
    assert_eq!(bed.ask(5, IsDomainIntroduced, 0, "5|"), "!EACCES");
    assert_eq!(bed.ask(5, IsDomainIntroduced, 0, "0|"), "!EACCES");
}

/// The next domain with the number of a dead one had its rights.
#[test]
fn xsa_322_a_new_domain_inherits_no_right_of_an_old_one() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.ask(0, Write, 0, "/for/five|secret");
    bed.ask(0, SetPerms, 0, "/for/five|n0|r5|b6|");
    bed.ask(0, SetPerms, 0, "@introduceDomain|n0|r5|");
    assert_eq!(bed.ask(5, Read, 0, "/for/five|"), "secret");
    let (kept, dropped) = (bed.begin(6), bed.begin(0));
    bed.ask(6, Write, kept, "x|1");
    bed.ask(0, SetPerms, dropped, "/tool|n0|b5|");
    bed.domain_is(5, DomainState::ABSENT);
    assert_eq!(bed.ask(0, GetPerms, 0, "/for/five|"), "n0|b6|");
    // What would give the dead one a right does not happen; what others do goes on.
    assert_eq!(bed.commit(0, dropped), "!EAGAIN");
    assert_eq!(bed.commit(6, kept), "OK|");
    bed.start(5);
    assert_eq!(bed.ask(5, Read, 0, "/for/five|"), "!EACCES");
    assert_eq!(bed.ask(5, Write, 0, "/tool|"), "!EACCES");
    bed.ask(5, Watch, 0, "@introduceDomain|new|");
    bed.events(5);
    bed.start(7);
    assert!(bed.events(5).is_empty());
    assert_eq!(bed.ask(6, Read, 0, "/for/five|"), "secret");
    bed.check();
}

/// A guest gave its nodes to others: they paid for them, and dom0 without limit.
#[test]
fn xsa_352_a_guest_cannot_give_a_node_away() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.ask(5, Write, 0, "x|");
    for owner in [0, 6] {
        assert_eq!(bed.ask(5, SetPerms, 0, &format!("x|n{owner}|b5|")), "!EPERM");
        let transaction = bed.begin(5);
        assert_eq!(bed.ask(5, SetPerms, transaction, &format!("x|n{owner}|b5|")), "!EPERM");
        bed.commit(5, transaction);
    }
    assert_eq!(bed.ask(0, GetPerms, 0, "/local/domain/5/x|"), "n5|");
    // The privileged domain may, and the account goes with the node.
    assert_eq!(bed.ask(0, SetPerms, 0, "/local/domain/5/x|n6|"), "OK|");
    for domid in [5, 6] {
        let nodes = 1 + u32::from(domid == 6);
        let line = format!("nodes            : {nodes:8}");
        assert!(bed.ask(0, Control, 0, &format!("quota|{domid}|")).contains(&line));
    }
    bed.check();
}

/// oxenstored did not ask the root for permissions.
#[test]
fn xsa_353_the_root_is_a_node_like_any_other() {
    let mut bed = Bed::new();
    bed.start(5);
    for (kind, payload) in [
        (Read, "/|"),
        (Directory, "/|"),
        (DirectoryPart, "/|0|"),
        (GetPerms, "/|"),
        (Write, "/|x"),
        (Mkdir, "/|"),
        (Rm, "/|"),
        (SetPerms, "/|n5|"),
        (SetPerms, "/|b0|"),
        (Mkdir, "/new|"),
    ] {
        assert_eq!(bed.ask(5, kind, 0, payload), "!EACCES", "{kind:?} {payload}");
    }
    assert_eq!(bed.ask(0, GetPerms, 0, "/|"), "n0|");
    bed.ask(0, SetPerms, 0, "/|n0|r5|");
    assert_eq!(bed.ask(5, Directory, 0, "/|"), "tool|local|");
    assert_eq!(bed.ask(5, Mkdir, 0, "/new|"), "!EACCES");
    bed.check();
}

/// A permission for a number that nobody had was a permission for the next domain with it.
#[test]
fn xsa_417_a_right_for_nobody_is_nobodys_right() {
    let mut bed = Bed::new();
    bed.ask(0, Write, 0, "/x|secret");
    assert_eq!(bed.ask(0, SetPerms, 0, "/x|n77|"), "!ENOENT");
    assert_eq!(bed.ask(0, SetPerms, 0, "/x|n0|b77|"), "OK|");
    bed.build(77);
    assert_eq!(bed.ask(0, Introduce, 0, "77|1|1|"), "OK|");
    assert_eq!(bed.ask(77, Read, 0, "/x|"), "!EACCES");
    assert_eq!(bed.ask(77, Write, 0, "/x|v"), "!EACCES");
    // Given again to the domain that is there now, it counts.
    assert_eq!(bed.ask(0, SetPerms, 0, "/x|n0|r77|"), "OK|");
    assert_eq!(bed.ask(77, Read, 0, "/x|"), "secret");
}
