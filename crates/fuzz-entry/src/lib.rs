//! What the fuzzers run: each entry takes any bytes, does with them what a hostile client or a damaged memory could do, and
//! panics if the server does what it never may.
//!
//! The fuzz targets in `fuzz/` call these entries with what libFuzzer makes up (nightly Rust, `make fuzz`); the tests of this
//! crate call them with the corpus that was found so and with random changes of it, on any Rust and in a few seconds. An entry
//! is deterministic: the same bytes do the same.
#![forbid(unsafe_code)]

/// The simulated machine of the service's tests.
#[path = "../../xenstore-service/tests/bed/mod.rs"]
mod bed;

mod pages;
mod requests;
mod ring;
mod script;
mod wire;

pub use pages::pages;
pub use requests::requests;
pub use ring::ring;
pub use wire::{messages, paths, permissions};

/// An entry.
pub type Entry = fn(&[u8]);

/// All entries by the names of their fuzz targets and corpora.
pub const ENTRIES: [(&str, Entry); 6] = [
    ("messages", messages),
    ("paths", paths),
    ("permissions", permissions),
    ("ring", ring),
    ("requests", requests),
    ("pages", pages),
];
