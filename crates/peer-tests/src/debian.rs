//! Debian's C xenstored as a peer.

use std::collections::BTreeMap;
use std::time::Duration;

use native_rings::packages::Xenstored;
use native_rings::{Daemon, Failure, Folder, Life, Page};
use xenstore_wire::Header;

use crate::guests::{Guests, Message, Peer};

/// How far xenstored's clock is moved on before each request: its write rate limiter (10 writes, 200 in a second) then
/// never makes a test wait for the real clock.
const STEP: Duration = Duration::from_secs(10);

/// The daemon and its guests. Whatever goes wrong between us and it ends the test.
pub struct Debian {
    guests: Guests<Page>,
    // Before the folder: it must be dead when that is removed.
    daemon: Daemon,
    folder: Folder,
}

impl Debian {
    /// Starts it with domain 0 connected.
    pub fn start(xenstored: &Xenstored, options: &[String]) -> Result<Debian, Failure> {
        let mut folder = Folder::new()?;
        let mut guests = Guests::default();
        guests.build(0, folder.build(0)?);
        // Events never expire: the clock runs too fast here.
        let mut all = vec!["-w".to_owned(), "watch-event=0".to_owned()];
        all.extend_from_slice(options);
        let daemon = Daemon::start(&mut folder, xenstored, &all)?;
        Ok(Debian { guests, daemon, folder })
    }

    fn settle_or_fail(&mut self) -> Result<(), Failure> {
        let mut kicks = Vec::new();
        loop {
            let moved = self.guests.pump(&mut kicks);
            for domid in kicks.drain(..) {
                self.folder.kick(domid)?;
            }
            if !self.folder.is_idle() {
                self.daemon.listen(&mut self.folder, &mut Vec::new())?;
            } else if !moved {
                return Ok(());
            }
        }
    }
}

fn must<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| panic!("C xenstored: {failure}"))
}

impl Peer for Debian {
    fn build(&mut self, domid: u16) {
        self.guests.build(domid, must(self.folder.build(domid)));
    }

    fn domain_is(&mut self, domid: u16, life: Life) {
        self.folder.set_life(domid, life);
        must(self.folder.domains_changed());
    }

    fn restart(&mut self, domid: u16) {
        self.guests.restart(domid);
    }

    fn send(&mut self, domid: u16, header: Header, payload: &[u8]) {
        self.folder.advance_clock(STEP);
        self.guests.send(domid, header, payload);
    }

    fn settle(&mut self) -> Result<BTreeMap<u16, Vec<Message>>, String> {
        self.settle_or_fail().map_err(|failure| failure.to_string())?;
        Ok(self.guests.take())
    }
}
