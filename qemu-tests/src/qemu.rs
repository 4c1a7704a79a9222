//! Runs QEMU with Xen and its modules, and hands over what comes on the serial line.
//!
//! The flags are those that were found to work (software emulation corrupts registers with XSAVE visible, for example); each that
//! looks odd has its reason beside it. Knows nothing about marks.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::host;
use crate::patience::{Due, End, Limits, Patience};
use crate::serial::LineAssembler;

/// A machine that boots Xen.
pub struct Machine {
    /// The hypervisor as a plain 32-bit ELF file: QEMU's multiboot loader wants no other.
    pub xen: PathBuf,
    /// Xen's command line.
    pub xen_options: String,
    /// Multiboot modules with their command lines: dom0's kernel, and its initramfs.
    pub modules: Vec<(PathBuf, String)>,
    /// MiB.
    pub memory: u32,
    /// A disk in a file, `/dev/vda` to Linux; what is written to it need not survive a crash of this host.
    pub disk: Option<PathBuf>,
    /// Its time is the number of instructions that it has executed, a nanosecond each, and not what passes here: what it measures then
    /// does not depend on what else this host does. Only an emulated processor can do this.
    pub counts_instructions: bool,
}

/// Whether to go on after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Continue,
    /// The machine may end, but not take much longer.
    AboutToEnd,
    /// Enough was seen.
    Stop,
}

/// Switches the serial line from dom0 to Xen.
const TO_XEN: &[u8] = b"\x01\x01\x01";

/// A key that Xen has no meaning for.
const NO_MEANING: &[u8] = b"~";

const BETWEEN_KEYS: Duration = Duration::from_millis(100);

/// Asks Xen for the domains (q), their event channels (e), the timers (a), and what the processors are doing (d).
const DEBUG_KEYS: &[u8] = b"qead";

impl Machine {
    /// Runs the machine to its end; every line goes into `log` with the time since power on, and to `line`.
    pub fn run(
        &self,
        limits: Limits,
        log: &Path,
        mut line: impl FnMut(Duration, &str) -> Next,
    ) -> Result<(End, Duration)> {
        let mut log = BufWriter::new(File::create(log).with_context(|| format!("creating {}", log.display()))?);
        let mut command = self.command()?;
        command.args(["-serial", "stdio", "-monitor", "none"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        writeln!(log, "{command:?}")?;
        let start = Instant::now();
        let mut child = Kill(command.spawn().context("starting qemu-system-x86_64")?);
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = child.0.stdout.take() {
            forward(stdout, sender.clone());
        }
        if let Some(stderr) = child.0.stderr.take() {
            forward(stderr, sender);
        }

        let mut assembler = LineAssembler::default();
        let mut patience = Patience::new(limits, start);
        let mut keys = Vec::from(TO_XEN);
        let end = 'end: loop {
            let left = patience.until().saturating_duration_since(Instant::now());
            let bytes = match receiver.recv_timeout(left) {
                Ok(bytes) => bytes,
                Err(RecvTimeoutError::Disconnected) => break End::PoweredOff,
                Err(RecvTimeoutError::Timeout) => {
                    match patience.due(Instant::now()) {
                        Due::End(end) => break end,
                        Due::Question => keys.extend(DEBUG_KEYS),
                        Due::Nudge(silent) => {
                            keys.extend(NO_MEANING);
                            let (at, silent) = (start.elapsed().as_secs_f64(), silent.as_secs());
                            writeln!(
                                log,
                                "[{at:9.3}] -- no output for {silent} s: a key for Xen, in case it lost its timer"
                            )?;
                            log.flush()?;
                        }
                    }
                    // A machine that takes no input is found silent, or has ended.
                    let _ = type_in(&mut child.0, &keys);
                    keys.clear();
                    continue;
                }
            };
            let now = Instant::now();
            patience.heard(now);
            let at = now - start;
            for text in assembler.take(&bytes) {
                writeln!(log, "[{:9.3}] {text}", at.as_secs_f64())?;
                match line(at, &text) {
                    Next::Continue => {}
                    Next::AboutToEnd => patience.ending(),
                    Next::Stop => break 'end End::Stopped,
                }
            }
            log.flush()?;
        };
        let took = start.elapsed();
        if let Some(text) = assembler.rest() {
            writeln!(log, "[{:9.3}] {text}", took.as_secs_f64())?;
            line(took, &text);
        }
        writeln!(log, "[{:9.3}] -- {end}", took.as_secs_f64())?;
        log.flush()?;
        Ok((end, took))
    }

    /// Runs the machine with the user's terminal as its serial line.
    pub fn run_on_terminal(&self, log: &Path) -> Result<()> {
        let mut command = self.command()?;
        // One character device for the line and QEMU's monitor (Ctrl-a c), which leaves Ctrl-C to the machine and keeps a log.
        command
            .arg("-chardev")
            .arg(format!("stdio,id=terminal,mux=on,signal=off,logfile={}", escaped(log)));
        command.args(["-serial", "chardev:terminal", "-mon", "chardev=terminal"]);
        let mut child = Kill(command.spawn().context("starting qemu-system-x86_64")?);
        child.0.wait()?;
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        host::require(&["qemu-system-x86_64"])?;
        // With setpriv QEMU dies with us, however we die.
        let mut command = if host::find("setpriv").is_some() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
            command
        } else {
            Command::new("qemu-system-x86_64")
        };
        if host::usable_kvm() {
            command.args(["-accel", "kvm", "-cpu", "host", "-smp", "2"]);
        } else {
            // max: SVM with nested paging, for PVH guests. -rdtscp: QEMU 7.2 reports no next instruction for its intercept, and Xen stops
            // the guest. -xsave: with it QEMU 7.2 and Xen mix up XMM registers of virtual processors that share one.
            //
            // One processor: with two, each emulated by a thread of its own, a busy host runs them at different times, and Xen (locks,
            // calls from one processor to the other) loses minutes waiting. Measured with three other busy processes on two cores:
            // test-xenstore -i 20 took 2.7 s with one processor, and with two it was given up after minutes.
            command.args(["-accel", "tcg", "-cpu", "max,-rdtscp,-xsave", "-smp", "1"]);
            if self.counts_instructions {
                // Without sleep: when it has nothing to do, its time goes on to the next timer at once.
                command.args(["-icount", "shift=0,sleep=off"]);
            }
        }
        command.args([
            "-m",
            &self.memory.to_string(),
            "-display",
            "none",
            "-no-reboot",
            "-nodefaults",
        ]);
        command
            .arg("-kernel")
            .arg(&self.xen)
            .arg("-append")
            .arg(&self.xen_options);
        let modules: Vec<String> = self
            .modules
            .iter()
            .map(|(file, options)| {
                format!("{} {}", escaped(file), options.replace(',', ",,"))
                    .trim_end()
                    .to_owned()
            })
            .collect();
        command.arg("-initrd").arg(modules.join(","));
        if let Some(disk) = &self.disk {
            command
                .arg("-drive")
                .arg(format!("file={},if=virtio,format=raw,cache=unsafe", escaped(disk)));
        }
        Ok(command)
    }
}

/// QEMU takes a comma for the end of a value unless it is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A child that does not outlive the run.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // Both fail if it has ended by itself, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Types slowly: Xen does what the last key asks for when it gets to it, and forgets the one before.
fn type_in(child: &mut Child, keys: &[u8]) -> std::io::Result<()> {
    let stdin = child.stdin.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
    for key in keys {
        stdin.write_all(&[*key])?;
        stdin.flush()?;
        std::thread::sleep(BETWEEN_KEYS);
    }
    Ok(())
}

fn forward(mut from: impl Read + Send + 'static, to: Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 || to.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
}
