//! A guest as one would wish: values, directories, transactions and watches under its own `data`, every answer checked.
//!
//! It works when it starts, and again whenever the toolstack writes `ID ROUNDS` into `data/ask`. When it is done it writes
//! `ID ok requests=… p50=… p99=… max=…`, or `ID FAILED …`, into `data/report` and says the same on its console.

use alloc::format;
use alloc::string::{String, ToString};

use xenstore_wire::Errno;

use crate::failure::Failure;
use crate::log::Log;
use crate::store::{Store, WatchEvent};

const ASK: &str = "data/ask";
const REPORT: &str = "data/report";
const VALUE: &str = "data/ring/value";
const LIST: &str = "data/ring/list";
const COUNTER: &str = "data/ring/counter";
const WATCHED: &str = "data/ring/watched";

/// Works `rounds` times, then as it is asked to.
pub fn run(store: &mut Store, log: &mut Log, rounds: u32) -> ! {
    work_and_report(store, log, "start", rounds);
    if let Err(failure) = store.watch(ASK, "ask") {
        log.line(&format!("FAILED to watch {ASK}: {failure}"));
    }
    loop {
        match store.watch_event_some_day() {
            Ok(event) if event.token == "ask" => answer(store, log),
            Ok(_) => {}
            Err(failure) => {
                log.line(&format!("FAILED while waiting: {failure}"));
                store.sleep_for_ever();
            }
        }
    }
}

/// Does what `data/ask` says. The first event of a watch comes before anybody has asked.
fn answer(store: &mut Store, log: &mut Log) {
    let asked = match store.read(0, ASK) {
        Ok(asked) => String::from_utf8_lossy(&asked).into_owned(),
        Err(Failure::Refused(Errno::ENOENT)) => return,
        Err(failure) => return log.line(&format!("FAILED to read {ASK}: {failure}")),
    };
    match asked.split_once(' ').map(|(id, rounds)| (id, rounds.parse())) {
        Some((id, Ok(rounds))) => work_and_report(store, log, id, rounds),
        _ => log.line(&format!("FAILED to understand {ASK}: {asked}")),
    }
}

fn work_and_report(store: &mut Store, log: &mut Log, id: &str, rounds: u32) {
    store.latencies = Default::default();
    let outcome = work(store, rounds);
    let times = core::mem::take(&mut store.latencies);
    let report = match outcome {
        Ok(()) => format!("{id} ok {times}"),
        Err(failure) => format!("{id} FAILED {failure}"),
    };
    log.line(&report);
    if let Err(failure) = store.write(0, REPORT, report.as_bytes()) {
        log.line(&format!("{id} FAILED to report: {failure}"));
    }
}

fn work(store: &mut Store, rounds: u32) -> Result<(), Failure> {
    store.remove("data/ring")?;
    store.write(0, COUNTER, b"0")?;
    store.watch(WATCHED, "own")?;
    expect_event(store)?;
    for round in 1..=rounds {
        value_is_kept(store, round)?;
        list_is_true(store, round)?;
        counter_counts(store, round)?;
        watch_sees(store, round)?;
    }
    store.ask(
        xenstore_wire::MessageType::Unwatch.to_wire(),
        0,
        format!("{WATCHED}\0own\0").as_bytes(),
    )?;
    Ok(())
}

fn strange(what: String) -> Failure {
    Failure::Strange(what)
}

fn value_is_kept(store: &mut Store, round: u32) -> Result<(), Failure> {
    let value = format!("value of round {round}");
    store.write(0, VALUE, value.as_bytes())?;
    let found = store.read(0, VALUE)?;
    if found != value.as_bytes() {
        return Err(strange(format!(
            "{VALUE} is {:?}, not {value:?}",
            String::from_utf8_lossy(&found)
        )));
    }
    Ok(())
}

/// Of the children, the newest three are there, in the order of creation.
fn list_is_true(store: &mut Store, round: u32) -> Result<(), Failure> {
    let child = |number: u32| format!("child-{number}");
    store.write(0, &format!("{LIST}/{}", child(round)), b"")?;
    if let Some(old) = round.checked_sub(3).filter(|old| *old > 0) {
        store.remove(&format!("{LIST}/{}", child(old)))?;
    }
    let expected = (round.saturating_sub(2).max(1)..=round).map(child);
    let found = store.directory(LIST)?;
    if !expected.eq(found.iter().cloned()) {
        return Err(strange(format!("{LIST} has {found:?} in round {round}")));
    }
    Ok(())
}

fn counter_counts(store: &mut Store, round: u32) -> Result<(), Failure> {
    loop {
        let transaction = store.begin()?;
        let value = store.read(transaction, COUNTER)?;
        let value = String::from_utf8_lossy(&value).into_owned();
        if value.parse() != Ok(round - 1) {
            return Err(strange(format!("{COUNTER} is {value:?} in round {round}")));
        }
        store.write(transaction, COUNTER, round.to_string().as_bytes())?;
        match store.commit(transaction) {
            Err(Failure::Refused(Errno::EAGAIN)) => {}
            other => return other,
        }
    }
}

fn watch_sees(store: &mut Store, round: u32) -> Result<(), Failure> {
    store.write(0, WATCHED, round.to_string().as_bytes())?;
    expect_event(store)
}

/// The event of the own watch. The toolstack may ask for the next work meanwhile; that is seen when this one is done.
fn expect_event(store: &mut Store) -> Result<(), Failure> {
    let WatchEvent { path, token } = store.watch_event()?;
    if (path.as_str(), token.as_str()) != (WATCHED, "own") {
        return Err(strange(format!("an event of {path} with token {token}")));
    }
    Ok(())
}
