//! Random work of dom0 and three guests over rings: every request is answered exactly once, and what is derived from the
//! tree agrees with it. The seed of a failure is printed; `XENSTORE_SEED=n` runs that one alone.

use crate::bed::Bed;
use xenstore_core::DomainState;
use xenstore_core::tree::Memory as _;
use xenstore_wire::MessageType::{self, *};

/// xorshift64*: the test needs repeatability, not quality.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.next(from.len() as u64)).unwrap()]
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "a/b", "a/b/c", "b/a/c"];
const ROOTS: [&str; 7] = [
    "",
    "",
    "/",
    "/local/domain/1/",
    "/local/domain/2/",
    "/local/domain/3/",
    "/shared/",
];
const PERMISSIONS: [&str; 6] = ["n1|", "r2|w3|", "b0|", "n3|r1|b2|", "w1|", "r0|n2|"];

fn request(random: &mut Random) -> (MessageType, String) {
    let path = format!("{}{}", random.of(&ROOTS), random.of(&NAMES));
    let token = random.next(3);
    match random.next(24) {
        0..=5 => {
            let size = if random.next(9) == 0 { 1900 } else { 30 };
            let value = "v".repeat(usize::try_from(random.next(size)).unwrap());
            (Write, format!("{path}|{value}"))
        }
        6 | 7 => (Mkdir, format!("{path}|")),
        8..=10 => (Rm, format!("{path}|")),
        11 | 12 => (SetPerms, format!("{path}|{}", random.of(&PERMISSIONS))),
        13 => (GetPerms, format!("{path}|")),
        14..=16 => (Read, format!("{path}|")),
        17 => (Directory, format!("{path}|")),
        18 => (DirectoryPart, format!("{path}|{}|", random.next(5))),
        19 | 20 => (Watch, format!("{path}|{token}|")),
        21 => (Unwatch, format!("{path}|{token}|")),
        22 => (ResetWatches, "|".into()),
        _ => (Read, format!("{path}//|")),
    }
}

fn run(seed: u64, steps: u32) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bed = Bed::new();
    for domid in 1..=3 {
        bed.start(domid);
    }
    let mut open: Vec<(u16, u32)> = Vec::new();
    for _ in 0..steps {
        let domid = u16::try_from(random.next(4)).unwrap();
        let own: Vec<u32> = open.iter().filter(|(of, _)| *of == domid).map(|(_, id)| *id).collect();
        match random.next(60) {
            0..=5 if own.len() < 5 => {
                let id = bed.begin(domid);
                open.push((domid, id));
            }
            6..=9 if !own.is_empty() => {
                let id = own[0];
                let how = if random.next(4) == 0 { "F|" } else { "T|" };
                let answer = bed.ask(domid, TransactionEnd, id, how);
                assert!(
                    ["OK|", "!EAGAIN", "!ENOSPC", "!ENOMEM"].contains(&answer.as_str()),
                    "seed {seed}: {answer}"
                );
                open.retain(|transaction| *transaction != (domid, id));
            }
            10 if domid != 0 => {
                bed.domain_is(domid, DomainState::ABSENT);
                bed.start(domid);
                open.retain(|(of, _)| *of != domid);
            }
            11 if domid != 0 => {
                bed.reset_silently(domid);
                open.retain(|(of, _)| *of != domid);
            }
            _ => {
                let (kind, payload) = request(&mut random);
                let within = if own.is_empty() || random.next(2) == 0 {
                    0
                } else {
                    own[0]
                };
                bed.ask(domid, kind, within, &payload);
                if kind == ResetWatches {
                    open.retain(|(of, _)| *of != domid);
                }
            }
        }
        if random.next(64) == 0 {
            bed.check();
        }
    }
    for (domid, id) in open {
        bed.ask(domid, TransactionEnd, id, "F|");
    }
    bed.check();
    let server = bed.service().server();
    let figures = server.tree().figures();
    assert_eq!(
        (figures.impossible, figures.exhausted),
        (0, 0),
        "seed {seed}: {figures:?}"
    );
    assert!(server.pages().chunk_count() > 0);
}

#[test]
fn random_work_is_answered_once_and_leaves_everything_consistent() {
    if let Some(seed) = std::env::var("XENSTORE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed, 5000);
    }
    for seed in 1..=40 {
        println!("seed {seed}");
        run(seed, 1500);
    }
}
