//! Many at once: the life of many VMs as a toolstack writes it, all over domain 0's ring, and many domains' transactions that read
//! one path.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context as _, bail};
use cost_tests::storm::{Step, life_of};
use seeded_random::Random;
use serde::Serialize;
use xenstore_wire::MessageType::{self, Mkdir, SetPerms, TransactionEnd, TransactionStart, Write};

use crate::host::{Host, Kind};
use crate::load::{Bed as _, Until};
use crate::operation::{Batch, Operation};

/// Requests of different VMs that are under way at a time.
const AT_ONCE: usize = 8;
/// Clients, and transactions of each, in [`shared_reads`].
const CLIENTS: u16 = 128;
const TRANSACTIONS: u64 = 500;

/// How one server came through it.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    pub server: Kind,
    /// VMs or clients.
    pub at_once: usize,
    /// False: it was given up.
    pub finished: bool,
    pub seconds: f64,
    /// Seconds of the server's processor time.
    pub cpu_seconds: f64,
    pub requests: u64,
    /// Requests that there would be if nothing had to be done twice.
    pub minimum: u64,
    /// Commits that were answered EAGAIN.
    pub conflicts: u64,
}

struct Vm {
    script: Vec<Step>,
    at: usize,
    transaction: u32,
    /// Where the open transaction began.
    began: usize,
}

/// Lets so many VMs live at the same time.
pub fn storm(host: &mut Host, server: Kind, vms: usize, patience: f64) -> anyhow::Result<Storm> {
    // Their nodes belong to them, so they must be there; and a host that has had a VM before has these.
    host.introduce(u16::try_from(vms)?)?;
    for path in ["/vm", "/vss", "/local/domain/0/backend/vbd", "/libxl"] {
        host.ask(0, Mkdir, &format!("{path}|"))?;
    }
    host.rest()?;
    let mut random = Random::new(1);
    let mut ready: Vec<Vm> = Vec::new();
    for vm in 0..vms {
        ready.push(Vm {
            script: life_of(vm),
            at: 0,
            transaction: 0,
            began: 0,
        });
    }
    let minimum = ready.iter().map(|vm| vm.script.len() as u64).sum();
    let mut waiting: HashMap<u32, Vm> = HashMap::new();
    let (cpu, began) = (host.cpu_ns()?, Instant::now());
    let (mut requests, mut conflicts, mut finished) = (0, 0, true);
    while !(ready.is_empty() && waiting.is_empty()) {
        if began.elapsed().as_secs_f64() > patience {
            finished = false;
            break;
        }
        while waiting.len() < AT_ONCE && !ready.is_empty() {
            let turn = random.below(ready.len() as u32) as usize;
            let vm = ready.swap_remove(turn);
            let step = vm.script.get(vm.at).context("the end of a life")?;
            host.advance_clock();
            let transaction = if step.inside { vm.transaction } else { 0 };
            let number = host.queue(0, step.kind, transaction, &step.payload)?;
            host.pump(0)?;
            waiting.insert(number, vm);
        }
        for domid in host.listen()? {
            host.pump(domid)?;
        }
        while let Some(message) = host.take(0) {
            requests += 1;
            let mut vm = waiting
                .remove(&message.header.request_id)
                .context("an answer to nobody")?;
            let step = vm.script.get(vm.at).context("the end of a life")?;
            match message.error().as_deref() {
                Some("EAGAIN") => {
                    conflicts += 1;
                    vm.at = vm.began;
                    ready.push(vm);
                    continue;
                }
                Some("ENOENT") if step.may_be_missing => {}
                Some(error) => bail!("{step:?} was answered {error}"),
                None => {}
            }
            if step.kind == TransactionStart {
                let text = String::from_utf8_lossy(&message.payload);
                vm.began = vm.at;
                vm.transaction = text.trim_end_matches('\0').parse()?;
            }
            vm.at += 1;
            if vm.at < vm.script.len() {
                ready.push(vm);
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Storm {
        server,
        at_once: vms,
        finished,
        seconds,
        cpu_seconds: (host.cpu_ns()? - cpu) as f64 / 1e9,
        requests,
        minimum,
        conflicts,
    })
}

/// Many domains, each with transactions that read what all read and write what is their own.
pub fn shared_reads(host: &mut Host, server: Kind) -> anyhow::Result<Storm> {
    host.ask(0, Write, "/bench/shared|x")?;
    host.ask(0, SetPerms, "/bench/shared|r0|")?;
    host.introduce(CLIENTS)?;
    let alone = |kind: MessageType, inside, payload: &str| Batch {
        requests: vec![(kind, inside, payload.to_owned())],
        events: 0,
    };
    let operation = Operation {
        batches: vec![
            alone(TransactionStart, false, "|"),
            alone(MessageType::Read, true, "/bench/shared|"),
            alone(Write, true, "own|x"),
            alone(TransactionEnd, true, "T|"),
        ],
    };
    host.rest()?;
    let cpu = host.cpu_ns()?;
    let all = 1..usize::from(CLIENTS) + 1;
    let figures = host.load(all, |_| operation.clone(), Until::Times(TRANSACTIONS))?;
    Ok(Storm {
        server,
        at_once: usize::from(CLIENTS),
        finished: true,
        seconds: figures.seconds,
        cpu_seconds: (host.cpu_ns()? - cpu) as f64 / 1e9,
        requests: figures.requests,
        minimum: u64::from(CLIENTS) * TRANSACTIONS * operation.batches.len() as u64,
        conflicts: figures.conflicts,
    })
}
