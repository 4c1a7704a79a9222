//! The file that `--state` names: four lines of text that say what became of it last, then the pages.
//!
//! ```text
//! xenstored-unix state 1
//! status running | new | stopped
//! boot <the kernel's boot id>      sync never | always      records <how many, when it was stopped>
//! ```
//!
//! The lines lie in the first 4096 bytes, so one write replaces them. They say whether the file can be trusted: one that was in
//! use when the host went down, and was not synced, may lack writes that came before others it has, which no check of the
//! pages is sure to see.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fdatasync, flock};
use xenstore_recovery::EXTENT;

use crate::failure::Failure;
use crate::pages::{Backing, FIRST, HEADER, StatePages, Sync, reserve};

const MAGIC: &str = "xenstored-unix state ";
const VERSION: &str = "1";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What became of the file last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It is being made: there is nothing in it yet.
    New,
    /// A server has it, or had when it was killed.
    Running,
    /// It was closed with so many records in it, ever.
    Stopped {
        /// How many.
        records: u64,
    },
}

/// What the first lines say.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Header {
    status: Status,
    boot: String,
    sync: Sync,
}

impl Header {
    fn emit(&self) -> Vec<u8> {
        let (status, records) = match self.status {
            Status::New => ("new", 0),
            Status::Running => ("running", 0),
            Status::Stopped { records } => ("stopped", records),
        };
        let mut bytes = format!(
            "{MAGIC}{VERSION}\nstatus {status}\nboot {}\nsync {}\nrecords {records}\n",
            self.boot,
            self.sync.name()
        )
        .into_bytes();
        bytes.resize(HEADER as usize, 0);
        bytes
    }

    /// `Err(Some(version))`: written by another version; `Err(None)`: not by this program.
    fn parse(bytes: &[u8]) -> Result<Header, Option<String>> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut lines = core::str::from_utf8(text).map_err(|_| None)?.lines();
        let version = lines.next().and_then(|line| line.strip_prefix(MAGIC)).ok_or(None)?;
        if version != VERSION {
            return Err(Some(version.to_owned()));
        }
        let mut value = |name: &str| {
            let line = lines.next()?;
            line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)
        };
        let (status, boot) = (value("status").ok_or(None)?, value("boot").ok_or(None)?);
        let (sync, records) = (value("sync").ok_or(None)?, value("records").ok_or(None)?);
        let status = match status.as_str() {
            "new" => Status::New,
            "running" => Status::Running,
            "stopped" => Status::Stopped {
                records: records.parse().map_err(|_| None)?,
            },
            _ => return Err(None),
        };
        let sync = [Sync::Never, Sync::Always]
            .into_iter()
            .find(|known| known.name() == sync);
        Ok(Header {
            status,
            boot,
            sync: sync.ok_or(None)?,
        })
    }
}

/// The file, locked for this process.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    path: PathBuf,
    sync: Sync,
    boot: String,
}

/// A file and its pages.
pub struct Opened {
    /// To mark what becomes of it.
    pub file: StateFile,
    /// What it holds.
    pub pages: StatePages,
    /// What became of it last; [`Status::New`]: the pages are blank.
    pub status: Status,
}

impl StateFile {
    /// Opens or makes the file. Its pages may grow up to `most` bytes, or stay as many as they are.
    pub fn open(path: &Path, sync: Sync, most: usize) -> Result<Opened, Failure> {
        let failed = |what| {
            move |source: io::Error| Failure::File {
                what,
                path: path.to_owned(),
                source,
            }
        };
        // A device or a pipe must not be opened, not even to look what it is.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Failure::NotAFile(path.to_owned()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("cannot open"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Failure::StateLocked(path.to_owned())),
            other => other.map_err(|error| failed("cannot lock")(error.into()))?,
        }
        let length = file.metadata().map_err(failed("cannot look at"))?.len();
        let boot = fs::read_to_string(BOOT_ID).map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned());
        let state = StateFile {
            file,
            path: path.to_owned(),
            sync,
            boot,
        };
        let status = if length == 0 { Status::New } else { state.check()? };
        let memory = if status == Status::New {
            state.blank(FIRST.min(most) / EXTENT * EXTENT)?
        } else {
            let pages = usize::try_from(length.saturating_sub(HEADER)).unwrap_or(0) / EXTENT * EXTENT;
            let mut memory = vec![0; pages];
            state
                .file
                .read_exact_at(&mut memory, HEADER)
                .map_err(failed("cannot read"))?;
            memory
        };
        let backing = Backing {
            file: state.file.try_clone().map_err(failed("cannot use"))?,
            path: path.to_owned(),
            sync,
        };
        let most = most.max(memory.len());
        Ok(Opened {
            pages: StatePages::new(memory, most, Some(backing)),
            file: state,
            status,
        })
    }

    /// Reads the first lines, and whether the rest can be trusted.
    fn check(&self) -> Result<Status, Failure> {
        let mut bytes = [0; HEADER as usize];
        let path = || self.path.clone();
        let read = self.file.read_exact_at(&mut bytes, 0);
        if read.is_err() {
            return Err(Failure::NotAState(path()));
        }
        let header = Header::parse(&bytes).map_err(|version| match version {
            None => Failure::NotAState(path()),
            Some(found) => Failure::OtherVersion { path: path(), found },
        })?;
        if header.status == Status::Running && header.sync == Sync::Never && header.boot != self.boot {
            return Err(Failure::HostWentDown(path()));
        }
        Ok(header.status)
    }

    /// Room for pages of this length, all zeros.
    fn blank(&self, pages: usize) -> Result<Vec<u8>, Failure> {
        // What an attempt to make it left is thrown away first.
        self.file.set_len(0).map_err(self.failed("cannot empty"))?;
        reserve(&self.file, pages).map_err(self.failed("there is no room for"))?;
        // The name must outlive the host as the content does.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(self.failed("cannot sync the folder of"))?;
        self.mark(Status::New)?;
        Ok(vec![0; pages])
    }

    /// Says what became of the file. When it is closed, all of it is made to outlive the host.
    pub fn mark(&self, status: Status) -> Result<(), Failure> {
        let header = Header {
            status,
            boot: self.boot.clone(),
            sync: self.sync,
        };
        let closing = matches!(status, Status::Stopped { .. });
        // The pages must be there before the file says so.
        if closing || self.sync == Sync::Always {
            self.flush()?;
        }
        self.file
            .write_all_at(&header.emit(), 0)
            .map_err(self.failed("cannot write"))?;
        if closing || self.sync == Sync::Always {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Failure> {
        fdatasync(&self.file).map_err(|error| self.failed("cannot write")(error.into()))
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> Failure {
        let path = self.path.clone();
        move |source| Failure::File { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(status: Status) -> Header {
        Header {
            status,
            boot: "3c0f".to_owned(),
            sync: Sync::Always,
        }
    }

    #[test]
    fn the_first_lines_are_read_back_as_they_were_written() {
        for status in [Status::New, Status::Running, Status::Stopped { records: 77 }] {
            let bytes = header(status).emit();
            assert_eq!(bytes.len() as u64, HEADER);
            assert_eq!(Header::parse(&bytes), Ok(header(status)));
        }
    }

    #[test]
    fn other_lines_are_refused() {
        assert_eq!(Header::parse(b""), Err(None));
        assert_eq!(Header::parse(&[0; 4096]), Err(None));
        assert_eq!(
            Header::parse(b"xenstored-unix state 2\nwhatever"),
            Err(Some("2".to_owned()))
        );
        assert_eq!(Header::parse(b"xenstored-unix state 1\nstatus running\n"), Err(None));
        assert_eq!(
            Header::parse(b"xenstored-unix state 1\nstatus x\nboot y\nsync never\nrecords 0\n"),
            Err(None)
        );
        assert_eq!(Header::parse(&[0xff; 64]), Err(None));
    }
}
