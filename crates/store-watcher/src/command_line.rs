//! The command line, and the loop: look, report, wait.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Parser;
use xen_bindings::dom0::{Dom0, Dom0Error};

use crate::cores::Cores;
use crate::log;
use crate::report;
use crate::watch::{Event, Watch};

/// Notices when the store domain has ended, and keeps what tells why.
///
/// It asks Xen, never the store: with a dead store, everything that uses Xenstore waits for ever, `xl list` and `xl dump-core` too.
/// Needs root in dom0, and Xen 4.17 to 4.22.
///
/// When the store domain has shut down, or is gone, this is written to standard error (the journal) and, outside of systemd, to
/// syslog: the reason that Xen gives, and the last lines of the domain's console as xenconsoled kept them. If the domain still
/// exists, its core is saved: an ELF file with the registers and all memory that the domain had mapped, at its virtual addresses,
/// PVH or PV. Read it with `gdb xenstore-stubdom.symbols FILE`. It holds the whole store, everything that guests and toolstack
/// wrote there, so only root can read it.
#[derive(Parser)]
#[command(name = "xenstore-stubdom-watcher", version)]
pub struct Options {
    /// Seconds between two looks
    #[arg(long, env = "WATCHER_INTERVAL", value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    interval: u16,
    /// The store domain's console, as xenconsoled keeps it with --log=guest or all
    #[arg(
        long,
        env = "WATCHER_CONSOLE",
        value_name = "FILE",
        default_value = "/var/log/xen/console/guest-Xenstore.log"
    )]
    pub console: PathBuf,
    /// Lines of it that are repeated in the log
    #[arg(long, env = "WATCHER_LINES", value_name = "N", default_value = "30")]
    pub lines: usize,
    /// Folder for cores
    #[arg(
        long,
        env = "WATCHER_CORES",
        value_name = "FOLDER",
        default_value = "/var/lib/xenstore-stubdom"
    )]
    cores: PathBuf,
    /// Cores that are kept, the newest; 0: none is saved
    #[arg(long, env = "WATCHER_KEEP", value_name = "N", default_value = "3")]
    keep: usize,
    /// MiB of memory that a core may hold; what comes after them is left out
    #[arg(long, env = "WATCHER_CORE_LIMIT", value_name = "MIB", default_value = "512")]
    core_limit: u64,
    /// A command for the shell, run after everything else; $STORE_REASON is the reason, $STORE_CORE the core's path or empty
    #[arg(long, env = "WATCHER_THEN", value_name = "COMMAND")]
    pub then: Option<String>,
    /// End with status 1 after the first report, instead of waiting for the next store domain
    #[arg(long)]
    once: bool,
}

/// Looking for a store domain means asking about all numbers that a domain can have, so it is done less often.
const SEARCH_EVERY: u32 = 5;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            log::error(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Dom0Error> {
    let dom0 = Dom0::open()?;
    let cores = Cores {
        folder: options.cores.clone(),
        keep: options.keep,
        limit: options.core_limit.saturating_mul(1 << 20),
    };
    let interval = Duration::from_secs(options.interval.into());
    let mut watch = Watch::default();
    loop {
        let seen = match watch.watched() {
            Some(domid) => dom0.domain(domid)?,
            None => dom0.find_store()?,
        };
        match watch.see(seen) {
            None => {}
            Some(Event::NoStore) => log::info("there is no store domain; waiting for one"),
            Some(Event::Found(info)) => log::info(&format!(
                "watching domain {}, {} with {} MiB",
                info.domid,
                if info.is_hvm { "PVH" } else { "PV" },
                info.pages >> 8
            )),
            // A watcher that was started again must not tell and save everything twice.
            Some(Event::ShutDown(info, _)) if cores.has_one_of_this_boot(info.domid) => {
                log::info(&format!("domain {} has ended; that was reported before", info.domid));
            }
            Some(Event::ShutDown(info, reason)) => {
                report::shut_down(&dom0, options, &cores, info, reason);
                if options.once {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Some(Event::Vanished(domid)) => {
                report::vanished(options, domid);
                if options.once {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Some(Event::Removed(domid)) => log::info(&format!("domain {domid}, which had ended, is gone now")),
        }
        sleep(if watch.watched().is_some() {
            interval
        } else {
            interval.saturating_mul(SEARCH_EVERY)
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
