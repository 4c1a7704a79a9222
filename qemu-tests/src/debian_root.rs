//! A stock Debian with its own packages of Xen, on a disk image in the cache: the host that an administrator has.
//!
//! Debian's installer (mmdebstrap) makes it, which needs root; `debian/make-root.sh` does that part. It is made once, and every run
//! works on a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::bed::Bed;
use crate::cache;
use crate::parts;

/// Counted up when the list of packages below changes.
const LAYOUT: u32 = 1;

/// What an ordinary host has beside the smallest Debian.
const PACKAGES: [&str; 6] = [
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "xen-utils-common",
    "xenstore-utils",
];

/// The disk image of this bed's Debian, from the cache or made now.
pub fn obtain(bed: Bed) -> Result<PathBuf> {
    let folder = cache::folder()?.join("parts");
    let file = folder.join(format!("debian-xen-{bed}-layout{LAYOUT}.ext4"));
    if file.is_file() {
        return Ok(file);
    }
    fs::create_dir_all(&folder)?;
    println!("Xen {bed}: installing Debian {} into a disk image", bed.suite());
    let unfinished = folder.join(format!(".debian-xen-{bed}-{}", std::process::id()));
    let output = Command::new("sh")
        .args(["-c", include_str!("../debian/make-root.sh"), "make-root.sh"])
        .args([bed.suite(), apt::source_of(bed.suite(), &parts::mirror()?).trim()])
        .arg(&unfinished)
        .arg(bed.tools_package())
        .args(PACKAGES)
        .output()
        .context("starting sh")?;
    if !output.status.success() {
        let _ = fs::remove_file(&unfinished);
        bail!(
            "Debian could not be installed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    fs::rename(&unfinished, &file)?;
    Ok(file)
}

/// A copy for one run, with holes where the original has them.
pub fn copy(original: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .args([original, to])
        .status()
        .context("starting cp")?;
    if !status.success() {
        bail!("copying {}: {status}", original.display());
    }
    Ok(())
}
