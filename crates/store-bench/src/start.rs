//! How long servers take to their first reply, how long a store takes to be read back, how large the image is, and how many nodes fit.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use cost_tests::host::{Host, NODES_OF_A_DOMAIN, Size};
use serde::Serialize;
use store_bench::inside::Recovery;
use xenstore_wire::MessageType::Write;

use crate::host::Kind;
use crate::load::{Until, load};
use crate::operation::{Batch, Operation};
use crate::process::{self, program};
use crate::progress::progress;
use crate::results::Results;
use crate::socket::{Crowd, Server, first_reply, own_folder};
use crate::within::{listed, run};

/// How often each is started.
const TIMES: usize = 5;
/// Bytes of durable pages in the default domain of 8 MiB: half of what the image leaves (`make numbers`).
const DEFAULT_PAGES: usize = 3_375 << 10;
/// WRITEs that are on their way at once, and batches of them in one go.
const AT_ONCE: usize = 400;
const BATCHES: usize = 100;

/// From the start of a process to its first reply.
#[derive(Clone, Debug, Serialize)]
pub struct FirstReply {
    pub server: Kind,
    /// Nodes in the state file that it reads back after a kill; none: it begins with nothing.
    pub nodes: Option<usize>,
    /// Milliseconds that pass, and that it runs.
    pub ms: f64,
    pub cpu_ms: f64,
    /// KiB of memory then.
    pub kib: u64,
}

/// A store that was read back, by that alone.
#[derive(Clone, Debug, Serialize)]
pub struct ReadBack {
    pub server: Kind,
    #[serde(flatten)]
    pub recovery: Recovery,
}

/// Nodes that durable pages have room for.
#[derive(Clone, Debug, Serialize)]
pub struct Room {
    pub server: Kind,
    pub bytes: usize,
    pub nodes: usize,
}

/// The image's files.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    pub bytes: u64,
    pub compressed: Option<u64>,
}

/// What is to be measured.
pub struct Plan {
    /// Servers; with the folder of programs for other builds of ours.
    pub servers: Vec<(Kind, Option<PathBuf>)>,
    /// Nodes that are read back.
    pub nodes: Vec<usize>,
}

impl Plan {
    /// Measures everything.
    pub fn measure(&self, results: &mut Results) -> anyhow::Result<()> {
        for (kind, programs) in &self.servers {
            progress(&format!("start: {}", kind.name()));
            results.first_replies.push(self.first(*kind, programs.as_ref(), None)?);
        }
        for (kind, programs) in &self.servers {
            if !matches!(kind, Kind::Ours | Kind::Base) {
                continue;
            }
            let programs = programs.as_ref();
            for nodes in &self.nodes {
                progress(&format!("start with {nodes} nodes: {}", kind.name()));
                match self.first(*kind, programs, Some(*nodes)) {
                    Ok(found) => results.first_replies.push(found),
                    Err(error) => results
                        .left_out
                        .push(format!("a state file of {nodes} nodes: {error:#}")),
                }
            }
            if *kind == Kind::Base && program("ours-inside", programs).is_err() {
                results
                    .left_out
                    .push("recovery: the base commit has no such program yet".to_owned());
                continue;
            }
            let arguments = ["recovery", "--nodes", &listed(&self.nodes)].map(str::to_owned);
            let found: Vec<Recovery> = run("ours-inside", programs, &arguments)?;
            let found = found.into_iter().map(|recovery| ReadBack {
                server: *kind,
                recovery,
            });
            results.read_back.extend(found);
            results.rooms.push(Room {
                server: *kind,
                bytes: DEFAULT_PAGES,
                nodes: run(
                    "ours-inside",
                    programs,
                    &["room", &DEFAULT_PAGES.to_string()].map(str::to_owned),
                )?,
            });
        }
        results.image = image();
        Ok(())
    }

    fn first(&self, server: Kind, programs: Option<&PathBuf>, nodes: Option<usize>) -> anyhow::Result<FirstReply> {
        let folder = own_folder()?;
        let state = folder.join("state").display().to_string();
        // As much as there can be, and no syncing.
        let with_state = ["--state", &state, "--max-size=254M"];
        let options: &[&str] = if nodes.is_some() { &with_state } else { &[] };
        let filled = nodes.map_or(Ok(()), |nodes| fill(server, programs, options, nodes));
        let measured = filled.and_then(|()| {
            let each = (0..TIMES).map(|_| one(server, programs, options));
            each.collect::<anyhow::Result<Vec<_>>>()
        });
        let _stays = fs::remove_dir_all(&folder);
        let mut measured = measured?;
        measured.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ms, cpu_ms, kib) = *measured.get(TIMES / 2).context("nothing was measured")?;
        Ok(FirstReply {
            server,
            nodes,
            ms,
            cpu_ms,
            kib,
        })
    }
}

/// Milliseconds to the first reply, of the server's processor, and KiB of memory. The server is killed then.
fn one(kind: Kind, programs: Option<&PathBuf>, options: &[&str]) -> anyhow::Result<(f64, f64, u64)> {
    let mut server = Server::start(kind, programs, 1, options)?;
    let mut stream = server.connect()?;
    first_reply(&mut stream)?;
    let ms = server.started.elapsed().as_secs_f64() * 1000.0;
    let cpu_ms = process::cpu_ns(server.pid())? as f64 / 1e6;
    Ok((ms, cpu_ms, process::memory_kib(server.pid())?.0))
}

/// Lets a server write so many nodes into its state file, and kills it.
fn fill(kind: Kind, programs: Option<&PathBuf>, options: &[&str], nodes: usize) -> anyhow::Result<()> {
    let mut crowd = Crowd::start(kind, programs, 1, options)?;
    let size = Size {
        nodes,
        watches: 0,
        wide: 0,
    };
    let host = Host { size, dom0: 0 };
    let domains = nodes.div_ceil(NODES_OF_A_DOMAIN);
    let paths: Vec<String> = (0..domains).flat_map(|domain| host.paths_of(domain)).collect();
    for some in paths.chunks(AT_ONCE * BATCHES) {
        let batch = |paths: &[String]| Batch {
            requests: paths
                .iter()
                .map(|path| (Write, false, format!("{path}|a value of a node")))
                .collect(),
            events: 0,
        };
        let operation = Operation {
            batches: some.chunks(AT_ONCE).map(batch).collect(),
        };
        load(&mut crowd, 0..1, |_| operation.clone(), Until::Times(1))?;
    }
    Ok(())
}

/// The image that was built last, if there is one where `make image` puts it.
fn image() -> Option<Image> {
    let path = PathBuf::from("target/xenstore-stubdom");
    Some(Image {
        bytes: fs::metadata(&path).ok()?.len(),
        compressed: fs::metadata(path.with_extension("gz")).ok().map(|found| found.len()),
    })
}
