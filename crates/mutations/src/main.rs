//! `cargo run -p mutations [-- TEXT…]`: makes every change of the tables, or those whose test has one of the texts in its name,
//! and says what came of each. Succeeds if every change was noticed by the test that should.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use mutations::{Mutation, Outcome, Runner, Sources, TABLES, Table, root};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<bool, String> {
    let mut mutations: Vec<Mutation> = Vec::new();
    for table in TABLES {
        let text = std::fs::read_to_string(root().join(table)).map_err(|why| format!("{table}: {why}"))?;
        mutations.extend(Table::parse(&text).map_err(|why| format!("{table}: {why}"))?.0);
    }
    mutations.retain(|mutation| wanted.is_empty() || wanted.iter().any(|text| mutation.fails.contains(text)));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let work = target.join("mutations");
    std::fs::create_dir_all(&work).map_err(|why| why.to_string())?;
    let sources = Sources::copied_to(&work.join("sources")).map_err(|why| why.to_string())?;
    let runner = Runner::new(sources, work);

    let targets: BTreeSet<_> = mutations.iter().map(|it| (&it.package, &it.target)).collect();
    for (package, target) in targets {
        let failing = runner.failing(package, target)?;
        if !failing.is_empty() {
            return Err(format!("{package} --test {target} fails as it is: {failing:?}"));
        }
    }
    let mut noticed = 0;
    for mutation in &mutations {
        let start = Instant::now();
        let outcome = runner.try_out(mutation);
        let what = match &outcome {
            Outcome::Noticed => "noticed".to_string(),
            Outcome::NotNoticed => "NOT NOTICED".to_string(),
            Outcome::TooMuch(others) => format!("noticed, but so did {others:?}"),
            Outcome::NotTried(why) => format!("NOT TRIED: {why}"),
        };
        println!("{}: {what} ({} s)", mutation.fails, start.elapsed().as_secs());
        noticed += usize::from(outcome == Outcome::Noticed);
    }
    println!(
        "{noticed} of {} changes were noticed by the test that should",
        mutations.len()
    );
    Ok(noticed == mutations.len())
}
