//! What serves Xenstore in a run: our image in one of its two forms, or one of the daemons for comparison.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::elf_notes;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Store {
    /// Our image as a PVH domain.
    Pvh,
    /// Our image as a PV domain.
    Pv,
    /// The C daemon `xenstored` in dom0.
    C,
    /// The OCaml daemon `oxenstored` in dom0.
    Ocaml,
}

impl Store {
    /// All four.
    pub const ALL: [Store; 4] = [Store::Pvh, Store::Pv, Store::C, Store::Ocaml];
    /// The two forms of our image.
    pub const OURS: [Store; 2] = [Store::Pvh, Store::Pv];

    /// Its name on the command line and in `dom0/`.
    pub fn name(self) -> &'static str {
        match self {
            Store::Pvh => "pvh",
            Store::Pv => "pv",
            Store::C => "c",
            Store::Ocaml => "ocaml",
        }
    }

    /// Whether it is our image.
    pub fn is_ours(self) -> bool {
        Store::OURS.contains(&self)
    }

    /// The image that makes this store, `None` for a daemon. For PV the PVH entry is hidden, because the domain builder prefers it.
    pub fn image(self, given: Option<&Path>) -> Result<Option<Vec<u8>>> {
        if !self.is_ours() {
            return Ok(None);
        }
        let path = match given {
            Some(path) => path.to_owned(),
            None => default_image(self)?,
        };
        let image = fs::read(&path).with_context(|| format!("reading the image {}", path.display()))?;
        let entries = elf_notes::entries(&image).with_context(|| path.display().to_string())?;
        match self {
            Store::Pvh if !entries.pvh => bail!("{} has no PVH entry (PHYS32_ENTRY note)", path.display()),
            Store::Pv if !entries.pv => bail!("{} has no PV entry (ENTRY note)", path.display()),
            Store::Pv => Ok(Some(elf_notes::without_pvh_entry(&image)?)),
            _ => Ok(Some(image)),
        }
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// `target/xenstore-stubdom`, and for PV `target/xenstore-stubdom-pv` if there is one: below the current folder, else in the checkout
/// that this program was built from.
fn default_image(store: Store) -> Result<PathBuf> {
    let names: &[&str] = if store == Store::Pv {
        &["xenstore-stubdom-pv", "xenstore-stubdom"]
    } else {
        &["xenstore-stubdom"]
    };
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let folders = [PathBuf::from("target"), checkout];
    let candidates = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no target/xenstore-stubdom yet: build it with `make`, or name one with --image"),
    }
}
