//! A guest that asks the same short READ again and again, as fast as it is answered: what the slowest of them took is how long the store
//! was silent.
//!
//! Whenever the toolstack writes `ID` into `data/ask`, it writes `ID requests=… p50=… p99=… max=…` of the time since then into
//! `data/report`, and begins to count anew.

use alloc::format;
use alloc::string::String;

use xenstore_wire::Errno;

use crate::failure::Failure;
use crate::log::Log;
use crate::store::Store;

const ASK: &str = "data/ask";
const REPORT: &str = "data/report";
const VALUE: &str = "data/ping";

/// Pings for ever.
pub fn run(store: &mut Store, log: &mut Log) -> ! {
    let Err(failure) = ping(store);
    log.line(&format!("ping FAILED {failure}"));
    store.sleep_for_ever()
}

fn ping(store: &mut Store) -> Result<core::convert::Infallible, Failure> {
    store.write(0, VALUE, b"ping")?;
    store.watch(ASK, "ask")?;
    loop {
        if store.read(0, VALUE)? != b"ping" {
            return Err(Failure::Strange(format!("{VALUE} is another")));
        }
        if !store.take_events().is_empty() {
            answer(store)?;
        }
    }
}

/// The first event of a watch comes before anybody has asked.
fn answer(store: &mut Store) -> Result<(), Failure> {
    let times = core::mem::take(&mut store.latencies);
    match store.read(0, ASK) {
        Ok(id) => {
            let report = format!("{} {times}", String::from_utf8_lossy(&id));
            store.write(0, REPORT, report.as_bytes())?;
        }
        Err(Failure::Refused(Errno::ENOENT)) => {}
        Err(failure) => return Err(failure),
    }
    store.latencies = Default::default();
    Ok(())
}
