//! What scenarios with our own guests have in dom0: the guest's image, and the client that times single requests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::client_guest;
use crate::elf_notes;
use crate::parts::Parts;
use crate::scenarios::program;

/// The two files, below `bed/`.
pub fn extras(_: &Parts) -> Result<Archive> {
    let mut archive = Archive::default();
    let path = image()?;
    let image = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let entries = elf_notes::entries(&image).with_context(|| path.display().to_string())?;
    if !entries.pvh || !entries.pv {
        bail!("{} cannot be started as PVH and as PV", path.display());
    }
    archive.file("bed/ring-guest", image);
    archive.program("usr/bin/xenbus-client", client_guest::client()?);
    Ok(archive)
}

/// The same, and what makes crashes.
pub fn extras_with_crashes(parts: &Parts) -> Result<Archive> {
    let mut archive = extras(parts)?;
    let path = program("crash-store")?;
    let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    archive.program("usr/bin/crash-store", content);
    Ok(archive)
}

/// `target/ring-guest`: below the current folder, else in the checkout that this program was built from.
fn image() -> Result<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let found = [PathBuf::from("target"), checkout]
        .into_iter()
        .map(|folder| folder.join("ring-guest"))
        .find(|path| path.is_file());
    found.context("there is no target/ring-guest yet: build it with `make`")
}
