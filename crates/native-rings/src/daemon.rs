//! An unmodified Xenstore server as a child process whose Xen is a [`Folder`].

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::folder::Folder;
use crate::layout;
use crate::packages::{Product, Server};

/// The preload library that build.rs made.
const STAND_IN: &str = env!("NATIVE_RINGS_STAND_IN");

/// Seconds that a server may take for anything that is asked of it, with room for a busy machine.
pub const PATIENCE: u64 = 20;

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    program: PathBuf,
    messages: PathBuf,
    started: Instant,
}

impl Daemon {
    /// Starts one of Debian's servers and waits until it serves. Domain 0 must have been built. `options` are words of the
    /// command line for C xenstored, and lines of the configuration file for oxenstored.
    pub fn start(folder: &mut Folder, server: &Server, options: &[String]) -> Result<Daemon, Failure> {
        Self::start_debians(folder, server, options, false)
    }

    /// The same for clients of its Unix socket, whose path is given, too. [`Daemon::listen`] is of no use then: the server does not say
    /// when it is idle.
    pub fn start_by_socket(
        folder: &mut Folder,
        server: &Server,
        options: &[String],
    ) -> Result<(Daemon, PathBuf), Failure> {
        let daemon = Self::start_debians(folder, server, options, true)?;
        folder.serve_by_socket();
        Ok((daemon, folder.path().join("run/socket")))
    }

    fn start_debians(
        folder: &mut Folder,
        server: &Server,
        options: &[String],
        socket: bool,
    ) -> Result<Daemon, Failure> {
        let at = |name: &str| folder.path().join(name);
        let (stand_in, run, messages) = (at("stand-in.so"), at("run"), at("messages"));
        fs::create_dir(&run).map_err(Failure::file(&run))?;
        // A path of our own, because LD_PRELOAD is split at blanks and colons.
        symlink(STAND_IN, &stand_in).map_err(Failure::file(&stand_in))?;
        let libraries = server.link_libraries(&at("libraries"))?;
        let output = File::create(&messages).map_err(Failure::file(&messages))?;
        let mut command = Command::new(&server.program);
        // In the foreground.
        match server.product {
            // Its database in memory; 4.18 and later know no other.
            Product::C417 => command.args(["-N", "-I"]).args(options),
            Product::C420 => command.arg("-N").args(options),
            Product::OCaml417 => {
                let configuration = at("oxenstored.conf");
                let lines = configuration_of_oxenstored(&run, options);
                fs::write(&configuration, lines).map_err(Failure::file(&configuration))?;
                command.args(["--no-fork", "--no-access-log"]);
                if !socket {
                    command.arg("--disable-socket");
                }
                command.arg("--config-file").arg(configuration)
            }
        };
        command
            .env_clear()
            .env("LD_PRELOAD", stand_in)
            .env("LD_LIBRARY_PATH", libraries);
        command.env(layout::FOLDER, folder.path()).env("XENSTORED_RUNDIR", run);
        command.current_dir(folder.path());
        Self::spawn(folder, command, output, messages)
    }

    /// Starts a server of our own, one that uses [`crate::ServerSide`], and waits until it serves. The command must name the folder.
    pub fn start_own(folder: &mut Folder, command: Command) -> Result<Daemon, Failure> {
        let messages = folder.path().join("messages");
        let output = File::create(&messages).map_err(Failure::file(&messages))?;
        Self::spawn(folder, command, output, messages)
    }

    fn spawn(folder: &mut Folder, mut command: Command, output: File, messages: PathBuf) -> Result<Daemon, Failure> {
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        folder.expect_idle();
        let started = Instant::now();
        let child = command.spawn().map_err(|source| Failure::Start {
            program: program.clone(),
            source,
        })?;
        let mut daemon = Daemon {
            child,
            program,
            messages,
            started,
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

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Its process id, for those who want its processor time.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What oxenstored must be told so that it writes nothing outside the folder, and where its Xen is.
fn configuration_of_oxenstored(run: &Path, options: &[String]) -> String {
    let run = run.display();
    let mut lines = format!(
        "pid-file = {run}/pid\nxenstored-log-file = {run}/log\nxenstored-log-level = null\npersistent = false\n\
         xenstored-kva = /proc/xen/xsd_kva\nxenstored-port = /proc/xen/xsd_port\n"
    );
    for option in options {
        lines.push_str(option);
        lines.push('\n');
    }
    lines
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be dead already; either way it is gone after this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
