//! Domains that come, end and come again, and what the log says of those that do not behave.

mod bed;

use bed::Bed;
use xenstore_core::{Configuration, DomainState};
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
    bed.host.now.set(bed.host.now.get() + 2_000_000_000);
    bed.settle();
    let log = bed.host.log.borrow();
    let of = |start: &str| log.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(of("domain 5: WRITE refused"), 20);
    assert_eq!(of("domain 6: WRITE refused"), 1);
    assert_eq!(of("domain 5: 180 further lines left out"), 1, "{log:?}");
}
