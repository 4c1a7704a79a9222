//! The host that is simulated: a folder with a page for each domain, their states, and the FIFOs that carry events.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::layout;
use crate::memory::{Mapping, Page};

/// What the hypervisor says of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Life {
    /// There is no such domain.
    Absent = layout::ABSENT,
    /// It runs.
    Alive = layout::ALIVE,
    /// It has shut down.
    Shutdown = layout::SHUTDOWN,
    /// It is being torn down: shut down, and dying.
    Dying = layout::DYING,
}

/// The folder, with its FIFOs open. Removed when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    control: Mapping,
    to_server: File,
    from_server: File,
    /// Events written to the server so far; wraps.
    sent: u32,
    /// Numbers read from the server and not yet looked at.
    heard: Vec<u8>,
    idle: bool,
}

impl Folder {
    /// A new host without domains, in the folder for temporary files.
    pub fn new() -> Result<Folder, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Short: a Unix socket's path inside it must stay below 108 bytes.
        let name = format!(
            "native-rings-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Failure::file(&path))?;
        let control = new_file(&path.join(layout::CONTROL), layout::CONTROL_SIZE)?;
        let control = Mapping::new(&control, layout::CONTROL_SIZE).map_err(Failure::file(&path))?;
        // No newline: some servers parse the number strictly.
        let port = path.join(layout::PORT_FILE);
        fs::write(&port, "1").map_err(Failure::file(&port))?;
        Ok(Folder {
            to_server: fifo(&path.join(layout::TO_SERVER))?,
            from_server: fifo(&path.join(layout::FROM_SERVER))?,
            path,
            control,
            sent: 0,
            heard: Vec::new(),
            idle: false,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A domain comes to life with a new ring page of zeroes, in place of what its number had before.
    pub fn build(&self, domid: u16) -> Result<Page, Failure> {
        let path = self.path.join(format!("page-{domid}"));
        if path.exists() {
            fs::remove_file(&path).map_err(Failure::file(&path))?;
        }
        let page = Page::map(&new_file(&path, layout::PAGE)?).map_err(Failure::file(&path))?;
        self.set_life(domid, Life::Alive);
        Ok(page)
    }

    /// What the hypervisor says of this domain from now on. The server looks when [`Self::domains_changed`].
    pub fn set_life(&self, domid: u16, life: Life) {
        if let Some(state) = self.control.byte(layout::STATES + usize::from(domid)) {
            state.store(life as u8, Ordering::SeqCst);
        }
    }

    /// Lets the server's clocks, not its timers, be ahead of the host's by so much more.
    pub fn advance_clock(&self, by: Duration) {
        if let Some(ahead) = self.control.long(layout::CLOCK_AHEAD) {
            ahead.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// From now on clients come by the server's Unix socket: it does not say any more when it is idle, which would cost it a system call
    /// each time.
    pub(crate) fn serve_by_socket(&self) {
        if let Some(word) = self.control.word(layout::BY_SOCKET) {
            word.store(1, Ordering::SeqCst);
        }
    }

    /// How often the server has notified a domain, whether or not an earlier notification was still pending.
    pub fn notifications(&self) -> u64 {
        self.control
            .long(layout::NOTIFICATIONS)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The domain's event channel fires. Nothing happens while an earlier event waits to be taken.
    pub fn kick(&mut self, domid: u16) -> Result<(), Failure> {
        let pending = self.control.byte(layout::TO_SERVER_PENDING + usize::from(domid));
        if pending.is_some_and(|pending| pending.swap(1, Ordering::SeqCst) == 0) {
            self.send(u32::from(domid).wrapping_add(layout::FIRST_PORT))?;
        }
        Ok(())
    }

    /// VIRQ_DOM_EXC fires.
    pub fn domains_changed(&mut self) -> Result<(), Failure> {
        let pending = self.control.word(layout::VIRQ_PENDING);
        if pending.is_some_and(|pending| pending.swap(1, Ordering::SeqCst) == 0) {
            self.send(layout::VIRQ_PORT)?;
        }
        Ok(())
    }

    fn send(&mut self, port: u32) -> Result<(), Failure> {
        let path = self.path.join(layout::TO_SERVER);
        // Each channel is in the FIFO at most once, so 16,000 domains fit into its 64 KiB.
        self.to_server
            .write_all(&port.to_ne_bytes())
            .map_err(Failure::file(&path))?;
        self.sent = self.sent.wrapping_add(1);
        if let Some(sent) = self.control.word(layout::SENT) {
            sent.store(self.sent, Ordering::SeqCst);
        }
        self.idle = false;
        Ok(())
    }

    /// The server has done everything it can about the events sent so far, and waits. Updated by [`Self::listen`].
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// The server is starting: it has yet to say that it is idle.
    pub(crate) fn expect_idle(&mut self) {
        self.idle = false;
    }

    /// Waits until the server says something, and adds the domains it notified to `notified`. Returns whether it said
    /// anything within the limit.
    pub fn listen(&mut self, limit: Duration, notified: &mut Vec<u16>) -> Result<bool, Failure> {
        let path = self.path.join(layout::FROM_SERVER);
        let until = Instant::now() + limit;
        let mut bytes = [0; 4096];
        loop {
            match self.from_server.read(&mut bytes) {
                Ok(count) => {
                    self.heard.extend(bytes.get(..count).unwrap_or_default());
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    wait_readable(&self.from_server, Some(left)).map_err(Failure::file(&path))?;
                }
                Err(source) => return Err(Failure::File { path, source }),
            }
        }
        let numbers = self.heard.chunks_exact(4);
        let rest = numbers.remainder().to_vec();
        for number in numbers {
            match number.try_into().map_or(layout::IDLE, u32::from_ne_bytes) {
                layout::IDLE => {
                    let taken = self
                        .control
                        .word(layout::TAKEN)
                        .map_or(0, |taken| taken.load(Ordering::SeqCst));
                    self.idle = taken == self.sent;
                }
                domid => {
                    let domid = u16::try_from(domid).unwrap_or(u16::MAX);
                    if let Some(pending) = self.control.byte(layout::FROM_SERVER_PENDING + usize::from(domid)) {
                        pending.store(0, Ordering::SeqCst);
                    }
                    notified.push(domid);
                }
            }
        }
        self.heard = rest;
        Ok(true)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind of a failed run is small and lies among temporary files.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn new_file(path: &Path, length: usize) -> Result<File, Failure> {
    let make = || -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.set_len(length as u64)?;
        Ok(file)
    };
    make().map_err(Failure::file(path))
}

fn fifo(path: &Path) -> Result<File, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|error| Failure::File {
        path: path.to_owned(),
        source: error.into(),
    })?;
    // SAFETY: `name` is a C string that lives during the call.
    if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
        return Err(Failure::File {
            path: path.to_owned(),
            source: io::Error::last_os_error(),
        });
    }
    // Open for both directions, on both sides: so neither end ever sees the other as closed.
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).map_err(Failure::file(path))
}

/// Waits until the file can be read, at most so long; false if it cannot. A signal may end it early.
pub(crate) fn wait_readable(file: &File, limit: Option<Duration>) -> io::Result<bool> {
    let mut polled = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounded up: whoever waits for a moment must not come too early, again and again.
    let milliseconds = limit.map_or(-1, |limit| {
        libc::c_int::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: one pollfd of ours, which outlives the call.
    match unsafe { libc::poll(&raw mut polled, 1, milliseconds) } {
        ..0 if io::Error::last_os_error().kind() != ErrorKind::Interrupted => Err(io::Error::last_os_error()),
        count => Ok(count > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenstore_ring::SharedPage as _;

    #[test]
    fn a_page_is_shared_and_what_lies_outside_reads_as_zero() {
        let folder = Folder::new().unwrap();
        let page = folder.build(5).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.path().join("page-5"))
            .unwrap();
        let other = Page::map(&file).unwrap();
        page.store(2048, 0x0102_0304);
        page.write(1020, &[1, 2, 3, 4, 5]);
        assert_eq!(other.load(2048), 0x0102_0304);
        let mut bytes = [0; 5];
        other.read(1020, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4, 5]);
        for offset in [2049, 4094, 4096, usize::MAX] {
            page.store(offset, 7);
            assert_eq!(page.load(offset), 0);
        }
        page.write(4095, &[9, 9]);
        page.write(usize::MAX, &[9]);
        other.read(4095, &mut bytes);
        assert_eq!(bytes, [9, 0, 0, 0, 0]);
    }

    #[test]
    fn an_event_that_waits_is_not_sent_twice() {
        let mut folder = Folder::new().unwrap();
        for _ in 0..100_000 {
            folder.kick(3).unwrap();
            folder.domains_changed().unwrap();
        }
        assert_eq!(folder.sent, 2);
    }

    #[test]
    fn silence_ends_with_the_limit() {
        let mut folder = Folder::new().unwrap();
        assert!(!folder.listen(Duration::from_millis(2), &mut Vec::new()).unwrap());
    }

    #[test]
    fn a_folder_is_removed_with_all_its_files() {
        let folder = Folder::new().unwrap();
        folder.build(0).unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
