//! `watcher`: the store ends for good, and the watcher in dom0, which never asks the store, says so and saves what is left of it.

use std::fs;

use anyhow::{Context, Result};

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

/// The watcher, and the means to end a domain. Cargo builds both beside this program.
pub fn programs(_: &Parts) -> Result<Archive> {
    let own = std::env::current_exe().context("where is this program?")?;
    let folder = own.parent().context("this program lies in no folder")?;
    let mut archive = Archive::default();
    for name in ["xenstore-stubdom-watcher", "end-domain"] {
        let file = folder.join(name);
        let content = fs::read(&file).with_context(|| {
            format!(
                "reading {}: build it with `cargo build --release -p store-watcher -p qemu-tests`",
                file.display()
            )
        })?;
        archive.program(&format!("usr/bin/{name}"), content);
    }
    Ok(archive)
}
