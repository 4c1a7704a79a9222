//! Domains that come, end and come again, and what the log says of those that do not behave.

use crate::bed::Bed;
use xenstore_core::{Configuration, DomainState};
use xenstore_wire::DomId;
use xenstore_wire::MessageType::{
    Control, Directory, GetPerms, Introduce, IsDomainIntroduced, Read, Release, Resume, SetPerms, Watch, Write,
};

const SHUT_DOWN: DomainState = DomainState {
    shutdown: true,
    ..DomainState::ALIVE
};

#[test]
fn a_dead_domain_leaves_nothing_and_is_told_once() {
    let mut bed = Bed::new();
    bed.ask(0, Watch, 0, "@releaseDomain|gone|");
    bed.ask(0, Watch, 0, "@introduceDomain|new|");
    bed.events(0);
    bed.build(5);
    bed.send(0, Introduce, 0, "5|1|1|");
    assert_eq!(bed.events(0), ["@introduceDomain new"]);
    bed.ask(0, Write, 0, "/local/domain/5|");
    bed.ask(0, SetPerms, 0, "/local/domain/5|n5|");
    bed.ask(5, Write, 0, "data/x|");
    bed.ask(0, SetPerms, 0, "/tool|n0|r5|");
    bed.domain_is(5, SHUT_DOWN);
    assert_eq!(bed.events(0), ["@releaseDomain gone"]);
    bed.domain_is(5, SHUT_DOWN);
    assert!(bed.events(0).is_empty());
    bed.domain_is(5, DomainState::ABSENT);
    assert_eq!(bed.events(0), ["@releaseDomain gone"]);
    assert!(bed.host.mapped.borrow().is_empty());
    assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
    assert_eq!(bed.ask(0, GetPerms, 0, "/tool|"), "n0|");
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "5|"), "F|");
    // XSA-322, XSA-483: the next domain with its number starts from nothing.
    bed.start(5);
    assert_eq!(bed.ask(5, Read, 0, "/tool|"), "!EACCES");
    assert!(
        bed.ask(0, Control, 0, "quota|5|")
            .contains("nodes            :        1")
    );
    bed.check();
}

#[test]
fn release_ends_a_domains_connection_and_resume_lets_its_end_be_told_again() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(0, Watch, 0, "@releaseDomain|gone|");
    bed.domain_is(5, SHUT_DOWN);
    bed.events(0);
    assert_eq!(bed.ask(0, Resume, 0, "5|"), "OK|");
    bed.domain_is(5, SHUT_DOWN);
    assert_eq!(bed.events(0), ["@releaseDomain gone"]);
    bed.send(0, Release, 0, "5|");
    assert_eq!(bed.events(0), ["@releaseDomain gone"]);
    assert_eq!(bed.ask(0, Release, 0, "5|"), "!ENOENT");
    assert!(bed.host.mapped.borrow().is_empty());
    bed.check();
}

#[test]
fn where_changes_are_listed_only_the_changed_are_looked_at_and_all_after_a_restart() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.host.lists_changes.set(true);
    bed.host.asked.borrow_mut().clear();
    bed.domain_is(6, DomainState::ABSENT);
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "6|"), "F|");
    assert!(bed.host.asked.borrow().is_empty(), "{:?}", bed.host.asked.borrow());
    // The life that ended was told of this and did nothing yet.
    bed.host.domains.borrow_mut().insert(5, DomainState::ABSENT);
    bed.restart();
    bed.settle();
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "5|"), "F|");
}

#[test]
fn a_domain_that_comes_back_under_its_number_between_two_looks_is_another_one() {
    let mut bed = Bed::new();
    let numbered = |unique| DomainState {
        unique_id: Some(unique),
        ..DomainState::ALIVE
    };
    bed.start_as(5, numbered(1));
    bed.ask(0, Watch, 0, "@releaseDomain|gone|");
    bed.events(0);
    bed.domain_is(5, numbered(2));
    assert_eq!(bed.events(0), ["@releaseDomain gone"]);
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "5|"), "F|");
    assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
}

#[test]
fn a_refusal_is_logged_with_the_limit_that_was_met() {
    let mut configuration = Configuration::default();
    configuration.quotas.set(xenstore_core::Limit::Watches, 3);
    let mut bed = Bed::with(configuration, 8 << 20);
    bed.start(5);
    for token in ["a", "b"] {
        assert_eq!(bed.ask(5, Watch, 0, &format!("x|{token}|")), "OK|");
    }
    assert_eq!(bed.ask(5, Watch, 0, "x|c|"), "!ENOSPC");
    let line = "domain 5: WATCH refused, domain 5 has reached its limit watches of 3";
    assert!(
        bed.host.log.borrow().iter().any(|said| said == line),
        "{:?}",
        bed.host.log.borrow()
    );
}

#[test]
fn a_guest_cannot_flood_the_log_nor_silence_what_others_cause() {
    let mut configuration = Configuration::default();
    configuration.quotas.set(xenstore_core::Limit::NodeSize, 10);
    let mut bed = Bed::with(configuration, 8 << 20);
    bed.start(5);
    bed.start(6);
    for _ in 0..200 {
        assert_eq!(bed.ask(5, Write, 0, "x|much longer than that"), "!ENOSPC");
    }
    assert_eq!(bed.ask(6, Write, 0, "x|much longer than that"), "!ENOSPC");
    bed.host.now.set(bed.host.now.get() + 11_000_000_000);
    bed.settle();
    let log = bed.host.log.borrow();
    let of = |start: &str| log.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(of("domain 5: WRITE refused"), 20);
    assert_eq!(of("domain 6: WRITE refused"), 1);
    assert_eq!(of("domain 5: 180 further lines left out"), 1, "{log:?}");
}

/// `--priv-domid`: a host whose toolstack is not in domain 0.
#[test]
fn where_another_domain_has_the_toolstack_domain_0_is_an_ordinary_one() {
    let configuration = Configuration {
        privileged: DomId(7),
        ..Configuration::default()
    };
    let mut bed = Bed::with(configuration, 8 << 20);
    bed.ask(7, Watch, 0, "@introduceDomain|new|");
    bed.events(7);
    bed.build(0);
    bed.send(7, Introduce, 0, "0|1|1|");
    assert_eq!(bed.events(7), ["@introduceDomain new"]);
    assert_eq!(bed.ask(7, Write, 0, "/local/domain/0/name|Domain-0"), "OK|");
    assert_eq!(bed.ask(7, GetPerms, 0, "/local/domain/0/name|"), "n7|");

    assert_eq!(bed.ask(0, Read, 0, "/local/domain/0/name|"), "!EACCES");
    assert_eq!(bed.ask(0, Write, 0, "/tool/x|1"), "!EACCES");
    assert_eq!(bed.ask(0, Introduce, 0, "9|1|1|"), "!EACCES");
    assert_eq!(bed.ask(0, Control, 0, "print|x|"), "!EACCES");
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "7|"), "!EACCES");
    assert_eq!(bed.ask(7, SetPerms, 0, "/local/domain/0|n0|"), "OK|");
    assert_eq!(bed.ask(0, Write, 0, "own|1"), "OK|");

    // The one that must not be released is the one with the toolstack.
    assert_eq!(bed.ask(7, Release, 0, "7|"), "!EINVAL");
    bed.domain_is(0, DomainState::ABSENT);
    assert_eq!(bed.ask(7, IsDomainIntroduced, 0, "0|"), "F|");
    assert_eq!(bed.ask(7, Directory, 0, "/local/domain|"), "");
}

/// A driver domain owns its backends: what it writes there its frontends may read, and its end takes all of it away.
#[test]
fn a_driver_domain_serves_another_guest_and_both_can_end() {
    let mut bed = Bed::new();
    bed.start(3);
    bed.start(4);
    for made in [
        "/local/domain/3/backend/vbd/4/51712|n3|r4|",
        "/local/domain/4/device/vbd/51712|n4|r3|",
    ] {
        let path = made.split('|').next().unwrap();
        bed.ask(0, Write, 0, &format!("{path}|"));
        assert_eq!(bed.ask(0, SetPerms, 0, made), "OK|");
    }
    bed.ask(3, Watch, 0, "backend|b|");
    bed.events(3);
    bed.ask(4, Watch, 0, "/local/domain/3/backend/vbd/4/51712/state|s|");
    bed.events(4);
    assert_eq!(bed.ask(3, Write, 0, "backend/vbd/4/51712/state|2"), "OK|");
    assert_eq!(bed.events(4), ["/local/domain/3/backend/vbd/4/51712/state s"]);
    assert_eq!(bed.ask(4, Read, 0, "/local/domain/3/backend/vbd/4/51712/state|"), "2");
    assert_eq!(
        bed.ask(4, Write, 0, "/local/domain/3/backend/vbd/4/51712/state|6"),
        "!EACCES"
    );
    assert_eq!(bed.ask(4, Write, 0, "device/vbd/51712/state|4"), "OK|");
    assert_eq!(bed.ask(3, Read, 0, "/local/domain/4/device/vbd/51712/state|"), "4");
    bed.domain_is(3, DomainState::ABSENT);
    assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "4|");
    // The right that was given to the dead one is gone.
    assert_eq!(bed.ask(0, GetPerms, 0, "/local/domain/4/device/vbd/51712|"), "n4|");
    bed.domain_is(4, DomainState::ABSENT);
    assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
    bed.check();
}

#[test]
fn a_guest_that_is_given_up_again_and_again_does_not_fill_the_log() {
    let mut bed = Bed::new();
    bed.start(5);
    for _ in 0..100 {
        bed.send_raw(5, 2, 0, &[0; 4097]);
        bed.settle();
        bed.reconnect(5);
    }
    let log = bed.host.log.borrow();
    let told = log.iter().filter(|line| line.contains("is ignored")).count();
    assert_eq!(told, 20, "{log:?}");
}

#[test]
fn a_guest_that_takes_all_the_room_it_can_get_leaves_room_for_the_others() {
    let mut bed = Bed::with(Configuration::default(), 3456 * 1024);
    bed.start(5);
    bed.start(6);
    let value = "v".repeat(1900);
    let mut taken = 0;
    while bed.ask(5, Write, 0, &format!("x/{}/{taken}|{value}", taken / 100)) == "OK|" {
        taken += 1;
        assert!(taken < 1000, "its own limits come first");
    }
    assert!(taken > 120, "{taken} values");
    let told = |line: &String| line.starts_with("domain 5: WRITE refused, the store has ");
    assert!(bed.host.log.borrow().iter().any(told));
    for number in 0..50 {
        assert_eq!(
            bed.ask(6, Write, 0, &format!("x/{number}|{value}")),
            "OK|",
            "value {number}"
        );
    }
    // What it had becomes room again soon after its end, though checkpoints still hold the tree of before.
    bed.domain_is(5, DomainState::ABSENT);
    let mut rounds = 0;
    while bed.service().server().tree().room() < bed.service().server().tree().capacity() / 4 {
        assert_eq!(bed.ask(6, Write, 0, &format!("y|{rounds}")), "OK|");
        rounds += 1;
        assert!(rounds < 1000, "room: {}", bed.service().server().tree().room());
    }
    bed.check();
}
