//! The folder as a server of our own sees it that is an ordinary process: what the preload library is for Debian's.
//!
//! It follows the same rules, so that both are measured alike: one `write` for each notification that is not pending already, and
//! a word to the driver before it waits. Only events are read in one piece, as many as there are, and not before a word in shared memory
//! says that there are some: on Xen they are bits in a shared page, and reading them costs no system call at all.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::failure::Failure;
use crate::folder::{Life, wait_readable};
use crate::layout;
use crate::memory::{Mapping, Page};

/// What the server's Xen has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// The event channel of this domain fired.
    Domain(u16),
    /// Some domain changed its state.
    DomainsChanged,
}

/// A host as its Xenstore server sees it.
#[derive(Debug)]
pub struct ServerSide {
    path: PathBuf,
    control: Mapping,
    to_server: File,
    from_server: File,
    /// Events read so far; wraps.
    taken: u32,
    /// Something is in the FIFO, whether or not the word that counts events says so already.
    woken: bool,
    /// Bytes of an event that came in pieces.
    rest: Vec<u8>,
}

impl ServerSide {
    /// Takes a seat in the folder of this path.
    pub fn open(path: &Path) -> Result<ServerSide, Failure> {
        let fifo = |name: &str| {
            let path = path.join(name);
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
            options.open(&path).map_err(Failure::file(&path))
        };
        let control = path.join(layout::CONTROL);
        let file = open_both_ways(&control)?;
        Ok(ServerSide {
            control: Mapping::new(&file, layout::CONTROL_SIZE).map_err(Failure::file(&control))?,
            to_server: fifo(layout::TO_SERVER)?,
            from_server: fifo(layout::FROM_SERVER)?,
            path: path.to_owned(),
            taken: 0,
            woken: false,
            rest: Vec::new(),
        })
    }

    /// The ring page of a domain, if there is one.
    pub fn page(&self, domid: u16) -> Result<Page, Failure> {
        let path = self.path.join(format!("page-{domid}"));
        Page::map(&open_both_ways(&path)?).map_err(Failure::file(&path))
    }

    /// What the hypervisor says of a domain.
    pub fn life(&self, domid: u16) -> Life {
        let state = self.control.byte(layout::STATES + usize::from(domid));
        match state.map_or(layout::ABSENT, |state| state.load(Ordering::SeqCst)) {
            layout::ALIVE => Life::Alive,
            layout::SHUTDOWN => Life::Shutdown,
            layout::DYING => Life::Dying,
            _ => Life::Absent,
        }
    }

    /// Hands over what happened since the last call.
    pub fn poll(&mut self, signal: &mut dyn FnMut(Signal)) -> Result<(), Failure> {
        let mut bytes = [0; 1024];
        while core::mem::take(&mut self.woken) || self.is_signalled() {
            let read = match self.to_server.read(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(source) => return Err(self.failed(layout::TO_SERVER, source)),
            };
            self.rest.extend(bytes.get(..read).unwrap_or_default());
            let whole = self.rest.len() / 4 * 4;
            for port in self.rest.drain(..whole).as_slice().chunks_exact(4) {
                self.taken = self.taken.wrapping_add(1);
                let port = port.try_into().map_or(0, u32::from_ne_bytes);
                if let Some(heard) = heard(&self.control, port) {
                    signal(heard);
                }
            }
            if read < bytes.len() {
                break;
            }
        }
        Ok(())
    }

    /// There are events that were not taken. One that is in the FIFO and not counted yet wakes whoever sleeps.
    fn is_signalled(&self) -> bool {
        let sent = self.control.word(layout::SENT);
        let ahead = sent.map_or(0, |sent| sent.load(Ordering::SeqCst).wrapping_sub(self.taken));
        (1..=u32::MAX / 2).contains(&ahead)
    }

    /// Tells a domain that something changed.
    pub fn notify(&mut self, domid: u16) -> Result<(), Failure> {
        if let Some(count) = self.control.long(layout::NOTIFICATIONS) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let pending = self.control.byte(layout::FROM_SERVER_PENDING + usize::from(domid));
        if pending.is_some_and(|pending| pending.swap(1, Ordering::SeqCst) == 0) {
            self.tell(u32::from(domid))?;
        }
        Ok(())
    }

    /// Sleeps until something happens or the time has passed; at once if something has happened already. The driver is told first.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<(), Failure> {
        if self.is_signalled() {
            return Ok(());
        }
        if let Some(taken) = self.control.word(layout::TAKEN) {
            taken.store(self.taken, Ordering::SeqCst);
        }
        self.tell(layout::IDLE)?;
        let woken = wait_readable(&self.to_server, limit);
        self.woken = woken.map_err(|source| self.failed(layout::TO_SERVER, source))?;
        Ok(())
    }

    fn tell(&mut self, number: u32) -> Result<(), Failure> {
        let written = self.from_server.write_all(&number.to_ne_bytes());
        written.map_err(|source| self.failed(layout::FROM_SERVER, source))
    }

    fn failed(&self, name: &str, source: io::Error) -> Failure {
        Failure::File {
            path: self.path.join(name),
            source,
        }
    }
}

/// What a port stands for. Its channel may fire again from now on.
fn heard(control: &Mapping, port: u32) -> Option<Signal> {
    if port == layout::VIRQ_PORT {
        control.word(layout::VIRQ_PENDING)?.store(0, Ordering::SeqCst);
        return Some(Signal::DomainsChanged);
    }
    let domid = u16::try_from(port.checked_sub(layout::FIRST_PORT)?).ok()?;
    let pending = control.byte(layout::TO_SERVER_PENDING + usize::from(domid))?;
    pending.store(0, Ordering::SeqCst);
    Some(Signal::Domain(domid))
}

fn open_both_ways(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(Failure::file(path))
}
