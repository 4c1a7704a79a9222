//! Programs that are clients of a xenstored and that none of us wrote: Xen's own, and the Python client pyxs.
//!
//! They come from the cache of downloads, from Debian's archive or from PyPI. Nothing is installed, and no address is written
//! here: `apt-get` and `pip` of this machine know one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::packages::{LIBRARIES, beside, cache, fetch, link_libraries, one_at_a_time, run, settle};

/// Packages that are unpacked together.
struct Set {
    /// Folders below the cache that may hold them; the last is where they are fetched to.
    parts: &'static [&'static str],
    packages: &'static [&'static str],
    /// A file that is there if they are.
    proof: &'static str,
}

/// Xen's clients and what they link, of Debian 12. The first folder is one that the tests on real Xen unpack.
const CLIENTS: Set = Set {
    parts: &["parts/xen-4.17-layout1", "parts/xenstore-clients-4.17-layout1"],
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

/// pyxs as Debian packages it.
const DEBIANS_PYXS: Set = Set {
    parts: &["parts/pyxs-debian-layout1"],
    packages: &["python3-pyxs"],
    proof: "usr/lib/python3/dist-packages/pyxs/client.py",
};

/// The same as PyPI has it, with the hash of its source.
const PYXS: &str = "pyxs==0.4.1";
const PYXS_HASH: &str = "sha256:c56c88114651eda15f074d1b32fd465a5846d8e6e1f8aa296c7fd0292b7638ad";
const PYXS_PART: &str = "parts/pyxs-0.4.1-layout1";

impl Set {
    /// The folder with these packages; downloaded if they are not in the cache.
    fn unpacked(&self) -> Result<PathBuf, Failure> {
        let cache = cache()?;
        let _one_at_a_time = one_at_a_time();
        let mut roots = self.parts.iter().map(|part| cache.join(part));
        if let Some(root) = roots.find(|root| root.join(self.proof).is_file()) {
            return Ok(root);
        }
        let root = cache.join(self.parts.last().copied().unwrap_or_default());
        fetch(self.packages, &root)?;
        let proof = root.join(self.proof);
        if proof.is_file() {
            Ok(root)
        } else {
            Err(Failure::NotInPackages(proof))
        }
    }
}

/// Programs of Xen 4.17 that are clients of a xenstored.
#[derive(Clone, Debug)]
pub struct Clients {
    root: PathBuf,
}

impl Clients {
    /// One of them by its name: `xenstore-read` and the like, `xenstore-control`, `test-xenstore`.
    pub fn program(&self, name: &str) -> PathBuf {
        // Of some there is a script in usr/bin, Debian's, that asks which Xen runs.
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
pub fn xens() -> Result<Clients, Failure> {
    CLIENTS.unpacked().map(|root| Clients { root })
}

/// The folder for PYTHONPATH that has the Python client pyxs: from PyPI, or Debian's where that cannot be reached.
pub fn pyxs() -> Result<PathBuf, Failure> {
    let root = cache()?.join(PYXS_PART);
    let from_pypi = {
        let _one_at_a_time = one_at_a_time();
        root.join("pyxs/client.py").is_file() || fetch_pyxs(&root).is_ok()
    };
    if from_pypi {
        return Ok(root);
    }
    let _nothing_there = fs::remove_dir_all(beside(&root));
    Ok(DEBIANS_PYXS.unpacked()?.join("usr/lib/python3/dist-packages"))
}

/// Its source, checked against the hash and unpacked.
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
        .arg(&wanted);
    run(pip.arg("-d").arg(&work))?;
    let source = work.join("pyxs-0.4.1.tar.gz");
    run(Command::new("tar").arg("-xzf").arg(&source).arg("-C").arg(&work))?;
    settle(&work, &work.join("pyxs-0.4.1"), root)
}
