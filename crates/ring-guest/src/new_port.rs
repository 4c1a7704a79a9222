//! A guest whose page names another event channel than the toolstack does: a server to which it is introduced must use the one in the
//! page (`evtchn_port`, Xen 4.21).
//!
//! It says when it is ready, and the toolstack releases and introduces it.

use alloc::format;
use alloc::string::String;

use xen_bindings::evtchn::{self, Port, Status};
use xenstore_ring::offset;

use crate::failure::Failure;
use crate::log::Log;
use crate::store::Store;

/// How long the toolstack may take, seconds.
const PATIENCE: u64 = 100;

/// Offers a new event channel to domain `store_domid`, and says what came of it.
pub fn run(store: &mut Store, log: &mut Log, store_domid: u16) -> ! {
    match new_port(store, log, store_domid) {
        Ok(()) => log.line("new-port: as expected, the server serves on the event channel that the page names"),
        Err(why) => log.line(&format!("new-port: UNEXPECTED {why}")),
    }
    store.sleep_for_ever()
}

fn new_port(store: &mut Store, log: &mut Log, store_domid: u16) -> Result<(), String> {
    let says = |failure: Failure| format!("{failure}");
    store.domain_path(1).map_err(says)?;
    let port = evtchn::alloc_unbound(store_domid).map_err(|error| format!("no event channel: {error}"))?;
    store.spoil(offset::EVTCHN_PORT, port.0);
    log.line(&format!(
        "new-port: {} is in the page, release and introduce me",
        port.0
    ));
    store.until(PATIENCE, |_| is_bound(port, store_domid)).map_err(says)?;
    store.use_port(port);
    store.adopt();
    let path = store.domain_path(1).map_err(says)?;
    if path != "/local/domain/1" {
        return Err(format!("domain 1 has the path {path}"));
    }
    let page = store.load(offset::EVTCHN_PORT);
    if page != port.0 {
        return Err(format!("the page names event channel {page} afterwards"));
    }
    Ok(())
}

fn is_bound(port: Port, domid: u16) -> bool {
    matches!(evtchn::status(port), Ok(Status::Interdomain { remote, .. }) if remote == domid)
}
