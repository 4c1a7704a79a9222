//! The options, with all that `--help` says.

use std::fs;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use xenstore_core::{Limit, TraceSwitch, options};
use xenstored_unix::{LARGEST, SMALLEST, Settings, Sync};

/// The Xenstore server on a Unix socket, without Xen.
///
/// It speaks the protocol of C xenstored 4.22 with the programs of this host. Every client is dom0 and may do everything, as with C
/// xenstored: who can write to the socket decides. There is one socket; C xenstored has had no read-only one since Xen 4.15 either.
/// Domains do not exist here: INTRODUCE is answered with EINVAL, as C answers when a ring cannot be mapped; what names another
/// domain than 0 (RELEASE, RESUME, SET_TARGET, a permission) with ENOENT.
///
/// The tools of Xen (xenstore-read and so on) and everything that links libxenstore find the socket by their environment:
///
///     XENSTORED_PATH=/run/xenstored-unix/socket xenstore-ls
///
/// or XENSTORED_RUNDIR=/run/xenstored-unix, or without either if this daemon listens where they look: --socket
/// /run/xenstored/socket.
///
/// SIGTERM and SIGINT stop it in order: the round is finished, the state file closed, the socket removed. A client's requests that
/// were not answered by then may or may not have been done. With systemd it is a service of Type=notify.
///
/// A client that sends requests and does not read is not read from once 64 KiB wait for it, and one for which 1 MiB of events wait
/// is cut off.
#[derive(Parser, Debug)]
#[command(
    name = "xenstored-unix",
    version,
    after_long_help = "What survives, with --state:\n  \
        a clean stop, a kill (SIGKILL, a crash, xenstore-control crash): everything that a client was answered, exactly once; a\n  \
        request without an answer is done once or not at all. Connections do not survive, and with them go their watches and\n  \
        open transactions. Limits and trace switches that were set by xenstore-control survive.\n  \
        loss of power, a crash of the host: the same with --sync=always. With --sync=never the file counts as incomplete then\n  \
        and is refused, because the kernel may have written what came later and not what came before.\n\n\
        Exit status: 0 stopped in order, 1 could not start or go on, 2 the command line is wrong."
)]
pub struct Options {
    /// Where to listen; the folder is made if only it is missing
    ///
    /// Beside the socket lies a lock, PATH.lock, while the daemon runs. A socket that a dead server left is replaced, one that
    /// answers is not.
    #[arg(long, value_name = "PATH", default_value = "/run/xenstored-unix/socket")]
    socket: PathBuf,
    /// Mode of the socket, octal; who may write to it may do everything
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    socket_mode: u32,
    /// Group of the socket, by its number or its name in /etc/group; use it with --socket-mode=660
    #[arg(long, value_name = "GROUP", value_parser = group)]
    socket_group: Option<u32>,
    /// Clients at a time; more are turned away at once
    ///
    /// Each needs a file descriptor. The daemon raises its limit (RLIMIT_NOFILE) as far as it may, and says so if that is not
    /// enough; then give it more: LimitNOFILE= in a unit, ulimit -Hn in a shell.
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_clients: u32,
    /// Keep the store in this file; without it the store is in memory and gone with the process
    ///
    /// The file is made if it is missing, with mode 0600, and read back otherwise. One server at a time has it. A file that is
    /// damaged or was written by another version is refused and left as it is.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// When the state file is forced to the disk: never (but at a clean stop), or always, before a client sees an answer
    #[arg(long, value_name = "WHEN", default_value = "never", value_parser = sync, requires = "state")]
    sync: Sync,
    /// The most that the store may take, in memory and in the state file: a number of bytes, or with K or M behind it
    ///
    /// A typical node takes about 140 bytes of it. It begins with 4M and grows. What does not fit is refused with ENOSPC.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    max_size: usize,
    /// A limit of domains, NAME=N, by the names that xenstore-control quota shows; 0: none. Can be given more than once
    ///
    /// Limits do not hold for dom0, so for no client of this daemon; they are what such clients are shown and can set.
    #[arg(long, value_name = "NAME=N", value_parser = options::quota)]
    quota: Vec<(Limit, u32)>,
    /// Write requests and replies (io), or connections, watches and transactions (obj), to standard error. Can be given twice
    #[arg(long, value_name = "SWITCH", value_parser = options::trace)]
    trace: Vec<TraceSwitch>,
    /// Allow xenstore-control crash: panic and oom end the process by SIGABRT, fault and stack by SIGSEGV, hang does nothing
    #[arg(long)]
    debug_crash: bool,
}

impl Options {
    /// What the library wants to know.
    pub fn settings(self) -> Result<Settings, clap::Error> {
        if self.state.as_deref() == Some(self.socket.as_path()) {
            let mut command = Options::command();
            return Err(command.error(
                ErrorKind::ArgumentConflict,
                "--state and --socket must not name the same file",
            ));
        }
        Ok(Settings {
            socket: self.socket,
            socket_mode: self.socket_mode,
            socket_group: self.socket_group,
            max_clients: usize::try_from(self.max_clients).unwrap_or(usize::MAX),
            state: self.state,
            sync: self.sync,
            max_size: self.max_size,
            quotas: self.quota,
            trace: self.trace,
            debug_crash: self.debug_crash,
        })
    }
}

fn mode(value: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(value, 8).ok();
    // Without its owner's rights nobody but root could connect; more than these bits mean nothing for a socket.
    mode.filter(|mode| mode & 0o600 == 0o600 && *mode <= 0o777)
        .ok_or("an octal mode from 600 to 777 that lets the owner read and write")
}

fn group(value: &str) -> Result<u32, &'static str> {
    if let Ok(number) = value.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(value);
        fields.nth(1).filter(|_| named)?.parse().ok()
    });
    found.ok_or("a group's number, or its name in /etc/group")
}

fn sync(value: &str) -> Result<Sync, &'static str> {
    let known = [Sync::Never, Sync::Always].into_iter();
    known
        .into_iter()
        .find(|sync| sync.name() == value)
        .ok_or("never or always")
}

fn size(value: &str) -> Result<usize, &'static str> {
    let (number, unit) = match value.strip_suffix(['K', 'k']) {
        Some(number) => (number, 1 << 10),
        None => match value.strip_suffix(['M', 'm']) {
            Some(number) => (number, 1 << 20),
            None => (value, 1),
        },
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| (SMALLEST..=LARGEST).contains(bytes))
        .ok_or("a size from 1M to 254M")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size("1M"), Ok(1 << 20));
        assert_eq!(size("2048K"), Ok(2 << 20));
        assert_eq!(size("266338304"), Ok(254 << 20));
        for wrong in ["", "M", "0", "1023K", "255M", "1G", "-1", "99999999999999999999M"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mode_leaves_the_owner_his_rights() {
        assert_eq!(mode("660"), Ok(0o660));
        assert_eq!(mode("0600"), Ok(0o600));
        for wrong in ["", "888", "060", "400", "1777", "rw"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
