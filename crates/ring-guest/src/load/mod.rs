//! A guest that always has something under way: several requests in the ring, a transaction open, a message of which only one half is
//! sent. It checks every answer and every event, its own and those of a partner, and counts.
//!
//! For each round there are the rounds' number in a value, a counter that a transaction over three batches of requests counts up, and one
//! more child in each of two lists, `own` and `shared`; each list keeps its newest children. The guest watches its own list and the
//! partner's `shared`, and knows from [`Succession`] which events must come.
//!
//! The toolstack writes what is next into `data/partner` (a domid), `data/go` and `data/stop`. The guest answers in `data/report`: `ready`,
//! `watching`, and in the end `ok rounds=…` or `FAILED …`, which it says on its console too; and after the end `data/seen` follows what
//! comes of the partner.

mod batch;
mod succession;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use seeded_random::Random;
use xen_bindings::time;
use xenstore_wire::{Errno, MessageType};

use crate::failure::Failure;
use crate::load::batch::{Cut, Request, exchange};
use crate::load::succession::Succession;
use crate::log::Log;
use crate::store::{Store, WatchEvent};

const REPORT: &str = "data/report";
const SEEN: &str = "data/seen";
const STOP: &str = "data/stop";
const VALUE: &str = "data/load/value";
const COUNTER: &str = "data/load/counter";
const TWIN: &str = "data/load/twin";
const OWN: &str = "data/load/own";
const SHARED: &str = "data/load/shared";

/// Between the halves of a message, and between batches, at most, nanoseconds: long beside what an answer takes, short beside the time
/// between two crashes.
const PAUSE_MOST: u32 = 20_000_000;

/// Between two batches, at most, nanoseconds.
const REST_MOST: u32 = 500_000_000;

/// The console hears of every so manyth round.
const ROUNDS_BETWEEN_WORDS: u32 = 100;

/// Works until it is told to stop, then only watches.
pub fn run(store: &mut Store, log: &mut Log, own_domid: u16, children: u32) -> ! {
    let mut load = Load {
        own: Succession::new(children),
        partner: Succession::new(children),
        partner_path: String::new(),
        stopped: false,
        round: 0,
        requests: 0,
        halves: 0,
        random: Random::new(time::now_ns()),
        store,
    };
    let outcome = load.work(log, own_domid, children);
    let times = core::mem::take(&mut load.store.latencies);
    let report = match outcome {
        Ok(()) => format!("ok {} batches: {times}", load.counts()),
        Err(failure) => format!("FAILED {failure}; {}", load.counts()),
    };
    log.line(&format!("load {report}"));
    let failure = match load.store.write(0, REPORT, report.as_bytes()) {
        Ok(()) => load.follow_partner(),
        Err(failure) => failure,
    };
    log.line(&format!("load FAILED at the end: {failure}"));
    load.store.sleep_for_ever()
}

struct Load<'s> {
    store: &'s mut Store,
    random: Random,
    /// Of its own list.
    own: Succession,
    /// Of the partner's.
    partner: Succession,
    /// The partner's list.
    partner_path: String,
    stopped: bool,
    round: u32,
    requests: u64,
    /// Messages sent in two halves.
    halves: u64,
}

impl Load<'_> {
    fn counts(&self) -> String {
        format!(
            "rounds={} requests={} halves={} own-events={} partner-events={} partner-rounds={}",
            self.round,
            self.requests,
            self.halves,
            self.own.events(),
            self.partner.events(),
            self.partner.newest()
        )
    }

    fn work(&mut self, log: &mut Log, own_domid: u16, children: u32) -> Result<(), Failure> {
        for list in [OWN, SHARED] {
            self.store.write(0, list, b"")?;
        }
        for counter in [COUNTER, TWIN] {
            self.store.write(0, counter, b"0")?;
        }
        // Children inherit it: everybody may read, and so be told.
        let everybody = format!("{SHARED}\0r{own_domid}\0");
        self.store
            .ask(MessageType::SetPerms.to_wire(), 0, everybody.as_bytes())?;
        self.store.write(0, REPORT, b"ready")?;
        let partner = self.told("data/partner")?;
        self.partner_path = format!("/local/domain/{partner}/{SHARED}");
        self.store.watch(STOP, "stop")?;
        self.store.watch(OWN, "own")?;
        let watched = self.partner_path.clone();
        self.store.watch(&watched, "partner")?;
        self.store.write(0, REPORT, b"watching")?;
        self.told("data/go")?;
        self.store.latencies = Default::default();
        while !self.stopped {
            self.round += 1;
            self.do_round(children)?;
            if self.round.is_multiple_of(ROUNDS_BETWEEN_WORDS) {
                log.line(&format!("load goes on: {}", self.counts()));
            }
        }
        Ok(())
    }

    /// What the toolstack has written here; waits for it.
    fn told(&mut self, path: &str) -> Result<String, Failure> {
        self.store.watch(path, "told")?;
        loop {
            match self.store.read(0, path) {
                Ok(value) => return Ok(String::from_utf8_lossy(&value).into_owned()),
                Err(Failure::Refused(Errno::ENOENT)) => {}
                Err(failure) => return Err(failure),
            }
            let event = self.store.watch_event_some_day()?;
            self.see(event)?;
        }
    }

    fn do_round(&mut self, children: u32) -> Result<(), Failure> {
        let round = self.round;
        let child = |list: &str, number: u32| format!("{list}/{number}");
        let mut first = Vec::from([
            Request::begin(),
            Request::write(0, VALUE, round),
            Request::read(0, VALUE, round),
            Request::write(0, &child(OWN, round), round),
            Request::read(0, &child(OWN, round), round),
            Request::write(0, &child(SHARED, round), round),
        ]);
        if let Some(old) = round.checked_sub(children).filter(|old| *old > 0) {
            first.extend([OWN, SHARED].map(|list| Request::remove(&child(list, old))));
        }
        let answers = self.batch(&first)?;
        let transaction = answers.first().map(|id| String::from_utf8_lossy(id).into_owned());
        let transaction = transaction.and_then(|id| id.trim_end_matches('\0').parse().ok());
        let Some(transaction) = transaction else {
            return Err(Failure::Strange(format!("a transaction is called {answers:?}")));
        };
        self.batch(&[
            Request::read(transaction, COUNTER, round - 1),
            Request::write(transaction, COUNTER, round),
            Request::write(transaction, TWIN, round),
            Request::read(transaction, COUNTER, round),
            Request::read(0, COUNTER, round - 1),
        ])?;
        self.partner_is_ahead()?;
        self.batch(&[
            Request::read(transaction, TWIN, round),
            Request::commit(transaction),
            Request::read(0, COUNTER, round),
            Request::read(0, TWIN, round),
        ])?;
        // The replies since then came behind the events of the first batch.
        if self.own.newest() == round && self.own.is_complete() {
            return Ok(());
        }
        Err(Failure::Strange(format!(
            "in round {round} the last own event was {:?}",
            self.own
        )))
    }

    /// What an event has told of is there, with the value that belongs to it. The partner goes on meanwhile and may have removed it.
    fn partner_is_ahead(&mut self) -> Result<(), Failure> {
        let newest = self.partner.newest();
        if newest == 0 {
            return Ok(());
        }
        let path = format!("{}/{newest}", self.partner_path);
        match self.batch(&[Request::look(&path)]) {
            Ok(answers) if answers == [newest.to_string().into_bytes()] => Ok(()),
            Ok(answers) => Err(Failure::Strange(format!("{path} is {answers:?}"))),
            Err(Failure::Refused(Errno::ENOENT)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Some requests at once, with a cut at any byte of them, and what happened meanwhile.
    fn batch(&mut self, requests: &[Request]) -> Result<Vec<Vec<u8>>, Failure> {
        let cut = Cut {
            at: self.random.below(1000),
            pause: u64::from(self.random.below(PAUSE_MOST)),
        };
        let (answers, took) = exchange(self.store, requests, cut)?;
        self.halves += 1;
        self.requests += requests.len() as u64;
        // Nothing is in the ring now, but perhaps a transaction is open. Where answers take long, all share a slow processor, and those
        // who make the crashes need it too.
        let most = u32::try_from(took)
            .unwrap_or(u32::MAX)
            .saturating_mul(2)
            .clamp(PAUSE_MOST / 2, REST_MOST);
        self.store.listen(u64::from(self.random.below(most)))?;
        for event in self.store.take_events() {
            self.see(event)?;
        }
        Ok(answers)
    }

    fn see(&mut self, WatchEvent { path, token }: WatchEvent) -> Result<(), Failure> {
        let (list, seen) = match token.as_str() {
            "own" => (OWN, &mut self.own),
            "partner" => (self.partner_path.as_str(), &mut self.partner),
            "stop" => return self.look_whether_to_stop(),
            "told" => return Ok(()),
            _ => return Err(Failure::Strange(format!("an event of {path} with token {token}"))),
        };
        let Some(child) = path.strip_prefix(list) else {
            return Err(Failure::Strange(format!("the watch of {list} is told of {path}")));
        };
        // Every new watch gets an event of what it watches.
        if child.is_empty() && seen.events() == 0 {
            return Ok(());
        }
        let Some(number) = child.strip_prefix('/').and_then(|number| number.parse().ok()) else {
            return Err(Failure::Strange(format!("the watch of {list} is told of {path}")));
        };
        seen.see(number)
            .map_err(|why| Failure::Strange(format!("watch {token}: {why}")))
    }

    fn look_whether_to_stop(&mut self) -> Result<(), Failure> {
        match self.store.read(0, STOP) {
            Ok(_) => self.stopped = true,
            Err(Failure::Refused(Errno::ENOENT)) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Says how far the partner has come, whenever an event tells of it.
    fn follow_partner(&mut self) -> Failure {
        loop {
            let seen = if self.partner.is_complete() {
                self.partner.newest().to_string()
            } else {
                "incomplete".to_string()
            };
            if let Err(failure) = self.store.write(0, SEEN, seen.as_bytes()) {
                return failure;
            }
            let event = self.store.watch_event_some_day();
            let events = event.map(|event| [Vec::from([event]), self.store.take_events()].concat());
            let seen = events.and_then(|events| events.into_iter().try_for_each(|event| self.see(event)));
            if let Err(failure) = seen {
                return failure;
            }
        }
    }
}
