//! An initramfs in memory: files by path, written as a gzipped cpio archive in the kernel's `newc` format.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use cpio::newc;
use flate2::Compression;
use flate2::write::GzEncoder;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

struct Entry {
    mode: u32,
    content: Vec<u8>,
    device: (u32, u32),
}

/// What will be the root of a machine's file system. Parent folders appear by themselves.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds an ordinary file.
    pub fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.insert(path, FILE | 0o644, content.into(), (0, 0));
    }

    /// Adds a program or a script.
    pub fn program(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.insert(path, FILE | 0o755, content.into(), (0, 0));
    }

    /// Adds an empty folder.
    pub fn folder(&mut self, path: &str) {
        self.insert(path, FOLDER | 0o755, Vec::new(), (0, 0));
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, LINK | 0o777, target.as_bytes().to_vec(), (0, 0));
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, CHARACTER_DEVICE | 0o600, Vec::new(), (major, minor));
    }

    /// Adds all of another one; where both have a path, the other's entry counts.
    pub fn merge(&mut self, other: Archive) {
        self.entries.extend(other.entries);
    }

    /// The finished archive. Several, one after another, are one initramfs to the kernel.
    pub fn finish(&self) -> Result<Vec<u8>> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let builder = newc::Builder::new(path)
                .ino(u32::try_from(number)?.saturating_add(1))
                .mode(entry.mode)
                .nlink(1)
                .rdev_major(entry.device.0)
                .rdev_minor(entry.device.1);
            let mut writer = builder.write(out, u32::try_from(entry.content.len())?);
            writer.write_all(&entry.content)?;
            out = writer.finish()?;
        }
        Ok(newc::trailer(out)?.finish()?)
    }

    fn insert(&mut self, path: &str, mode: u32, content: Vec<u8>, device: (u32, u32)) {
        let path = normal(path);
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        for parent in parents {
            self.entries.entry(parent.to_owned()).or_insert(Entry {
                mode: FOLDER | 0o755,
                content: Vec::new(),
                device: (0, 0),
            });
        }
        self.entries.insert(path.to_owned(), Entry { mode, content, device });
    }
}

/// cpio paths have no leading slash.
fn normal(path: &str) -> &str {
    path.trim_matches('/')
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn parents_come_before_what_is_in_them_and_contents_survive() {
        let mut archive = Archive::default();
        archive.program("/usr/bin/tool", *b"code");
        archive.link("bin", "usr/bin");
        archive.device("/dev/console", 5, 1);
        let mut plain = Vec::new();
        GzDecoder::new(archive.finish().unwrap().as_slice())
            .read_to_end(&mut plain)
            .unwrap();

        let mut rest = Cursor::new(plain);
        let mut seen = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            seen.push((name, mode, content));
            rest = reader.finish().unwrap();
        }
        let names: Vec<&str> = seen.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, ["bin", "dev", "dev/console", "usr", "usr/bin", "usr/bin/tool"]);
        assert_eq!(seen[5], ("usr/bin/tool".to_owned(), 0o100_755, b"code".to_vec()));
        assert_eq!(seen[0].2, b"usr/bin");
    }
}
