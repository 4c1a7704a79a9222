//! Whether the model test would notice if the server did something else.
//!
//! Makes mutants of the server's core, mechanically: other comparisons, checks left out, statements left out or swapped, numbers
//! off by one. All of them are built at once, in a copy of the sources, each behind a switch; then the model test runs with one
//! switch after the other. A mutant that no difference shows is a hole of the test; or [`elsewhere`] names another test of the
//! workspace, which is then run and must fail; or [`equivalent`] gives the reason why nobody could see it.
//!
//! `cargo run --release -p model-tests --features mutants --bin mutants` tries all and fails if one of the files in [`CLOSED`] has
//! a hole, or if a row of the two lists is not true any more. With arguments it tries only those: `closed` (the files of that
//! list), files `allowance.rs`, lines `allowance.rs:50`, numbers `17`, ranges `17-30`. `list` before them shows them and tries
//! none, `who` says which other tests notice them.
#![forbid(unsafe_code)]

mod changes;
mod elsewhere;
mod equivalent;
mod listed;
mod workshop;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use changes::Mutant;
use listed::Known;
use workshop::{Outcome, Workshop};

/// The files of the core whose rules clients can see.
const FILES: [&str; 25] = [
    "allowance.rs",
    "policy.rs",
    "quota.rs",
    "share.rs",
    "account.rs",
    "apply.rs",
    "apply/charges.rs",
    "apply/connections.rs",
    "apply/domains.rs",
    "apply/transactions.rs",
    "connection.rs",
    "decide.rs",
    "decision.rs",
    "domain_requests.rs",
    "events.rs",
    "limit_requests.rs",
    "node_changes.rs",
    "node_requests.rs",
    "overlay.rs",
    "rehearsal.rs",
    "server.rs",
    "transaction.rs",
    "transaction_requests.rs",
    "watch.rs",
    "watch_requests.rs",
];
/// Those of which every mutant is noticed or has its reason, quotas and permissions first. Of the others it is shown what survives;
/// this list is to become the one above.
const CLOSED: [&str; 7] = [
    "allowance.rs",
    "policy.rs",
    "quota.rs",
    "share.rs",
    "account.rs",
    "limit_requests.rs",
    "node_requests.rs",
];

/// What became of a mutant.
enum Verdict {
    /// Noticed, here.
    Killed(String),
    /// The test that is named for it noticed it.
    Elsewhere(&'static str),
    /// Nobody can notice it.
    Equivalent(&'static str),
    /// Nothing was noticed.
    Survived,
    /// The model test notices it, or the test that is named for it does not.
    Stale(String),
    /// The compiler refuses it.
    DoesNotCompile,
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Verdict::Killed(_) => "killed by the model",
            Verdict::Elsewhere(_) => "killed by other tests",
            Verdict::Equivalent(_) => "equivalent",
            Verdict::Survived => "SURVIVED",
            Verdict::Stale(_) => "STALE ROW",
            Verdict::DoesNotCompile => "does not compile",
        }
    }

    fn more(&self) -> &str {
        match self {
            Verdict::Killed(text) | Verdict::Stale(text) => text,
            Verdict::Elsewhere(text) | Verdict::Equivalent(text) => text,
            Verdict::Survived | Verdict::DoesNotCompile => "",
        }
    }

    /// The gate does not let it pass.
    fn is_bad(&self, file: &str) -> bool {
        match self {
            Verdict::Survived => CLOSED.contains(&file),
            Verdict::Stale(_) => true,
            _ => false,
        }
    }
}

fn judge(workshop: &Workshop, mutant: &Mutant) -> Verdict {
    if !mutant.compiles {
        return Verdict::DoesNotCompile;
    }
    let known = listed::about(mutant);
    match (workshop.try_out(mutant.number), known) {
        (Outcome::Noticed(how), None) => Verdict::Killed(how),
        (Outcome::Noticed(how), Some(_)) => Verdict::Stale(format!("the model test notices it: {how}")),
        (Outcome::Nothing, None) => Verdict::Survived,
        (Outcome::Nothing, Some(Known::Equivalent(reason))) => Verdict::Equivalent(reason),
        (Outcome::Nothing, Some(Known::Elsewhere(test))) => match workshop.test(mutant.number, test) {
            Outcome::Noticed(_) => Verdict::Elsewhere(test),
            Outcome::Nothing => Verdict::Stale(format!("{test} does not notice it")),
        },
    }
}

/// Whether the words of the command line name a mutant; all are named by none.
fn is_chosen(mutant: &Mutant, words: &[String]) -> bool {
    if words == ["closed"] {
        return CLOSED.contains(&mutant.file.as_str());
    }
    let named = |word: &String| {
        if let Some((first, last)) = word.split_once('-')
            && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
        {
            return (first..=last).contains(&mutant.number);
        }
        *word == mutant.number.to_string()
            || *word == mutant.file
            || *word == format!("{}:{}", mutant.file, mutant.line)
    };
    words.is_empty() || words.iter().any(named)
}

/// Tries all of them, as many at a time as there are processors.
fn try_all(workshop: &Workshop, chosen: &[&Mutant]) -> BTreeMap<usize, Verdict> {
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = judge(workshop, mutant);
            println!("{mutant}: {} {}", verdict.name(), verdict.more());
            let mut verdicts = verdicts.lock().unwrap_or_else(|poison| poison.into_inner());
            verdicts.insert(mutant.number, verdict);
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    verdicts.into_inner().unwrap_or_else(|poison| poison.into_inner())
}

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let order = words
        .first()
        .filter(|word| ["list", "who"].contains(&word.as_str()))
        .cloned();
    words.drain(..usize::from(order.is_some()));
    let mut workshop = Workshop::new();
    let mut all: Vec<Mutant> = Vec::new();
    for file in FILES {
        let first = all.len() + 1;
        all.extend(changes::of_file(file, &workshop.source(file), first));
    }
    println!("{} mutants of {} files", all.len(), FILES.len());
    if order.as_deref() == Some("list") {
        for mutant in all.iter().filter(|mutant| is_chosen(mutant, &words)) {
            println!("{mutant}");
        }
        return ExitCode::SUCCESS;
    }
    workshop.build(&mut all);
    let chosen: Vec<&Mutant> = all.iter().filter(|mutant| is_chosen(mutant, &words)).collect();
    let elsewhere = chosen.iter().filter_map(|mutant| match listed::about(mutant) {
        Some(Known::Elsewhere(test)) => test.split(' ').next(),
        _ => None,
    });
    let programs: BTreeSet<&str> = elsewhere.collect();
    if order.is_some() || !programs.is_empty() {
        workshop.build_tests(Some(&programs).filter(|_| order.is_none()));
    }
    if order.is_some() {
        for mutant in chosen.iter().filter(|mutant| mutant.compiles) {
            println!("{mutant}");
            for test in workshop.who(mutant.number) {
                println!("    {test}");
            }
        }
        return ExitCode::SUCCESS;
    }
    let verdicts = try_all(&workshop, &chosen);

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bad = 0;
    println!("\nnot noticed, or a row that is not true:");
    for mutant in chosen {
        let Some(verdict) = verdicts.get(&mutant.number) else {
            continue;
        };
        *counts.entry(verdict.name()).or_default() += 1;
        bad += usize::from(verdict.is_bad(&mutant.file));
        if matches!(verdict, Verdict::Survived | Verdict::Stale(_)) {
            println!("{mutant}: {} {}", verdict.name(), verdict.more());
        }
    }
    let unused = listed::unused(&all);
    for row in &unused {
        println!("a row names no mutant: {row}");
    }
    println!("{counts:?}");
    if bad + unused.len() > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
