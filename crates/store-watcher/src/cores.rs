//! The folder of cores: what they are called, that only root reads them, and that there are never more than so many.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Linux' random number of the boot that is running.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Beginning and end of the name of every core.
const BEGINNING: &str = "store-domain-";
const END: &str = ".core";

/// Where cores are kept.
#[derive(Debug)]
pub struct Cores {
    pub folder: PathBuf,
    /// The newest that stay.
    pub keep: usize,
    /// Bytes of memory that one may hold.
    pub limit: u64,
}

impl Cores {
    /// Writes a core: under a name that is not a core's, so that one that was cut short is not taken for one. Removes old ones first.
    pub fn save<T>(&self, domid: u16, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.remove_all_but(self.keep.saturating_sub(1))?;
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let path = self.folder.join(format!("{}{seconds:010}{END}", beginning(domid)));
        let unfinished = path.with_extension("unfinished");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        let written = write(&mut file).and_then(|written| file.sync_all().map(|()| written));
        match written {
            Ok(written) => {
                fs::rename(&unfinished, &path)?;
                Ok((path, written))
            }
            Err(error) => {
                // A disk that is full should not stay so.
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    /// Whether a core of this domain was saved since the host was booted.
    pub fn has_one_of_this_boot(&self, domid: u16) -> bool {
        let beginning = beginning(domid);
        self.all()
            .is_ok_and(|cores| cores.iter().any(|(_, core)| name_of(core).starts_with(&beginning)))
    }

    fn remove_all_but(&self, keep: usize) -> io::Result<()> {
        let cores = self.all()?;
        let too_many = cores.len().saturating_sub(keep);
        for (_, core) in cores.iter().take(too_many) {
            fs::remove_file(core)?;
        }
        Ok(())
    }

    /// The oldest first.
    fn all(&self) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let mut cores = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if name_of(&path).starts_with(BEGINNING) && name_of(&path).ends_with(END) {
                cores.push((path.metadata()?.modified()?, path));
            }
        }
        cores.sort();
        Ok(cores)
    }
}

fn beginning(domid: u16) -> String {
    let boot = fs::read_to_string(BOOT).unwrap_or_default();
    let boot: String = boot.chars().take(8).collect();
    format!("{BEGINNING}{domid}-{boot}-")
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cores(name: &str, keep: usize) -> Cores {
        let folder = std::env::temp_dir().join(format!("store-watcher-cores-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Cores { folder, keep, limit: 0 }
    }

    fn count(cores: &Cores) -> usize {
        fs::read_dir(&cores.folder).unwrap().count()
    }

    #[test]
    fn the_newest_stay_and_only_root_reads_them() {
        let cores = cores("newest", 2);
        assert!(!cores.has_one_of_this_boot(1));
        let paths = [1, 2, 3].map(|domid| cores.save(domid, |file| file.write_all(b"core")).unwrap().0);
        assert_eq!(count(&cores), 2);
        assert!(!paths[0].exists() && paths[1].exists() && paths[2].exists());
        assert!(cores.has_one_of_this_boot(3) && !cores.has_one_of_this_boot(1));
        assert_eq!(paths[2].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(cores.folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(&cores.folder).unwrap();
    }

    #[test]
    fn a_core_that_could_not_be_written_leaves_nothing() {
        let cores = cores("failed", 2);
        let result = cores.save(1, |file| {
            file.write_all(b"half")?;
            Err::<(), _>(io::Error::other("full"))
        });
        assert!(result.is_err());
        assert_eq!(count(&cores), 0);
        fs::remove_dir_all(&cores.folder).unwrap();
    }
}
