//! What a life tells the next one, and what an administrator reads of both.

use crate::bed::Bed;
use crate::poison::crashing;
use xenstore_core::{RESTARTS_KEPT, Step};
use xenstore_wire::MessageType::*;

fn status(bed: &mut Bed) -> String {
    bed.ask(0, Control, 0, "status|")
}

fn crash_because(bed: &mut Bed, reason: &str) {
    *bed.host.last_end.borrow_mut() = reason.to_string();
    bed.restart();
}

#[test]
fn the_reason_of_a_restart_is_logged_and_kept() {
    let mut bed = crashing();
    bed.start(1);
    assert_eq!(bed.ask(1, Write, 0, "x|hello"), "OK|");
    bed.host.now.set(7_000_000_000);
    crash_because(&mut bed, "\npanicked at src/a.rs:1:2:\nbroken\n");
    let log = bed.host.log.borrow().join("\n");
    assert!(log.contains("restart 1: panicked at src/a.rs:1:2: broken"), "{log}");
    assert!(
        log.contains("last request, which was done: domain 1 WRITE request 1 transaction 0 length 7 \"x\\x00hello\""),
        "{log}"
    );
    assert!(log.contains(":d1:WRITE"), "{log}");
    let status = status(&mut bed);
    for line in [
        "restarts-recorded: 1",
        "seconds-since-first-start: 7",
        "seconds-since-restart: 0",
        "requests-set-aside: 0",
        "nodes: ",
        "records: ",
        "extents-free: ",
        "log-bytes: ",
        "restart-1: 1970-01-01T00:00:07Z panicked at src/a.rs:1:2: broken",
    ] {
        assert!(
            status.lines().any(|found| found.starts_with(line)),
            "no {line} in {status}"
        );
    }
    let restarts = bed.ask(0, Control, 0, "status|restarts|");
    assert!(restarts.contains("domain 1 WRITE request 1"), "{restarts}");
}

#[test]
fn the_request_in_hand_is_named() {
    let mut bed = crashing();
    bed.start(1);
    assert_eq!(bed.ask(1, Write, 0, "x|xenstore-stubdom: crash now"), "!EIO");
    let restarts = bed.ask(0, Control, 0, "status|restarts|");
    assert!(
        restarts.contains(
            "request in hand: domain 1 WRITE request 1 transaction 0 length 29 \"x\\x00xenstore-stubdom: crash now\""
        ),
        "{restarts}"
    );
    assert!(status(&mut bed).contains("requests-set-aside: 1\n"));
}

#[test]
fn the_last_restarts_are_kept_and_no_more_and_both_replies_fit() {
    let mut bed = crashing();
    for number in 0..RESTARTS_KEPT + 3 {
        let long = format!("{number} {}", "very long ".repeat(100));
        crash_because(&mut bed, &long);
        // A request is served, so this is no loop.
        let raw = vec![0xff; 3000];
        bed.send_raw(0, Write as u32, 0, &raw);
        bed.settle();
        bed.messages(0);
    }
    let lives = bed.service().server().lives();
    assert_eq!(lives.restarts.len(), RESTARTS_KEPT);
    assert_eq!(lives.number as usize, RESTARTS_KEPT + 3);
    let whole = status(&mut bed);
    assert!(
        whole.contains("restart-11: ") && whole.contains("restart-4: ") && !whole.contains("restart-3: "),
        "{whole}"
    );
    let restarts = bed.ask(0, Control, 0, "status|restarts|");
    assert!(restarts.starts_with("restart 11 at "), "{restarts}");
}

#[test]
fn a_crash_after_some_requests_comes_once() {
    let mut bed = crashing();
    bed.start(1);
    assert_eq!(bed.ask(0, Control, 0, "crash|panic|after|3|requests|"), "OK|");
    for value in 0..2 {
        assert_eq!(bed.ask(1, Write, 0, &format!("x|{value}")), "OK|");
    }
    assert_eq!(bed.crashes, 0);
    // A restart for another reason does not disarm it.
    bed.restart();
    assert_eq!(bed.crashes, 1);
    assert_eq!(bed.ask(0, Read, 0, "/local/domain/1/x|"), "1");
    assert_eq!(bed.crashes, 2);
    for _ in 0..10 {
        assert_eq!(bed.ask(1, Read, 0, "x|"), "1");
    }
    assert_eq!(bed.crashes, 2);
}

#[test]
fn every_step_can_be_the_last_one_and_each_strikes_once() {
    for (number, step) in Step::ALL.into_iter().enumerate() {
        for name in [step.to_string(), number.to_string()] {
            let mut bed = crashing();
            bed.start(1);
            assert_eq!(bed.ask(0, Control, 0, &format!("crash|at|{name}|after|2|")), "OK|");
            assert_eq!(bed.crashes, 0, "{step}");
            for value in 0..8 {
                if value == 5 && step == Step::Recovered {
                    bed.restart();
                }
                assert_eq!(bed.ask(1, Write, 0, &format!("x|{value}")), "OK|", "{step}");
            }
            assert_eq!(bed.ask(1, Read, 0, "x|"), "7");
            if matches!(step, Step::Checkpoint | Step::Checkpointed) {
                // They are rare.
                let mut left = 100_000;
                while bed.crashes == 0 && left > 0 {
                    assert_eq!(bed.ask(1, Write, 0, &format!("x|{}", "y".repeat(1500))), "OK|");
                    left -= 1;
                }
            }
            let expected = if step == Step::Recovered { 2 } else { 1 };
            assert_eq!(bed.crashes, expected, "{step}");
            bed.check();
        }
    }
}

#[test]
fn what_crash_does_not_understand_it_says_in_a_line() {
    let mut bed = crashing();
    for (command, reply) in [
        ("crash|", "crash: 'crash' wants to know how, see crash help\n|"),
        ("crash|at|", "crash: 'at' is no kind of crash, see crash help\n|"),
        ("crash|at|99|", "crash: '99' is no step, see crash help\n|"),
        (
            "crash|panic|after|x|",
            "crash: 'x' is no number of requests, see crash help\n|",
        ),
        (
            "crash|panic|soon|",
            "crash: 'soon' is not understood, see crash help\n|",
        ),
    ] {
        assert_eq!(bed.ask(0, Control, 0, command), reply);
    }
    assert_eq!(bed.crashes, 0);
    let help = bed.ask(0, Control, 0, "crash|help|");
    assert!(Step::ALL.into_iter().all(|step| help.contains(step.name())), "{help}");
    assert!(bed.ask(0, Control, 0, "help|").contains("\ncrash "));
    let mut bed = Bed::new();
    assert_eq!(bed.ask(0, Control, 0, "crash|help|"), "!EINVAL");
    assert!(!bed.ask(0, Control, 0, "help|").contains("crash"));
}

#[test]
fn a_crash_loop_ends_where_a_request_is_served_or_a_life_lasts() {
    let mut bed = crashing();
    bed.start(1);
    for _ in 0..20 {
        bed.restart();
        bed.restart();
        assert_eq!(bed.ask(1, Write, 0, "x|1"), "OK|");
    }
    // Nobody asks for anything, but each life lasts.
    for _ in 0..20 {
        bed.restart();
        bed.settle();
        bed.host.now.set(bed.host.now.get() + 11_000_000_000);
        bed.settle();
    }
    assert_eq!(bed.ask(1, Read, 0, "x|"), "1");
}

#[test]
fn a_loop_by_way_of_the_older_checkpoint_is_noticed_by_nobody() {
    let mut bed = crashing();
    bed.start(1);
    bed.ask(0, Watch, 0, "/local/domain/1|token|");
    let transaction = bed.begin(1);
    assert_eq!(bed.ask(1, Write, transaction, "y|2"), "OK|");
    for _ in 0..xenstore_recovery::LIVES_BEFORE_GIVING_UP {
        bed.restart();
    }
    assert_eq!(bed.commit(1, transaction), "OK|");
    assert_eq!(bed.ask(1, Read, 0, "y|"), "2");
    bed.check();
}
