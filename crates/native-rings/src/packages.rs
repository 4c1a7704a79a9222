//! Debian's Xenstore servers, from the cache of downloads or from the package archive.
//!
//! The cache is the one that the tests on real Xen use, outside the checkout; what those have unpacked is taken. Nothing is
//! installed, and no address is written here: `apt-get` of this machine knows one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failure::Failure;

/// Debian's Xenstore servers that run here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Product {
    /// C xenstored of Debian 12.
    C417,
    /// C xenstored of Debian 13. It and the libraries it links want no newer libc than Debian 12's.
    C420,
    /// oxenstored, the server in OCaml, of Debian 12.
    OCaml417,
}

impl Product {
    /// The program below the folder of its packages.
    fn program(self) -> &'static str {
        match self {
            Product::C417 => "usr/lib/xen-4.17/bin/xenstored",
            Product::C420 => "usr/lib/xen-4.20/bin/xenstored",
            Product::OCaml417 => "usr/lib/xen-4.17/bin/oxenstored",
        }
    }

    /// Folders below the cache that may hold it: what the tests on real Xen unpack, and what [`obtain`] fetches.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Product::C417 | Product::OCaml417 => &["parts/xen-4.17-layout1", FETCHED],
            Product::C420 => &["parts/xen-4.20-layout1"],
        }
    }
}

/// The folder below the cache for what is fetched here.
const FETCHED: &str = "parts/xenstored-4.17-layout1";

/// Both servers of 4.17 and what they link.
const PACKAGES: [&str; 9] = [
    "xen-utils-4.17",
    "libxenmisc4.17",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxentoolcore1",
    "libxentoollog1",
];
pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// An unpacked server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Which it is.
    pub product: Product,
    /// The program.
    pub program: PathBuf,
    libraries: PathBuf,
}

impl Server {
    /// Makes a folder with Xen's libraries alone: beside them may lie a libc that is not this machine's.
    pub(crate) fn link_libraries(&self, folder: &Path) -> Result<PathBuf, Failure> {
        link_libraries(&self.libraries, folder)
    }
}

pub(crate) fn link_libraries(libraries: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir(folder).map_err(Failure::file(folder))?;
    for entry in fs::read_dir(libraries).map_err(Failure::file(libraries))?.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("libxen")) {
            let link = folder.join(&name);
            symlink(entry.path(), &link).map_err(Failure::file(&link))?;
        }
    }
    Ok(folder.to_owned())
}

/// The server, from the cache. Those of Debian 12 are downloaded if they are not there; for one of Debian 13 that takes an
/// apt state of its own, which `make fetch` has.
pub fn obtain(product: Product) -> Result<Server, Failure> {
    let cache = cache()?;
    let _one_at_a_time = one_at_a_time();
    let program = product.program();
    let find = || {
        let roots = product.parts().iter().map(|part| cache.join(part));
        roots.into_iter().find(|root| root.join(program).is_file())
    };
    let root = match find() {
        Some(root) => root,
        None if product.parts().contains(&FETCHED) => {
            fetch(&PACKAGES, &cache.join(FETCHED))?;
            find().ok_or_else(|| Failure::NotInPackages(cache.join(FETCHED).join(program)))?
        }
        None => return Err(Failure::NotFetched(program)),
    };
    Ok(Server {
        product,
        program: root.join(program),
        libraries: root.join(LIBRARIES),
    })
}

/// `$XENSTORE_TEST_CACHE`, else `$XDG_CACHE_HOME/xenstore-stubdom`, else `~/.cache/xenstore-stubdom`.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("XENSTORE_TEST_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("xenstore-stubdom")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/xenstore-stubdom")))
        .ok_or(Failure::NoCache)
}

/// A lock on downloading: one for all tests of a program; another program's works in another folder.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static FETCHING: Mutex<()> = Mutex::new(());
    FETCHING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder for unfinished work on another.
pub(crate) fn beside(root: &Path) -> PathBuf {
    let name = root.file_name().and_then(OsStr::to_str).unwrap_or_default();
    root.with_file_name(format!(".{name}-{}", std::process::id()))
}

/// Downloads, unpacks under a temporary name, and renames: a folder under `root` is complete or absent.
pub(crate) fn fetch(packages: &[&str], root: &Path) -> Result<(), Failure> {
    let work = beside(root);
    let unpacked = work.join("root");
    fs::create_dir_all(&unpacked).map_err(Failure::file(&unpacked))?;
    run(Command::new("apt-get")
        .arg("download")
        .args(packages)
        .current_dir(&work))?;
    for entry in fs::read_dir(&work).map_err(Failure::file(&work))?.flatten() {
        if entry.path().extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&unpacked))?;
        }
    }
    settle(&work, &unpacked, root)
}

/// Moves what is complete to its place.
pub(crate) fn settle(work: &Path, complete: &Path, root: &Path) -> Result<(), Failure> {
    match fs::rename(complete, root) {
        // Another run was faster: its set is as good as ours.
        Err(_) if root.is_dir() => {}
        other => other.map_err(Failure::file(root))?,
    }
    fs::remove_dir_all(work).map_err(Failure::file(work))
}

pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let program = PathBuf::from(command.get_program());
    match command.output() {
        Err(source) => Err(Failure::Start { program, source }),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Failure::Ended {
                program,
                status: output.status,
                text,
            })
        }
    }
}
