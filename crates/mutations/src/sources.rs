//! A copy of the project's sources that may be broken. It stays between runs, and only files that differ are written, so
//! that cargo builds no more than it must.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::table::Mutation;

/// The folders and files that make the workspace, and what its tests read.
const PARTS: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rustfmt.toml",
    "linker.ld",
    "crates",
    "fuzz/corpus",
    "kernel",
    "boot",
    "qemu-tests",
];

/// The root of the project.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}

/// The copy.
pub struct Sources {
    original: PathBuf,
    copy: PathBuf,
}

impl Sources {
    /// Brings a copy in `folder` up to date with the sources.
    pub fn copied_to(folder: &Path) -> io::Result<Sources> {
        let sources = Sources {
            original: root(),
            copy: folder.into(),
        };
        for part in PARTS {
            sources.copy(Path::new(part))?;
        }
        Ok(sources)
    }

    /// Where the copy is.
    pub fn folder(&self) -> &Path {
        &self.copy
    }

    fn copy(&self, part: &Path) -> io::Result<()> {
        let mut waiting = vec![part.to_path_buf()];
        while let Some(part) = waiting.pop() {
            let from = self.original.join(&part);
            if from.is_dir() {
                fs::create_dir_all(self.copy.join(&part))?;
                for entry in fs::read_dir(&from)? {
                    let name = entry?.file_name();
                    if name != "target" && name != ".git" {
                        waiting.push(part.join(name));
                    }
                }
            } else if from.exists() {
                self.write(&part, &fs::read(&from)?)?;
            }
        }
        Ok(())
    }

    fn write(&self, part: &Path, bytes: &[u8]) -> io::Result<()> {
        let to = self.copy.join(part);
        if fs::read(&to).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(to, bytes)
    }

    /// Breaks the copy, and says what the files were before. The error says what in the table is not true any more.
    pub fn break_by(&self, mutation: &Mutation) -> Result<Whole, String> {
        let read = |file: &str| fs::read_to_string(self.copy.join(file)).map_err(|why| format!("{file}: {why}"));
        let mut whole = Vec::new();
        for (file, text) in changed(mutation, read)? {
            whole.push((file.clone(), read(&file)?));
            self.write(Path::new(&file), text.as_bytes())
                .map_err(|why| format!("{file}: {why}"))?;
        }
        Ok(Whole(whole))
    }

    /// Takes the change back.
    pub fn mend(&self, Whole(files): Whole) -> io::Result<()> {
        files
            .iter()
            .try_for_each(|(file, text)| self.write(Path::new(file), text.as_bytes()))
    }
}

/// Files as they were before they were broken.
pub struct Whole(Vec<(String, String)>);

/// The files that a mutation changes, with the changes made.
fn changed(
    mutation: &Mutation,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut files: Vec<(String, String)> = Vec::new();
    for change in &mutation.changes {
        let file = &change.file;
        let at = match files.iter().position(|(known, _)| known == file) {
            Some(at) => at,
            None => {
                files.push((file.clone(), read(file)?));
                files.len() - 1
            }
        };
        let times = |times| {
            format!(
                "{}: {file} has this {times} times, not once: {}",
                mutation.fails,
                change.old.join(" ")
            )
        };
        files[at].1 = change.make(&files[at].1).map_err(times)?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TABLES, Table};

    #[test]
    fn every_text_that_a_table_changes_is_there_once() {
        let read = |file: &str| fs::read_to_string(root().join(file)).map_err(|why| format!("{file}: {why}"));
        for table in TABLES {
            let Table(mutations) = Table::parse(&read(table).unwrap()).unwrap();
            for mutation in mutations {
                if let Err(why) = changed(&mutation, read) {
                    panic!("{table} is out of date; say how this is broken now.\n{why}");
                }
            }
        }
    }
}
