//! Running the tests of a broken copy.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sources::Sources;
use crate::table::Mutation;

/// A broken server may do anything, also go on for ever.
const PATIENCE: Duration = Duration::from_secs(900);

/// What came of one mutation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The test that should fail failed, and no other that may not.
    Noticed,
    /// It passed.
    NotNoticed,
    /// Others failed that the table does not name.
    TooMuch(Vec<String>),
    /// It could not be tried: the table is out of date, or the broken sources do not build.
    NotTried(String),
}

/// Runs tests in a copy of the sources.
pub struct Runner {
    sources: Sources,
    /// Build results and output.
    work: PathBuf,
}

/// What a run of a test target printed.
struct Report {
    failed: BTreeSet<String>,
    passed: bool,
    /// The tests did not come to an end: a signal, or no patience any more.
    ended_early: bool,
    text: String,
}

impl Runner {
    /// Works in the folder `work`.
    pub fn new(sources: Sources, work: PathBuf) -> Runner {
        Runner { sources, work }
    }

    /// The tests that fail in the sources as they are: there should be none.
    pub fn failing(&self, package: &str, target: &str) -> Result<Vec<String>, String> {
        let report = self.test(package, target, &[])?;
        if report.passed || !report.failed.is_empty() {
            Ok(report.failed.into_iter().collect())
        } else {
            Err(report.text)
        }
    }

    /// Makes a mutation, runs the tests, and takes it back.
    pub fn try_out(&self, mutation: &Mutation) -> Outcome {
        let whole = match self.sources.break_by(mutation) {
            Ok(whole) => whole,
            Err(why) => return Outcome::NotTried(why),
        };
        let outcome = self.judge(mutation).unwrap_or_else(Outcome::NotTried);
        match self.sources.mend(whole) {
            Ok(()) => outcome,
            Err(why) => Outcome::NotTried(why.to_string()),
        }
    }

    fn judge(&self, mutation: &Mutation) -> Result<Outcome, String> {
        let (package, target) = (&mutation.package, &mutation.target);
        let report = self.test(package, target, &[])?;
        let (noticed, others) = if report.ended_early {
            // It took the whole run with it: alone it must fail, and without it the others say their own.
            let alone = self.test(package, target, &[&mutation.fails])?;
            let others = self.test(package, target, &["--skip", &mutation.fails])?;
            (!alone.passed, others)
        } else if !report.passed && report.failed.is_empty() {
            return Err(report.text);
        } else {
            (report.failed.contains(&mutation.fails), report)
        };
        let allowed =
            |name: &String| *name == mutation.fails || mutation.also.iter().any(|start| name.starts_with(start));
        let too_much: Vec<String> = others.failed.into_iter().filter(|name| !allowed(name)).collect();
        Ok(match (noticed, too_much.is_empty()) {
            (false, _) => Outcome::NotNoticed,
            (true, true) => Outcome::Noticed,
            (true, false) => Outcome::TooMuch(too_much),
        })
    }

    fn test(&self, package: &str, target: &str, arguments: &[&str]) -> Result<Report, String> {
        let said = |why: std::io::Error| why.to_string();
        let output = self.work.join("output.txt");
        let file = File::create(&output).map_err(said)?;
        let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["test", "--locked", "--package", package, "--test", target, "--"])
            .args(arguments)
            .current_dir(self.sources.folder())
            .env("CARGO_TARGET_DIR", self.work.join("build"))
            // Each mutation is a build; these tests are short enough without being optimised much.
            .env("CARGO_PROFILE_TEST_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_TEST_DEBUG", "false")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(said)?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(said)?;
        let start = Instant::now();
        let mut impatient = false;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(said)? {
                break status;
            }
            if start.elapsed() > PATIENCE && !impatient {
                impatient = true;
                let group = format!("-{}", child.id());
                Command::new("kill")
                    .args(["-KILL", "--", &group])
                    .status()
                    .map_err(said)?;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let text = String::from_utf8_lossy(&fs::read(&output).map_err(said)?).into_owned();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let failed = lines
            .map(|name| name.rsplit("::").next().unwrap_or(name).to_string())
            .collect();
        let concluded = text.contains("\ntest result: ");
        Ok(Report {
            failed,
            passed: status.success(),
            ended_early: impatient || status.signal().is_some() || (!concluded && text.contains("(signal: ")),
            text,
        })
    }
}
