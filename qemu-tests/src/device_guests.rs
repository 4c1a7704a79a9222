//! What scenarios with devices put into dom0 and into their guests: hotplug scripts with what they call, modules, a guest with an agent.
//!
//! Knows which files; what happens with them is written in `dom0/` and `guest/`.

use std::fs;

use anyhow::Result;

use crate::archive::Archive;
use crate::dom0;
use crate::parts::Parts;

/// ext2 is a part of ext4. It asks for the checksum by its name in the crypto interface, so no dependency tells of it.
const FILE_SYSTEM: [&str; 2] = ["crc32c_generic", "ext4"];

/// Modules of a domain that serves disks and network interfaces.
const BACK_ENDS: [&str; 4] = ["loop", "bridge", "xen-blkback", "xen-netback"];

/// Modules of a guest that uses them.
pub const FRONT_ENDS: [&str; 2] = ["xen-blkfront", "xen-netfront"];

/// What `xl` opens.
const TOOLS_MODULES: [&str; 4] = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc"];

/// Clients that the agent, its orders and the hotplug scripts use.
const CLIENTS: [&str; 6] = ["exists", "list", "ls", "read", "watch", "write"];

/// A Linux guest's root: an agent that does what dom0 orders (`guest/agent.sh`), file systems, and the given modules.
pub fn guest(parts: &Parts, modules: &[&str]) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in [
        "sbin", "usr/bin", "usr/sbin", "proc", "sys", "dev", "run", "tmp", "mnt", "root",
    ] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    dom0::add_busybox(&mut archive, parts)?;
    let clients = CLIENTS.map(|name| format!("usr/bin/xenstore-{name}"));
    dom0::add_programs(&mut archive, parts, &clients)?;
    dom0::add_modules(
        &mut archive,
        parts,
        "bed/modules",
        &[&FILE_SYSTEM[..], modules].concat(),
    )?;
    archive.program("init", include_str!("../guest/agent.sh"));
    archive.file("bed/await.sh", include_str!("../guest/await.sh"));
    // What xenbus calls when dom0 asks for an end (control/shutdown).
    for name in ["poweroff", "reboot"] {
        archive.program(
            &format!("sbin/{name}"),
            format!("#!/bin/sh\nexec /bin/busybox {name} -f\n"),
        );
    }
    Ok(archive)
}

/// A guest that serves devices to others: besides the agent it has `xl devd`, which runs the hotplug scripts, and what these call.
pub fn driver_domain(parts: &Parts) -> Result<Archive> {
    let mut archive = guest(parts, &[&BACK_ENDS[..], &TOOLS_MODULES[..]].concat())?;
    for folder in ["var/lib/xen", "var/log/xen"] {
        archive.folder(folder);
    }
    archive.link("var/run", "/run");
    archive.link("var/lock", "/run");
    let xl = format!("{}/bin/xl", parts.bed.tools_folder());
    dom0::add_programs(&mut archive, parts, std::slice::from_ref(&xl))?;
    archive.link("usr/sbin/xl", &format!("/{xl}"));
    archive.file("etc/xen/xl.conf", fs::read(parts.file("etc/xen/xl.conf")?)?);
    add_hotplug_scripts(&mut archive, parts)?;
    Ok(archive)
}

/// What a dom0 with back ends needs besides Xen's tools.
pub fn add_back_ends(archive: &mut Archive, parts: &Parts) -> Result<()> {
    add_hotplug_scripts(archive, parts)?;
    let modules = [&FILE_SYSTEM[..], &BACK_ENDS[..]].concat();
    dom0::add_modules(archive, parts, "bed/device-modules", &modules)
}

/// The stock hotplug scripts and what they call.
fn add_hotplug_scripts(archive: &mut Archive, parts: &Parts) -> Result<()> {
    let mut programs = Vec::new();
    for name in ["bash", "flock", "losetup", "ip", "bridge"] {
        programs.push(where_it_lies(parts, name)?);
    }
    dom0::add_programs(archive, parts, &programs)?;
    if programs.iter().all(|path| path != "bin/bash") {
        archive.link("bin/bash", "/usr/bin/bash");
    }
    for entry in fs::read_dir(parts.root.join("etc/xen/scripts"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        archive.program(&format!("etc/xen/scripts/{name}"), fs::read(entry.path())?);
    }
    Ok(())
}

/// The device model of HVM guests, and the firmware that it and the domain builder load. Debian's libxl has these paths compiled in.
pub fn add_device_model(archive: &mut Archive, parts: &Parts) -> Result<()> {
    dom0::add_programs(archive, parts, &["usr/libexec/xen-qemu-system-i386".to_owned()])?;
    let firmware = [
        format!("{}/boot/hvmloader", parts.bed.tools_folder()),
        "usr/share/seabios/bios-256k.bin".to_owned(),
        // What boots a kernel that is given directly: Debian 12's device model takes the first, Debian 13's the second.
        "usr/share/qemu/linuxboot.bin".to_owned(),
        "usr/share/qemu/linuxboot_dma.bin".to_owned(),
        "usr/share/qemu/kvmvapic.bin".to_owned(),
        // Wanted even where there is no screen.
        "usr/share/qemu/keymaps/en-us".to_owned(),
    ];
    for path in firmware {
        archive.file(&path, fs::read(parts.file(&path)?)?);
    }
    Ok(())
}

/// Debian 12 has some programs in `/bin` and `/sbin` that Debian 13 has in `/usr`.
fn where_it_lies(parts: &Parts, program: &str) -> Result<String> {
    let places = ["usr/bin", "usr/sbin", "bin", "sbin"].map(|folder| format!("{folder}/{program}"));
    let there = places.iter().find(|path| parts.file(path).is_ok());
    Ok(there.unwrap_or(&places[0]).clone())
}
