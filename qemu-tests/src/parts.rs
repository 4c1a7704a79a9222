//! The parts of a bed: which packages, downloaded and unpacked once into the cache, and where in them things lie.
//!
//! A set of parts is complete or absent: it is unpacked under a temporary name and renamed at the end. A complete set needs no network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::apt::PrivateApt;
use crate::bed::Bed;
use crate::cache;
use crate::host;
use crate::optional_parts::OptionalSet;
use crate::sources::{self, Mirror};

/// Counted up when the list of packages below changes, so that an old set in the cache is not taken for a complete one.
const LAYOUT: u32 = 1;

/// Documentation that no test reads; it would be a third of the unpacked files.
const NOT_NEEDED: [&str; 4] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
];

/// A complete, unpacked set of parts.
pub struct Parts {
    /// Whose parts these are.
    pub bed: Bed,
    /// The folder that takes the place of `/`.
    pub root: PathBuf,
    /// More such folders, of optional sets.
    pub more: Vec<PathBuf>,
}

impl Parts {
    /// Takes the parts from the cache, or fetches them.
    pub fn obtain(bed: Bed) -> Result<Parts> {
        let cache = cache::folder()?;
        let root = cache.join(format!("parts/xen-{bed}-layout{LAYOUT}"));
        if !root.is_dir() {
            fetch(bed, &cache, &root, packages).with_context(|| format!("fetching the parts of Xen {bed}"))?;
        }
        Ok(Parts {
            bed,
            root,
            more: Vec::new(),
        })
    }

    /// These parts and those of an optional set, which is taken from the cache or fetched.
    pub fn with(&self, set: OptionalSet) -> Result<Parts> {
        let bed = self.bed;
        let cache = cache::folder()?;
        let root = cache.join(format!("parts/xen-{bed}-{}{}", set.name(), set.layout()));
        if !root.is_dir() {
            let packages = |bed, apt: &PrivateApt| set.packages(apt, &packages(bed, apt)?);
            fetch(bed, &cache, &root, packages)
                .with_context(|| format!("fetching the set {} of Xen {bed}", set.name()))?;
        }
        let mut more = self.more.clone();
        more.push(root);
        Ok(Parts {
            bed,
            root: self.root.clone(),
            more,
        })
    }

    /// Every folder that takes the place of `/`, in the order in which they are searched.
    pub fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.root).chain(&self.more)
    }

    /// A file of the parts that must exist.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        if let Some(file) = self.roots().map(|root| root.join(path)).find(|file| file.is_file()) {
            return Ok(file);
        }
        let roots: Vec<_> = self.roots().map(|root| root.display().to_string()).collect();
        bail!(
            "{path} is not among the parts of Xen {} ({}); delete that folder to fetch them again",
            self.bed,
            roots.join(", ")
        )
    }

    /// The dom0 kernel and the folder of its modules.
    pub fn kernel(&self) -> Result<(PathBuf, PathBuf)> {
        let boot = self.root.join("boot");
        let kernel = entries(&boot)?
            .into_iter()
            .find(|path| file_name(path).starts_with("vmlinuz-"))
            .context("no vmlinuz among the parts")?;
        let release = file_name(&kernel).trim_start_matches("vmlinuz-").to_owned();
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .map(|folder| self.root.join(folder).join(&release))
            .find(|folder| folder.is_dir());
        Ok((
            kernel,
            modules.with_context(|| format!("no modules for Linux {release} among the parts"))?,
        ))
    }
}

fn fetch(
    bed: Bed,
    cache: &Path,
    root: &Path,
    packages: impl FnOnce(Bed, &PrivateApt) -> Result<Vec<String>>,
) -> Result<()> {
    host::require(&["apt-get", "apt-cache", "dpkg-deb"])?;
    println!("Xen {bed}: reading the package lists of Debian {}", bed.suite());
    // Each set has its own folders for what is only a means, so that two runs may fetch at the same time.
    let name = file_name(root).to_owned();
    let state = cache.join("apt").join(&name);
    let apt = PrivateApt::open(&state, bed.suite(), &mirror()?)?;
    let packages = apt.files_of(&packages(bed, &apt)?)?;

    let downloads = cache.join("downloads").join(&name);
    let unpacked = cache.join(format!("parts/.{name}-{}", std::process::id()));
    fs::create_dir_all(&downloads)?;
    fs::create_dir_all(&unpacked)?;
    for (index, package) in packages.iter().enumerate() {
        println!(
            "fetching {} ({}/{}, {} KiB)",
            package.name,
            index + 1,
            packages.len(),
            package.size.div_ceil(1024)
        );
        let file = apt.download(package, &downloads)?;
        unpack(&file, &unpacked)?;
    }
    for folder in NOT_NEEDED {
        let folder = unpacked.join(folder);
        if folder.is_dir() {
            fs::remove_dir_all(folder)?;
        }
    }
    match fs::rename(&unpacked, root) {
        // Another run was faster: its set is as good as ours.
        Err(_) if root.is_dir() => fs::remove_dir_all(&unpacked)?,
        other => other?,
    }
    // What was only a means: the package files, and the lists, which are larger than all of them.
    fs::remove_dir_all(&downloads)?;
    fs::remove_dir_all(&state)?;
    println!("Xen {bed}: parts are in {}", root.display());
    Ok(())
}

/// Where Debian's packages come from.
pub fn mirror() -> Result<Mirror> {
    if let Some(uri) = std::env::var("XENSTORE_TEST_MIRROR").ok().filter(|uri| !uri.is_empty()) {
        return Ok(Mirror {
            uri,
            signed_by: None,
            trusted: false,
        });
    }
    sources::debian_mirror(&sources::of_this_machine())
        .ok_or_else(|| anyhow!("this machine's apt knows no Debian mirror; set XENSTORE_TEST_MIRROR to the address of one (it ends in /debian)"))
}

/// The programs by name; the libraries by following dependencies, because their names change from release to release.
fn packages(bed: Bed, apt: &PrivateApt) -> Result<Vec<String>> {
    let mut packages = vec![
        bed.hypervisor_package(),
        bed.tools_package(),
        "xen-utils-common".to_owned(),
        "xenstore-utils".to_owned(),
        "busybox-static".to_owned(),
    ];
    let kernel = apt.depends("linux-image-amd64")?;
    packages.push(
        kernel
            .into_iter()
            .find(|name| name.starts_with("linux-image-"))
            .context("linux-image-amd64 depends on no kernel")?,
    );

    packages.extend(libraries(apt, vec![bed.tools_package(), "xenstore-utils".to_owned()])?);
    Ok(packages)
}

/// Every library that `unseen` depend on, directly or through another one.
pub fn libraries(apt: &PrivateApt, mut unseen: Vec<String>) -> Result<BTreeSet<String>> {
    let mut libraries = BTreeSet::new();
    while let Some(package) = unseen.pop() {
        for dependency in apt.depends(&package)? {
            // Interpreters are left out: no program in dom0 is written in them. What is truly missing, the NEEDED walk finds.
            if (dependency.starts_with("lib") || dependency == "zlib1g") && libraries.insert(dependency.clone()) {
                unseen.push(dependency);
            }
        }
    }
    Ok(libraries)
}

fn unpack(package: &Path, into: &Path) -> Result<()> {
    let output = Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(into)
        .output()
        .context("starting dpkg-deb")?;
    if !output.status.success() {
        bail!(
            "dpkg-deb -x {}: {}\n{}",
            package.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    Ok(entries)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
