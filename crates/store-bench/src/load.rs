//! Clients that are kept busy: each does its operation again and again, all at the same time, whatever carries their bytes.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use xenstore_wire::MessageType;

use crate::client::Message;
use crate::operation::{Batch, Operation};

/// A server and its clients.
pub trait Bed {
    /// Queues a request of a client.
    fn queue(&mut self, client: usize, kind: MessageType, transaction: u32, payload: &str) -> anyhow::Result<u32>;

    /// Moves what can be moved of this client.
    fn pump(&mut self, client: usize) -> anyhow::Result<()>;

    /// The next whole message that came to this client.
    fn take(&mut self, client: usize) -> Option<Message>;

    /// Waits for the server, and says who may have been told something.
    fn listen(&mut self) -> anyhow::Result<Vec<usize>>;

    /// These clients wait, and nothing has come for a while. True if the server has nothing to do, as far as one can see.
    fn nudge(&mut self, clients: Range<usize>) -> anyhow::Result<bool>;

    /// Waits until the server has nothing more to do.
    fn rest(&mut self) -> anyhow::Result<()>;

    /// The server's clock goes on, where it does so for us.
    fn advance_clock(&self);

    /// Nanoseconds that the server has run.
    fn cpu_ns(&self) -> anyhow::Result<u64>;

    /// Notifications that the server has sent.
    fn notifications(&self) -> u64;

    /// How long a load may take, if that is limited.
    fn patience(&self) -> Option<Duration> {
        None
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

/// Lets these clients do their operations at the same time, each one after another, and measures.
pub fn load<B: Bed>(
    bed: &mut B,
    clients: Range<usize>,
    operation: impl Fn(usize) -> Operation,
    until: Until,
) -> anyhow::Result<Figures> {
    let operations: Vec<Operation> = clients.clone().map(operation).collect();
    let first = clients.start;
    let mut progress: Vec<Progress> = clients.clone().map(|_| Progress::default()).collect();
    let mut done = vec![0u64; progress.len()];
    let mut busy = progress.len();
    let mut figures = Figures::default();
    let mut latencies: Vec<u64> = Vec::new();
    bed.rest()?;
    let (cpu, notifications, began) = (bed.cpu_ns()?, bed.notifications(), Instant::now());
    for client in clients.clone() {
        send_batch(bed, client, &operations[client - first], &mut progress[client - first])?;
    }
    let mut in_vain = 0;
    while busy > 0 {
        let mut moved = false;
        for client in bed.listen()? {
            bed.pump(client)?;
            while let Some(message) = bed.take(client) {
                moved = true;
                let Some(index) = client.checked_sub(first).filter(|index| *index < progress.len()) else {
                    bail!("client {client} was told something and had not asked");
                };
                let (operation, state) = (&operations[index], &mut progress[index]);
                figures.requests += u64::from(!message.is_event());
                if !state.hear(&message)? {
                    continue;
                }
                state.batch += 1;
                if state.batch == operation.batches.len() {
                    figures.conflicts += u64::from(state.again);
                    latencies.extend(state.began.map(|began| began.elapsed().as_nanos() as u64));
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
                send_batch(bed, client, operation, state)?;
            }
        }
        if bed.patience().is_some_and(|patience| began.elapsed() > patience) {
            bail!(
                "after {:.0} s {} requests were answered, and {busy} clients had not finished",
                began.elapsed().as_secs_f64(),
                figures.requests
            );
        }
        in_vain = if moved { 0 } else { in_vain + 1 };
        if in_vain > 10 && bed.nudge(clients.clone())? && in_vain > 1000 {
            bail!("the server is idle and {busy} clients wait for it");
        }
    }
    figures.seconds = began.elapsed().as_secs_f64();
    bed.rest()?;
    let requests = figures.requests.max(1) as f64;
    figures.cpu_us = (bed.cpu_ns()? - cpu) as f64 / 1000.0 / requests;
    figures.notifies = (bed.notifications() - notifications) as f64 / requests;
    latencies.sort_unstable();
    let at = |part: f64| {
        let index = ((latencies.len() as f64 - 1.0).max(0.0) * part).round() as usize;
        latencies.get(index).map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    (figures.p50_us, figures.p99_us, figures.max_us) = (at(0.5), at(0.99), at(1.0));
    Ok(figures)
}

fn send_batch<B: Bed>(bed: &mut B, client: usize, operation: &Operation, state: &mut Progress) -> anyhow::Result<()> {
    let batch: &Batch = operation
        .batches
        .get(state.batch)
        .context("an operation without requests")?;
    bed.advance_clock();
    state.replies = batch.requests.len();
    state.events = batch.events;
    state.began.get_or_insert_with(Instant::now);
    for (kind, inside, payload) in &batch.requests {
        bed.queue(client, *kind, if *inside { state.transaction } else { 0 }, payload)?;
    }
    bed.pump(client)
}

/// One request, and its answer.
pub fn ask<B: Bed>(bed: &mut B, client: usize, kind: MessageType, payload: &str) -> anyhow::Result<Message> {
    bed.queue(client, kind, 0, payload)?;
    bed.pump(client)?;
    loop {
        while let Some(message) = bed.take(client) {
            if let Some(error) = message.error() {
                bail!("{kind:?} {payload} of client {client} was answered {error}");
            }
            if !message.is_event() {
                return Ok(message);
            }
        }
        for client in bed.listen()? {
            bed.pump(client)?;
        }
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
