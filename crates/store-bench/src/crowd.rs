//! The rows on Unix sockets: few and many clients, each with nodes of its own.
//!
//! The server and its clients share one processor. On two of them, each lone request would cost the server an interrupt of the other one,
//! five times as much as the request on a virtual machine, or none, as the scheduler has placed them: the figures would tell of that alone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use xenstore_wire::MessageType::{Mkdir, Read, Write};

use crate::host::Kind;
use crate::load::{Figures, Until, ask, load};
use crate::operation::Operation;
use crate::progress::progress;
use crate::results::Results;
use crate::socket::Crowd;

/// Requests of a row, at least.
const REQUESTS: u64 = 400;
/// Requests that a pipelining client sends at once.
const AT_ONCE: usize = 16;

/// One row for one server.
#[derive(Clone, Debug, Serialize)]
pub struct Crowded {
    pub server: Kind,
    pub operation: &'static str,
    pub pipelined: bool,
    pub clients: usize,
    /// KiB of memory after it.
    pub kib: u64,
    #[serde(flatten)]
    pub figures: Figures,
}

/// A server did not serve so many clients.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    pub server: Kind,
    pub clients: usize,
    /// What came of it.
    pub said: String,
}

/// Name, and what is asked of the nodes below a path, once or as often as a pipelining client does.
type Named = (&'static str, fn(&str, usize) -> Operation);

const OPERATIONS: [Named; 3] = [
    ("read", |home, at_once| {
        Operation::of(Read, &format!("{home}v1|"), at_once)
    }),
    ("write 1 byte", |home, at_once| {
        Operation::of(Write, &format!("{home}v1|x"), at_once)
    }),
    ("transaction of 10 writes", |home, at_once| {
        Operation::transaction(home, at_once > 1)
    }),
];

/// What is to be measured.
pub struct Plan {
    /// Servers; with the folder of programs for other builds of ours.
    pub servers: Vec<(Kind, Option<PathBuf>)>,
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Part of the names of those operations that are wanted.
    pub only: String,
    /// Seconds for each row and server.
    pub seconds: f64,
}

fn home(client: usize) -> String {
    format!("/local/domain/{client}/")
}

impl Plan {
    /// Measures everything. A server that does not take so many clients is noted.
    pub fn measure(&self, results: &mut Results) {
        // A server inherits it. Where it cannot be had, it is measured all the same.
        let all = sched_getaffinity(None).ok();
        let last = all.and_then(|all| (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)));
        if let Some(last) = last {
            let mut one = CpuSet::new();
            one.set(last);
            let _not_had = sched_setaffinity(None, &one);
        }
        for clients in &self.clients {
            for (kind, programs) in &self.servers {
                if let Err(error) = self.rows_of(*kind, programs.as_ref(), *clients, results) {
                    results.refused.push(Refused {
                        server: *kind,
                        clients: *clients,
                        said: format!("{error:#}"),
                    });
                }
            }
        }
        if let Some(all) = all {
            let _not_had = sched_setaffinity(None, &all);
        }
    }

    fn rows_of(
        &self,
        server: Kind,
        programs: Option<&PathBuf>,
        clients: usize,
        results: &mut Results,
    ) -> anyhow::Result<()> {
        let name = server.name();
        progress(&format!("{clients} clients on a socket: {name}"));
        let mut crowd = Crowd::start(server, programs, clients, &[])?;
        ask(&mut crowd, 0, Mkdir, "/local/domain|")?;
        for (operation, make) in OPERATIONS.iter().filter(|(name, _)| name.contains(&self.only)) {
            // Nodes are there before they are measured.
            let wanted = if *operation == "read" { OPERATIONS[1].1 } else { *make };
            load(
                &mut crowd,
                0..clients,
                |client| wanted(&home(client), 1),
                Until::Times(1),
            )
            .context(*operation)?;
            for pipelined in [false, true] {
                progress(&format!("{clients} clients on a socket: {name}, {operation}"));
                let at_once = if pipelined { AT_ONCE } else { 1 };
                let until = Until::Passed(Duration::from_secs_f64(self.seconds), REQUESTS);
                let figures =
                    load(&mut crowd, 0..clients, |client| make(&home(client), at_once), until).context(*operation)?;
                results.crowds.push(Crowded {
                    server,
                    operation,
                    pipelined,
                    clients,
                    kib: crowd.memory_kib()?,
                    figures,
                });
            }
        }
        Ok(())
    }
}
