//! Why the daemon cannot start, each in one line for whoever started it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use xenstore_recovery::{Lost, NotOurs, TooSmall};

/// Why there is no server, or why it could not end well.
#[derive(Debug)]
pub enum Failure {
    /// The operating system refused something about a file.
    File {
        /// What was tried, to go before the path: "cannot open".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another server of this kind has the socket or is about to.
    SocketLocked(PathBuf),
    /// A server listens on the socket.
    SocketAlive(PathBuf),
    /// Something that is no socket is where the socket should be.
    NotASocket(PathBuf),
    /// Longer than a socket's name may be.
    SocketNameTooLong(PathBuf),
    /// Another server has the state file.
    StateLocked(PathBuf),
    /// The state file is no file.
    NotAFile(PathBuf),
    /// The file was not written by this program.
    NotAState(PathBuf),
    /// The file was written by a program of another version.
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version, as it says.
        found: String,
    },
    /// The host went down while the file was in use, and the kernel had not been made to write it.
    HostWentDown(PathBuf),
    /// What the file holds does not verify.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        lost: Lost,
    },
    /// The file ends before the store that it held when the daemon stopped.
    Incomplete {
        /// The file.
        path: PathBuf,
        /// Records that there were.
        records: u64,
        /// Records that were read back.
        found: u64,
    },
    /// The store does not fit.
    TooSmall(TooSmall),
    /// Polling cannot be set up.
    Poll(io::Error),
    /// Signals cannot be caught.
    Signals(io::Error),
    /// Not even a few clients could have a file descriptor.
    Descriptors {
        /// The limit.
        limit: u64,
    },
}

const START_EMPTY: &str = "put back a copy of it, or move it away to start with an empty store";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::File { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
            Failure::SocketLocked(path) => write!(
                f,
                "another xenstored-unix has the socket {}; stop it, or give another --socket",
                path.display()
            ),
            Failure::SocketAlive(path) => write!(
                f,
                "a server listens on {} already; stop it, or give another --socket",
                path.display()
            ),
            Failure::NotASocket(path) => write!(
                f,
                "{} is there and is no socket; it is left alone, give another --socket",
                path.display()
            ),
            Failure::SocketNameTooLong(path) => {
                write!(f, "the socket's path {} is longer than 107 bytes", path.display())
            }
            Failure::StateLocked(path) => write!(
                f,
                "another server has the state file {}; stop it, or give another --state",
                path.display()
            ),
            Failure::NotAFile(path) => write!(f, "{} is no file; --state takes one", path.display()),
            Failure::NotAState(path) => write!(
                f,
                "{} was not written by xenstored-unix; it is left alone, give another --state",
                path.display()
            ),
            Failure::OtherVersion { path, found } => write!(
                f,
                "{} has a layout of version {found}, which this program cannot read; start the version that wrote it, \
                 or move it away to start with an empty store",
                path.display()
            ),
            Failure::HostWentDown(path) => write!(
                f,
                "{} was in use when the host went down and was not kept with --sync=always, so it may be incomplete; \
                 {START_EMPTY}",
                path.display()
            ),
            Failure::Damaged { path, lost } => {
                let what = match lost {
                    Lost::Pages(NotOurs::Blank) => "it holds no store".into(),
                    Lost::Pages(NotOurs::Version(_)) => "its pages have another layout".into(),
                    Lost::Pages(NotOurs::Directory) => "its directory contradicts itself, or it was cut short".into(),
                    Lost::State {
                        expected: Some(expected),
                        reached: Some(reached),
                    } if reached < expected => {
                        format!("of the {expected} records that clients may know of, {reached} can be read")
                    }
                    Lost::State { .. } => "its checkpoints or its tree do not verify".to_owned(),
                    Lost::Loop => "the last starts with it all ended before anything was done".into(),
                };
                write!(f, "{} is damaged: {what}; {START_EMPTY}", path.display())
            }
            Failure::Incomplete { path, records, found } => write!(
                f,
                "{} is damaged: of the {records} records that it had when it was closed, {found} can be read; {START_EMPTY}",
                path.display()
            ),
            Failure::TooSmall(TooSmall { bytes, needed }) => {
                write!(f, "{bytes} bytes are too few for a store, which needs {needed}")
            }
            Failure::Poll(source) => write!(f, "cannot wait for clients: {source}"),
            Failure::Signals(source) => write!(f, "cannot catch signals: {source}"),
            Failure::Descriptors { limit } => write!(
                f,
                "this process may open {limit} files, which is too few for any client; raise RLIMIT_NOFILE \
                 (ulimit -n, LimitNOFILE=)"
            ),
        }
    }
}

impl std::error::Error for Failure {}
