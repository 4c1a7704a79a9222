//! What Xen 4.21 and 4.22 added to the wire: features and quotas of domains, watches of limited depth, permissions for everybody.

use crate::bed::Bed;
use xenstore_core::{Configuration, DomainState};
use xenstore_ring::{SharedPage, offset};
use xenstore_wire::MessageType::{
    GetFeature, GetPerms, GetQuota, Introduce, Mkdir, Read, SetFeature, SetPerms, SetQuota, Watch, Write,
};

/// All four features, as the kernel offers them.
fn bed() -> Bed {
    let configuration = Configuration {
        features: 15,
        ..Configuration::default()
    };
    Bed::with(configuration, 8 << 20)
}

#[test]
fn everybody_may_ask_for_the_own_features_and_the_privileged_for_those_of_others() {
    let mut bed = bed();
    bed.start(5);
    assert_eq!(bed.ask(5, GetFeature, 0, ""), "15|");
    assert_eq!(bed.ask(5, GetFeature, 0, "0|"), "!EACCES");
    assert_eq!(bed.ask(0, GetFeature, 0, ""), "15|");
    assert_eq!(bed.ask(0, GetFeature, 0, "5|"), "15|");
    assert_eq!(bed.ask(0, GetFeature, 0, "5|6|"), "!EINVAL");
    assert_eq!(bed.ask(0, GetFeature, 0, "x|"), "!EINVAL");
    assert_eq!(bed.ask(0, GetFeature, 0, "77|"), "!ENOENT");
}

#[test]
fn a_domain_shows_only_the_features_that_it_was_left() {
    let mut bed = bed();
    bed.build(5);
    assert_eq!(bed.ask(0, SetFeature, 0, "5|16|"), "!EINVAL");
    assert_eq!(bed.ask(0, SetFeature, 0, "5|"), "!EINVAL");
    assert_eq!(bed.ask(0, SetFeature, 0, "6|2|"), "!ENOENT");
    assert_eq!(bed.ask(0, SetFeature, 0, "5|2|"), "OK|");
    assert_eq!(bed.ask(0, Introduce, 0, "5|1|1|"), "OK|");
    assert_eq!(bed.guests[&5].page.load(offset::SERVER_FEATURES), 2);
    assert_eq!(bed.ask(0, SetFeature, 0, "5|3|"), "!EBUSY");
    assert_eq!(bed.ask(0, GetFeature, 0, "5|"), "2|");
    bed.restart();
    bed.settle();
    assert_eq!(bed.ask(5, GetFeature, 0, ""), "2|");
    // Neither a depth nor a permission for everybody is understood from it.
    bed.ask(0, Mkdir, 0, "/local/domain/5|");
    bed.ask(0, SetPerms, 0, "/local/domain/5|n5|");
    assert_eq!(bed.ask(5, Watch, 0, "x|t|1|"), "!EINVAL");
    bed.ask(5, Write, 0, "x|");
    assert_eq!(bed.ask(5, SetPerms, 0, "x|n5|r32757|"), "OK|");
    bed.start(6);
    assert_eq!(bed.ask(6, Read, 0, "/local/domain/5/x|"), "!EACCES");
}

#[test]
fn quotas_are_named_asked_for_and_set_for_all_later_or_for_one_now() {
    let mut bed = bed();
    bed.start(5);
    assert_eq!(
        bed.ask(0, GetQuota, 0, ""),
        "nodes watches outstanding memory soft-memory transactions transaction-nodes node-permissions path-max node-size|"
    );
    assert_eq!(bed.ask(0, GetQuota, 0, "nodes|"), "1000|");
    assert_eq!(bed.ask(0, GetQuota, 0, "soft-nodes|"), "!EINVAL");
    assert_eq!(bed.ask(0, GetQuota, 0, "5|nodes|x|"), "!EINVAL");
    assert_eq!(bed.ask(0, GetQuota, 0, "77|nodes|"), "!ENOENT");
    assert_eq!(bed.ask(5, GetQuota, 0, "nodes|"), "!EACCES");
    assert_eq!(bed.ask(5, SetQuota, 0, "nodes|5000|"), "!EACCES");

    // Its home and three nodes: one below the limit of five.
    assert_eq!(bed.ask(0, SetQuota, 0, "5|nodes|5|"), "OK|");
    for name in ["a", "b", "c"] {
        assert_eq!(bed.ask(5, Write, 0, &format!("{name}|")), "OK|");
    }
    assert_eq!(bed.ask(5, Write, 0, "d|"), "!ENOSPC");
    assert_eq!(bed.ask(0, SetQuota, 0, "nodes|7|"), "OK|");
    assert_eq!(bed.ask(5, Write, 0, "d|"), "!ENOSPC");
    assert_eq!(bed.ask(0, GetQuota, 0, "5|nodes|"), "5|");
    bed.start(6);
    assert_eq!(bed.ask(0, GetQuota, 0, "6|nodes|"), "7|");
    bed.restart();
    bed.settle();
    assert_eq!(bed.ask(0, GetQuota, 0, "5|nodes|"), "5|");
    // 0 is no limit, and what C keeps for "no such limit" is refused.
    assert_eq!(bed.ask(0, SetQuota, 0, "5|nodes|0|"), "OK|");
    assert_eq!(bed.ask(5, Write, 0, "d|"), "OK|");
    assert_eq!(bed.ask(0, SetQuota, 0, "5|nodes|-1|"), "!EINVAL");
    assert_eq!(bed.ask(0, SetQuota, 0, "nodes|"), "!EINVAL");
    bed.check();
}

#[test]
fn a_domain_that_is_not_introduced_yet_can_be_given_its_limits() {
    let mut bed = bed();
    bed.host.domains.borrow_mut().insert(5, DomainState::ALIVE);
    assert_eq!(bed.ask(0, SetQuota, 0, "5|watches|3|"), "OK|");
    bed.start(5);
    assert_eq!(bed.ask(0, GetQuota, 0, "5|watches|"), "3|");
}

#[test]
fn a_watch_of_depth_one_sees_children_and_not_their_children() {
    let mut bed = bed();
    bed.start(5);
    bed.ask(5, Write, 0, "a/b/c|");
    assert_eq!(bed.ask(5, Watch, 0, "a|none|0|"), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, "a|one|1|"), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, "a|all|"), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, "a|bad|-1|"), "!EINVAL");
    bed.events(5);
    bed.ask(0, Write, 0, "/local/domain/5/a/b/c|x");
    assert_eq!(bed.events(5), ["a/b/c all"]);
    bed.ask(0, Write, 0, "/local/domain/5/a/b|x");
    let mut events = bed.events(5);
    events.sort();
    assert_eq!(events, ["a/b all", "a/b one"]);
    bed.ask(0, Write, 0, "/local/domain/5/a|x");
    assert_eq!(bed.events(5).len(), 3);
}

#[test]
fn a_permission_for_everybody_is_for_everybody() {
    let mut bed = bed();
    bed.start(5);
    bed.start(6);
    bed.ask(5, Write, 0, "x|shown");
    assert_eq!(bed.ask(6, Read, 0, "/local/domain/5/x|"), "!EACCES");
    assert_eq!(bed.ask(5, SetPerms, 0, "x|n5|r32757|"), "OK|");
    assert_eq!(bed.ask(6, Read, 0, "/local/domain/5/x|"), "shown");
    assert_eq!(bed.ask(6, Write, 0, "/local/domain/5/x|"), "!EACCES");
    // The first entry that fits counts.
    assert_eq!(bed.ask(5, SetPerms, 0, "x|n5|n6|r32757|"), "OK|");
    assert_eq!(bed.ask(6, Read, 0, "/local/domain/5/x|"), "!EACCES");
    bed.domain_is(6, DomainState::ABSENT);
    assert_eq!(bed.ask(0, GetPerms, 0, "/local/domain/5/x|"), "n5|r32757|");
    bed.check();
}

#[test]
fn other_permissions_of_a_special_node_are_told_to_its_watches() {
    let mut bed = bed();
    bed.start(5);
    bed.start(6);
    for watch in [
        "@releaseDomain|plain|",
        "@releaseDomain|none|0|",
        "@releaseDomain/6|six|",
        "/|root|",
    ] {
        assert_eq!(bed.ask(5, Watch, 0, watch), "OK|");
    }
    assert_eq!(bed.ask(6, Watch, 0, "@introduceDomain|other|"), "OK|");
    assert_eq!(bed.ask(0, Watch, 0, "@releaseDomain|own|"), "OK|");
    for domid in [0, 5, 6] {
        bed.events(domid);
    }
    // Domain 5 loses its right, and is told of that. (`ask` would drop what dom0 itself is told.)
    bed.send(0, SetPerms, 0, "@releaseDomain|n0|r6|");
    assert_eq!(bed.events(0), ["@releaseDomain own"]);
    assert_eq!(bed.events(5), ["@releaseDomain plain", "@releaseDomain none"]);
    assert_eq!(bed.events(6), [""; 0]);
    assert_eq!(bed.ask(0, SetPerms, 0, "@releaseDomain|n0|"), "OK|");
    assert_eq!(bed.events(5), [""; 0]);
    // And whoever gets it.
    assert_eq!(bed.ask(0, SetPerms, 0, "@releaseDomain|n0|r5|"), "OK|");
    assert_eq!(bed.events(5), ["@releaseDomain plain", "@releaseDomain none"]);
    // It is no node below the root.
    assert_eq!(bed.ask(0, SetPerms, 0, "/|r0|"), "OK|");
    assert_eq!(bed.events(5), ["/ root"]);
    bed.check();
}
