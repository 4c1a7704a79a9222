//! `debian`: a stock Debian host, switched over to the store domain and back with what `make install` gives an administrator.
//!
//! Three boots of one disk, with Debian's own systemd: as installed, with the store domain, with the daemon again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Kind, PLAIN, Scenario, watcher};
use crate::archive::Archive;
use crate::boot::{Ended, Ready};
use crate::debian_root;
use crate::dom0;
use crate::kernel_modules::Modules;
use crate::markers::Transcript;
use crate::parts::Parts;
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "debian",
    only_by_name: true,
    about: "a stock Debian host is switched over to the store domain and back, in three boots",
    kind: Kind::Own(run),
    stores: &[Store::Pvh],
    ..PLAIN
};

/// For the disk, before Debian runs. ext4 asks for crc32c by that name, so it does not show as a dependency.
const DISK_MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// What Debian's own and our start script load, with what they depend on.
const XEN_MODULES: [&str; 4] = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xenfs"];

const BOOTS: u32 = 3;

fn run(ready: &Ready, store: Store, image: &[u8], see: &mut dyn FnMut(&Transcript)) -> Result<Ended> {
    let work = ready.folder().join(format!("debian-{store}"));
    fs::create_dir_all(&work)?;
    let result = run_in(&work, ready, image, see);
    // The disk is large, and the logs lie elsewhere.
    let _ = fs::remove_dir_all(&work);
    result
}

fn run_in(work: &Path, ready: &Ready, image: &[u8], see: &mut dyn FnMut(&Transcript)) -> Result<Ended> {
    let disk = work.join("disk");
    debian_root::copy(&debian_root::obtain(ready.parts.bed)?, &disk)?;
    let installed = install(work, image)?;
    let initrd = work.join("initrd");
    fs::write(&initrd, initramfs(&ready.parts, &installed)?.finish()?)?;
    let options: Vec<String> = (1..=BOOTS).map(|boot| format!("bed.boot={boot}")).collect();
    ready.run_from_disk("debian", &disk, &initrd, &options, see)
}

/// Does what an administrator does: `make install`, with DESTDIR. What `make image` leaves is put together from the image under test
/// and the watcher that cargo built beside this program.
fn install(work: &Path, image: &[u8]) -> Result<PathBuf> {
    let (built, root) = (work.join("built"), work.join("installed"));
    fs::create_dir_all(&built)?;
    for name in ["xenstore-stubdom", "xenstore-stubdom-pv", "xenstore-stubdom.symbols"] {
        fs::write(built.join(name), image)?;
    }
    let watcher = watcher::program("xenstore-stubdom-watcher")?;
    fs::copy(&watcher, built.join("xenstore-stubdom-watcher"))
        .with_context(|| format!("copying {}", watcher.display()))?;
    let output = Command::new("make")
        .args(["--no-print-directory", "install"])
        .arg(format!("BUILT={}", built.display()))
        .arg(format!("DESTDIR={}", root.display()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        // This may itself be run by make.
        .env_remove("MAKEFLAGS")
        .output()
        .context("starting make")?;
    if !output.status.success() {
        bail!(
            "make install: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(root)
}

/// What runs before Debian, with what it adds to Debian's disk below `additions`.
fn initramfs(parts: &Parts, installed: &Path) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "disk", "sbin", "usr/bin", "usr/sbin"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    dom0::add_busybox(&mut archive, parts)?;
    archive.program("init", include_str!("../../debian/initramfs.sh"));
    let (kernel, folder) = parts.kernel()?;
    let modules = Modules::of(&folder)?;
    let mut order = String::new();
    for (name, content) in modules.closure(&DISK_MODULES)? {
        order.push_str(&name);
        order.push('\n');
        archive.file(&format!("modules/{name}.ko"), content);
    }
    archive.file("modules/order", order);

    // /lib is a link in Debian.
    let release = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for (name, content) in modules.closure(&XEN_MODULES)? {
        archive.file(
            &format!("additions/usr/lib/modules/{release}/kernel/{name}.ko"),
            content,
        );
    }
    let bed = "additions/bed";
    archive.program(&format!("{bed}/run"), include_str!("../../debian/run.sh"));
    archive.file(&format!("{bed}/lib.sh"), include_str!("../../dom0/lib.sh"));
    archive.file(&format!("{bed}/guests.sh"), include_str!("../../dom0/guests.sh"));
    archive.file(&format!("{bed}/guest.cfg"), include_str!("../../guest/guest.cfg"));
    archive.file(&format!("{bed}/vmlinuz"), fs::read(kernel)?);
    archive.file(&format!("{bed}/guest-initrd"), dom0::guest(parts)?.finish()?);
    let systemd = "additions/etc/systemd/system";
    archive.file(
        &format!("{systemd}/bed.service"),
        include_str!("../../debian/bed.service"),
    );
    archive.link(
        &format!("{systemd}/graphical.target.wants/bed.service"),
        "../bed.service",
    );
    // A login there would hang up the line that the marks come on.
    archive.link(&format!("{systemd}/serial-getty@hvc0.service"), "/dev/null");
    // Else this counts as the first boot ever, and asks questions.
    archive.file("additions/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    archive.file("additions/etc/hostname", "bed\n");
    add_tree(&mut archive, installed, "additions")?;
    Ok(archive)
}

fn add_tree(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let inside = format!("{to}/{name}");
        if path.is_dir() {
            add_tree(archive, &path, &inside)?;
        } else if path.metadata()?.permissions().mode() & 0o111 != 0 {
            archive.program(&inside, fs::read(&path)?);
        } else {
            archive.file(&inside, fs::read(&path)?);
        }
    }
    Ok(())
}
