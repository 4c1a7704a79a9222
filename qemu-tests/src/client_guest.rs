//! What dom0 needs for Linux guests that can be told what to do (`dom0/client-guests.sh`): their root with the Xenstore clients and
//! `xenbus-client`, which dom0 gets too.

use std::fs;

use anyhow::{Context, Result};

use crate::archive::Archive;
use crate::dom0;
use crate::parts::Parts;

/// Clients from the package xenstore-utils that the guest gets.
const CLIENTS: [&str; 8] = ["chmod", "exists", "list", "ls", "read", "rm", "watch", "write"];

/// The files that such guests add to dom0's root.
pub fn extras(parts: &Parts) -> Result<Archive> {
    let client = client()?;
    let mut archive = Archive::default();
    archive.file("bed/client-guests.sh", include_str!("../dom0/client-guests.sh"));
    archive.program("usr/bin/xenbus-client", client.clone());
    archive.file("bed/client-initrd", root(parts, client)?.finish()?);
    Ok(archive)
}

/// The guest's root. The client needs no library that the others do not bring.
fn root(parts: &Parts, client: Vec<u8>) -> Result<Archive> {
    let mut archive = dom0::guest_root(parts, include_str!("../guest/client-init.sh"))?;
    let programs: Vec<String> = CLIENTS.iter().map(|name| format!("usr/bin/xenstore-{name}")).collect();
    dom0::add_programs(&mut archive, parts, &programs)?;
    archive.program("usr/bin/xenbus-client", client);
    archive.file("requests", include_str!("../guest/unprivileged.txt"));
    Ok(archive)
}

/// The client. Cargo builds it with the harness and puts it into the same folder.
pub fn client() -> Result<Vec<u8>> {
    let harness = std::env::current_exe().context("looking for this program's own folder")?;
    let client = harness.with_file_name("xenbus-client");
    fs::read(&client).with_context(|| format!("reading {}", client.display()))
}
