//! Every limit of a domain (C xenstored, quota_adm[]): what happens at it, that it counts within a request and within a
//! transaction, that it hurts that domain alone, and that it is said in the log. Node, watch, transaction, permission and path
//! limits inside requests are in `requests`, those of single domains in `offers`.

use crate::bed::Bed;
use xenstore_core::{DomainState, Warned};
use xenstore_wire::DomId;
use xenstore_wire::MessageType::{
    Control, Directory, GetPerms, Mkdir, Read, ResetWatches, Rm, SetPerms, SetQuota, TransactionEnd, TransactionStart,
    Unwatch, Watch, Write,
};

/// dom0, and guests 5 and 6 with these limits.
fn bed(limits: &str) -> Bed {
    let mut bed = Bed::new();
    for limit in limits.split_whitespace() {
        let (name, value) = limit.split_once('=').unwrap();
        assert_eq!(bed.ask(0, SetQuota, 0, &format!("{name}|{value}|")), "OK|");
    }
    bed.start(5);
    bed.start(6);
    bed
}

fn logged(bed: &Bed, text: &str) -> usize {
    bed.host.log.borrow().iter().filter(|line| line.contains(text)).count()
}

fn status(bed: &mut Bed, name: &str) -> u64 {
    let status = bed.ask(0, Control, 0, "status|");
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("{status}")).parse().unwrap()
}

#[test]
fn a_guest_at_its_memory_limit_waits_alone_until_it_has_read() {
    let mut bed = bed("memory=3000");
    bed.ask(6, Write, 0, &format!("big|{}", "b".repeat(1900)));
    bed.guests.get_mut(&6).unwrap().deaf = true;
    // Each answer has 1900 bytes; what was taken before the limit was reached is answered, the rest waits in its ring.
    for _ in 0..18 {
        bed.send(6, Read, 0, "big|");
    }
    bed.settle();
    let domain = |bed: &Bed| {
        let mut domains = bed.service().server().domains();
        domains.find(|(domid, _)| *domid == DomId(6)).unwrap().1.clone()
    };
    let memory = domain(&bed).account.memory();
    assert!((3000..3000 + 2044).contains(&memory), "{memory}");
    assert_eq!(domain(&bed).warned, Warned::Hard);
    assert_eq!(logged(&bed, "limit memory of 3000: its requests wait"), 1);
    assert_eq!(bed.ask(5, Write, 0, "x|y"), "OK|");
    assert_eq!(bed.ask(0, Write, 0, "/local/domain/6/z|"), "OK|");
    bed.guests.get_mut(&6).unwrap().deaf = false;
    bed.settle();
    assert_eq!(bed.messages(6).len(), 18);
    assert_eq!(bed.ask(6, Read, 0, "x|"), "!ENOENT");
    assert_eq!(logged(&bed, "below it again"), 1);
    bed.check();
}

#[test]
fn nodes_beyond_the_memory_limit_are_refused_and_the_owner_pays_for_what_others_write() {
    let mut bed = bed("memory=9700");
    let value = "v".repeat(1900);
    for number in 0..4 {
        assert_eq!(bed.ask(5, Write, 0, &format!("{number}|{value}")), "OK|");
    }
    assert_eq!(bed.ask(5, Mkdir, 0, "small|"), "OK|");
    assert_eq!(bed.ask(5, SetPerms, 0, "small|b5|"), "OK|");
    assert_eq!(bed.ask(5, Write, 0, &format!("more|{value}")), "!ENOMEM");
    assert_eq!(
        bed.ask(6, Write, 0, &format!("/local/domain/5/small|{value}")),
        "!ENOMEM"
    );
    assert_eq!(logged(&bed, "domain 5 has reached its limit memory of 9700"), 2);
    // What is not larger than before is fine, and so is what the privileged domain does.
    assert_eq!(bed.ask(5, Write, 0, &format!("1|{}", "w".repeat(1900))), "OK|");
    assert_eq!(bed.ask(0, Write, 0, &format!("/local/domain/5/more|{value}")), "OK|");
    // Now it is above the limit and not read any more, as in C, until somebody makes it less.
    bed.send(5, Read, 0, "1|");
    bed.settle();
    assert!(bed.messages(5).is_empty());
    assert_eq!(bed.ask(0, Rm, 0, "/local/domain/5/more|"), "OK|");
    bed.settle();
    assert_eq!(bed.messages(5).len(), 1);
    assert_eq!(bed.ask(5, Directory, 0, "/local/domain/5|"), "0|1|2|3|small|");
    bed.check();
}

#[test]
fn each_crossing_of_the_soft_limit_is_logged_once() {
    let mut bed = bed("soft-memory=6000");
    let said = |bed: &Bed| {
        (
            logged(bed, "limit soft-memory of 6000: a warning"),
            logged(bed, "below it again"),
        )
    };
    let value = "v".repeat(1900);
    for number in 0..6 {
        assert_eq!(bed.ask(5, Write, 0, &format!("{number}|{value}")), "OK|");
    }
    assert_eq!(said(&bed), (1, 0));
    bed.restart();
    bed.settle();
    assert_eq!(bed.ask(5, Write, 0, &format!("6|{value}")), "OK|");
    assert_eq!(said(&bed), (1, 0));
    for number in 0..5 {
        assert_eq!(bed.ask(5, Rm, 0, &format!("{number}|")), "OK|");
    }
    assert_eq!(said(&bed), (1, 1));
    for number in 0..6 {
        assert_eq!(bed.ask(5, Write, 0, &format!("{number}|{value}")), "OK|");
    }
    assert_eq!(said(&bed), (2, 1));
    // The privileged domain has no limits.
    for number in 0..6 {
        assert_eq!(bed.ask(0, Write, 0, &format!("/d/{number}|{value}")), "OK|");
    }
    assert_eq!(said(&bed), (2, 1));
}

#[test]
fn a_transaction_may_touch_so_many_nodes_and_is_lost_with_the_next_one() {
    let mut bed = bed("transaction-nodes=5");
    let transaction = bed.begin(5);
    for name in ["a", "b", "c"] {
        assert_eq!(bed.ask(5, Write, transaction, &format!("{name}|x")), "OK|");
    }
    // Looking counts as well; what was seen before does not count again.
    assert_eq!(bed.ask(5, Read, transaction, "d|"), "!ENOENT");
    assert_eq!(bed.ask(5, Read, transaction, "d|"), "!ENOENT");
    assert_eq!(bed.ask(5, Read, transaction, "e|"), "!ENOSPC");
    assert_eq!(bed.commit(5, transaction), "!ENOMEM");
    assert_eq!(bed.ask(5, Directory, 0, "/local/domain/5|"), "");
    assert_eq!(logged(&bed, "limit transaction-nodes of 5"), 1);
    bed.check();
}

#[test]
fn the_size_of_a_node_counts_its_value_permissions_and_names_of_children() {
    let mut bed = bed("node-size=100");
    // 16 and one permission of 8 leave 75: the limit itself cannot be reached.
    assert_eq!(bed.ask(5, Write, 0, &format!("a|{}", "x".repeat(76))), "!ENOSPC");
    assert_eq!(bed.ask(5, Write, 0, &format!("a|{}", "x".repeat(75))), "OK|");
    assert_eq!(bed.ask(5, Mkdir, 0, "a/b|"), "!ENOSPC");
    assert_eq!(bed.ask(5, Write, 0, &format!("a|{}", "x".repeat(73))), "OK|");
    assert_eq!(bed.ask(5, Mkdir, 0, "a/b|"), "OK|");
    assert_eq!(bed.ask(5, Write, 0, &format!("a|{}", "x".repeat(74))), "!ENOSPC");
    let transaction = bed.begin(5);
    assert_eq!(bed.ask(5, Mkdir, transaction, "a/c|"), "!ENOSPC");
    assert_eq!(bed.ask(5, Rm, transaction, "a/b|"), "OK|");
    assert_eq!(bed.ask(5, Mkdir, transaction, "a/c|"), "OK|");
    assert_eq!(bed.commit(5, transaction), "OK|");
    assert_eq!(bed.ask(5, Directory, 0, "a|"), "c|");
    assert_eq!(
        bed.ask(0, Write, 0, &format!("/local/domain/5/a|{}", "x".repeat(200))),
        "OK|"
    );
    bed.check();
}

#[test]
fn who_has_too_many_requests_outstanding_waits_also_for_those_who_are_told_of_them() {
    let mut bed = bed("outstanding=3");
    assert_eq!(bed.ask(5, SetPerms, 0, "/local/domain/5|b5|"), "OK|");
    assert_eq!(bed.ask(6, Watch, 0, "/local/domain/5|t|"), "OK|");
    bed.events(6);
    bed.guests.get_mut(&6).unwrap().deaf = true;
    // Its ring takes some events; each of the others keeps the request that caused it outstanding.
    for number in 0..60 {
        bed.send(5, Write, 0, &format!("node-{number}-{}|", "n".repeat(60)));
    }
    bed.settle();
    let answered = bed.messages(5).len();
    assert!((3..30).contains(&answered), "{answered}");
    let connection = bed.connection_of(5).unwrap();
    let outstanding = bed.service().server().connection(connection).unwrap().outstanding();
    assert_eq!(outstanding, 3);
    assert_eq!(bed.ask(0, Write, 0, "/x|"), "OK|");
    // A watcher that takes nothing for too long is not waited for.
    for _ in 0..40 {
        bed.host.now.set(bed.host.now.get() + 21_000_000_000);
        bed.settle();
    }
    let answered = answered + bed.messages(5).len();
    assert_eq!(answered, 60);
    let expired = status(&mut bed, "events-expired");
    assert!(expired > 5, "{expired}");
    assert!(logged(&bed, "events dropped that it did not take within 20 s") > 0);
}

#[test]
fn events_that_are_merged_or_have_no_memory_are_counted() {
    let mut bed = bed("memory=6000");
    bed.ask(6, Watch, 0, "x|t|");
    bed.events(6);
    bed.guests.get_mut(&6).unwrap().deaf = true;
    let (merged, dropped) = (status(&mut bed, "events-merged"), status(&mut bed, "events-dropped"));
    // The ring takes more than sixty of these; behind it there is one.
    for _ in 0..100 {
        bed.ask(0, Write, 0, "/local/domain/6/x|");
    }
    assert!(status(&mut bed, "events-merged") > merged + 10);
    assert_eq!(status(&mut bed, "events-dropped"), dropped);
    for number in 0..300 {
        bed.ask(0, Write, 0, &format!("/local/domain/6/x/{number}|"));
    }
    assert!(status(&mut bed, "events-dropped") > dropped + 100);
    let told = logged(&bed, "domain 6 is not told of events for want of memory");
    assert!((1..=20).contains(&told), "{told} lines");
    // Counted over a crash, too.
    let before = status(&mut bed, "events-dropped");
    bed.restart();
    bed.settle();
    assert_eq!(status(&mut bed, "events-dropped"), before);
}

#[test]
fn limits_are_free_again_when_what_counted_is_gone() {
    let mut bed = bed("watches=3 transactions=3 nodes=4");
    for _ in 0..3 {
        assert_eq!(bed.ask(5, Watch, 0, "a|1|"), "OK|");
        assert_eq!(bed.ask(5, Watch, 0, "a|2|"), "OK|");
        assert_eq!(bed.ask(5, Watch, 0, "a|3|"), "!ENOSPC");
        let (first, second) = (bed.begin(5), bed.begin(5));
        assert_eq!(bed.ask(5, TransactionStart, 0, "|"), "!ENOSPC");
        assert_eq!(bed.ask(5, Write, first, "a/b|"), "OK|");
        assert_eq!(bed.commit(5, first), "OK|");
        assert_eq!(bed.commit(5, second), "OK|");
        assert_eq!(bed.ask(5, Mkdir, 0, "c|"), "!ENOSPC");
        assert_eq!(bed.ask(5, Rm, 0, "a|"), "OK|");
        assert_eq!(bed.ask(5, Unwatch, 0, "a|1|"), "OK|");
        assert_eq!(bed.ask(5, ResetWatches, 0, ""), "OK|");
    }
    // A reused number starts clean.
    assert_eq!(bed.ask(5, Write, 0, "a/b|"), "OK|");
    bed.domain_is(5, DomainState::ABSENT);
    bed.start(5);
    assert_eq!(bed.ask(5, Write, 0, "a/b|"), "OK|");
    bed.check();
}

fn memory_of(bed: &Bed, domid: u16) -> u64 {
    let mut domains = bed.service().server().domains();
    domains.find(|(known, _)| known.0 == domid).unwrap().1.account.memory()
}

#[test]
fn a_watch_that_reaches_the_memory_limit_is_refused() {
    let mut bed = bed("");
    let held = memory_of(&bed, 5);
    // Path (in full) and token have 20 bytes.
    let watch = "0123|t|";
    assert_eq!("/local/domain/5/0123".len() + 1, 21);
    bed.ask(0, SetQuota, 0, &format!("5|memory|{}|", held + 21));
    assert_eq!(bed.ask(5, Watch, 0, watch), "!ENOMEM");
    assert_eq!(logged(&bed, "domain 5 has reached its limit memory"), 1);
    bed.ask(0, SetQuota, 0, &format!("5|memory|{}|", held + 22));
    assert_eq!(bed.ask(5, Watch, 0, watch), "OK|");
    assert_eq!(memory_of(&bed, 5), held + 21);
    // One byte is left: there is no room for another one, but the client is heard.
    assert_eq!(bed.ask(5, Watch, 0, "x|u|"), "!ENOMEM");
    assert_eq!(bed.ask(5, Unwatch, 0, watch), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, watch), "OK|");
    bed.check();
}

#[test]
fn a_transaction_at_the_memory_limit_is_refused_what_is_new_and_can_end() {
    let mut bed = bed("memory=6000");
    assert_eq!(bed.ask(5, Write, 0, &format!("a|{}", "a".repeat(1000))), "OK|");
    let name = |number: u32| format!("{number:03}{}", "n".repeat(97));
    for end in ["F|", "T|"] {
        let transaction = bed.begin(5);
        let mut seen = 0;
        // Only by looking.
        while bed.ask(5, Read, transaction, &format!("{}|", name(seen))) == "!ENOENT" {
            seen += 1;
            assert!(seen < 50, "{}", memory_of(&bed, 5));
        }
        assert!(
            seen > 15 && memory_of(&bed, 5) < 6000,
            "{seen} nodes, {}",
            memory_of(&bed, 5)
        );
        assert_eq!(bed.ask(5, Read, transaction, &format!("{}|", name(seen))), "!ENOMEM");
        assert_eq!(bed.ask(5, Mkdir, transaction, &format!("{}|", name(seen))), "!ENOMEM");
        // What is known costs nothing more, and what was refused has not been seen.
        assert_eq!(bed.ask(5, Read, transaction, &format!("{}|", name(0))), "!ENOENT");
        assert_eq!(bed.ask(0, Mkdir, 0, &format!("/local/domain/5/{}|", name(seen))), "OK|");
        assert_eq!(bed.ask(5, TransactionEnd, transaction, end), "OK|");
        assert_eq!(bed.ask(0, Rm, 0, &format!("/local/domain/5/{}|", name(seen))), "OK|");
    }
    let transaction = bed.begin(5);
    let mut written = 0;
    let value = |length: usize| "v".repeat(length);
    while bed.ask(5, Write, transaction, &format!("a|{}", value(1000 + written))) == "OK|" {
        written += 100;
        assert!(written < 5000);
    }
    assert_eq!(bed.commit(5, transaction), "OK|");
    bed.check();
}

/// Whatever it did itself and others did to its nodes: a client can always end its transactions.
#[test]
fn a_transaction_can_be_ended_above_the_memory_limit() {
    let mut bed = bed("memory=6000");
    let transaction = bed.begin(5);
    assert_eq!(
        bed.ask(5, Write, transaction, &format!("a|{}", "a".repeat(1900))),
        "OK|"
    );
    let others = format!("/local/domain/5/b|{}", "b".repeat(1900));
    for name in ["b", "c", "d"] {
        assert_eq!(
            bed.ask(0, Write, 0, &others.replace("/b|", &format!("/{name}|"))),
            "OK|"
        );
    }
    assert!(memory_of(&bed, 5) > 6000);
    assert_eq!(bed.ask(5, Write, transaction, "e|"), "!ENOMEM");
    assert_eq!(bed.ask(5, TransactionEnd, transaction, "F|"), "OK|");
    // Below it again only when somebody makes its nodes less; until then it is not heard, as in C.
    bed.send(5, Read, 0, "b|");
    bed.settle();
    assert_eq!(bed.messages(5).len(), usize::from(memory_of(&bed, 5) < 6000));
    assert_eq!(bed.ask(0, Rm, 0, "/local/domain/5/c|"), "OK|");
    bed.settle();
    bed.check();
}

#[test]
fn longer_permissions_and_children_by_others_do_not_take_an_owner_above_its_memory_limit() {
    let mut bed = bed("memory=6000");
    assert_eq!(bed.ask(5, Mkdir, 0, "open|"), "OK|");
    assert_eq!(bed.ask(5, SetPerms, 0, "open|b5|"), "OK|");
    let value = "v".repeat(1900);
    for name in ["b", "c"] {
        assert_eq!(bed.ask(5, Write, 0, &format!("{name}|{value}")), "OK|");
    }
    let left = 6000 - usize::try_from(memory_of(&bed, 5)).unwrap();
    // The node itself: its name in the list above, its path, 16 and one permission of 8; ten bytes are left in the end.
    let filler = left - 2 - "/local/domain/5/f".len() - 24 - 10;
    assert_eq!(bed.ask(5, Write, 0, &format!("f|{}", "f".repeat(filler))), "OK|");
    assert_eq!(memory_of(&bed, 5), 5990);
    assert_eq!(bed.ask(5, SetPerms, 0, "b|n5|r6|r0|"), "!ENOMEM");
    assert_eq!(bed.ask(5, GetPerms, 0, "b|"), "n5|");
    assert_eq!(bed.ask(5, SetPerms, 0, "b|r5|"), "OK|");
    // The name counts for who owns the directory.
    let child = |length: usize| format!("/local/domain/5/open/{}|", "n".repeat(length));
    assert_eq!(bed.ask(6, Mkdir, 0, &child(9)), "!ENOMEM");
    assert_eq!(bed.ask(6, Mkdir, 0, &child(8)), "OK|");
    assert_eq!(memory_of(&bed, 5), 5999);
    assert_eq!(bed.ask(5, Rm, 0, "b|"), "OK|");
    bed.check();
}

#[test]
fn every_path_that_a_transaction_has_to_do_with_is_charged() {
    let mut bed = bed("");
    let held = memory_of(&bed, 5);
    let transaction = bed.begin(5);
    // What it saw, and in the list of what it named.
    bed.ask(5, Read, transaction, "a/b/c|");
    let path = "/local/domain/5/a/b/c".len() as u64;
    assert_eq!(memory_of(&bed, 5), held + 2 * path);
    // The write and its value; the topmost node that it made, and the node above that one.
    bed.ask(5, Write, transaction, "a/b/c|12345");
    let made = "/local/domain/5/a".len() as u64 + "/local/domain/5".len() as u64;
    assert_eq!(memory_of(&bed, 5), held + 3 * path + 5 + made);
    // Written again the value is another; the node above it is new.
    bed.ask(5, Write, transaction, "a/b/c|1234567");
    let above = "/local/domain/5/a/b".len() as u64;
    assert_eq!(memory_of(&bed, 5), held + 3 * path + 7 + made + above);
    bed.restart();
    bed.settle();
    assert_eq!(memory_of(&bed, 5), held + 3 * path + 7 + made + above);
    assert_eq!(bed.ask(5, TransactionEnd, transaction, "F|"), "OK|");
    assert_eq!(memory_of(&bed, 5), held);
}

#[test]
fn the_largest_values_begin_anew_with_what_each_domain_has() {
    let mut bed = bed("");
    for name in ["a", "b", "c"] {
        bed.ask(5, Write, 0, &format!("{name}|"));
    }
    bed.ask(5, Rm, 0, "a|");
    let row = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let shown = bed.ask(0, Control, 0, "quota|5|");
    assert_eq!(row(&shown, "nodes"), "nodes            :        3 (max        4)");
    assert_eq!(
        row(&bed.ask(0, Control, 0, "quota|max|"), "nodes"),
        "nodes            :        4"
    );
    let names = ["nodes", "watches", "outstanding", "memory", "transactions"];
    let zeros = names.map(|name| format!("{name:<17}:        0\n")).concat();
    let anew = bed.ask(0, Control, 0, "quota|max|-r|");
    assert_eq!(anew, format!("Max. seen accounting values:\n{zeros}|"));
    let shown = bed.ask(0, Control, 0, "quota|5|");
    assert_eq!(row(&shown, "nodes"), "nodes            :        3 (max        3)");
    // A restart changes nothing in that, although it looks at what everybody has.
    bed.restart();
    for name in ["nodes", "watches", "transactions"] {
        let shown = bed.ask(0, Control, 0, "quota|max|");
        assert_eq!(row(&shown, name), format!("{name:<17}:        0"));
    }
    // From then on as before.
    bed.ask(5, Write, 0, "a|");
    bed.ask(5, Rm, 0, "a|");
    assert_eq!(
        row(&bed.ask(0, Control, 0, "quota|max|"), "nodes"),
        "nodes            :        4"
    );
    assert_eq!(bed.ask(0, Control, 0, "quota|max|-r|x|"), "!EINVAL");
}
