//! Debian's servers as peers.

use std::collections::BTreeMap;
use std::time::Duration;

use native_rings::packages::{Product, Server};
use native_rings::{Daemon, Failure, Folder, Life, Page};
use xenstore_wire::Header;

use crate::guests::{Guests, Message, Peer};

/// How far the server's clock is moved on before each request: the write rate limiter of C xenstored (10 writes, 200 in a
/// second) then never makes a test wait for the real clock.
const STEP: Duration = Duration::from_secs(10);

/// The daemon and its guests. Whatever goes wrong between us and it ends the test.
pub struct Debian {
    guests: Guests<Page>,
    // Before the folder: it must be dead when that is removed.
    daemon: Daemon,
    folder: Folder,
}

impl Debian {
    /// Starts it with domain 0 connected. For the options see [`Daemon::start`].
    pub fn start(server: &Server, options: &[String]) -> Result<Debian, Failure> {
        let mut folder = Folder::new()?;
        let mut guests = Guests::default();
        guests.build(0, folder.build(0)?);
        let fixed: &[&str] = match server.product {
            // Events never expire: the clock runs too fast here.
            Product::C417 | Product::C420 => &["-w", "watch-event=0"],
            // A domain that makes others' commits fail is never made to wait: that is real time. Nor does it stand in a queue:
            // while one does, 4.17 fails at the end of any domain, because it compares what it cannot.
            Product::OCaml417 => &[
                "conflict-burst-limit = 1000000000.0",
                "conflict-rate-limit-is-aggregate = false",
            ],
        };
        let mut all: Vec<String> = fixed.iter().map(|option| (*option).to_owned()).collect();
        all.extend_from_slice(options);
        let daemon = Daemon::start(&mut folder, server, &all)?;
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
    result.unwrap_or_else(|failure| panic!("Debian's server: {failure}"))
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
