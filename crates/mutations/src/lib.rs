//! Breaks the server on purpose, one change at a time, in a copy of the sources, and looks whether the test fails that should.
//!
//! Which changes those are, and what must fail, stands in tables beside the tests they are for (see [`TABLES`]). A table is
//! true as long as every text that it wants to change is there exactly once; an ordinary test looks after that. Making the
//! changes takes a build each, so `make test-long` does it: `cargo run -p mutations`.
//!
//! This crate knows cargo and the form of the tables, and nothing of the server.
#![forbid(unsafe_code)]

mod run;
mod sources;
mod table;

pub use run::{Outcome, Runner};
pub use sources::{Sources, root};
pub use table::{Change, Mutation, Table};

/// Where the tables are, from the root of the project.
pub const TABLES: [&str; 4] = [
    "crates/xenstore-service/tests/advisories/mutations.txt",
    "crates/xenstore-service/tests/service/mutations.txt",
    "crates/fuzz-entry/tests/mutations.txt",
    "crates/xenstore-core/tests/mutations.txt",
];
