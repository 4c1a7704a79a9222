//! What can panic in the crates that a guest's bytes go through, besides what their lints forbid: calls of the standard library
//! that panic on wrong arguments, and exceptions from the lints. Each place is listed here with the reason why it does not; a
//! new one fails this test until it is listed, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = [
    "xenstore-wire",
    "xenstore-core",
    "xenstore-recovery",
    "xenstore-ring",
    "xenstore-service",
];

/// What panics on wrong arguments, or is an exception from the lints.
const CALLS: [&str; 21] = [
    "allow(",
    "assert!(",
    "assert_eq!(",
    ".copy_from_slice(",
    ".clone_from_slice(",
    ".copy_within(",
    ".split_at(",
    ".split_at_mut(",
    ".split_off(",
    ".drain(",
    ".splice(",
    ".swap(",
    ".swap_remove(",
    ".chunks(",
    ".chunks_exact(",
    ".windows(",
    ".step_by(",
    ".sum::<",
    "entries.insert(",
    "entries.remove(",
    ".borrow",
];

/// File, call, how often, and why it cannot panic.
const KNOWN: &[(&str, &str, usize, &str)] = &[
    (
        "xenstore-wire/src/error.rs",
        "allow(",
        1,
        "the names of the wire are in capitals",
    ),
    (
        "xenstore-wire/src/path.rs",
        "allow(",
        1,
        "a table that the compiler evaluates",
    ),
    (
        "xenstore-wire/src/message.rs",
        ".copy_from_slice(",
        1,
        "the ranges of fields are four bytes each",
    ),
    (
        "xenstore-core/src/connection.rs",
        ".copy_from_slice(",
        1,
        "both are cut to the same length",
    ),
    ("xenstore-core/src/connection.rs", ".drain(", 1, "of everything"),
    (
        "xenstore-core/src/decision.rs",
        ".copy_within(",
        1,
        "it was just made longer by as many bytes",
    ),
    (
        "xenstore-core/src/overlay.rs",
        ".copy_from_slice(",
        1,
        "the target is cut to the source's length, or there is none",
    ),
    ("xenstore-core/src/tree/arena.rs", "assert!(", 1, "in a constant"),
    (
        "xenstore-core/src/tree/ways.rs",
        ".borrow",
        2,
        "each ends with its function, and between there is nothing that borrows",
    ),
    (
        "xenstore-core/src/tree/ways.rs",
        "assert!(",
        1,
        "not in the image: it is for tests",
    ),
    ("xenstore-recovery/src/note.rs", "assert!(", 1, "in a constant"),
    (
        "xenstore-core/src/tree/block.rs",
        ".copy_from_slice(",
        1,
        "a range of four bytes",
    ),
    (
        "xenstore-core/src/tree/block.rs",
        ".chunks_exact(",
        2,
        "by constants that are not 0",
    ),
    (
        "xenstore-core/src/tree/checksum.rs",
        "allow(",
        1,
        "a table that the compiler evaluates",
    ),
    (
        "xenstore-core/src/tree/clean.rs",
        ".sum::<",
        1,
        "of two lengths of what is in memory",
    ),
    (
        "xenstore-core/src/tree/counts.rs",
        "assert!(",
        2,
        "not in the image: they are for tests",
    ),
    ("xenstore-core/src/tree/index.rs", ".split_at(", 1, "not behind the end"),
    (
        "xenstore-core/src/tree/index.rs",
        ".drain(",
        1,
        "from a sum to a larger one, which is not behind the end",
    ),
    (
        "xenstore-core/src/tree/index.rs",
        ".splice(",
        2,
        "the range is cut to what is there",
    ),
    (
        "xenstore-core/src/tree/index.rs",
        "entries.insert(",
        1,
        "not behind the end",
    ),
    (
        "xenstore-core/src/tree/index.rs",
        "entries.remove(",
        1,
        "before the end",
    ),
    (
        "xenstore-core/src/tree/memory.rs",
        "assert!(",
        1,
        "not in the image: it is for tests",
    ),
    (
        "xenstore-core/src/tree/memory.rs",
        ".copy_from_slice(",
        1,
        "the place has the length of the bytes",
    ),
    ("xenstore-core/src/tree/permissions.rs", ".chunks_exact(", 1, "by 4"),
    ("xenstore-core/src/tree/room.rs", "assert!(", 1, "in a constant"),
    (
        "xenstore-core/src/tree/room.rs",
        ".sum::<",
        2,
        "of lengths of what is in memory",
    ),
    (
        "xenstore-recovery/src/desk.rs",
        "assert!(",
        1,
        "the compiler evaluates it",
    ),
    (
        "xenstore-recovery/src/extents.rs",
        ".split_at(",
        1,
        "not behind the end",
    ),
    (
        "xenstore-recovery/src/pages.rs",
        "assert!(",
        1,
        "not in the image: it is for tests",
    ),
    (
        "xenstore-recovery/src/pages.rs",
        ".copy_from_slice(",
        1,
        "the place has the length of the bytes",
    ),
    (
        "xenstore-recovery/src/slots.rs",
        ".chunks_exact(",
        1,
        "by a constant that is not 0",
    ),
    (
        "xenstore-ring/src/indices.rs",
        "allow(",
        1,
        "a truncation that is meant",
    ),
];

/// The files below a folder that are not tests: a module that is declared only for tests is left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut waiting = vec![folder.to_path_buf()];
    let mut files = Vec::new();
    let mut only_for_tests = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let declared = text.split("#[cfg(test)]\nmod ").skip(1);
            for name in declared.filter_map(|rest| rest.lines().next()?.strip_suffix(';')) {
                let beside = path.parent().unwrap().join(name);
                only_for_tests.insert(beside.with_extension("rs"));
                only_for_tests.insert(beside);
            }
            files.push(path);
        }
    }
    files.retain(|file| !file.ancestors().any(|part| only_for_tests.contains(part)));
    files
}

#[test]
fn whatever_could_panic_is_listed_with_the_reason_why_it_does_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known: BTreeMap<(&str, &str), usize> = KNOWN
        .iter()
        .map(|(file, call, count, _)| ((*file, *call), *count))
        .collect();
    let mut found: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for file in CRATES.iter().flat_map(|name| sources(&folder.join(name).join("src"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        for line in code.lines().map(str::trim) {
            // What the tests of a crate may do, its first lines say.
            let exempt = line.starts_with("//") || (name.ends_with("src/lib.rs") && line == "allow(");
            for call in CALLS.iter().filter(|call| !exempt && line.contains(**call)) {
                *found.entry((name.clone(), call)).or_default() += 1;
            }
        }
    }
    for ((file, call), count) in &found {
        let expected = known.get(&(file.as_str(), *call)).copied().unwrap_or(0);
        assert!(
            *count == expected,
            "{file}: {count} times `{call}`, {expected} are listed in this test with their reasons"
        );
    }
    for (file, call, ..) in KNOWN {
        assert!(
            found.contains_key(&(file.to_string(), *call)),
            "{file} has no `{call}` any more"
        );
    }
}

/// A crate that a guest's bytes go through must not lose these.
#[test]
fn the_lints_that_forbid_panics_are_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in CRATES {
        let text = std::fs::read_to_string(folder.join(name).join("src/lib.rs")).unwrap();
        let denied = text
            .split_once("#![deny(")
            .and_then(|(_, rest)| rest.split_once(")]"))
            .unwrap()
            .0;
        for lint in [
            "unconditional_recursion",
            "clippy::unwrap_used",
            "clippy::expect_used",
            "clippy::panic",
            "clippy::todo",
            "clippy::unimplemented",
            "clippy::unreachable",
            "clippy::indexing_slicing",
            "clippy::string_slice",
            "clippy::arithmetic_side_effects",
            "clippy::cast_possible_truncation",
            "clippy::cast_sign_loss",
        ] {
            assert!(denied.contains(lint), "{name} does not deny {lint}");
        }
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{name} does not forbid unsafe code"
        );
    }
}
