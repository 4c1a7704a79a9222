//! The copy of the sources in which mutants are built and tried out.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::changes::{Mutant, with_switches};

/// The packages that are copied.
const PACKAGES: [&str; 6] = [
    "xenstore-wire",
    "xenstore-core",
    "xenstore-recovery",
    "xenstore-ring",
    "xenstore-service",
    "model-tests",
];
/// The switches, added to the core.
const SWITCHES: &str = "//! Which mutant is alive.
use core::sync::atomic::{AtomicUsize, Ordering};
static ALIVE: AtomicUsize = AtomicUsize::new(0);
#[allow(missing_docs)]
pub fn choose(number: usize) { ALIVE.store(number, Ordering::Relaxed) }
#[allow(missing_docs)]
pub fn is(number: usize) -> bool { ALIVE.load(Ordering::Relaxed) == number }
";
/// The program that runs streams with one mutant.
const TRIAL: &str = include_str!("trial.rs.txt");
/// Builds after which every mutant that does not compile should be known.
const BUILDS: u32 = 12;
/// A mutant that takes longer has made something endless, which a test would notice.
const PATIENCE: Duration = Duration::from_secs(600);

/// What became of a mutant.
pub enum Verdict {
    /// A difference was seen, here.
    Killed(String),
    /// The server went on and on.
    TimedOut,
    /// Nothing was noticed.
    Survived,
    /// The compiler refuses it.
    DoesNotCompile,
    /// Nobody can notice it, for this reason.
    Equivalent(&'static str),
}

impl Verdict {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Killed(_) => "killed",
            Verdict::TimedOut => "killed by time",
            Verdict::Survived => "SURVIVED",
            Verdict::DoesNotCompile => "does not compile",
            Verdict::Equivalent(_) => "equivalent",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Killed(how) => write!(f, "killed, {how}"),
            Verdict::Equivalent(reason) => write!(f, "equivalent, {reason}"),
            other => f.write_str(other.name()),
        }
    }
}

/// The folder with the copy.
pub struct Workshop {
    root: PathBuf,
    copy: PathBuf,
}

impl Workshop {
    /// Copies the sources as they are.
    pub fn new() -> Workshop {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let copy = target.join("mutants");
        for package in PACKAGES {
            let from = root.join("crates").join(package);
            let to = copy.join("crates").join(package);
            let _absent = fs::remove_dir_all(to.join("src"));
            copy_folder(&from.join("src"), &to.join("src"));
            put(&to.join("Cargo.toml"), &read(&from.join("Cargo.toml")));
        }
        let _none = fs::remove_dir_all(copy.join("crates/model-tests/src/bin"));
        put(&copy.join("crates/model-tests/src/bin/trial.rs"), TRIAL);
        // Without this program and what it needs.
        let manifest = copy.join("crates/model-tests/Cargo.toml");
        let text = read(&manifest);
        put(&manifest, text.split("\n# For the mutants").next().unwrap_or(&text));
        let workspace = read(&root.join("Cargo.toml"));
        let members: Vec<String> = PACKAGES.iter().map(|package| format!("\"crates/{package}\"")).collect();
        let workspace: Vec<String> = workspace
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some(("members", _)) => format!("members = [{}]", members.join(", ")),
                // A mutant may panic, and that is seen as a difference.
                Some(("panic", _)) | Some(("lto", _)) | Some(("codegen-units", _)) => String::new(),
                _ => line.to_owned(),
            })
            .collect();
        put(&copy.join("Cargo.toml"), &workspace.join("\n"));
        put(&copy.join("Cargo.lock"), &read(&root.join("Cargo.lock")));
        let core = copy.join("crates/xenstore-core/src");
        put(&core.join("mutants.rs"), SWITCHES);
        let lib = read(&core.join("lib.rs"));
        put(
            &core.join("lib.rs"),
            &lib.replace("#![deny(", "#![allow(")
                .replace("mod account;", "pub mod mutants;\nmod account;"),
        );
        Workshop { root, copy }
    }

    /// A file of the core as it is.
    pub fn source(&self, file: &str) -> String {
        read(&self.root.join("crates/xenstore-core/src").join(file))
    }

    /// Builds all mutants at once; those that the compiler refuses are left out and marked.
    pub fn build(&mut self, all: &mut [Mutant]) {
        for _ in 0..BUILDS {
            let files: BTreeSet<String> = all.iter().map(|mutant| mutant.file.clone()).collect();
            for file in &files {
                let here: Vec<&Mutant> = all
                    .iter()
                    .filter(|mutant| mutant.file == *file && mutant.compiles)
                    .collect();
                let place = self.copy.join("crates/xenstore-core/src").join(file);
                put(&place, &with_switches(&self.source(file), &here));
            }
            let text = match self.cargo(&["check", "-p", "xenstore-core"]) {
                Ok(()) => return self.link(),
                Err(text) => text,
            };
            let mut refused = 0;
            for (file, line) in errors(&text) {
                let built = read(&self.copy.join("crates/xenstore-core/src").join(&file));
                // The switch stands on that line, or its text goes on over it.
                let lines: Vec<&str> = built.lines().take(line).collect();
                let shown = lines.iter().rev().find(|line| line.contains("crate::mutants::is("));
                let shown = shown.copied().unwrap_or_default();
                for mutant in all.iter_mut().filter(|mutant| mutant.file == file && mutant.compiles) {
                    if shown.contains(&format!("crate::mutants::is({})", mutant.number)) {
                        mutant.compiles = false;
                        refused += 1;
                    }
                }
            }
            assert!(refused > 0, "the mutants do not build, and none can be blamed:\n{text}");
        }
        panic!("too many builds");
    }

    fn link(&self) {
        let built = self.cargo(&["build", "--release", "-p", "model-tests", "--bin", "trial"]);
        built.unwrap_or_else(|text| panic!("the mutants do not build:\n{text}"));
    }

    /// Runs cargo on the copy; what it says if it fails.
    fn cargo(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .args(["--offline", "-q"])
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", self.copy.join("target"))
            .env("RUSTFLAGS", "-Awarnings")
            .output();
        let output = output.unwrap_or_else(|error| panic!("cargo: {error}"));
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Runs streams with this mutant alive until one shows a difference.
    pub fn try_out(&self, number: usize) -> Verdict {
        let started = Instant::now();
        let mut child = Command::new(self.copy.join("target/release/trial"))
            .arg(number.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("trial: {error}"));
        while child.try_wait().ok().flatten().is_none() {
            if started.elapsed() > PATIENCE {
                let _gone = child.kill();
                let _reaped = child.wait();
                return Verdict::TimedOut;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child
            .wait_with_output()
            .unwrap_or_else(|error| panic!("trial: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) => Verdict::Survived,
            Some(1) => Verdict::Killed(text),
            _ => Verdict::Killed("the process ended".into()),
        }
    }
}

/// The files of the core and the lines that the compiler complains about.
fn errors(text: &str) -> BTreeSet<(String, usize)> {
    let places = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--> crates/xenstore-core/src/"));
    places
        .filter_map(|place| {
            let (file, rest) = place.split_once(':')?;
            let line = rest.split(':').next()?.parse().ok()?;
            Some((file.to_owned(), line))
        })
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes a file if it is not like that already: what did not change is not built again.
fn put(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    let written = fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn copy_folder(from: &Path, to: &Path) {
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries.flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            put(&to, &read(&from));
        }
    }
}
