//! A life of the server ends before every store, in the middle of it, and in recoveries; nobody notices.
//!
//! `XENSTORE_SEED=n` runs one seed alone; `XENSTORE_SEEDS=n` runs as many, from 1 or from `XENSTORE_FIRST` on.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crash_tests::checker::{self, Figures};
use crash_tests::coverage;
use crash_tests::host::{Engine, Plan};
use crash_tests::left_out::Noticed;
use crash_tests::tour::tour;
use model_tests::contest::{self, Contest};
use model_tests::maker;
use model_tests::model::Settings;
use model_tests::step::Step;

/// Steps of one stream.
const STEPS: usize = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// One of so many of the first [`SEEDS`] is a tour, and then one of so many.
const TOURS: [u64; 2] = [4, 50];

/// Seconds between two lines that say how far it is.
const PROGRESS: u64 = 60;

fn is_tour(seed: u64) -> bool {
    seed.is_multiple_of(TOURS[usize::from(seed > SEEDS)])
}

/// The stream of a seed.
fn stream(seed: u64) -> (Settings, Vec<Step>) {
    if is_tour(seed) {
        tour(seed)
    } else {
        maker::stream(seed, STEPS)
    }
}

/// What was counted, which streams failed, with how, and when it was last said how far it is.
#[derive(Default)]
struct Sum {
    figures: Figures,
    failed: Vec<String>,
    said: Duration,
}

/// Runs streams on all processors.
fn streams(name: &str, seeds: std::ops::RangeInclusive<u64>, plan: impl Fn(u64) -> Plan + Sync) -> Sum {
    let next = AtomicU64::new(*seeds.start());
    let sum = Mutex::new(Sum::default());
    let start = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > *seeds.end() || sum.lock().unwrap_or_else(PoisonError::into_inner).failed.len() > 2 {
                return;
            }
            let (settings, steps) = stream(seed);
            let engine = Engine::new(&settings, plan(seed), seed);
            let mut contest = Contest::with(&settings, engine);
            let outcome = contest::run_with(&mut contest, &steps);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.figures.add(&contest.engine().figures());
            if let Err((index, difference)) = outcome {
                let failure = format!(
                    "seed {seed}, step {index}: {}\n{difference}\n  again: XENSTORE_SEED={seed} \
                     cargo test -p crash-tests --test every_store {name} -- --nocapture",
                    steps[index]
                );
                println!("{failure}");
                sum.failed.push(failure);
            }
            let passed = start.elapsed();
            if passed.saturating_sub(sum.said).as_secs() >= PROGRESS {
                sum.said = passed;
                println!(
                    "{name}: up to seed {seed}, {} crash points, {} s",
                    sum.figures.points(),
                    passed.as_secs()
                );
            }
        }
    };
    let threads = number("XENSTORE_THREADS").and_then(|count| usize::try_from(count).ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run(name: &str, seeds: u64, plan: impl Fn(u64) -> Plan + Sync) -> Figures {
    let first = number("XENSTORE_FIRST").unwrap_or(1);
    let last = first + number("XENSTORE_SEEDS").unwrap_or(seeds) - 1;
    let seeds = number("XENSTORE_SEED").map_or(first..=last, |seed| seed..=seed);
    let start = Instant::now();
    let Sum { figures, failed, .. } = streams(name, seeds.clone(), plan);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}, seeds {seeds:?}: {} crash points ({} before a store, {} in one, {} in recoveries, {} lives), {:.0} a second",
        figures.points(),
        figures.before,
        figures.torn,
        figures.nested,
        figures.lives,
        figures.points() as f64 / seconds
    );
    assert!(failed.is_empty(), "{} streams failed", failed.len());
    figures
}

/// Streams of the first test, so that there are more than a million crash points.
const SEEDS: u64 = 58;

/// Streams beyond those that found something once: a reset that was not counted, of a client that had nothing to forget (5095).
const FOUND: [u64; 1] = [5095];

fn before_any_store(seed: u64) -> Plan {
    Plan {
        tries: true,
        // Logs stay short where lives end, which makes trials cheap; some must become long.
        lives: match seed {
            _ if is_tour(seed) => 10,
            _ if seed.is_multiple_of(16) => 0,
            // Most of a long run: twice as many points in the same time.
            _ if seed > SEEDS && !seed.is_multiple_of(4) => 40,
            _ => 200,
        },
        ..Plan::QUIET
    }
}

#[test]
fn streams_that_found_something_find_nothing_now() {
    for seed in FOUND {
        let sum = streams("a_crash_before_any_store", seed..=seed, before_any_store);
        assert!(sum.failed.is_empty() && sum.figures.points() > 0);
    }
}

#[test]
fn a_crash_before_any_store_comes_back_as_the_state_that_was_durable() {
    let figures = run("a_crash_before_any_store", SEEDS, before_any_store);
    println!("{}", coverage::table(&figures));
    let few = ["XENSTORE_SEED", "XENSTORE_SEEDS", "XENSTORE_FIRST"].map(number) != [None; 3];
    // A few streams cannot meet everything; what is impossible none may meet.
    let gaps = if few {
        coverage::impossible(&figures)
    } else {
        coverage::gaps(&figures)
    };
    assert!(gaps.is_empty(), "{} gaps: {gaps:#?}", gaps.len());
    assert!(
        few || figures.points() >= 1_000_000,
        "{} crash points",
        figures.points()
    );
}

#[test]
fn clients_are_told_the_same_however_often_lives_end() {
    run("clients_are_told_the_same", 300, |seed| Plan {
        lives: [20, 40, 80, 200][(seed / 4 % 4) as usize],
        ..Plan::QUIET
    });
}

/// Stores of which the lack cannot be noticed, and why.
const NOT_NOTICED: [(&str, &str); 6] = [
    (
        "note",
        "without it only damage would be noticed less; `xenstore-recovery` has tests of damage",
    ),
    (
        "lives",
        "only many lives in a row that get nothing done make use of it; `xenstore-service` has tests of that",
    ),
    (
        "mark",
        "only a request that ends two lives makes use of it; `xenstore-service` has tests of that",
    ),
    ("checkpoint erased", "the head does not verify with another body"),
    (
        "length",
        "extents that were added and are not written so are found by the next life that needs them",
    ),
    ("new extent", "pages that grow are zeros already"),
];

/// Two that may come in the other order, each perhaps [`ANY`], and why.
type Reason = ((&'static str, &'static str), &'static str);

const ANY: &str = "*";

/// Neighbours that may change places: a crash between them comes to what it comes to before or behind both.
const MAY_CHANGE_PLACES: [Reason; 22] = [
    (("lives", ANY), OF_LIVES),
    ((ANY, "lives"), OF_LIVES),
    (("mark", ANY), OF_MARKS),
    ((ANY, "mark"), OF_MARKS),
    (
        ("note", ANY),
        "what was noted before is noted in another place, and the log says the rest",
    ),
    (("log body", "log frame"), ONE_CHECKSUM),
    (("checkpoint erased", "checkpoint body"), ONE_CHECKSUM),
    (("checkpoint body", "checkpoint head"), ONE_CHECKSUM),
    ((ANY, "log body"), "a body without its frame is nothing"),
    ((ANY, "block"), OF_TREES),
    (("block", "note"), OF_TREES),
    (("table", ANY), OF_TREES),
    (
        ("length", ANY),
        "extents that were added are found by the next life that needs them",
    ),
    (("ring consumer", ANY), "a recovery catches up on it"),
    (("ring restart", ANY), AGAIN),
    (("ring features", ANY), AGAIN),
    ((ANY, "ring bytes"), BEHIND_THE_INDEX),
    (
        ("slot result", ANY),
        "as long as the ring is as it was left, the intent and it together say the same",
    ),
    (("checkpoint head", ANY), OTHER_CHECKPOINT),
    ((ANY, "checkpoint erased"), OTHER_CHECKPOINT),
    (("directory", ANY), OF_EXTENTS),
    ((ANY, "directory"), OF_EXTENTS),
];

const OF_LIVES: &str = "only many lives in a row that get nothing done make use of it";
const OF_MARKS: &str = "only a request that ends two lives makes use of it";
const ONE_CHECKSUM: &str = "one checksum is over both: until both are there, neither is";
const OF_TREES: &str = "a block that no checkpoint reaches is nowhere, and is made again by its record";
const AGAIN: &str = "a recovery does it again";
const OTHER_CHECKPOINT: &str = "the other checkpoint leads to the same state";
const OF_EXTENTS: &str = "an extent that is not listed yet holds nothing that is needed, and is taken again";

/// What may be shown before that is durable: what lies between is no record of it.
const MAY_BE_EARLY: [Reason; 4] = [
    ((ANY, "ring restart"), AGAIN),
    ((ANY, "ring features"), AGAIN),
    ((ANY, "ring error"), AGAIN),
    (("checkpoint erased", "ring consumer"), OTHER_CHECKPOINT),
];

/// What must not be shown before that is durable.
const NEVER_EARLY: [(&str, &str); 7] = [
    ("log body", "ring producer"),
    ("log frame", "ring producer"),
    ("slot intent", "ring producer"),
    ("log body", "ring consumer"),
    ("log frame", "ring consumer"),
    ("log body", "ring restart"),
    ("log frame", "ring restart"),
];

/// What was tried less often says nothing.
const RARE: u64 = 10;

/// What nobody noticed without a known reason. Nobody is to believe a reason that does not hold: where `strict`, what was noticed more
/// often than not is complained of if there is one, and so is a reason for what does not occur. (A table entry that the cleaner changes
/// must not come before the block that it moved; most entries are for new blocks, where it makes no difference.)
fn complaints(what: &str, counts: &checker::Noticed, known: &[Reason], strict: bool) -> Vec<String> {
    let is = |pattern: &str, site: &str| pattern == ANY || pattern == site;
    let matches = |(pattern, _): &Reason, key: &(&str, &str)| is(pattern.0, key.0) && is(pattern.1, key.1);
    let mut complaints = Vec::new();
    for (key, (noticed, not)) in counts {
        println!("{what} {key:?}: noticed {noticed} times, not noticed {not} times");
        let listed = known.iter().any(|reason| matches(reason, key));
        if *noticed == 0 && !listed && *not >= RARE {
            complaints.push(format!("{what} {key:?}: nobody noticed in {not} tries"));
        }
        if strict && noticed > not && listed {
            complaints.push(format!(
                "{what} {key:?} is said to be all right, and was noticed {noticed} times"
            ));
        }
    }
    let unused = known
        .iter()
        .filter(|reason| !counts.keys().any(|key| matches(reason, key)));
    complaints.extend(unused.map(|(pattern, _)| format!("{what} {pattern:?} does not occur")));
    complaints
}

/// [`complaints`] of single sites.
fn complaints_of_sites(
    what: &str,
    counts: impl Iterator<Item = (&'static str, (u64, u64))>,
    known: &[(&'static str, &'static str)],
) -> Vec<String> {
    let counts = counts.map(|(site, counts)| ((site, ""), counts)).collect();
    let known: Vec<Reason> = known.iter().map(|(site, why)| ((*site, ""), *why)).collect();
    complaints(what, &counts, &known, true)
}

#[test]
fn stores_that_are_left_out_or_change_places_are_noticed() {
    let name = "stores_that_are_left_out_or_change_places";
    let plan = |seed| Plan {
        lives: if is_tour(seed) { 20 } else { 200 },
        mutants: 3,
        ..Plan::QUIET
    };
    let mut figures = run(name, 12, plan);
    if number("XENSTORE_SEED").is_some() {
        return;
    }
    // What is noticed only if a client begins anew at the right moment, as it does in a tour.
    let rare = streams(name, TOURS[0]..=TOURS[0], |seed| Plan {
        mutants: 1,
        only: Some("slot result"),
        ..plan(seed)
    });
    assert!(rare.failed.is_empty());
    figures.add(&rare.figures);
    let mut wrong = complaints_of_sites("left out", figures.dropped.into_iter(), &NOT_NOTICED);
    wrong.extend(complaints("changed places", &figures.swapped, &MAY_CHANGE_PLACES, true));
    wrong.extend(complaints("made too early", &figures.early, &MAY_BE_EARLY, false));
    let early = NEVER_EARLY
        .iter()
        .filter(|pair| figures.early.get(*pair).is_none_or(|(noticed, _)| *noticed == 0));
    wrong.extend(early.map(|pair| format!("made too early {pair:?}: nobody noticed")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// How often streams in which one thing is wrong for clients are noticed, and how often not.
fn streams_with_a_fault(plan: impl Fn(u32) -> Plan, swapped: bool) -> (u64, u64) {
    let mut counts = (0, 0);
    // In random streams at some places, in a tour at each.
    let some = (1..=12).flat_map(|seed| [0, 1, seed].map(|number| (seed, number)));
    let each = (0..40).map(|number| (TOURS[0], number));
    for (seed, number) in some.chain(each) {
        let (settings, steps) = stream(seed);
        let engine = Engine::new(&settings, plan(number as u32), seed);
        let mut contest = Contest::with(&settings, engine);
        match contest::run_with(&mut contest, &steps) {
            Err(_) => counts.0 += 1,
            Ok(_) => counts.1 += u64::from(!swapped || contest.engine().swapped()),
        }
    }
    counts
}

#[test]
fn a_store_into_a_ring_that_is_left_out_is_noticed() {
    let sites = [
        "ring bytes",
        "ring producer",
        "ring consumer",
        "ring error",
        "ring features",
        "ring restart",
        "notify",
    ];
    let counts = sites.map(|site| {
        let plan = |number| Plan {
            left_out: Some((site, number)),
            ..Plan::QUIET
        };
        (site, streams_with_a_fault(plan, false))
    });
    let wrong = complaints_of_sites("left out of a ring", counts.into_iter(), &[]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Neighbours in one ring that may change places before a client's eyes, and why.
const SEEN_EITHER_WAY: [Reason; 4] = [
    (("ring bytes", "ring bytes"), BEHIND_THE_INDEX),
    (("ring consumer", "ring bytes"), BEHIND_THE_INDEX),
    (("ring features", "ring restart"), NOT_LET_GO),
    (("ring restart", "ring restart"), NOT_LET_GO),
];

const BEHIND_THE_INDEX: &str = "no client looks at bytes before the index shows them";
const NOT_LET_GO: &str = "a client waits until the last word lets it go, and looks at the others when it is notified";

#[test]
fn stores_into_a_ring_that_change_places_are_noticed() {
    let mut pairs = BTreeSet::new();
    for seed in 1..=10 {
        let (settings, steps) = stream(seed);
        let mut contest = Contest::with(&settings, Engine::new(&settings, Plan::QUIET, seed));
        let outcome = contest::run_with(&mut contest, &steps);
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}");
        pairs.extend(contest.engine().pairs());
    }
    let counts: checker::Noticed = pairs
        .into_iter()
        .map(|(first, second)| {
            let plan = |number| Plan {
                swapped: Some((first, second, number)),
                ..Plan::QUIET
            };
            ((first, second), streams_with_a_fault(plan, true))
        })
        .collect();
    let wrong = complaints("changed places in a ring", &counts, &SEEN_EITHER_WAY, true);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What need not be saved, and why.
const NOT_NEEDED: [(&str, &str); 5] = [
    (
        "checkpoint: Maxima.memory",
        "peaks since the last checkpoint are not remembered",
    ),
    ("checkpoint: Maxima.outstanding", "as Maxima.memory"),
    (
        "record: Action::Log.about",
        "a line for the console may be lost with a life",
    ),
    ("record: Action::Log.line", "as Action::Log.about"),
    (
        "record: Record.actions",
        "recovery does not act: a request that waits for an action is in the state",
    ),
];

#[test]
fn saved_state_that_lacks_a_field_is_noticed() {
    let mut noticed = Noticed::new();
    for seed in 1..=number("XENSTORE_SEEDS").unwrap_or(6) {
        let (settings, steps) = stream(seed);
        let plan = Plan {
            lives: 300,
            fields: 150,
            ..Plan::QUIET
        };
        let mut contest = Contest::with(&settings, Engine::new(&settings, plan, seed));
        let outcome = contest::run_with(&mut contest, &steps);
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}");
        for (what, (yes, no)) in contest.engine().noticed() {
            let sum = noticed.entry(what).or_default();
            *sum = (sum.0 + yes, sum.1 + no);
        }
    }
    let mut missed = Vec::new();
    for (what, (yes, no)) in &noticed {
        println!("{what}: noticed {yes} times, not noticed {no} times");
        let listed = NOT_NEEDED.iter().any(|(known, _)| known == what);
        // What is rare in a few streams says nothing.
        if *yes == 0 && *no >= 20 && !listed {
            missed.push(what.clone());
        }
        if *yes > 0 && listed {
            missed.push(format!("{what} is said not to be needed, and its lack was noticed"));
        }
    }
    let unused = NOT_NEEDED.iter().filter(|(known, _)| !noticed.contains_key(*known));
    missed.extend(unused.map(|(known, _)| format!("{known} does not occur")));
    println!("{} kinds of lack, {} never noticed", noticed.len(), missed.len());
    assert!(missed.is_empty(), "{missed:#?}");
}
