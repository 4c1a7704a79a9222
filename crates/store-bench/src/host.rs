//! One server with its domains: how it is started, and how they are set up.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use native_rings::packages::{self, Product};
use native_rings::{Daemon, Folder};
use serde::Serialize;
use xenstore_wire::MessageType;

use crate::client::{Client, Message};
use crate::load::{self, Bed, Figures, Until};
use crate::operation::Operation;
use crate::process;

/// How far the servers' clocks are moved on for each operation: C xenstored lets a domain write 200 times in a second, and that
/// is not what is measured.
const STEP: Duration = Duration::from_secs(10);

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ours.
    Ours,
    /// Ours, of another commit.
    #[value(skip)]
    Base,
    /// C xenstored of Xen 4.20 (Debian 13).
    C,
    /// oxenstored of Xen 4.17 (Debian 12).
    Oxenstored,
}

impl Kind {
    /// For tables and charts.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ours => "ours",
            Kind::Base => "ours, base",
            Kind::C => "C 4.20",
            Kind::Oxenstored => "oxenstored 4.17",
        }
    }

    /// What Debian calls it, and what it is told.
    pub fn debians(self) -> (Product, Vec<String>) {
        let (product, options) = match self {
            // Nobody is made to wait for having made others' commits fail: that is real time.
            Kind::Oxenstored => (
                Product::OCaml417,
                [
                    "conflict-burst-limit = 1000000000.0",
                    "conflict-rate-limit-is-aggregate = false",
                ],
            ),
            // Events never expire: the clock runs too fast here.
            _ => (Product::C420, ["-w", "watch-event=0"]),
        };
        (product, options.map(str::to_owned).to_vec())
    }
}

/// A server, its process and its domains. Domain 0 is the first client, domain n the one with index n.
pub struct Host {
    pub clients: Vec<Client>,
    // Before the folder: it must be dead when that is removed.
    daemon: Daemon,
    folder: Folder,
    notified: Vec<u16>,
}

impl Host {
    /// Starts a server with domain 0 connected. `programs`: the folder of another build of ours.
    pub fn start(kind: Kind, programs: Option<&PathBuf>) -> anyhow::Result<Host> {
        let mut folder = Folder::new()?;
        let page = folder.build(0)?;
        let daemon = match kind {
            Kind::Ours | Kind::Base => {
                let mut command = Command::new(process::program("ours-on-rings", programs)?);
                command.arg(folder.path());
                Daemon::start_own(&mut folder, command)?
            }
            Kind::C | Kind::Oxenstored => {
                let (product, options) = kind.debians();
                Daemon::start(&mut folder, &packages::obtain(product)?, &options)?
            }
        };
        Ok(Host {
            clients: vec![Client::new(page)],
            daemon,
            folder,
            notified: Vec::new(),
        })
    }

    /// [`process::memory_kib`].
    pub fn memory_kib(&self) -> anyhow::Result<(u64, u64)> {
        process::memory_kib(self.daemon.pid())
    }

    /// Makes and introduces domains until there are so many besides domain 0. Each has a directory of its own.
    pub fn introduce(&mut self, count: u16) -> anyhow::Result<()> {
        while self.clients.len() <= usize::from(count) {
            let domid = self.clients.len() as u16;
            let page = self.folder.build(domid)?;
            self.clients.push(Client::new(page));
            self.ask(0, MessageType::Introduce, &format!("{domid}|1|1|"))?;
            if let Some(client) = self.clients.last_mut() {
                client.restart();
            }
            let home = format!("/local/domain/{domid}");
            self.ask(0, MessageType::Mkdir, &format!("{home}|"))?;
            self.ask(0, MessageType::SetPerms, &format!("{home}|n{domid}|"))?;
        }
        Ok(())
    }

    /// One request, and its answer.
    pub fn ask(&mut self, client: usize, kind: MessageType, payload: &str) -> anyhow::Result<Message> {
        load::ask(self, client, kind, payload)
    }

    /// [`load::load`].
    pub fn load(
        &mut self,
        clients: Range<usize>,
        operation: impl Fn(usize) -> Operation,
        until: Until,
    ) -> anyhow::Result<Figures> {
        load::load(self, clients, operation, until)
    }
}

impl Bed for Host {
    fn queue(&mut self, client: usize, kind: MessageType, transaction: u32, payload: &str) -> anyhow::Result<u32> {
        let domain = self.clients.get_mut(client).context("no such client")?;
        Ok(domain.queue(kind, transaction, payload))
    }

    fn pump(&mut self, client: usize) -> anyhow::Result<()> {
        let domain = self.clients.get_mut(client).context("no such client")?;
        if domain.pump()? {
            self.folder.kick(client as u16)?;
        }
        Ok(())
    }

    fn take(&mut self, client: usize) -> Option<Message> {
        self.clients.get_mut(client).and_then(Client::take)
    }

    /// If the server has nothing more to do: everyone, since a client may be served without a notification.
    fn listen(&mut self) -> anyhow::Result<Vec<usize>> {
        self.notified.clear();
        if self.folder.is_idle() {
            return Ok((0..self.clients.len()).collect());
        }
        self.daemon.listen(&mut self.folder, &mut self.notified)?;
        Ok(self.notified.iter().map(|domid| usize::from(*domid)).collect())
    }

    /// Room in a ring that a client made while the server looked at it is told to nobody, by Linux's rules; oxenstored then
    /// waits for whatever event comes next.
    fn nudge(&mut self, clients: Range<usize>) -> anyhow::Result<bool> {
        let idle = self.folder.is_idle();
        if idle {
            for client in clients {
                self.folder.kick(client as u16)?;
            }
        }
        Ok(idle)
    }

    fn rest(&mut self) -> anyhow::Result<()> {
        while !self.folder.is_idle() {
            self.daemon.listen(&mut self.folder, &mut self.notified)?;
        }
        Ok(())
    }

    fn advance_clock(&self) {
        self.folder.advance_clock(STEP);
    }

    fn cpu_ns(&self) -> anyhow::Result<u64> {
        process::cpu_ns(self.daemon.pid())
    }

    fn notifications(&self) -> u64 {
        self.folder.notifications()
    }
}
