//! The durable pages of this machine: memory, and the same bytes in a file if there is one.
//!
//! Every store goes into the file by a positioned write before anything that follows from it becomes visible. So the file is
//! whole after any end of the process. Only an end of the whole host can take what the kernel had not written yet; against that
//! helps [`Sync::Always`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use xenstore_core::tree::{Crc32c, crc32c};
use xenstore_recovery::{EXTENT, Pages};

use crate::log;

/// Bytes before the pages in the file: see `state_file`.
pub const HEADER: u64 = 4096;
/// The least that `--max-size` may be, in bytes.
pub const SMALLEST: usize = 1 << 20;
/// The most that the directory of extents has room for, in bytes.
pub const LARGEST: usize = 254 << 20;
/// Bytes to begin with.
pub const FIRST: usize = 4 << 20;

/// When the file is made to outlive the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sync {
    /// Never, but for a clean stop: what is written outlives the process, not the host.
    #[default]
    Never,
    /// Before anything is shown to a client.
    Always,
}

impl Sync {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Sync::Never => "never",
            Sync::Always => "always",
        }
    }
}

/// The file behind the pages.
#[derive(Debug)]
pub struct Backing {
    /// Open for reading and writing, locked.
    pub file: File,
    /// Its name, for messages.
    pub path: PathBuf,
    /// When it is made to outlive the host.
    pub sync: Sync,
}

/// Pages in memory and, if wanted, in a file.
#[derive(Debug)]
pub struct StatePages {
    memory: Vec<u8>,
    most: usize,
    backing: Option<Backing>,
    /// Something was written since the last barrier.
    written: bool,
    crc32c: Crc32c,
}

/// CRC-32C by the processor's instruction where it has one, as in the image: the same sums, ten times as fast.
fn fastest_crc32c() -> Crc32c {
    #[cfg(target_arch = "x86_64")]
    if let Some(by_instruction) = xen_bindings::checksum::crc32c() {
        return by_instruction;
    }
    crc32c
}

impl StatePages {
    /// Pages with these bytes, which the file has already. They grow up to `most` bytes.
    pub fn new(memory: Vec<u8>, most: usize, backing: Option<Backing>) -> Self {
        StatePages {
            memory,
            most: most / EXTENT * EXTENT,
            backing,
            written: true,
            crc32c: fastest_crc32c(),
        }
    }

    /// Blank pages without a file.
    pub fn in_memory(most: usize) -> Self {
        StatePages::new(vec![0; FIRST.min(most) / EXTENT * EXTENT], most, None)
    }
}

/// Makes the file so long that pages of this length fit, with the blocks on disk, so that no later write lacks them.
pub fn reserve(file: &File, pages: usize) -> io::Result<()> {
    let length = HEADER.saturating_add(pages as u64);
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        // A file system that does not know of it.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(length),
        Err(error) => Err(error.into()),
    }
}

/// The file cannot be written, so nothing may be shown any more. What was shown is in it.
fn give_up(path: &std::path::Path, error: &dyn std::fmt::Display) -> ! {
    log::line(&format!(
        "stopping: {} cannot be written: {error}; everything that a client was told is in it",
        path.display()
    ));
    std::process::exit(1)
}

impl Pages for StatePages {
    fn len(&self) -> usize {
        self.memory.len()
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let end = at.checked_add(length);
        end.and_then(|end| self.memory.get(at..end)).unwrap_or_default()
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let wanted = self.memory.len().saturating_add(bytes / EXTENT * EXTENT);
        if wanted > self.most {
            return false;
        }
        if let Some(backing) = &self.backing
            && let Err(error) = reserve(&backing.file, wanted)
        {
            log::line(&format!("{} does not grow: {error}", backing.path.display()));
            self.most = self.memory.len();
            return false;
        }
        self.memory.resize(wanted, 0);
        true
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        let place = at.checked_add(bytes.len()).and_then(|end| self.memory.get_mut(at..end));
        debug_assert!(place.is_some(), "a store outside of the pages");
        let Some(place) = place else { return };
        place.copy_from_slice(bytes);
        if let Some(backing) = &self.backing {
            if let Err(error) = backing.file.write_all_at(bytes, HEADER.saturating_add(at as u64)) {
                give_up(&backing.path, &error);
            }
            self.written = true;
        }
    }

    fn barrier(&mut self) {
        if let Some(backing) = &self.backing
            && backing.sync == Sync::Always
            && core::mem::take(&mut self.written)
            && let Err(error) = fdatasync(&backing.file)
        {
            give_up(&backing.path, &error);
        }
    }

    fn crc32c(&self) -> Crc32c {
        self.crc32c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_one_processor_is_read_by_another() {
        let bytes: Vec<u8> = (0..5000u32).map(|number| ((number * number) >> 3) as u8).collect();
        for length in (0..64).chain([255, 4096, 5000]) {
            let (begin, rest) = bytes[..length].split_at(length / 3);
            let both = [crc32c, fastest_crc32c()].map(|sum| sum(sum(0, begin), rest));
            assert_eq!(both[0], both[1], "{length} bytes");
        }
    }
}
