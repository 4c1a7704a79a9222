//! Debian's xenstored, and the programs that talk to one, from the cache of downloads or from the package archive.
//!
//! The cache is the one that the tests on real Xen use, outside the checkout; what those have unpacked is taken. Nothing is
//! installed, and no address is written here: `apt-get` and `pip` of this machine know one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::failure::Failure;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The folder below the cache that the tests on real Xen unpack; most of Xen's packages are in it.
const BED: &str = "parts/xen-4.17-layout1";

/// Packages that are unpacked together.
struct Set {
    /// The folder below the cache where they go.
    part: &'static str,
    packages: &'static [&'static str],
    /// A file that is there if they are.
    proof: &'static str,
}

/// xenstored and what it links, of Debian 12.
const XENSTORED: Set = Set {
    part: "parts/xenstored-4.17-layout1",
    packages: &[
        "xen-utils-4.17",
        "libxenmisc4.17",
        "libxencall1",
        "libxendevicemodel1",
        "libxenevtchn1",
        "libxenforeignmemory1",
        "libxengnttab1",
        "libxentoolcore1",
        "libxentoollog1",
    ],
    proof: "usr/lib/xen-4.17/bin/xenstored",
};

/// Programs that are clients, and what they link, of Debian 12.
const CLIENTS: Set = Set {
    part: "parts/xenstore-clients-4.17-layout1",
    packages: &[
        "xenstore-utils",
        "xen-utils-4.17",
        "libxenstore4",
        "libxenmisc4.17",
        "libxencall1",
        "libxendevicemodel1",
        "libxenevtchn1",
        "libxenforeignmemory1",
        "libxengnttab1",
        "libxentoolcore1",
        "libxentoollog1",
    ],
    proof: "usr/bin/xenstore-read",
};

/// The Python client pyxs as Debian packages it.
const DEBIANS_PYXS: Set = Set {
    part: "parts/pyxs-debian-layout1",
    packages: &["python3-pyxs"],
    proof: "usr/lib/python3/dist-packages/pyxs/client.py",
};

/// The same as PyPI has it, with the hash of its source.
const PYXS: &str = "pyxs==0.4.1";
const PYXS_HASH: &str = "sha256:c56c88114651eda15f074d1b32fd465a5846d8e6e1f8aa296c7fd0292b7638ad";
const PYXS_PART: &str = "parts/pyxs-0.4.1-layout1";

/// The unpacked C xenstored 4.17.
#[derive(Clone, Debug)]
pub struct Xenstored {
    /// The program.
    pub program: PathBuf,
    libraries: PathBuf,
}

impl Xenstored {
    /// Makes a folder with Xen's libraries alone: beside them may lie a libc that is not this machine's.
    pub(crate) fn link_libraries(&self, folder: &Path) -> Result<PathBuf, Failure> {
        link_libraries(&self.libraries, folder)
    }
}

fn link_libraries(libraries: &Path, folder: &Path) -> Result<PathBuf, Failure> {
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

/// The C xenstored of Debian 12; downloaded if it is not in the cache.
pub fn xenstored() -> Result<Xenstored, Failure> {
    let root = unpacked(&XENSTORED)?;
    Ok(Xenstored {
        program: root.join(XENSTORED.proof),
        libraries: root.join(LIBRARIES),
    })
}

/// Programs of Xen 4.17 that are clients of a xenstored.
#[derive(Clone, Debug)]
pub struct Clients {
    root: PathBuf,
}

impl Clients {
    /// One of them by its name: `xenstore-read` and the like, `xenstore-control`, `test-xenstore`.
    pub fn program(&self, name: &str) -> PathBuf {
        // The first is a script in Debian that asks which Xen runs.
        let private = self.root.join("usr/lib/xen-4.17/bin").join(name);
        if private.is_file() {
            private
        } else {
            self.root.join("usr/bin").join(name)
        }
    }

    /// Makes a folder for LD_LIBRARY_PATH, with Xen's libraries alone.
    pub fn link_libraries(&self, folder: &Path) -> Result<PathBuf, Failure> {
        link_libraries(&self.root.join(LIBRARIES), folder)
    }
}

/// The clients; downloaded if they are not in the cache.
pub fn clients() -> Result<Clients, Failure> {
    unpacked(&CLIENTS).map(|root| Clients { root })
}

/// The folder for PYTHONPATH that has the Python client pyxs: from PyPI, or Debian's where that cannot be reached.
pub fn pyxs() -> Result<PathBuf, Failure> {
    let root = cache()?.join(PYXS_PART);
    let one_at_a_time = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    if root.join("pyxs/client.py").is_file() || fetch_pyxs(&root).is_ok() {
        return Ok(root);
    }
    drop(one_at_a_time);
    Ok(unpacked(&DEBIANS_PYXS)?.join("usr/lib/python3/dist-packages"))
}

/// Its source, checked and unpacked; nothing of it is run.
fn fetch_pyxs(root: &Path) -> Result<(), Failure> {
    let work = beside(root);
    fs::create_dir_all(&work).map_err(Failure::file(&work))?;
    let wanted = work.join("requirements");
    fs::write(&wanted, format!("{PYXS} --hash={PYXS_HASH}\n")).map_err(Failure::file(&wanted))?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]);
    pip.args(["--no-binary", ":all:", "--require-hashes", "-r"])
        .arg(&wanted)
        .arg("-d")
        .arg(&work);
    run(&mut pip)?;
    let source = work.join("pyxs-0.4.1.tar.gz");
    run(Command::new("tar").arg("-xzf").arg(&source).arg("-C").arg(&work))?;
    settle(&work, &work.join("pyxs-0.4.1"), root)
}

// One download for all tests of a program; another program's has another folder.
static FETCHING: Mutex<()> = Mutex::new(());

/// The folder with these packages; downloaded if they are not in the cache.
fn unpacked(set: &Set) -> Result<PathBuf, Failure> {
    let cache = cache()?;
    let _one_at_a_time = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let roots = [cache.join(BED), cache.join(set.part)];
    let found = || roots.iter().find(|root| root.join(set.proof).is_file());
    if found().is_none() {
        fetch(set, &roots[1])?;
    }
    let root = found().ok_or_else(|| Failure::NotInPackages(roots[1].join(set.proof)))?;
    Ok(root.clone())
}

/// `$XENSTORE_TEST_CACHE`, else `$XDG_CACHE_HOME/xenstore-stubdom`, else `~/.cache/xenstore-stubdom`.
fn cache() -> Result<PathBuf, Failure> {
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

/// A folder for unfinished work on another.
fn beside(root: &Path) -> PathBuf {
    let name = root.file_name().and_then(OsStr::to_str).unwrap_or_default();
    root.with_file_name(format!(".{name}-{}", std::process::id()))
}

/// Downloads, unpacks under a temporary name, and renames: a folder under `root` is complete or absent.
fn fetch(set: &Set, root: &Path) -> Result<(), Failure> {
    let work = beside(root);
    let unpacked = work.join("root");
    fs::create_dir_all(&unpacked).map_err(Failure::file(&unpacked))?;
    run(Command::new("apt-get")
        .arg("download")
        .args(set.packages)
        .current_dir(&work))?;
    for entry in fs::read_dir(&work).map_err(Failure::file(&work))?.flatten() {
        if entry.path().extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&unpacked))?;
        }
    }
    settle(&work, &unpacked, root)
}

/// Moves what is complete to its place.
fn settle(work: &Path, complete: &Path, root: &Path) -> Result<(), Failure> {
    match fs::rename(complete, root) {
        // Another run was faster: its set is as good as ours.
        Err(_) if root.is_dir() => {}
        other => other.map_err(Failure::file(root))?,
    }
    fs::remove_dir_all(work).map_err(Failure::file(work))
}

fn run(command: &mut Command) -> Result<(), Failure> {
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
