//! The copy of the sources in which mutants are built and tried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::changes::{Mutant, with_switches};

/// The packages that are copied.
const PACKAGES: [&str; 7] = [
    "seeded-random",
    "xenstore-wire",
    "xenstore-core",
    "xenstore-recovery",
    "xenstore-ring",
    "xenstore-service",
    "model-tests",
];
/// Those whose tests may be named for a mutant that the model test does not notice.
const TESTED: [&str; 3] = ["xenstore-core", "xenstore-service", "xenstore-recovery"];
/// The program of the core's unit tests.
const UNIT_TESTS: &str = "xenstore_core";
/// The package that is changed.
const CORE: &str = "xenstore-core";
/// Which mutant is alive.
const VARIABLE: &str = "XENSTORE_MUTANT";
/// The switches, added to the core.
const SWITCHES: &str = "//! Which mutant is alive.
extern crate std;
static ALIVE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
#[allow(missing_docs)]
pub fn is(number: usize) -> bool {
    let alive = || std::env::var(\"XENSTORE_MUTANT\").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    *ALIVE.get_or_init(alive) == number
}
";
/// The program that runs streams with one mutant.
const TRIAL: &str = include_str!("trial.rs.txt");
/// Builds after which every mutant that does not compile should be known.
const BUILDS: u32 = 12;
/// A mutant that takes longer has made something endless, which a test would notice.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a test made of a mutant.
pub enum Outcome {
    /// It failed, here.
    Noticed(String),
    /// It did not fail.
    Nothing,
}

/// The folder with the copy.
pub struct Workshop {
    root: PathBuf,
    copy: PathBuf,
    /// The programs of the tests, by name.
    tests: BTreeMap<String, PathBuf>,
}

impl Workshop {
    /// Copies the sources as they are, but for the core's.
    pub fn new() -> Workshop {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let copy = target.join("mutants");
        for package in PACKAGES {
            let from = root.join("crates").join(package);
            let to = copy.join("crates").join(package);
            if package != CORE {
                copy_folder(&from.join("src"), &to.join("src"), &["bin"]);
            }
            if TESTED.contains(&package) {
                copy_folder(&from.join("tests"), &to.join("tests"), &[]);
            }
            // Without this program and what it needs.
            let manifest = read(&from.join("Cargo.toml"));
            let manifest = manifest.split("\n# For the mutants").next().unwrap_or_default();
            put(&to.join("Cargo.toml"), manifest);
        }
        put(&copy.join("crates/model-tests/src/bin/trial.rs"), TRIAL);
        let members: Vec<String> = PACKAGES.iter().map(|package| format!("\"crates/{package}\"")).collect();
        let workspace = read(&root.join("Cargo.toml"));
        let workspace: Vec<String> = workspace
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some(("members", _)) => format!("members = [{}]", members.join(", ")),
                // A mutant may panic, and that is seen as a difference. The rest is for the speed of the build.
                Some(("panic" | "lto" | "codegen-units" | "debug", _)) => String::new(),
                _ => line.to_owned(),
            })
            .collect();
        put(&copy.join("Cargo.toml"), &workspace.join("\n"));
        put(&copy.join("Cargo.lock"), &read(&root.join("Cargo.lock")));
        Workshop {
            root,
            copy,
            tests: BTreeMap::new(),
        }
    }

    /// A file of the core as it is.
    pub fn source(&self, file: &str) -> String {
        read(&self.root.join("crates").join(CORE).join("src").join(file))
    }

    fn core(&self) -> PathBuf {
        self.copy.join("crates").join(CORE).join("src")
    }

    /// Builds all mutants at once; those that the compiler refuses are left out and marked.
    pub fn build(&mut self, all: &mut [Mutant]) {
        let files: BTreeSet<String> = all.iter().map(|mutant| mutant.file.clone()).collect();
        let mut kept: Vec<&str> = files.iter().map(String::as_str).collect();
        kept.extend(["mutants.rs", "lib.rs"]);
        copy_folder(&self.root.join("crates").join(CORE).join("src"), &self.core(), &kept);
        put(&self.core().join("mutants.rs"), SWITCHES);
        let lib = self.source("lib.rs").replace("#![deny(", "#![allow(");
        let lib = lib.replace("mod account;", "pub mod mutants;\nmod account;");
        put(&self.core().join("lib.rs"), &lib);
        self.mark_refused(all);
        for _ in 0..BUILDS {
            for file in &files {
                let here: Vec<&Mutant> = all
                    .iter()
                    .filter(|mutant| mutant.file == *file && mutant.compiles)
                    .collect();
                put(&self.core().join(file), &with_switches(&self.source(file), &here));
            }
            let text = match self.cargo(&["check", "-p", CORE]) {
                Ok(_) => {
                    self.note_refused(all);
                    return self.link();
                }
                Err(text) => text,
            };
            let mut refused = 0;
            for (file, line) in errors(&text) {
                let built = read(&self.core().join(&file));
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

    /// Those that the compiler refused the last time, if they are still the same.
    fn mark_refused(&self, all: &mut [Mutant]) {
        let known = fs::read_to_string(self.copy.join("refused")).unwrap_or_default();
        let known: BTreeSet<&str> = known.lines().collect();
        for mutant in all.iter_mut() {
            mutant.compiles = !known.contains(mutant.to_string().as_str());
        }
    }

    fn note_refused(&self, all: &[Mutant]) {
        let refused = all.iter().filter(|mutant| !mutant.compiles);
        let refused: Vec<String> = refused.map(Mutant::to_string).collect();
        put(&self.copy.join("refused"), &refused.join("\n"));
    }

    fn made(&self, arguments: &[&str]) -> String {
        let built = self.cargo(arguments);
        built.unwrap_or_else(|text| panic!("the mutants do not build:\n{text}"))
    }

    /// Builds what runs the model's streams.
    fn link(&self) {
        self.made(&["build", "--release", "-p", "model-tests", "--bin", "trial"]);
    }

    /// Builds other tests: those of these programs, or all.
    pub fn build_tests(&mut self, programs: Option<&BTreeSet<&str>>) {
        let mut arguments = vec!["test", "--no-run"];
        arguments.extend(TESTED.iter().flat_map(|package| ["-p", package]));
        for program in programs.into_iter().flatten() {
            match *program {
                UNIT_TESTS => arguments.push("--lib"),
                other => arguments.extend(["--test", other]),
            }
        }
        let text = self.made(&arguments);
        // `Executable tests/commits.rs (…/deps/commits-0123456789abcdef)`
        let programs = text.lines().filter_map(|line| line.trim().strip_prefix("Executable "));
        let programs = programs.filter_map(|line| line.split_once('(')?.1.strip_suffix(')'));
        self.tests = programs
            .filter_map(|path| {
                let path = self.copy.join(path);
                let (name, _) = path.file_name()?.to_str()?.rsplit_once('-')?;
                Some((name.to_owned(), path.clone()))
            })
            .collect();
    }

    /// Runs cargo on the copy; what it says, whether it succeeds or fails.
    fn cargo(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(arguments)
            .arg("--offline")
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", self.copy.join("target"))
            .env("RUSTFLAGS", "-Awarnings")
            .output();
        let output = output.unwrap_or_else(|error| panic!("cargo: {error}"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Runs the model's streams with this mutant alive until one shows a difference.
    pub fn try_out(&self, number: usize) -> Outcome {
        let mut command = Command::new(self.copy.join("target/release/trial"));
        command.env(
            "XENSTORE_SCENARIOS",
            self.root.join("crates/model-tests/src/scenarios.txt"),
        );
        run(command, number)
    }

    /// Runs one test with this mutant alive: its program's name, a blank, its own name.
    pub fn test(&self, number: usize, test: &str) -> Outcome {
        let (program, name) = test.split_once(' ').unwrap_or((test, ""));
        let path = self.tests.get(program);
        let path = path.unwrap_or_else(|| panic!("{test}: there is no {program} among {:?}", self.tests.keys()));
        let mut command = Command::new(path);
        command.args(["--exact", name]);
        let outcome = run(command, number);
        if let Outcome::Noticed(text) = &outcome {
            assert!(!text.contains("running 0 tests"), "there is no test {test}");
        }
        outcome
    }

    /// All tests besides the model's that notice this mutant.
    pub fn who(&self, number: usize) -> Vec<String> {
        let mut all = Vec::new();
        for (program, path) in &self.tests {
            if let Outcome::Noticed(text) = run(Command::new(path), number) {
                let failed = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
                all.extend(failed.map(|name| format!("{program} {name}")));
                if all.is_empty() {
                    all.push(format!("{program}: {text}"));
                }
            }
        }
        all
    }
}

/// Runs a program with a mutant alive: exit code 0 if it noticed nothing.
fn run(mut command: Command, number: usize) -> Outcome {
    let started = Instant::now();
    let mut child = command
        .env(VARIABLE, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // What it says is taken at once, so that a full pipe holds nothing up.
    let said = child.stdout.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _read = std::io::Read::read_to_end(&mut pipe, &mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        })
    });
    let status = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break Some(status);
        }
        if started.elapsed() > PATIENCE {
            let _gone = child.kill();
            let _reaped = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = said.and_then(|said| said.join().ok()).unwrap_or_default();
    match status.map(|status| (status.success(), status.code())) {
        None => Outcome::Noticed("it goes on and on".into()),
        Some((true, _)) => Outcome::Nothing,
        Some((false, Some(_))) => Outcome::Noticed(text),
        Some((false, None)) => Outcome::Noticed("the process ended".into()),
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

/// Makes a folder like another one, but for what has one of these names, which is left as it is.
fn copy_folder(from: &Path, to: &Path, left: &[&str]) {
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !left.contains(&name.as_str())).collect()
    };
    let (here, there) = (names(from), names(to));
    for gone in there.difference(&here) {
        let path = to.join(gone);
        let _gone = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    }
    for name in here {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_folder(&from, &to, &[]);
        } else {
            put(&to, &read(&from));
        }
    }
}
