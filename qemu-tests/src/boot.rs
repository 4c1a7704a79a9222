//! One boot: puts the files of a run together in the cache, runs the machine, and makes a transcript of it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

use crate::bed::Bed;
use crate::cache;
use crate::dom0::{self, Overlay};
use crate::markers::{Mark, Transcript};
use crate::parts::Parts;
use crate::patience::Limits;
use crate::qemu::{Machine, Next};

/// Xen's options: its console on the serial line, and what QEMU needs. With QEMU 7.2's SMAP a PV dom0 dies at once.
const XEN_OPTIONS: &str = "console=com1 com1=115200,8n1 smap=off smep=off";

/// For a log: everything that guests make Xen say, which is also how a store without a console can be heard.
const TALKATIVE: &str = "loglvl=warning guest_loglvl=all";

/// For a person.
const QUIET: &str = "loglvl=error guest_loglvl=error";

/// Steps have limits of their own, the longest of four minutes; one that is silent for longer than that hangs altogether.
const LIMITS: Limits = Limits {
    silence: Duration::from_secs(300),
    // Hundreds of guests, created one by one, take that long on a busy machine.
    whole: Duration::from_secs(5400),
};

/// A kernel that runs alone as dom0 says something within seconds.
const LIMITS_ALONE: Limits = Limits {
    silence: Duration::from_secs(60),
    whole: Duration::from_secs(180),
};

/// Logs of this many runs are kept.
const RUNS_KEPT: usize = 20;

/// Memory, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The whole machine's.
    pub machine: u32,
    /// dom0's part of it.
    pub dom0: u32,
}

impl Size {
    /// Enough for the store and a few guests.
    pub const USUAL: Size = Size {
        machine: 2048,
        dom0: 768,
    };
}

/// A bed that is ready to be booted.
pub struct Ready {
    pub parts: Parts,
    folder: PathBuf,
    xen: PathBuf,
    kernel: PathBuf,
    /// More words for Xen's command line.
    xen_options: String,
    /// dom0's initramfs without what differs from run to run.
    base: Vec<u8>,
}

/// What a boot left behind.
pub struct Ended {
    pub transcript: Transcript,
    /// Every line of the serial line.
    pub log: PathBuf,
    /// From power on to the end.
    pub took: Duration,
}

impl Ready {
    /// Fetches what is missing and puts dom0 together.
    pub fn prepare(bed: Bed, xen_options: &str) -> Result<Ready> {
        let parts = Parts::obtain(bed)?;
        println!("Xen {bed}: putting dom0 together");
        let folder = run_folder()?;
        let xen = folder.join(format!("xen-{bed}"));
        let mut plain = Vec::new();
        GzDecoder::new(fs::File::open(parts.file(&bed.hypervisor_file())?)?)
            .read_to_end(&mut plain)
            .context("unpacking the hypervisor")?;
        fs::write(&xen, plain)?;
        let (kernel, _) = parts.kernel()?;
        let base = dom0::base(&parts)?.finish()?;
        Ok(Ready {
            parts,
            folder,
            xen,
            kernel,
            xen_options: xen_options.to_owned(),
            base,
        })
    }

    /// Boots Linux as dom0 and lets it run its scenario; `see` gets every line and the mark that it is, if it is one.
    pub fn run(
        &self,
        name: &str,
        overlay: &Overlay,
        mut see: impl FnMut(&str, Option<&Mark>, &Transcript),
    ) -> Result<Ended> {
        let machine = self.machine(name, overlay)?;
        let log = self.log(name);
        let mut transcript = Transcript::default();
        let ended = machine.run(LIMITS, &log, |at, line| {
            let mark = transcript.line(at, line);
            see(line, mark.as_ref(), &transcript);
            if transcript.done {
                Next::AboutToEnd
            } else {
                Next::Continue
            }
        });
        self.remove_initrd(name);
        let (end, took) = ended?;
        transcript.end(took, &end.to_string());
        Ok(Ended { transcript, log, took })
    }

    /// Boots Linux as dom0 with the user's terminal as its console.
    pub fn run_on_terminal(&self, name: &str, overlay: &Overlay) -> Result<PathBuf> {
        let machine = self.machine(name, overlay)?;
        let log = self.log(name);
        let ended = machine.run_on_terminal(&log);
        self.remove_initrd(name);
        ended.map(|()| log)
    }

    /// Boots `image` itself as dom0, without any Linux, until it prints a line that `last` accepts.
    ///
    /// The transcript has one step, called `name`, which has failed if no such line came.
    pub fn run_alone(
        &self,
        name: &str,
        image: &[u8],
        options: &str,
        last: impl Fn(&str) -> Option<Result<(), String>>,
    ) -> Result<Ended> {
        let file = self.folder.join(format!("{name}-xen{}.image", self.parts.bed));
        fs::write(&file, image)?;
        let machine = Machine {
            xen: self.xen.clone(),
            xen_options: format!("{XEN_OPTIONS} {TALKATIVE} dom0_mem=64M {}", self.xen_options),
            modules: vec![(file.clone(), options.to_owned())],
            memory: 512,
            disk: None,
            counts_instructions: false,
        };
        let log = self.log(name);
        let mut transcript = Transcript::default();
        transcript.line(Duration::ZERO, &format!("@@ begin {name}"));
        let ended = machine.run(LIMITS_ALONE, &log, |at, line| {
            transcript.line(at, line);
            let Some(outcome) = last(line) else {
                return Next::Continue;
            };
            let outcome = outcome.map_or_else(|why| format!("FAIL {why}"), |()| "ok".to_owned());
            transcript.line(at, &format!("@@ step {name} {outcome}"));
            transcript.done = true;
            Next::Stop
        });
        fs::remove_file(file)?;
        let (end, took) = ended?;
        transcript.end(took, &end.to_string());
        Ok(Ended { transcript, log, took })
    }

    fn machine(&self, name: &str, overlay: &Overlay) -> Result<Machine> {
        let initrd = self.initrd(name);
        let level = if overlay.terminal.is_some() { QUIET } else { TALKATIVE };
        let mut content = self.base.clone();
        content.extend((overlay.extras)(&self.parts)?.finish()?);
        content.extend(dom0::overlay(&self.parts, overlay).finish()?);
        fs::write(&initrd, content).with_context(|| format!("writing {}", initrd.display()))?;
        Ok(Machine {
            xen: self.xen.clone(),
            xen_options: format!(
                "{XEN_OPTIONS} {level} dom0_mem={}M {}",
                overlay.size.dom0, self.xen_options
            ),
            modules: vec![
                (self.kernel.clone(), "console=hvc0 quiet panic=1".to_owned()),
                (initrd, String::new()),
            ],
            memory: overlay.size.machine,
            disk: None,
            counts_instructions: overlay.counts_instructions,
        })
    }

    /// Boots a dom0 that lies on a disk, once for each of `kernel_options`, with the same initramfs. All boots are one transcript.
    ///
    /// A boot ends with the machine going off; after a boot with a failed step there is no further one.
    pub fn run_from_disk(
        &self,
        name: &str,
        disk: &Path,
        initrd: &Path,
        kernel_options: &[String],
        mut see: impl FnMut(&Transcript),
    ) -> Result<Ended> {
        let mut transcript = Transcript::default();
        let mut before = Duration::ZERO;
        let mut log = PathBuf::new();
        for (index, options) in kernel_options.iter().enumerate() {
            let machine = Machine {
                xen: self.xen.clone(),
                xen_options: format!(
                    "{XEN_OPTIONS} {TALKATIVE} dom0_mem={}M {}",
                    Size::USUAL.dom0,
                    self.xen_options
                ),
                modules: vec![
                    (self.kernel.clone(), format!("console=hvc0 quiet panic=1 {options}")),
                    (initrd.to_owned(), String::new()),
                ],
                memory: Size::USUAL.machine,
                disk: Some(disk.to_owned()),
                counts_instructions: false,
            };
            log = self.log(&format!("{name}-boot{}", index + 1));
            let (end, took) = machine.run(LIMITS, &log, |at, line| {
                transcript.line(before + at, line);
                see(&transcript);
                if transcript.done {
                    Next::AboutToEnd
                } else {
                    Next::Continue
                }
            })?;
            before += took;
            let last = index + 1 == kernel_options.len();
            // Within a boot, or at the end of the last one: the machine must not go off before its script says so.
            if last || transcript.is_within_a_step() || transcript.steps.is_empty() {
                transcript.end(before, &end.to_string());
            }
            if transcript.failed() {
                break;
            }
        }
        Ok(Ended {
            transcript,
            log,
            took: before,
        })
    }

    /// Where this process keeps what it makes for its runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-xen{}.log", self.parts.bed))
    }

    fn initrd(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-xen{}.initrd", self.parts.bed))
    }

    /// Large and made anew for every run.
    fn remove_initrd(&self, name: &str) {
        let _ = fs::remove_file(self.initrd(name));
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.xen);
    }
}

/// This process' folder for what it makes; the oldest ones go.
fn run_folder() -> Result<PathBuf> {
    let runs = cache::folder()?.join("runs");
    let folder = runs.join(std::process::id().to_string());
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut old: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(&runs)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| *path != folder)
        .collect();
    old.sort();
    let too_many = old.len().saturating_sub(RUNS_KEPT);
    for (_, path) in old.into_iter().take(too_many).filter(|(_, path)| !is_running(path)) {
        let _ = fs::remove_dir_all(path);
    }
    Ok(folder)
}

/// The folder's name is the id of the process that made it.
fn is_running(run: &Path) -> bool {
    run.file_name().is_some_and(|id| Path::new("/proc").join(id).exists())
}
