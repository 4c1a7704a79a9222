//! What a client sees of each request, over real ring pages.

use crate::bed::Bed;
use xenstore_wire::MessageType::{
    Control, Directory, DirectoryPart, GetDomainPath, GetPerms, Introduce, IsDomainIntroduced, Mkdir, Read, Release,
    ResetWatches, Resume, Rm, SetPerms, SetTarget, TransactionEnd, TransactionStart, Unwatch, Watch, WatchEvent, Write,
};

#[test]
fn a_written_value_is_read_back_and_parents_are_made() {
    let mut bed = Bed::new();
    assert_eq!(bed.ask(0, Write, 0, "/a/b/c|hello"), "OK|");
    assert_eq!(bed.ask(0, Read, 0, "/a/b/c|"), "hello");
    assert_eq!(bed.ask(0, Read, 0, "/a/b|"), "");
    assert_eq!(bed.ask(0, Directory, 0, "/|"), "tool|a|");
    bed.check();
}

#[test]
fn a_value_may_hold_nuls_and_be_as_long_as_a_payload() {
    let mut bed = Bed::new();
    let value = "x|y|".repeat(1023);
    assert_eq!(bed.ask(0, Write, 0, &format!("/v|{value}")), "OK|");
    assert_eq!(bed.ask(0, Read, 0, "/v|"), value);
}

#[test]
fn children_are_listed_in_the_order_of_their_creation() {
    let mut bed = Bed::new();
    for name in ["z", "a", "m"] {
        bed.ask(0, Write, 0, &format!("/d/{name}|"));
    }
    bed.ask(0, Write, 0, "/d/z|again");
    assert_eq!(bed.ask(0, Directory, 0, "/d|"), "z|a|m|");
    bed.ask(0, Rm, 0, "/d/z|");
    bed.ask(0, Write, 0, "/d/z|");
    assert_eq!(bed.ask(0, Directory, 0, "/d|"), "a|m|z|");
}

#[test]
fn a_directory_too_long_for_a_reply_is_listed_in_parts() {
    let mut bed = Bed::new();
    let names: Vec<String> = (0..5000).map(|number| format!("child-{number}")).collect();
    for name in &names {
        assert_eq!(bed.ask(0, Write, 0, &format!("/d/{name}|")), "OK|");
    }
    assert_eq!(bed.ask(0, Directory, 0, "/d|"), "!E2BIG");
    let (mut listed, mut offset, mut generation) = (Vec::new(), 0usize, None);
    loop {
        let part = bed.ask(0, DirectoryPart, 0, &format!("/d|{offset}|"));
        let (head, list) = part.split_once('|').unwrap();
        assert!(part.len() <= 4096);
        assert_eq!(generation.get_or_insert_with(|| head.to_string()), head);
        let end = list == "|" || list.ends_with("||");
        let list = if end { &list[..list.len() - 1] } else { list };
        listed.extend(list.split_terminator('|').map(String::from));
        offset += list.len();
        if end {
            break;
        }
    }
    assert_eq!(listed, names);
    assert!(bed.ask(0, DirectoryPart, 0, "/d|-1|").ends_with("||"));
    bed.check();
}

#[test]
fn removing_what_is_not_there_is_fine_only_below_an_existing_parent() {
    let mut bed = Bed::new();
    assert_eq!(bed.ask(0, Rm, 0, "/nothing|"), "OK|");
    assert_eq!(bed.ask(0, Rm, 0, "/nothing/below|"), "!ENOENT");
    assert_eq!(bed.ask(0, Rm, 0, "/|"), "!EINVAL");
    bed.ask(0, Write, 0, "/a/b/c|");
    assert_eq!(bed.ask(0, Rm, 0, "/a|"), "OK|");
    assert_eq!(bed.ask(0, Read, 0, "/a/b/c|"), "!ENOENT");
    bed.check();
}

#[test]
fn malformed_requests_get_the_errors_of_c_xenstored() {
    let mut bed = Bed::new();
    for (kind, payload, expected) in [
        (Read, "", "!EINVAL"),
        (Read, "/a", "!EINVAL"),
        (Read, "/a|b|", "!EINVAL"),
        (Read, "/a//b|", "!EINVAL"),
        (Read, "/a/|", "!EINVAL"),
        (Read, "@releaseDomain|", "!EINVAL"),
        (Read, "/a b|", "!EINVAL"),
        (Write, "/a", "!EINVAL"),
        (Watch, "/a|", "!EINVAL"),
        (Watch, "/a|t|1|", "!EINVAL"),
        (Unwatch, "/a|t|", "!ENOENT"),
        (Unwatch, "/a|t|x|", "!EINVAL"),
        (TransactionEnd, "T|", "!ENOENT"),
        (TransactionEnd, "X|", "!EINVAL"),
        (SetPerms, "/|", "!EINVAL"),
        (SetPerms, "/tool|x0|", "!EINVAL"),
        (SetPerms, "/tool|n77|", "!ENOENT"),
        (Introduce, "1|2|", "!EINVAL"),
        (Introduce, "1|2|0|", "!EINVAL"),
        (Introduce, "70000|2|3|", "!EINVAL"),
        (Introduce, "9|2|3|", "!EINVAL"),
        (Release, "0|", "!EINVAL"),
        (Release, "9|", "!ENOENT"),
        (Resume, "9|", "!ENOENT"),
        (SetTarget, "9|0|", "!ENOENT"),
        (WatchEvent, "/a|t|", "!ENOSYS"),
        (Control, "no-such-command|", "!EINVAL"),
        (DirectoryPart, "/|", "!EINVAL"),
    ] {
        assert_eq!(bed.ask(0, kind, 0, payload), expected, "{kind:?} {payload}");
    }
    let request = bed.send_raw(0, 99, 0, b"x");
    bed.settle();
    let reply = &bed.messages(0)[0];
    assert_eq!((reply.request, reply.text().as_str()), (request, "ENOSYS|"));
    assert_eq!(bed.ask(0, Read, 7, "/|"), "!ENOENT");
    bed.check();
}

#[test]
fn replies_come_in_the_order_of_requests() {
    let mut bed = Bed::new();
    let sent: Vec<u32> = (0..200)
        .map(|number| bed.send(0, Write, 0, &format!("/k{}|{number}", number % 7)))
        .collect();
    bed.settle();
    let answered: Vec<u32> = bed.messages(0).iter().map(|message| message.request).collect();
    assert_eq!(answered, sent);
}

#[test]
fn domain_paths_and_introductions_are_told() {
    let mut bed = Bed::new();
    assert_eq!(bed.ask(0, GetDomainPath, 0, "12|"), "/local/domain/12|");
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "5|"), "F|");
    bed.start(5);
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "5|"), "T|");
    assert_eq!(bed.ask(0, IsDomainIntroduced, 0, "32752|"), "T|");
    assert_eq!(bed.ask(5, IsDomainIntroduced, 0, "5|"), "!EACCES");
}

#[test]
fn a_guest_writes_below_its_home_by_relative_paths_and_owns_what_it_makes() {
    let mut bed = Bed::new();
    bed.start(5);
    assert_eq!(bed.ask(5, Write, 0, "data/x|1"), "OK|");
    assert_eq!(bed.ask(0, Read, 0, "/local/domain/5/data/x|"), "1");
    assert_eq!(bed.ask(0, GetPerms, 0, "/local/domain/5/data|"), "n5|");
    assert_eq!(bed.ask(5, Write, 0, "/local/domain/6|"), "!EACCES");
    assert_eq!(bed.ask(5, Read, 0, "/tool|"), "!EACCES");
    // Whether a node exists is not told to those who may not look at what is above it.
    assert_eq!(bed.ask(5, Read, 0, "/secret/x|"), "!EACCES");
    assert_eq!(bed.ask(5, Read, 0, "none|"), "!ENOENT");
    bed.check();
}

#[test]
fn permissions_decide_and_only_the_owner_changes_them() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.ask(5, Write, 0, "shared|v");
    let path = "/local/domain/5/shared";
    assert_eq!(bed.ask(6, Read, 0, &format!("{path}|")), "!EACCES");
    assert_eq!(bed.ask(5, SetPerms, 0, "shared|n5|r6|"), "OK|");
    assert_eq!(bed.ask(6, Read, 0, &format!("{path}|")), "v");
    assert_eq!(bed.ask(6, Write, 0, &format!("{path}|w")), "!EACCES");
    assert_eq!(bed.ask(6, SetPerms, 0, &format!("{path}|n6|")), "!EACCES");
    // XSA-352: a node cannot be given away.
    assert_eq!(bed.ask(5, SetPerms, 0, "shared|n6|"), "!EPERM");
    assert_eq!(bed.ask(0, SetPerms, 0, &format!("{path}|b6|n5|")), "OK|");
    assert_eq!(bed.ask(0, GetPerms, 0, &format!("{path}|")), "b6|n5|");
    assert_eq!(bed.ask(5, Read, 0, "shared|"), "!EACCES");
    bed.check();
}

#[test]
fn a_target_lends_its_rights() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.start(6);
    bed.ask(5, Write, 0, "x|v");
    assert_eq!(bed.ask(6, Read, 0, "/local/domain/5/x|"), "!EACCES");
    assert_eq!(bed.ask(0, SetTarget, 0, "6|5|"), "OK|");
    assert_eq!(bed.ask(6, Read, 0, "/local/domain/5/x|"), "v");
    assert_eq!(bed.ask(6, Write, 0, "/local/domain/5/x|w"), "OK|");
}

#[test]
fn a_watch_is_acknowledged_then_fires_once_then_at_each_change() {
    let mut bed = Bed::new();
    bed.send(0, Watch, 0, "/a|token|");
    bed.settle();
    let messages = bed.messages(0);
    let kinds: Vec<_> = messages.iter().map(|message| (message.kind, message.text())).collect();
    assert_eq!(kinds, [(Watch, "OK|".into()), (WatchEvent, "/a|token|".into())]);
    assert_eq!(bed.ask(0, Watch, 0, "/a|token|"), "!EEXIST");
    // Events of a request come before its reply.
    bed.send(0, Write, 0, "/a/b/c|");
    bed.settle();
    let texts: Vec<_> = bed.messages(0).iter().map(|message| message.text()).collect();
    assert_eq!(texts, ["/a/b/c|token|", "OK|"]);
    bed.send(0, Rm, 0, "/a|");
    assert_eq!(bed.events(0), ["/a token"]);
    assert_eq!(bed.ask(0, Mkdir, 0, "/a|"), "OK|");
    bed.events(0);
    bed.send(0, Mkdir, 0, "/a|");
    assert!(bed.events(0).is_empty(), "making what exists is no change");
    assert_eq!(bed.ask(0, Unwatch, 0, "/a|token|"), "OK|");
    bed.send(0, Write, 0, "/a|");
    assert!(bed.events(0).is_empty());
}

#[test]
fn a_removal_tells_exact_watches_deepest_first() {
    let mut bed = Bed::new();
    bed.ask(0, Write, 0, "/a/b/c|");
    bed.ask(0, Write, 0, "/a/d|");
    for path in ["/a/b/c", "/a/b", "/a/d", "/a/none", "/"] {
        bed.ask(0, Watch, 0, &format!("{path}|w|"));
    }
    bed.send(0, Rm, 0, "/a|");
    assert_eq!(bed.events(0), ["/a/b/c w", "/a/b w", "/a/d w", "/a w"]);
}

#[test]
fn identical_events_that_still_wait_are_merged() {
    let mut bed = Bed::new();
    bed.start(5);
    bed.ask(5, Watch, 0, "x|t|");
    bed.guests.get_mut(&5).unwrap().deaf = true;
    for number in 0..100 {
        bed.ask(0, Write, 0, &format!("/local/domain/5/x|{number}"));
    }
    bed.guests.get_mut(&5).unwrap().deaf = false;
    let events = bed.events(5);
    assert!(
        events.len() < 100 && events.iter().all(|event| event == "x t"),
        "{} events",
        events.len()
    );
}

#[test]
fn events_that_nobody_takes_are_dropped_after_a_time_and_replies_never() {
    let mut bed = Bed::new();
    bed.start(5);
    for number in 0..60 {
        bed.ask(5, Watch, 0, &format!("x|token-{number}|"));
    }
    bed.guests.get_mut(&5).unwrap().deaf = true;
    let request = bed.send(5, Read, 0, "none|");
    bed.ask(0, Write, 0, "/local/domain/5/x|");
    bed.host.now.set(21_000_000_000);
    bed.settle();
    bed.guests.get_mut(&5).unwrap().deaf = false;
    bed.settle();
    let messages = bed.messages(5);
    assert!(
        messages.iter().any(|message| message.request == request),
        "{messages:?}"
    );
    let dropped = |line: &String| line.starts_with("domain 5: ") && line.ends_with("did not take within 20 s");
    assert!(bed.host.log.borrow().iter().any(dropped), "{:?}", bed.host.log.borrow());
    // What had begun to be visible when the time was up is told, the rest is not.
    let events = messages.iter().filter(|message| message.kind == WatchEvent).count();
    assert!(events > 0 && events < 60, "{events} events");
}

#[test]
fn reset_watches_takes_watches_and_transactions() {
    let mut bed = Bed::new();
    bed.ask(0, Watch, 0, "/a|t|");
    let transaction = bed.begin(0);
    // XSA-484: in the middle of a transaction, too.
    assert_eq!(bed.ask(0, ResetWatches, transaction, "|"), "OK|");
    bed.send(0, Write, 0, "/a|");
    assert!(bed.events(0).is_empty());
    assert_eq!(bed.ask(0, Read, transaction, "/|"), "!ENOENT");
}

#[test]
fn a_transaction_sees_its_snapshot_and_its_own_writes() {
    let mut bed = Bed::new();
    bed.ask(0, Write, 0, "/n|a");
    let transaction = bed.begin(0);
    assert_eq!(bed.ask(0, Read, transaction, "/n|"), "a");
    bed.ask(0, Write, 0, "/n|b");
    assert_eq!(bed.ask(0, Read, transaction, "/n|"), "a");
    assert_eq!(bed.ask(0, Write, transaction, "/n|c"), "OK|");
    assert_eq!(bed.ask(0, Read, transaction, "/n|"), "c");
    assert_eq!(bed.commit(0, transaction), "!EAGAIN");
    assert_eq!(bed.ask(0, Read, 0, "/n|"), "b");
    assert_eq!(bed.ask(0, Read, transaction, "/n|"), "!ENOENT");
    bed.check();
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let mut bed = Bed::new();
    let transaction = bed.begin(0);
    bed.ask(0, Write, transaction, "/x/y|1");
    assert_eq!(bed.ask(0, Directory, transaction, "/x|"), "y|");
    assert_eq!(bed.ask(0, TransactionEnd, transaction, "F|"), "OK|");
    assert_eq!(bed.ask(0, Read, 0, "/x|"), "!ENOENT");
    bed.check();
}

#[test]
fn readers_always_commit() {
    let mut bed = Bed::new();
    bed.ask(0, Write, 0, "/n|a");
    let transaction = bed.begin(0);
    bed.ask(0, Read, transaction, "/n|");
    bed.ask(0, Write, 0, "/n|b");
    assert_eq!(bed.ask(0, Read, transaction, "/n|"), "a");
    assert_eq!(bed.commit(0, transaction), "OK|");
}

#[test]
fn sibling_creations_do_not_conflict_and_share_their_new_parents() {
    let mut bed = Bed::new();
    let (first, second) = (bed.begin(0), bed.begin(0));
    assert_eq!(bed.ask(0, Write, first, "/vm/a/x|1"), "OK|");
    assert_eq!(bed.ask(0, Write, second, "/vm/b/y|2"), "OK|");
    assert_eq!(bed.commit(0, second), "OK|");
    assert_eq!(bed.commit(0, first), "OK|");
    assert_eq!(bed.ask(0, Directory, 0, "/vm|"), "b|a|");
    bed.check();
}

#[test]
fn a_listing_that_would_be_another_is_a_conflict() {
    let mut bed = Bed::new();
    bed.ask(0, Mkdir, 0, "/d|");
    let transaction = bed.begin(0);
    assert_eq!(bed.ask(0, Directory, transaction, "/d|"), "");
    bed.ask(0, Write, transaction, "/result|none");
    bed.ask(0, Write, 0, "/d/new|");
    assert_eq!(bed.commit(0, transaction), "!EAGAIN");
    let again = bed.begin(0);
    assert_eq!(bed.ask(0, Read, again, "/d/other|"), "!ENOENT");
    bed.ask(0, Write, again, "/result|none");
    bed.ask(0, Write, 0, "/d/other|");
    assert_eq!(bed.commit(0, again), "!EAGAIN");
}

#[test]
fn a_commit_tells_each_path_once_and_what_never_was_not_at_all() {
    let mut bed = Bed::new();
    bed.ask(0, Watch, 0, "/|w|");
    let transaction = bed.begin(0);
    bed.ask(0, Write, transaction, "/a|1");
    bed.ask(0, Write, transaction, "/b|1");
    bed.ask(0, Write, transaction, "/a|2");
    bed.ask(0, SetPerms, transaction, "/b|r0|");
    bed.ask(0, Write, transaction, "/gone|");
    bed.ask(0, Rm, transaction, "/gone|");
    assert!(bed.events(0).is_empty());
    bed.send(0, TransactionEnd, transaction, "T|");
    assert_eq!(bed.events(0), ["/a w", "/b w"]);
    assert_eq!(bed.ask(0, Read, 0, "/a|"), "2");
    bed.check();
}

#[test]
fn transaction_ids_belong_to_their_connection() {
    let mut bed = Bed::new();
    bed.start(5);
    let transaction = bed.begin(0);
    assert_eq!(bed.ask(5, Read, transaction, "x|"), "!ENOENT");
    assert_eq!(bed.ask(0, TransactionStart, transaction, "|"), "!EBUSY");
    assert_eq!(bed.ask(0, TransactionEnd, transaction, "X|"), "!EINVAL");
    assert_eq!(bed.commit(0, transaction), "OK|");
}

#[test]
fn limits_hold_for_guests_within_a_request_and_within_a_transaction() {
    let mut bed = Bed::new();
    bed.ask(0, Control, 0, "quota|set|nodes|6|");
    bed.ask(0, Control, 0, "quota|set|watches|3|");
    bed.ask(0, Control, 0, "quota|set|transactions|3|");
    bed.start(5);
    // The home is one node; a limit of 6 lets it have 5.
    assert_eq!(bed.ask(5, Write, 0, "a/b/c/d/e|"), "!ENOSPC");
    assert_eq!(bed.ask(5, Read, 0, "a|"), "!ENOENT");
    let transaction = bed.begin(5);
    assert_eq!(bed.ask(5, Write, transaction, "a/b|"), "OK|");
    assert_eq!(bed.ask(5, Write, transaction, "c/d/e|"), "!ENOSPC");
    assert_eq!(bed.ask(5, Write, transaction, "c/d|"), "OK|");
    assert_eq!(bed.commit(5, transaction), "OK|");
    assert_eq!(bed.ask(5, Mkdir, 0, "f|"), "!ENOSPC");
    assert_eq!(bed.ask(5, Watch, 0, "a|1|"), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, "a|2|"), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, "a|3|"), "!ENOSPC");
    bed.begin(5);
    bed.begin(5);
    assert_eq!(bed.ask(5, TransactionStart, 0, "|"), "!ENOSPC");
    assert_eq!(bed.ask(5, SetPerms, 0, "a|n5|r0|r0|r0|r0|"), "!ENOSPC");
    assert_eq!(bed.ask(5, Write, 0, &format!("a|{}", "x".repeat(2048))), "!ENOSPC");
    assert_eq!(bed.ask(5, Read, 0, &format!("{}|", "x".repeat(2048))), "!EINVAL");
    bed.check();
}

#[test]
fn control_shows_and_sets() {
    let mut bed = Bed::new();
    assert!(bed.ask(0, Control, 0, "help|").contains("quota-soft"));
    assert_eq!(bed.ask(0, Control, 0, "print|hello|"), "OK|");
    assert!(bed.host.log.borrow().iter().any(|line| line == "control: hello"));
    assert!(bed.ask(0, Control, 0, "log|").contains("io      : off"));
    assert_eq!(bed.ask(0, Control, 0, "log|+io|"), "OK|");
    assert!(bed.ask(0, Control, 0, "log|").contains("io      : on"));
    assert!(
        bed.host
            .log
            .borrow()
            .iter()
            .any(|line| line.starts_with("io: IN d0 CONTROL"))
    );
    assert_eq!(bed.ask(0, Control, 0, "log|+none|"), "!EINVAL");
    assert!(bed.ask(0, Control, 0, "quota|").contains("nodes            :     1000"));
    assert_eq!(bed.ask(0, Control, 0, "quota|set|nodes|0|"), "!EINVAL");
    assert_eq!(bed.ask(0, Control, 0, "quota-soft|set|memory|5|"), "OK|");
    assert!(
        bed.ask(0, Control, 0, "quota-soft|")
            .contains("memory           :        5")
    );
    assert_eq!(bed.ask(0, Control, 0, "quota|77|"), "!ENOENT");
    assert!(bed.ask(0, Control, 0, "quota|max|").starts_with("Max. seen"));
    assert!(bed.ask(0, Control, 0, "status|").contains("machine: simulated"));
    bed.start(5);
    assert_eq!(bed.ask(5, Control, 0, "help|"), "!EACCES");
}

#[test]
fn a_transaction_of_many_writes_fits_into_the_smallest_domain() {
    // The default domain of 8 MiB has about 3.5 MiB of durable pages.
    let configuration = xenstore_core::Configuration::default();
    let mut bed = Bed::with(configuration, 3_500_000);
    for first in [0, 1000, 2000, 3000, 4000] {
        let transaction = bed.begin(0);
        for number in first..first + 1000 {
            let answer = bed.ask(0, Write, transaction, &format!("/many/child-{number}|value"));
            assert_eq!(answer, "OK|", "child {number}");
        }
        assert_eq!(bed.commit(0, transaction), "OK|");
    }
    assert_eq!(bed.service().server().tree().figures().exhausted, 0);
    bed.check();
}
