//! An unmodified xenstored as a child process whose Xen is a [`Folder`].

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::failure::Failure;
use crate::folder::Folder;
use crate::layout;
use crate::packages::Xenstored;

/// The preload library that build.rs made.
const STAND_IN: &str = env!("NATIVE_RINGS_STAND_IN");

/// Seconds that a server may take for anything that is asked of it, with room for a busy machine.
pub const PATIENCE: u64 = 20;

/// A running xenstored. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    program: PathBuf,
    messages: PathBuf,
}

impl Daemon {
    /// Starts Debian's C xenstored with these options and waits until it serves. Domain 0 must have been built.
    pub fn start(folder: &mut Folder, xenstored: &Xenstored, options: &[String]) -> Result<Daemon, Failure> {
        let at = |name: &str| folder.path().join(name);
        let (stand_in, run, messages) = (at("stand-in.so"), at("run"), at("messages"));
        fs::create_dir(&run).map_err(Failure::file(&run))?;
        // A path of our own, because LD_PRELOAD is split at blanks and colons.
        symlink(STAND_IN, &stand_in).map_err(Failure::file(&stand_in))?;
        let libraries = xenstored.link_libraries(&at("libraries"))?;
        let output = File::create(&messages).map_err(Failure::file(&messages))?;
        let mut command = Command::new(&xenstored.program);
        // In the foreground, its database in memory.
        command.args(["-N", "-I"]).args(options);
        command
            .env_clear()
            .env("LD_PRELOAD", stand_in)
            .env("LD_LIBRARY_PATH", libraries);
        command.env(layout::FOLDER, folder.path()).env("XENSTORED_RUNDIR", run);
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        folder.expect_idle();
        let child = command.spawn().map_err(|source| Failure::Start {
            program: xenstored.program.clone(),
            source,
        })?;
        let mut daemon = Daemon {
            child,
            program: xenstored.program.clone(),
            messages,
        };
        while !folder.is_idle() {
            daemon.listen(folder, &mut Vec::new())?;
        }
        Ok(daemon)
    }

    /// As [`Folder::listen`], but a server that is dead or does nothing for [`PATIENCE`] seconds is an error.
    pub fn listen(&mut self, folder: &mut Folder, notified: &mut Vec<u16>) -> Result<(), Failure> {
        // A death is found within a second; nothing waits so long otherwise.
        for _ in 0..PATIENCE {
            if folder.listen(Duration::from_secs(1), notified)? {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::Ended {
                    program: self.program.clone(),
                    status,
                    text: self.messages(),
                });
            }
        }
        Err(Failure::Silent { seconds: PATIENCE })
    }

    /// What it wrote to its standard error.
    pub fn messages(&self) -> String {
        fs::read(&self.messages).map_or_else(
            |error| error.to_string(),
            |text| String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// Its process id, for those who want its processor time.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead already; either way it is gone after this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
