//! How long a store takes to be read back, as a process does it, and how many nodes pages have room for.

use cost_tests::desk::Desk;
use cost_tests::host::{Host, NODES_OF_A_DOMAIN, Size};
use cost_tests::operations::Operation;
use xenstore_recovery::Store;
use xenstore_wire::MessageType;

use super::store;
use super::time::{median, thread_ns};
use super::{Recovery, Setting, Work};
use cost_tests::image_pages::ImagePages;

/// Records behind the checkpoint.
const RECORDS: usize = 1_000;
/// How often it is done.
const PASSES: usize = 5;

/// A store of so many nodes, read back.
pub fn of(nodes: usize) -> anyhow::Result<Recovery> {
    let setting = Setting {
        nodes,
        watches: 0,
        wide: 0,
        open: 0,
    };
    // A life begins with a checkpoint.
    let mut bed = store::durable(setting, store::filled(setting));
    let mut requests = bed.requests(Work::Of(Operation::Write), RECORDS);
    bed.run(None, &mut requests, |commit| commit());
    let bytes = bed.into_bytes();
    let (mut times, mut records) = (Vec::new(), 0);
    for _ in 0..PASSES {
        let pages = ImagePages::from(bytes.clone());
        let before = thread_ns();
        let recovered = Store::recover(pages).map_err(|(_, why)| anyhow::anyhow!("{why:?}"))?;
        times.push((thread_ns() - before) as f64 / 1e6);
        records = recovered.store.figures().replayed;
    }
    Ok(Recovery {
        nodes,
        records,
        ms: median(times),
    })
}

/// Nodes of a host with many domains that durable pages of so many bytes hold.
pub fn fit(bytes: usize) -> usize {
    let mut desk = Desk::new(bytes);
    let size = Size {
        nodes: 0,
        watches: 0,
        wide: 0,
    };
    let host = Host {
        size,
        dom0: desk.dom0(),
    };
    let mut nodes = 0;
    for domain in 0.. {
        for path in host.paths_of(domain) {
            let payload = format!("{path}\0{domain:016}");
            let answer = desk.ask(host.dom0, MessageType::Write, 0, payload.as_bytes());
            if answer.kind == MessageType::Error {
                return nodes;
            }
        }
        nodes += NODES_OF_A_DOMAIN;
    }
    nodes
}
