//! What is done when the store domain has ended: the reason, its last words, its core, and the administrator's command.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use xen_bindings::PAGE_SIZE;
use xen_bindings::dom0::{Dom0, Dom0Error, DomainInfo, Page, ShutdownReason};

use crate::command_line::Options;
use crate::console::last_lines;
use crate::cores::Cores;
use crate::memory::{self, Frames, Mapped};
use crate::{core_file, log};

/// xenconsoled has this long to write down what the domain said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The domain has shut down and still exists.
pub fn shut_down(dom0: &Dom0, options: &Options, cores: &Cores, info: DomainInfo, reason: ShutdownReason) {
    log::error(&format!(
        "the store domain has ended: domain {} shut down, reason {reason}; no command that uses Xenstore will work until the host is booted again",
        info.domid
    ));
    tell_console(options);
    let core = if cores.keep == 0 {
        None
    } else {
        match save_core(dom0, cores, info, reason) {
            Ok((path, saved)) => {
                log::error(&format!("its core is {}: {saved}", path.display()));
                Some(path)
            }
            Err(error) => {
                log::error(&format!("its core cannot be saved: {error}"));
                None
            }
        }
    };
    run_command(options, &reason.to_string(), core);
}

/// The domain is gone.
pub fn vanished(options: &Options, domid: u16) {
    log::error(&format!(
        "the store domain has ended: domain {domid} is gone, destroyed while it ran; no command that uses Xenstore will work until the host is booted again"
    ));
    tell_console(options);
    run_command(options, "vanished", None);
}

fn tell_console(options: &Options) {
    sleep(LAST_WORDS);
    match last_lines(&options.console, options.lines) {
        Ok(lines) => {
            log::error(&format!("last lines of its console ({}):", options.console.display()));
            for line in lines {
                log::error(&format!("| {line}"));
            }
        }
        Err(error) => log::error(&format!(
            "its console cannot be read: {}: {error} (xenconsoled keeps it with --log=guest or all)",
            options.console.display()
        )),
    }
}

fn run_command(options: &Options, reason: &str, core: Option<PathBuf>) {
    let Some(command) = &options.then else { return };
    log::error(&format!("running: {command}"));
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("STORE_REASON", reason)
        .env("STORE_CORE", core.unwrap_or_default())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => log::error(&format!("that ended with {status}")),
        Err(error) => log::error(&format!("that cannot be run: {error}")),
    }
}

struct DomainFrames<'a> {
    dom0: &'a Dom0,
    domid: u16,
}

impl Frames for DomainFrames<'_> {
    fn read(&self, frames: &[u64]) -> Result<Vec<Option<Box<Page>>>, Dom0Error> {
        self.dom0.read_frames(self.domid, frames)
    }
}

struct Saved {
    pages: usize,
    not_readable: usize,
    /// It has more than a core may hold.
    cut: bool,
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.pages * (PAGE_SIZE / 1024))?;
        if self.not_readable > 0 {
            write!(
                f,
                "; {} pages left out, which are not the domain's own",
                self.not_readable
            )?;
        }
        if self.cut {
            write!(f, "; cut, there is more memory than a core may hold")?;
        }
        Ok(())
    }
}

/// Everything is read before anything is written, so a core is complete or absent.
fn save_core(dom0: &Dom0, cores: &Cores, info: DomainInfo, reason: ShutdownReason) -> io::Result<(PathBuf, Saved)> {
    let frames = DomainFrames {
        dom0,
        domid: info.domid,
    };
    let registers = dom0.registers(info.domid).map_err(io::Error::other)?;
    let limit = (cores.limit / PAGE_SIZE as u64) as usize;
    let found =
        memory::mapped(&frames, registers.cr3 / PAGE_SIZE as u64, !info.is_hvm, limit).map_err(io::Error::other)?;
    let numbers: Vec<u64> = found.pages.iter().map(|page| page.frame).collect();
    let contents = frames.read(&numbers).map_err(io::Error::other)?;
    // What cannot be read is not the domain's own: rings of its clients, for the most part.
    let pages: Vec<(Mapped, Box<Page>)> = found
        .pages
        .iter()
        .zip(contents)
        .filter_map(|(page, content)| Some((*page, content?)))
        .collect();
    if pages.is_empty() {
        return Err(io::Error::other("none of its page tables can be read"));
    }
    let words = format!(
        "domain {} ({}) shut down, reason {reason}; {} pages belong to it, {} are mapped and in this file{}\n",
        info.domid,
        if info.is_hvm { "PVH" } else { "PV" },
        info.pages,
        pages.len(),
        if found.cut { ", which was cut" } else { "" }
    );
    let (path, written) = cores.save(info.domid, |file| {
        let mut file = io::BufWriter::new(file);
        let written = core_file::write(&mut file, info.domid, &registers, &words, &pages)?;
        io::Write::flush(&mut file)?;
        Ok(written)
    })?;
    Ok((
        path,
        Saved {
            pages: written,
            not_readable: found.pages.len() - pages.len() + found.unreadable_tables,
            cut: found.cut || written < pages.len(),
        },
    ))
}
