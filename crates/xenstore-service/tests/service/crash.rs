//! The server's life ends after each single durable or ring-visible store, and no client notices: what everyone was told is
//! what a server that never crashed tells.

use std::collections::BTreeMap;

use crate::bed::Bed;
use xenstore_core::DomainState;
use xenstore_wire::MessageType::{self, *};

/// What one client was told, in order. Generations are not compared.
type Told = BTreeMap<u16, Vec<String>>;

/// Everyone's requests: some in transactions, some longer than a ring, some that fail, and the coming and going of domains.
fn work(bed: &mut Bed) -> Told {
    let mut told = Told::new();
    let mut say = |bed: &mut Bed, requests: &[(u16, MessageType, u32, &str)]| {
        for (domid, kind, transaction, payload) in requests {
            bed.send(*domid, *kind, *transaction, payload);
        }
        bed.settle();
        let domids: Vec<u16> = bed.guests.keys().copied().collect();
        for domid in domids {
            let messages = bed.messages(domid).into_iter();
            let lines = messages.map(|message| format!("{:?} {} {}", message.kind, message.request, message.text()));
            told.entry(domid).or_default().extend(lines);
        }
    };
    let long = format!("/long|{}", "0123456789abcdef".repeat(250));
    bed.build(1);
    bed.build(2);
    say(
        bed,
        &[(0, Watch, 0, "@introduceDomain|new|"), (0, Watch, 0, "/shared|dom0|")],
    );
    say(
        bed,
        &[
            (0, Introduce, 0, "1|1|1|"),
            (0, Introduce, 0, "2|1|1|"),
            (0, Introduce, 0, "9|1|1|"),
        ],
    );
    say(
        bed,
        &[
            (0, Mkdir, 0, "/local/domain/1|"),
            (0, SetPerms, 0, "/local/domain/1|n1|r2|"),
        ],
    );
    say(bed, &[(0, Mkdir, 0, "/shared|"), (0, SetPerms, 0, "/shared|b0|")]);
    say(
        bed,
        &[
            (1, Watch, 0, "x|one|"),
            (2, Watch, 0, "/local/domain/1|two|"),
            (1, Write, 0, "x|1"),
        ],
    );
    say(
        bed,
        &[
            (1, Write, 0, "x|2"),
            (1, Read, 0, "x|"),
            (2, Read, 0, "/local/domain/1/x|"),
            (2, Write, 0, "y|3"),
        ],
    );
    say(bed, &[(0, Write, 0, &long)]);
    say(bed, &[(0, Read, 0, "/long|"), (0, Rm, 0, "/long|")]);
    say(
        bed,
        &[
            (1, TransactionStart, 0, "|"),
            (2, TransactionStart, 0, "|"),
            (0, TransactionStart, 0, "|"),
        ],
    );
    say(
        bed,
        &[
            (1, Write, 1, "/shared/a|1"),
            (2, Write, 1, "/shared/b|2"),
            (0, Read, 1, "/shared/c|"),
        ],
    );
    say(
        bed,
        &[
            (0, Write, 1, "/shared/d|4"),
            (1, Directory, 1, "/shared|"),
            (2, Read, 1, "/shared/a|"),
        ],
    );
    say(bed, &[(2, TransactionEnd, 1, "T|")]);
    say(
        bed,
        &[
            (1, TransactionEnd, 1, "T|"),
            (0, TransactionEnd, 1, "T|"),
            (1, Read, 1, "x|"),
        ],
    );
    say(
        bed,
        &[
            (0, Directory, 0, "/shared|"),
            (0, Unwatch, 0, "/shared|dom0|"),
            (1, ResetWatches, 0, "|"),
        ],
    );
    say(
        bed,
        &[
            (0, Watch, 0, "@releaseDomain|gone|"),
            (0, SetTarget, 0, "2|1|"),
            (2, Write, 0, "/local/domain/1/z|"),
        ],
    );
    bed.domain_is(
        1,
        DomainState {
            shutdown: true,
            ..DomainState::ALIVE
        },
    );
    bed.domain_is(1, DomainState::ABSENT);
    say(
        bed,
        &[
            (0, IsDomainIntroduced, 0, "1|"),
            (0, Directory, 0, "/local/domain|"),
            (0, Release, 0, "2|"),
        ],
    );
    say(bed, &[(0, Directory, 0, "/|"), (0, Control, 0, "check|")]);
    told
}

#[test]
fn a_crash_after_any_store_is_not_noticed() {
    let mut unbroken = Bed::new();
    let start = unbroken.host.fuse.burnt.get();
    let expected = work(&mut unbroken);
    let stores = unbroken.host.fuse.burnt.get() - start;
    assert!(stores > 300, "only {stores} stores");
    for store in 1..=stores {
        let mut bed = Bed::new();
        bed.host.fuse.arm(store);
        let told = work(&mut bed);
        assert_eq!(bed.crashes, 1, "store {store}");
        for (domid, lines) in &expected {
            let told = told.get(domid).map(Vec::as_slice).unwrap_or_default();
            for (number, line) in lines.iter().enumerate() {
                let got = told.get(number).map(String::as_str);
                assert_eq!(
                    got,
                    Some(line.as_str()),
                    "domain {domid} noticed a crash at store {store} of {stores}"
                );
            }
            assert_eq!(
                told.len(),
                lines.len(),
                "domain {domid} was told too much after store {store} of {stores}"
            );
        }
        bed.check();
    }
    println!("{stores} crash points");
}

/// The record that begins the new stream is there first, then the ring is emptied, word by word.
#[test]
fn a_crash_while_a_domain_is_introduced_again_leaves_it_connected() {
    for store in 1.. {
        let mut bed = Bed::new();
        bed.start(1);
        assert_eq!(bed.ask(1, Write, 0, "x|1"), "OK|");
        bed.host.fuse.arm(store);
        bed.introduce_again(1);
        bed.host.fuse.arm(0);
        assert_eq!(bed.ask(1, Read, 0, "x|"), "1", "a crash at store {store}");
        if bed.crashes == 0 {
            assert!(store > 10, "only {store} stores");
            return;
        }
    }
}

/// Which of the stores of the work are followed by crashes in recovery: every one would take half an hour.
const STEP: usize = 23;

#[test]
fn a_crash_in_a_recovery_is_not_noticed_either() {
    let mut unbroken = Bed::new();
    let start = unbroken.host.fuse.burnt.get();
    let expected = work(&mut unbroken);
    let stores = unbroken.host.fuse.burnt.get() - start;
    let mut points = 0;
    for store in (1..=stores).step_by(STEP) {
        for in_recovery in 1.. {
            let mut bed = Bed::new();
            bed.crash_recoveries = [in_recovery, in_recovery / 2].into();
            bed.host.fuse.arm(store);
            let told = work(&mut bed);
            if bed.crashes == 1 {
                // The recovery has no more stores than that.
                break;
            }
            assert_eq!(
                told, expected,
                "a crash at store {store}, then one at store {in_recovery} of the recovery"
            );
            bed.check();
            points += 1;
        }
    }
    println!("{points} crash points in recoveries");
}

#[test]
fn a_server_that_crashes_all_the_time_still_answers_everything() {
    let mut unbroken = Bed::new();
    let expected = work(&mut unbroken);
    for every in [60, 97, 150] {
        let mut bed = Bed::new();
        bed.crash_every = Some(every);
        bed.host.fuse.arm(every);
        assert_eq!(work(&mut bed), expected, "a crash every {every} stores");
        assert!(bed.crashes > 1, "{} crashes", bed.crashes);
    }
}

#[test]
fn a_crash_on_request_is_answered_by_the_next_life() {
    let mut bed = Bed::with(
        xenstore_core::Configuration {
            debug_crash: true,
            ..Default::default()
        },
        8 << 20,
    );
    for kind in ["panic", "fault"] {
        assert_eq!(bed.ask(0, Control, 0, &format!("crash|{kind}|")), "OK|");
    }
    assert_eq!(bed.crashes, 2);
    assert_eq!(
        bed.ask(0, Control, 0, "crash|other|"),
        "crash: 'other' is no kind of crash, see crash help\n|"
    );
    assert_eq!(Bed::new().ask(0, Control, 0, "crash|panic|"), "!EINVAL");
}
