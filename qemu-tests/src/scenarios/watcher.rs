//! `watcher`: the store ends for good, and the watcher in dom0, which never asks the store, says so and saves what is left of it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Kind, PLAIN, Scenario};
use crate::archive::Archive;
use crate::parts::Parts;

pub const SCENARIO: Scenario = Scenario {
    name: "watcher",
    about: "the store ends for good; the watcher tells the reason and the last words, and saves a core",
    kind: Kind::Served(include_str!("../../dom0/watcher.sh")),
    store_options: "--debug-crash",
    extras: programs,
    ..PLAIN
};

pub const WATCHDOG: Scenario = Scenario {
    name: "watchdog",
    about: "the store works without end and nobody in it may notice: Xen ends its domain, with that reason",
    kind: Kind::Served(include_str!("../../dom0/watchdog.sh")),
    store_options: "--debug-crash,--hang-limit=0,--watchdog=10",
    extras: programs,
    ..PLAIN
};

/// The watcher, and the means to end a domain.
fn programs(_: &Parts) -> Result<Archive> {
    let mut archive = Archive::default();
    for name in ["xenstore-stubdom-watcher", "end-domain"] {
        let file = program(name)?;
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        archive.program(&format!("usr/bin/{name}"), content);
    }
    Ok(archive)
}

/// A program of this project for dom0. Cargo builds it beside the one that runs.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where is this program?")?;
    let file = own.with_file_name(name);
    if !file.is_file() {
        bail!(
            "{} is missing: build it with `cargo build --release -p store-watcher -p qemu-tests`",
            file.display()
        );
    }
    Ok(file)
}
