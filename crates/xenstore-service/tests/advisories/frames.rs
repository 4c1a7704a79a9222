//! Rings, frames, paths and tokens that are not what they should be.

use xenstore_core::DomainState;
use xenstore_ring::{SharedPage, offset};
use xenstore_wire::MessageType::{
    Directory, DirectoryPart, GetPerms, Mkdir, Read, Rm, SetPerms, Unwatch, Watch, WatchEvent, Write,
};
use xenstore_wire::PAYLOAD_MAX;

use crate::bed::Bed;
use crate::header_announcing;

/// oxenstored believed the guest's indices, and read them twice.
#[test]
fn xsa_38_indices_out_of_range_are_refused_and_a_full_ring_is_legal() {
    let mut bed = Bed::new();
    for (index, distance) in [
        (offset::REQ_PROD, 1025),
        (offset::REQ_PROD, u32::MAX),
        (offset::REQ_PROD, 0x8000_0000),
        (offset::RSP_CONS, 1),
        (offset::RSP_CONS, 0x8000_0000),
    ] {
        bed.start(5);
        bed.start(6);
        bed.ask(5, Write, 0, "x|v");
        let page = bed.guests[&5].page.clone();
        let own = if index == offset::REQ_PROD {
            offset::REQ_CONS
        } else {
            offset::RSP_PROD
        };
        page.store(index, page.load(own).wrapping_add(distance));
        bed.kick(5);
        bed.settle();
        assert_eq!(page.load(offset::ERROR), 2, "{index} moved by {distance:#x}");
        assert_eq!(bed.ask(6, Write, 0, "x|v"), "OK|");
        bed.domain_is(5, DomainState::ABSENT);
        bed.domain_is(6, DomainState::ABSENT);
    }
    // 1024 bytes of requests at once: the index is exactly a ring ahead.
    bed.start(7);
    let sent: Vec<u32> = (0..32)
        .map(|number| bed.send(7, Write, 0, &format!("name-{number:010}|")))
        .collect();
    bed.pump();
    let page = bed.guests[&7].page.clone();
    let ahead = page.load(offset::REQ_PROD).wrapping_sub(page.load(offset::REQ_CONS));
    assert_eq!(ahead, 1024, "the ring is not full");
    bed.settle();
    let answered: Vec<u32> = bed.messages(7).iter().map(|message| message.request).collect();
    assert_eq!(answered, sent);
    assert_eq!(page.load(offset::ERROR), 0);
    bed.check();
}

/// A directory with more names than a payload holds made a frame that no client accepts.
#[test]
fn xsa_72_no_reply_is_longer_than_a_payload() {
    let mut bed = Bed::new();
    bed.start(5);
    let name = |number: u32| format!("{number:0>60}");
    for number in 0..80 {
        assert_eq!(
            bed.ask(0, Write, 0, &format!("/local/domain/5/d/{}|", name(number))),
            "OK|"
        );
    }
    bed.ask(0, SetPerms, 0, "/local/domain/5/d|n0|r5|");
    for domid in [0, 5] {
        bed.send(domid, Directory, 0, "/local/domain/5/d|");
        bed.settle();
        let reply = bed.messages(domid).remove(0);
        assert!(reply.payload.len() <= PAYLOAD_MAX, "{} bytes", reply.payload.len());
        assert_eq!(reply.text(), "E2BIG|");
        let part = bed.ask(domid, DirectoryPart, 0, "/local/domain/5/d|0|");
        assert!(part.len() <= PAYLOAD_MAX && part.contains(&name(3)), "{part}");
    }
}

/// oxenstored looked at the length before it put the home in front: such a node could be made and not be read.
#[test]
fn xsa_323_a_node_that_can_be_made_can_be_read_by_every_name() {
    let mut bed = Bed::new();
    bed.start(5);
    for (length, expected) in [(2046, "OK|"), (2047, "OK|"), (2048, "!EINVAL"), (3000, "!EINVAL")] {
        // Five names, because a single one would be too much for its parent's size.
        let part = format!("{}/", "n".repeat(399));
        let name = format!("{}{}", part.repeat(4), "m".repeat(length - 1600));
        let absolute = format!("/local/domain/5/{name}");
        assert_eq!(bed.ask(5, Mkdir, 0, &format!("{name}|")), expected, "{length} bytes");
        assert_eq!(
            bed.ask(5, Mkdir, 0, &format!("{absolute}|")),
            expected,
            "{length} bytes"
        );
        if expected == "OK|" {
            for (domid, path) in [(5, &name), (5, &absolute), (0, &absolute)] {
                assert_eq!(bed.ask(domid, Read, 0, &format!("{path}|")), "");
                assert_eq!(bed.ask(domid, GetPerms, 0, &format!("{path}|")), "n5|");
            }
            let (above, last) = absolute.rsplit_once('/').unwrap();
            assert_eq!(bed.ask(0, Directory, 0, &format!("{above}|")), format!("{last}|"));
            assert_eq!(bed.ask(5, Rm, 0, &format!("{name}|")), "OK|");
        } else {
            assert_eq!(bed.ask(0, Read, 0, &format!("{absolute}|")), "!ENOENT");
        }
    }
    bed.check();
}

/// The privileged domain's paths are limited by the payload alone, and the tree holds names of 3072 bytes: a longer one was
/// answered with OK and not there.
#[test]
fn xsa_323_a_name_longer_than_the_tree_holds_is_refused_and_not_lost() {
    let mut bed = Bed::new();
    for (length, expected) in [(3072, "OK|"), (3073, "!EINVAL"), (4000, "!EINVAL")] {
        let name = "n".repeat(length);
        assert_eq!(bed.ask(0, Write, 0, &format!("/{name}|v")), expected, "{length} bytes");
        let found = bed.ask(0, Read, 0, &format!("/{name}|"));
        assert_eq!(found, if expected == "OK|" { "v" } else { "!ENOENT" });
    }
    assert_eq!(bed.service().server().tree().figures().impossible, 0);
    bed.check();
}

/// A token of almost a payload made an event longer than one, and C xenstored used what it had not got.
#[test]
fn xsa_324_an_event_longer_than_a_payload_is_not_made() {
    let mut bed = Bed::new();
    bed.start(5);
    let token = "t".repeat(PAYLOAD_MAX - "x||".len());
    assert_eq!(bed.ask(5, Watch, 0, &format!("x|{token}|")), "OK|");
    // The event of the watch itself fits exactly, that of a child is longer.
    bed.ask(0, Write, 0, "/local/domain/5/x|");
    bed.ask(0, Write, 0, "/local/domain/5/x/child|");
    bed.settle();
    let events: Vec<usize> = bed.messages(5).iter().map(|event| event.payload.len()).collect();
    assert_eq!(events, [PAYLOAD_MAX]);
    assert_eq!(bed.ask(5, Read, 0, "x/child|"), "");
    assert_eq!(bed.ask(5, Unwatch, 0, &format!("x|{token}|")), "OK|");
    assert_eq!(bed.ask(5, Watch, 0, "x|short|"), "OK|");
    bed.send(0, Write, 0, "/local/domain/5/x|");
    assert_eq!(bed.events(5), ["x short"]);
    bed.check();
}

/// C xenstored forgot a guest that broke its ring, so nobody heard of its end and it stayed a zombie.
#[test]
fn xsa_325_the_end_of_a_guest_that_was_given_up_is_told() {
    let mut bed = Bed::new();
    bed.ask(0, Watch, 0, "@releaseDomain|gone|");
    bed.events(0);
    for broken_by_index in [true, false] {
        bed.start(5);
        let page = bed.guests[&5].page.clone();
        if broken_by_index {
            page.store(offset::REQ_PROD, page.load(offset::REQ_CONS).wrapping_add(5000));
            bed.kick(5);
        } else {
            bed.guests.get_mut(&5).unwrap().send_bytes(&header_announcing(4097));
        }
        bed.settle();
        assert_ne!(page.load(offset::ERROR), 0);
        assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "5|");
        let shut_down = DomainState {
            shutdown: true,
            ..DomainState::ALIVE
        };
        bed.domain_is(5, shut_down);
        assert_eq!(bed.events(0), ["@releaseDomain gone"]);
        bed.domain_is(5, DomainState::ABSENT);
        assert_eq!(bed.events(0), ["@releaseDomain gone"]);
        assert_eq!(bed.ask(0, Directory, 0, "/local/domain|"), "");
        assert!(bed.host.mapped.borrow().is_empty());
    }
    bed.check();
}

/// A length between 1 and 2 GiB became negative on 32 bits: an exception, and the same packet again for ever.
#[test]
fn xsa_420_a_frame_that_cannot_be_is_passed_at_once() {
    let mut bed = Bed::new();
    bed.start(6);
    bed.start(5);
    for length in [4097, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, u32::MAX] {
        let guest = bed.guests.get_mut(&5).unwrap();
        guest.send_bytes(&header_announcing(length));
        guest.send_bytes(&[0; 500]);
        bed.settle();
        assert!(bed.messages(5).is_empty());
        let page = bed.guests[&5].page.clone();
        assert_eq!(page.load(offset::ERROR), 3, "{length:#x} bytes announced");
        assert!(!bed.round(), "there is nothing left to do");
        assert_eq!(bed.ask(6, Write, 0, "x|v"), "OK|");
        bed.reconnect(5);
        assert_eq!(bed.ask(5, Write, 0, "x|v"), "OK|");
    }
    bed.check();
}

/// The home prefix without a number had no error name: C xenstored asserted one.
#[test]
fn xsa_481_the_prefix_of_homes_is_a_malformed_path_and_is_answered() {
    let mut bed = Bed::new();
    bed.start(5);
    for domid in [5, 0] {
        for path in ["/local/domain/", "/local/domain//", "/local/domain/5/", "/", "@", ""] {
            for (kind, payload) in [
                (Read, format!("{path}|")),
                (Directory, format!("{path}|")),
                (DirectoryPart, format!("{path}|0|")),
                (GetPerms, format!("{path}|")),
                (Write, format!("{path}|v")),
                (Mkdir, format!("{path}|")),
                (Rm, format!("{path}|")),
                (SetPerms, format!("{path}|n{domid}|")),
                (Unwatch, format!("{path}|t|")),
            ] {
                let answer = bed.ask(domid, kind, 0, &payload);
                let malformed = path.len() > 1 || path.is_empty();
                assert!(!malformed || answer == "!EINVAL", "{kind:?} {payload}: {answer}");
            }
        }
        assert_eq!(bed.ask(domid, Watch, 0, "/local/domain/|t|"), "!EINVAL");
    }
    bed.ask(5, Watch, 0, "@|t|");
    bed.settle();
    assert!(bed.messages(5).iter().all(|message| message.kind == WatchEvent));
    bed.check();
}
