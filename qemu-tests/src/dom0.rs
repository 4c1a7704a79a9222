//! dom0's root, made of a bed's parts and the scripts in `dom0/` and `guest/`.
//!
//! The base is the same for every run on a bed. What differs (the scenario, the image) comes in a second, small archive.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::boot::Size;
use crate::elf_needed;
use crate::kernel_modules::Modules;
use crate::parts::Parts;
use crate::store::Store;

/// Programs from Xen's private folder. Those marked `false` do not exist in every release.
const XEN_PROGRAMS: [(&str, bool); 14] = [
    ("init-xenstore-domain", true),
    ("libxl-save-helper", true),
    ("lsevtchn", true),
    ("oxenstored", true),
    ("test-xenstore", true),
    ("xen-9pfsd", false),
    ("xen-diag", true),
    ("xen-init-dom0", true),
    ("xenconsole", true),
    ("xenconsoled", true),
    ("xenstore-control", true),
    ("xenstored", true),
    ("xentop", true),
    ("xl", true),
];

/// Clients from the package xenstore-utils.
const XENSTORE_CLIENTS: [&str; 8] = ["chmod", "exists", "list", "ls", "read", "rm", "watch", "write"];

/// Modules of dom0's kernel. Without gntalloc and gntdev there is no shared memory, without xenfs no daemon.
const MODULES: [&str; 5] = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs"];

/// Loaded by libc itself when a thread ends, so no NEEDED entry tells of it; without it the program aborts there.
const LOADED_AT_RUN_TIME: &str = "libgcc_s.so.1";

const FOLDERS: [&str; 16] = [
    "bin",
    "sbin",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "mnt",
    "var/lib/xen",
    "var/lib/xen/xenstore",
    "var/log/xen/console",
    "etc/xen/scripts",
];

/// MiB that the store domain gets, the default of Xen's own scripts (XENSTORE_DOMAIN_SIZE in xencommons).
pub const STORE_MEMORY: u32 = 8;

/// What differs from run to run.
pub struct Overlay<'a> {
    /// The shell script that is the scenario.
    pub script: &'a str,
    /// Who serves Xenstore in dom0.
    pub store: Store,
    /// The image under test, wherever it is started.
    pub image: Option<&'a [u8]>,
    /// The form in which the image is meant to run (`pvh`, `pv`).
    pub form: Store,
    /// MiB for the store domain.
    pub store_memory: u32,
    /// MiB that it may grow to; 0: no more than that.
    pub store_maximum: u32,
    /// What the store domain gets on its command line besides `--event`.
    pub store_options: &'a str,
    /// Whether the store's launch is timed.
    pub measure: bool,
    /// The machine.
    pub size: Size,
    /// See [`Machine::counts_instructions`](crate::qemu::Machine::counts_instructions).
    pub counts_instructions: bool,
    /// What dom0's root holds besides the base.
    pub extras: fn(&Parts) -> Result<Archive>,
    /// Set if a person reads the serial line: rows and columns of the terminal, in stty's words, or nothing if they are unknown.
    pub terminal: Option<String>,
}

impl<'a> Overlay<'a> {
    /// A run read by the harness, with the store and the image as told and everything else as usual.
    pub fn new(script: &'a str, store: Store, image: Option<&'a [u8]>) -> Overlay<'a> {
        Overlay {
            script,
            store,
            image,
            form: store,
            store_memory: STORE_MEMORY,
            store_maximum: 0,
            store_options: "",
            measure: false,
            size: Size::USUAL,
            counts_instructions: false,
            extras: |_| Ok(Archive::default()),
            terminal: None,
        }
    }
}

/// The root that every run on this bed begins with.
pub fn base(parts: &Parts) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.link("var/run", "/run");
    archive.link("var/lock", "/run/lock");
    archive.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", "root:x:0:\n");
    add_busybox(&mut archive, parts)?;

    let tools = parts.bed.tools_folder();
    let mut programs = Vec::new();
    for (name, always) in XEN_PROGRAMS {
        let path = format!("{tools}/bin/{name}");
        if always || parts.root.join(&path).is_file() {
            programs.push(path);
        }
    }
    programs.extend(XENSTORE_CLIENTS.iter().map(|name| format!("usr/bin/xenstore-{name}")));
    add_programs(&mut archive, parts, &programs)?;
    add_oxenstored_plugin(&mut archive, parts)?;
    for name in ["etc/xen/xl.conf", "etc/xen/oxenstored.conf"] {
        archive.file(name, fs::read(parts.file(name)?)?);
    }

    let (kernel, _) = parts.kernel()?;
    add_modules(&mut archive, parts, "bed/modules", &MODULES)?;

    archive.program("init", include_str!("../dom0/init.sh"));
    archive.file("bed/lib.sh", include_str!("../dom0/lib.sh"));
    archive.file("bed/guests.sh", include_str!("../dom0/guests.sh"));
    archive.file("bed/vmlinuz", fs::read(kernel)?);
    archive.file("bed/guest-initrd", guest(parts)?.finish()?);
    archive.file("guest.cfg", include_str!("../guest/guest.cfg"));
    Ok(archive)
}

/// What one run adds to the base.
pub fn overlay(parts: &Parts, overlay: &Overlay) -> Archive {
    let mut archive = Archive::default();
    let settings = format!(
        "STORE={}\nFORM={}\nXEN={}\nXEN_BIN=/{}/bin\nSTORE_MEMORY={}\nSTORE_MAXIMUM={}\nSTORE_OPTIONS='{}'\nMEASURE={}\nREADER={}\nTERMINAL='{}'\n",
        overlay.store,
        overlay.form,
        parts.bed,
        parts.bed.tools_folder(),
        overlay.store_memory,
        if overlay.store_maximum == 0 {
            String::new()
        } else {
            overlay.store_maximum.to_string()
        },
        overlay.store_options,
        if overlay.measure { "yes" } else { "no" },
        if overlay.terminal.is_some() {
            "person"
        } else {
            "harness"
        },
        overlay.terminal.as_deref().unwrap_or_default()
    );
    let settings = settings + &crashes_wanted();
    archive.file("bed/settings", settings);
    archive.file("bed/scenario.sh", overlay.script);
    if let Some(image) = overlay.image {
        archive.file("bed/image", image);
    }
    archive
}

/// How many crashes a scenario that makes many is to make, if the environment says so.
fn crashes_wanted() -> String {
    std::env::var("XENSTORE_CRASHES")
        .ok()
        .and_then(|number| number.parse::<u32>().ok())
        .map_or_else(String::new, |number| format!("CRASHES_WANTED={number}\n"))
}

/// A Linux guest's root: a shell, one Xenstore client, and a script that says it is there.
pub fn guest(parts: &Parts) -> Result<Archive> {
    let mut archive = guest_root(parts, include_str!("../guest/init.sh"))?;
    add_programs(&mut archive, parts, &["usr/bin/xenstore-read".to_owned()])?;
    Ok(archive)
}

/// The beginning of a Linux guest's root: a shell, `init` as its first program, and what `xl shutdown` and `xl reboot` need.
pub fn guest_root(parts: &Parts, init: &str) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["bin", "sbin", "usr/bin", "usr/sbin", "proc", "sys", "dev", "run", "tmp"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    add_busybox(&mut archive, parts)?;
    archive.program("init", init);
    for name in ["poweroff", "reboot"] {
        archive.program(
            &format!("sbin/{name}"),
            format!("#!/bin/sh\nexec /bin/busybox {name} -f\n"),
        );
    }
    Ok(archive)
}

/// Adds modules of the bed's kernel with what they depend on, and the file `order` that names them as they must be loaded.
pub fn add_modules(archive: &mut Archive, parts: &Parts, folder: &str, wanted: &[&str]) -> Result<()> {
    let (_, modules) = parts.kernel()?;
    let mut order = String::new();
    for (name, content) in Modules::of(&modules)?.closure(wanted)? {
        order.push_str(&name);
        order.push('\n');
        archive.file(&format!("{folder}/{name}.ko"), content);
    }
    archive.file(&format!("{folder}/order"), order);
    Ok(())
}

/// Adds a shell and its small tools.
pub fn add_busybox(archive: &mut Archive, parts: &Parts) -> Result<()> {
    let busybox = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .find(|path| parts.root.join(path).is_file())
        .context("no busybox among the parts")?;
    archive.program("bin/busybox", fs::read(parts.root.join(busybox))?);
    archive.link("bin/sh", "busybox");
    Ok(())
}

/// Adds programs under their own paths, with every library and loader that they need.
pub fn add_programs(archive: &mut Archive, parts: &Parts, programs: &[String]) -> Result<()> {
    let mut contents = Vec::new();
    for path in programs {
        let content = fs::read(parts.file(path)?)?;
        if elf_needed::is_elf(&content) {
            contents.push((path.clone(), content.clone()));
        }
        archive.program(path, content);
    }
    for (name, (_, content)) in elf_needed::walk(&contents, |name| find_library(parts, name))? {
        archive.program(&format!("usr/lib/x86_64-linux-gnu/{name}"), content);
    }
    let Some((_, content)) = find_library(parts, LOADED_AT_RUN_TIME) else {
        bail!("{LOADED_AT_RUN_TIME} is in none of the fetched packages")
    };
    archive.program(&format!("usr/lib/x86_64-linux-gnu/{LOADED_AT_RUN_TIME}"), content);
    let mut loaders = BTreeMap::new();
    for (path, content) in &contents {
        if let Some(loader) = elf_needed::wishes(content)?.interpreter {
            loaders.insert(loader, path);
        }
    }
    for (loader, who) in loaders {
        let name = loader.rsplit('/').next().unwrap_or_default();
        let Some((_, content)) = find_library(parts, name) else {
            bail!("{who} needs the loader {loader}, which is in none of the fetched packages")
        };
        archive.program(&loader, content);
    }
    Ok(())
}

fn find_library(parts: &Parts, name: &str) -> Option<(PathBuf, Vec<u8>)> {
    let own = format!("{}/lib", parts.bed.tools_folder());
    let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", own.as_str()];
    parts
        .roots()
        .flat_map(|root| folders.iter().map(move |folder| root.join(folder).join(name)))
        .find_map(|path| {
            let content = fs::read(&path).ok()?;
            Some((path, content))
        })
}

/// oxenstored of Xen 4.20 loads this to look at domains; 4.17 has no such thing.
fn add_oxenstored_plugin(archive: &mut Archive, parts: &Parts) -> Result<()> {
    let path = format!(
        "{}/ocaml/xsd_glue/xenctrl_plugin/domain_getinfo_v1.cmxs",
        parts.bed.tools_folder()
    );
    if parts.root.join(&path).is_file() {
        add_programs(archive, parts, &[path])?;
    }
    Ok(())
}
