//! What can go wrong outside.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why there is no server to talk to.
#[derive(Debug)]
pub enum Failure {
    /// The operating system refused something about a file.
    File {
        /// Which one.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A program could not be started.
    Start {
        /// Which one.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program ended although it should not have, or not well.
    Ended {
        /// Which one.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote about it.
        text: String,
    },
    /// None of XENSTORE_TEST_CACHE, XDG_CACHE_HOME and HOME says where downloads are kept.
    NoCache,
    /// A package does not contain what is needed of it.
    NotInPackages(PathBuf),
    /// A program of another release is not in the cache.
    NotFetched(&'static str),
    /// The server did not do all it had to within the time.
    Silent {
        /// Seconds waited.
        seconds: u64,
    },
}

impl Failure {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Failure {
        let path = path.to_owned();
        move |source| Failure::File { path, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::File { path, source } => write!(f, "{}: {source}", path.display()),
            Failure::Start { program, source } => write!(f, "cannot start {}: {source}", program.display()),
            Failure::Ended { program, status, text } => write!(f, "{} ended, {status}: {text}", program.display()),
            Failure::NoCache => f.write_str("no cache folder: set XENSTORE_TEST_CACHE, XDG_CACHE_HOME or HOME"),
            Failure::NotInPackages(path) => write!(f, "{} is not among the unpacked packages", path.display()),
            Failure::NotFetched(program) => write!(f, "{program} is not in the cache: `make fetch` fetches it"),
            Failure::Silent { seconds } => write!(f, "the server is not done after {seconds} s"),
        }
    }
}

impl std::error::Error for Failure {}
