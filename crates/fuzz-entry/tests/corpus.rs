//! The entries of the fuzzers as ordinary tests: with the corpus in `fuzz/corpus`, and with random bytes and random changes of
//! it. The seed of a failure is printed with the command that repeats it; `XENSTORE_SEEDS=n` tries n times as many.

use std::path::PathBuf;

use fuzz_entry::{ENTRIES, Entry};

/// xorshift64*: the tests need repeatability, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }
}

/// Says how to repeat what fails.
struct Trying(String);

impl Drop for Trying {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The committed inputs of an entry, in the order of their names.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            (path.display().to_string(), bytes)
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

/// Bytes that are random, or an input with random changes, or two of them behind each other.
fn input(random: &mut Random, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = match random.below(4) {
        0 => (0..random.below(600)).map(|_| random.below(256) as u8).collect(),
        1 => [
            &corpus[random.below(corpus.len())].1[..],
            &corpus[random.below(corpus.len())].1,
        ]
        .concat(),
        _ => corpus[random.below(corpus.len())].1.clone(),
    };
    for _ in 0..random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 => bytes.truncate(at.max(bytes.len() / 2)),
            1 => bytes.insert(at, random.below(256) as u8),
            2 => {
                bytes.splice(
                    at..at,
                    (0..random.below(40))
                        .map(|_| random.below(256) as u8)
                        .collect::<Vec<_>>(),
                );
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    bytes
}

fn run(name: &str, seeds: u64) {
    let (_, entry): (_, Entry) = *ENTRIES.iter().find(|(known, _)| *known == name).unwrap();
    let corpus = corpus(name);
    if number("XENSTORE_SEED").is_none() {
        for (file, bytes) in &corpus {
            let _trying = Trying(format!("with {file}"));
            entry(bytes);
        }
    }
    let seeds = number("XENSTORE_SEED").map_or(1..=seeds * number("XENSTORE_SEEDS").unwrap_or(1), |seed| seed..=seed);
    for seed in seeds {
        let _trying = Trying(format!(
            "again: XENSTORE_SEED={seed} cargo test -p fuzz-entry --test corpus {name}"
        ));
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        entry(&input(&mut random, &corpus));
    }
}

#[test]
fn messages() {
    run("messages", 20_000);
}

#[test]
fn paths() {
    run("paths", 20_000);
}

#[test]
fn permissions() {
    run("permissions", 20_000);
}

#[test]
fn ring() {
    run("ring", 10_000);
}

#[test]
fn requests() {
    run("requests", 100);
}

#[test]
fn pages() {
    run("pages", 400);
}
