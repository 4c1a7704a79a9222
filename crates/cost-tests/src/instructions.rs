//! How many instructions work takes, counted by callgrind, which runs the program on a processor of its own making: exact, and on
//! any machine.
//!
//! Filling a large store that way would take minutes. So the test fills it at full speed and leaves its durable pages in a file;
//! this crate's program `measured` reads them back, as a restart would, and does the work under callgrind, which counts only inside
//! [`counted`] and writes its sum each time that [`end_of_part`] is called.

use std::env;
use std::fmt;
use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the part whose instructions count.
#[inline(never)]
pub fn counted(mut work: impl FnMut()) {
    work();
    black_box(());
}

/// Ends a part: what was counted since the last one is its sum.
#[inline(never)]
pub fn end_of_part(name: &str) {
    println!("{}", black_box(name));
}

/// Why nothing was counted.
#[derive(Debug)]
pub enum Failure {
    /// No valgrind on this machine.
    NotInstalled,
    /// It, or the program in it, failed; what they wrote.
    Ended(String),
    /// A file could not be read or written.
    File(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotInstalled => write!(
                out,
                "valgrind is needed to count instructions; `make setup` installs it (Debian: package valgrind)"
            ),
            Failure::Ended(said) => write!(out, "valgrind: {said}"),
            Failure::File(error) => write!(out, "{error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::File(error)
    }
}

/// A directory for this process, gone when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty directory among the temporary files.
    pub fn new(name: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("xenstore-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind if this fails lies among the temporary files.
        let _ignored = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program under callgrind. Gives the parts that it named, each with its instructions.
pub fn count(program: &Path, arguments: &[String], scratch: &Scratch) -> Result<Vec<(String, u64)>, Failure> {
    let profile = scratch.file("callgrind.out");
    let said = run(program, arguments, &profile)?;
    let mut parts = Vec::new();
    for (number, name) in said.lines().enumerate() {
        parts.push((name.to_owned(), sum_of(&profile, number + 1)?));
    }
    Ok(parts)
}

/// What the program printed.
fn run(program: &Path, arguments: &[String], profile: &Path) -> Result<String, Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*instructions::counted*"])
        .args(["--dump-before=*instructions::end_of_part*", "--dump-line=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(arguments)
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::NotInstalled),
        other => other?,
    };
    if !output.status.success() {
        let tail: Vec<u8> = output.stderr.iter().rev().take(2000).rev().copied().collect();
        return Err(Failure::Ended(String::from_utf8_lossy(&tail).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn sum_of(profile: &Path, part: usize) -> Result<u64, Failure> {
    let part = profile.with_file_name(format!("callgrind.out.{part}"));
    sum_in(&fs::read_to_string(part)?)
}

fn sum_in(profile: &str) -> Result<u64, Failure> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    let sum = line.and_then(|text| text.trim().parse().ok());
    sum.ok_or_else(|| Failure::Ended("a profile has no sum".to_owned()))
}
