//! What a person sees of a run: a line for each step, the log's end on failure, and the summary.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::markers::{Step, Transcript};

/// This many last lines of a failed run's log are shown.
const LINES_SHOWN: usize = 40;

/// One scenario on one bed with one store.
pub struct Outcome {
    pub title: String,
    pub failures: Vec<String>,
    pub steps: usize,
    pub took: Duration,
}

impl Outcome {
    /// Sums up a transcript.
    pub fn of(title: String, transcript: &Transcript, took: Duration) -> Outcome {
        let failures = transcript
            .steps
            .iter()
            .filter_map(|step| step.failure.as_ref().map(|why| format!("{}: {why}", step.name)))
            .collect();
        Outcome {
            title,
            failures,
            steps: transcript.steps.len(),
            took,
        }
    }

    /// How it went, in a word.
    pub fn word(&self) -> &'static str {
        if self.failures.is_empty() { "passed" } else { "FAILED" }
    }

    /// It could not even be tried.
    pub fn impossible(title: String, why: String) -> Outcome {
        Outcome {
            title,
            failures: vec![why],
            steps: 0,
            took: Duration::ZERO,
        }
    }
}

/// Says what goes on in one run. When several run at once, each line begins with the run's title.
pub struct Voice(String);

impl Voice {
    /// The only one that speaks.
    pub fn alone() -> Voice {
        Voice(String::new())
    }

    /// One among several.
    pub fn of(title: &str) -> Voice {
        Voice(format!("[{title}]"))
    }

    /// Prints a line.
    pub fn say(&self, line: impl std::fmt::Display) {
        println!("{}  {line}", self.0);
    }

    /// Prints a step's line.
    pub fn step(&self, step: &Step) {
        let outcome = if step.failure.is_none() { "ok  " } else { "FAIL" };
        self.say(format_args!(
            "{outcome}  {:<28} {:>7.2} s",
            step.name,
            step.took.as_secs_f64()
        ));
        if let Some(why) = &step.failure {
            self.say(format_args!("      {why}"));
        }
    }

    /// Prints where the whole log is, and its end.
    pub fn log_of_failure(&self, log: &Path) {
        self.say(format_args!("the last {LINES_SHOWN} lines of {}:", log.display()));
        for line in last_lines(log) {
            self.say(format_args!("  | {line}"));
        }
    }
}

/// Prints the summary. Its last line is `N passed, N failed`. Returns whether nothing failed.
pub fn summary(outcomes: &[Outcome], logs: &[PathBuf]) -> bool {
    println!();
    for outcome in outcomes {
        println!(
            "{}  {:<44} {:>3} steps {:>7.1} s",
            outcome.word(),
            outcome.title,
            outcome.steps,
            outcome.took.as_secs_f64()
        );
        for failure in &outcome.failures {
            println!("        {failure}");
        }
    }
    if let Some(folder) = logs.first().and_then(|log| log.parent()) {
        println!("logs: {}", folder.display());
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    println!("{} passed, {failed} failed", outcomes.len().saturating_sub(failed));
    failed == 0
}

fn last_lines(log: &Path) -> Vec<String> {
    let Ok(file) = std::fs::File::open(log) else {
        return Vec::new();
    };
    let mut lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    lines.split_off(lines.len().saturating_sub(LINES_SHOWN))
}
