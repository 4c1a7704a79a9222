//! One server with its domains: how it is started, how they are set up, and the loop that keeps all of them busy.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use native_rings::packages::{self, Product};
use native_rings::{Daemon, Folder};
use serde::Serialize;
use xenstore_wire::MessageType;

use crate::client::{Client, Message};
use crate::operation::{Batch, Operation};
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
}

/// What a load came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Requests that were answered.
    pub requests: u64,
    /// Transactions that must be done again.
    pub conflicts: u64,
    /// Seconds that passed.
    pub seconds: f64,
    /// Microseconds of the server's processor time for each request.
    pub cpu_us: f64,
    /// Notifications for each request.
    pub notifies: f64,
    /// Microseconds from the first byte of an operation to the last of its answer: median, 99 of 100, the longest.
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

impl Figures {
    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }
}

/// Where a client is in its operation.
#[derive(Default)]
struct Progress {
    batch: usize,
    replies: usize,
    events: usize,
    transaction: u32,
    /// A commit of this operation was answered EAGAIN.
    again: bool,
    began: Option<Instant>,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Each client has done its operation so many times.
    Times(u64),
    /// So much time has passed and there were so many requests; each client has done its operation once at least.
    Passed(Duration, u64),
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
    /// Starts a server with domain 0 connected. `program`: another build of ours.
    pub fn start(kind: Kind, program: Option<&PathBuf>) -> anyhow::Result<Host> {
        let mut folder = Folder::new()?;
        let page = folder.build(0)?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let daemon = match kind {
            Kind::Ours | Kind::Base => {
                let beside = std::env::current_exe()?.with_file_name("ours-on-rings");
                let mut command = Command::new(program.unwrap_or(&beside));
                command.arg(folder.path());
                Daemon::start_own(&mut folder, command)?
            }
            Kind::C => {
                // Events never expire: the clock runs too fast here.
                Daemon::start(
                    &mut folder,
                    &packages::obtain(Product::C420)?,
                    &words(&["-w", "watch-event=0"]),
                )?
            }
            Kind::Oxenstored => {
                // Nobody is made to wait for having made others' commits fail: that is real time.
                let options = [
                    "conflict-burst-limit = 1000000000.0",
                    "conflict-rate-limit-is-aggregate = false",
                ];
                Daemon::start(&mut folder, &packages::obtain(Product::OCaml417)?, &words(&options))?
            }
        };
        Ok(Host {
            clients: vec![Client::new(page)],
            daemon,
            folder,
            notified: Vec::new(),
        })
    }

    /// KiB of memory that the server holds.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        process::memory_kib(self.daemon.pid())
    }

    /// Nanoseconds that the server has run.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        process::cpu_ns(self.daemon.pid())
    }

    /// Notifications that the server has sent.
    pub fn notifications(&self) -> u64 {
        self.folder.notifications()
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
        self.queue(client, kind, 0, payload)?;
        loop {
            while let Some(message) = self.clients.get_mut(client).and_then(Client::take) {
                if let Some(error) = message.error() {
                    bail!("{kind:?} {payload} of domain {client} was answered {error}");
                }
                if !message.is_event() {
                    return Ok(message);
                }
            }
            for domid in self.listen()? {
                self.pump(domid)?;
            }
        }
    }

    /// Queues a request and sends what the ring takes; says its number.
    pub fn queue(&mut self, client: usize, kind: MessageType, transaction: u32, payload: &str) -> anyhow::Result<u32> {
        let domain = self.clients.get_mut(client).context("no such client")?;
        let number = domain.queue(kind, transaction, payload);
        self.pump(client)?;
        Ok(number)
    }

    /// Moves what can be moved of this client.
    pub fn pump(&mut self, client: usize) -> anyhow::Result<()> {
        let domain = self.clients.get_mut(client).context("no such client")?;
        if domain.pump()? {
            self.folder.kick(client as u16)?;
        }
        Ok(())
    }

    /// Waits for the server, and says who was notified. If it has nothing more to do: everyone, since a client may be served without.
    pub fn listen(&mut self) -> anyhow::Result<Vec<usize>> {
        self.notified.clear();
        if self.folder.is_idle() {
            return Ok((0..self.clients.len()).collect());
        }
        self.daemon.listen(&mut self.folder, &mut self.notified)?;
        Ok(self.notified.iter().map(|domid| usize::from(*domid)).collect())
    }

    /// The server's clock goes on.
    pub fn advance_clock(&self) {
        self.folder.advance_clock(STEP);
    }

    /// Lets these clients do their operations at the same time, each one after another, and measures.
    pub fn load(
        &mut self,
        clients: std::ops::Range<usize>,
        operation: impl Fn(usize) -> Operation,
        until: Until,
    ) -> anyhow::Result<Figures> {
        let operations: Vec<Operation> = clients.clone().map(operation).collect();
        let first = clients.start;
        let mut progress: Vec<Progress> = clients.clone().map(|_| Progress::default()).collect();
        let mut done = vec![0u64; progress.len()];
        let mut busy = progress.len();
        let mut figures = Figures::default();
        let mut latencies: Vec<u32> = Vec::new();
        self.rest()?;
        let (cpu, notifications, began) = (self.cpu_ns()?, self.notifications(), Instant::now());
        for client in clients.clone() {
            self.send_batch(client, &operations[client - first], &mut progress[client - first])?;
        }
        let mut in_vain = 0;
        while busy > 0 {
            let mut moved = false;
            for client in self.listen()? {
                self.pump(client)?;
                while let Some(message) = self.clients.get_mut(client).and_then(Client::take) {
                    moved = true;
                    let Some(index) = client.checked_sub(first).filter(|index| *index < progress.len()) else {
                        bail!("domain {client} was told something and had not asked");
                    };
                    let (operation, state) = (&operations[index], &mut progress[index]);
                    figures.requests += u64::from(!message.is_event());
                    if !state.hear(&message)? {
                        continue;
                    }
                    state.batch += 1;
                    if state.batch == operation.batches.len() {
                        figures.conflicts += u64::from(state.again);
                        latencies.extend(state.began.map(|began| began.elapsed().as_nanos() as u32));
                        done[index] += 1;
                        *state = Progress::default();
                        let over = match until {
                            Until::Times(times) => done[index] >= times,
                            Until::Passed(time, requests) => began.elapsed() >= time && figures.requests >= requests,
                        };
                        if over {
                            busy -= 1;
                            continue;
                        }
                    }
                    self.send_batch(client, operation, state)?;
                }
            }
            in_vain = if moved { 0 } else { in_vain + 1 };
            // Room in a ring that a client made while the server looked at it is told to nobody, by Linux's rules; oxenstored then
            // waits for whatever event comes next.
            if in_vain > 10 && self.folder.is_idle() {
                for client in clients.clone() {
                    self.folder.kick(client as u16)?;
                }
            }
            if in_vain > 1000 && self.folder.is_idle() {
                bail!("the server is idle and {busy} clients wait for it");
            }
        }
        figures.seconds = began.elapsed().as_secs_f64();
        self.rest()?;
        let requests = figures.requests.max(1) as f64;
        figures.cpu_us = (self.cpu_ns()? - cpu) as f64 / 1000.0 / requests;
        figures.notifies = (self.notifications() - notifications) as f64 / requests;
        latencies.sort_unstable();
        let at = |part: f64| {
            let index = ((latencies.len() as f64 - 1.0).max(0.0) * part).round() as usize;
            latencies.get(index).map_or(0.0, |ns| f64::from(*ns) / 1000.0)
        };
        (figures.p50_us, figures.p99_us, figures.max_us) = (at(0.5), at(0.99), at(1.0));
        Ok(figures)
    }

    /// Waits until the server has nothing more to do.
    pub fn rest(&mut self) -> anyhow::Result<()> {
        while !self.folder.is_idle() {
            self.daemon.listen(&mut self.folder, &mut self.notified)?;
        }
        Ok(())
    }

    fn send_batch(&mut self, client: usize, operation: &Operation, state: &mut Progress) -> anyhow::Result<()> {
        let batch: &Batch = operation
            .batches
            .get(state.batch)
            .context("an operation without requests")?;
        self.folder.advance_clock(STEP);
        state.replies = batch.requests.len();
        state.events = batch.events;
        state.began.get_or_insert_with(Instant::now);
        let domain = self.clients.get_mut(client).context("no such client")?;
        for (kind, inside, payload) in &batch.requests {
            domain.queue(*kind, if *inside { state.transaction } else { 0 }, payload);
        }
        self.pump(client)
    }
}

impl Progress {
    /// Takes a message in. True if the batch is answered with it.
    fn hear(&mut self, message: &Message) -> anyhow::Result<bool> {
        if message.is_event() {
            self.events = self.events.checked_sub(1).context("an event too many")?;
        } else {
            self.replies = self.replies.checked_sub(1).context("a reply too many")?;
            match message.error().as_deref() {
                None => {}
                Some("EAGAIN") => self.again = true,
                Some(error) => bail!("request {:?} was answered {error}", message.header),
            }
            if message.header.kind == MessageType::TransactionStart as u32 {
                let text = String::from_utf8_lossy(&message.payload);
                self.transaction = text.trim_end_matches('\0').parse().context("the id of a transaction")?;
            }
        }
        Ok(self.replies == 0 && self.events == 0)
    }
}
