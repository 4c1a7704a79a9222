//! Whether the model test would notice if the server did something else.
//!
//! Makes mutants of the server's core, mechanically: other comparisons, checks left out, statements left out or swapped, numbers
//! off by one. All of them are built at once, in a copy of the sources, each behind a switch; then the model test runs with one
//! switch after the other. A mutant that no difference shows is a hole of the test, or it is in [`equivalent::LIST`] with the
//! reason why nobody could see it.
//!
//! `cargo run --release -p model-tests --features mutants --bin mutants` takes a sample; `-- all` takes all; `-- N` one of them,
//! with the text of its change.
#![forbid(unsafe_code)]

mod changes;
mod equivalent;
mod workshop;

use std::collections::BTreeMap;
use std::process::ExitCode;

use changes::Mutant;
use workshop::{Verdict, Workshop};

/// The files of the core whose rules clients can see.
const FILES: [&str; 19] = [
    "account.rs",
    "allowance.rs",
    "apply.rs",
    "connection.rs",
    "decision.rs",
    "domain_requests.rs",
    "events.rs",
    "limit_requests.rs",
    "node_changes.rs",
    "node_requests.rs",
    "overlay.rs",
    "policy.rs",
    "quota.rs",
    "rehearsal.rs",
    "server.rs",
    "transaction.rs",
    "transaction_requests.rs",
    "watch.rs",
    "watch_requests.rs",
];

/// Mutants in a sample.
const SAMPLE: usize = 80;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let mut workshop = Workshop::new();
    let mut all: Vec<Mutant> = Vec::new();
    for file in FILES {
        let first = all.len() + 1;
        all.extend(changes::of_file(file, &workshop.source(file), first));
    }
    println!("{} mutants of {} files", all.len(), FILES.len());
    workshop.build(&mut all);

    let chosen: Vec<&Mutant> = match wanted.as_deref() {
        Some("all") => all.iter().collect(),
        Some(number) => all
            .iter()
            .filter(|mutant| mutant.number.to_string() == number)
            .collect(),
        None => {
            let step = (all.len() / SAMPLE).max(1);
            all.iter().step_by(step).collect()
        }
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut holes = false;
    for mutant in chosen {
        let verdict = if !mutant.compiles {
            Verdict::DoesNotCompile
        } else {
            match equivalent::reason(mutant) {
                Some(reason) if wanted.is_none() || wanted.as_deref() == Some("all") => Verdict::Equivalent(reason),
                _ => workshop.try_out(mutant.number),
            }
        };
        holes |= matches!(verdict, Verdict::Survived);
        *counts.entry(verdict.name()).or_default() += 1;
        println!("{mutant}: {verdict}");
    }
    println!("{counts:?}");
    if holes { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
