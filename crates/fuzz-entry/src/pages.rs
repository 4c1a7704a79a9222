//! Durable pages that were damaged, given to recovery: they are refused, or what comes back is the last state that the server had.
//!
//! The pages are those of a short life, at several moments of it. Damage in place must be noticed by a checksum or be without
//! effect. Whole pieces of another moment are more than checksums can notice (memory does not do that by itself), so there only
//! a panic is a failure.

use std::fmt;
use std::sync::OnceLock;

use xenstore_core::{Action, Channel, Configuration, ConnectionId, DomainState, Epoch, Input, Record, Time, World};
use xenstore_recovery::{DIRECTORY, EXTENT, SlicePages, Store};
use xenstore_wire::{DomId, Header, MessageType};

use crate::requests::dump;
use crate::script::Script;

/// Bytes of the pages.
const PAGES: usize = 24 * EXTENT;
/// Damages of one script.
const DAMAGES: usize = 12;

struct Alive;

impl World for Alive {
    fn domain(&self, _domid: DomId) -> DomainState {
        DomainState::ALIVE
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn report(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// A life of a server, to be damaged.
struct Life {
    /// The pages at some moments.
    images: Vec<Vec<u8>>,
    /// What the tree was at each of them.
    states: Vec<String>,
}

fn take(
    store: &mut Store<SlicePages<Vec<u8>>>,
    domid: u32,
    kind: MessageType,
    transaction: u32,
    payload: &str,
) -> Record {
    let payload = payload.replace('|', "\0").into_bytes();
    let header = Header {
        kind: kind as u32,
        request_id: 1,
        transaction_id: transaction,
        length: payload.len() as u32,
    };
    let connection = ConnectionId(domid);
    let input = Input::Request {
        connection,
        consumed: 16 + payload.len() as u32,
        header,
        payload: &payload,
    };
    let record = store.take(Time(0), &Alive, input);
    let durable = store.seal();
    for output in &record.outputs {
        let bytes = output.message.bytes.len() as u32;
        store.publishing(&durable, output.connection, bytes);
        store.published(output.connection, bytes);
    }
    record
}

/// The steps of the longest life.
const ROUNDS: usize = 60;

fn life() -> &'static Life {
    static LIFE: OnceLock<Life> = OnceLock::new();
    LIFE.get_or_init(|| {
        // Lives are the same as far as they go, so shorter ones are earlier moments.
        let lives = (0..ROUNDS).step_by(9).chain([ROUNDS]).map(lived);
        let (images, states) = lives.unzip();
        Life { images, states }
    })
}

/// The pages after so many steps, as a crash would leave them, and the tree.
fn lived(rounds: usize) -> (Vec<u8>, String) {
    use MessageType as T;
    let Ok(mut store) = Store::cold(Configuration::default(), SlicePages(vec![0; PAGES])) else {
        panic!("the pages are too few")
    };
    for domid in [0, 5] {
        let connected = Input::Connected {
            domid: DomId(domid),
            channel: Channel::Ring { port: domid.into() },
            epoch: Epoch::default(),
        };
        store.take(Time(0), &Alive, connected);
    }
    take(&mut store, 1, T::Mkdir, 0, "/local/domain/5|");
    take(&mut store, 1, T::SetPerms, 0, "/local/domain/5|n5|");
    for round in 0..rounds {
        let value = "v".repeat(round * 37 % 1900);
        let (domid, transaction) = (1 + round as u32 / 10 % 2, u32::from(round % 10 > 6));
        let home = if domid == 1 { "/tool/" } else { "" };
        let (kind, payload) = match round % 10 {
            6 => (T::TransactionStart, "|".into()),
            9 => (T::TransactionEnd, "T|".into()),
            4 => (T::Rm, format!("{home}d{}|", round / 20)),
            5 => (T::Watch, format!("{home}x|{round}|")),
            _ => (T::Write, format!("{home}d{}/n{round}|{value}", round / 10)),
        };
        let within = match kind {
            T::TransactionStart => 0,
            _ if transaction != 0 => 1 + round as u32 / 20,
            _ => 0,
        };
        take(&mut store, domid, kind, within, &payload);
        store.tidy(1 << 14);
    }
    let state = dump(store.server().tree());
    (store.into_pages().0, state)
}

/// Damages the pages of a moment as the script says, and lets a server recover from them.
pub fn pages(data: &[u8]) {
    let life = life();
    let mut script = Script(data);
    let at = script.number(life.images.len());
    let mut bytes = life.images[at].clone();
    let mut in_place = true;
    for _ in 0..DAMAGES {
        if script.is_over() {
            break;
        }
        in_place &= damage(&mut bytes, &life.images, &mut script);
    }
    let Ok(recovered) = Store::recover(SlicePages(bytes)) else {
        return;
    };
    let mut store = recovered.store;
    let state = dump(store.server().tree());
    assert!(
        !in_place || life.states[at] == state,
        "this is not the last state:\n{state}\nbut this:\n{}",
        life.states[at]
    );
    if !in_place {
        return;
    }
    // It works on, and comes back once more.
    for round in 0..8 {
        for domid in [1, 2] {
            take(
                &mut store,
                domid,
                MessageType::Write,
                0,
                &format!("again{round}|{}", "w".repeat(500)),
            );
        }
        store.tidy(1 << 14);
    }
    let checked = take(&mut store, 1, MessageType::Control, 0, "check|");
    let agrees = |action: &Action| matches!(action, Action::Log { line, .. } if line.ends_with("all accounts agree"));
    assert!(checked.actions.iter().any(agrees), "{:?}", checked.actions);
    if store.figures().undurable == 0 {
        let before = dump(store.server().tree());
        let again = Store::recover(store.into_pages())
            .unwrap_or_else(|(_, why)| panic!("what was recovered does not recover again: {why:?}"));
        assert!(dump(again.store.server().tree()) == before);
    }
}

/// One damage. False if it brings whole pieces of elsewhere.
fn damage(bytes: &mut Vec<u8>, images: &[Vec<u8>], script: &mut Script<'_>) -> bool {
    let kind = script.number(10);
    let extent = script.number(PAGES / EXTENT);
    let start = (extent * EXTENT).min(bytes.len());
    let at = (start + usize::from(script.short()) % EXTENT).min(bytes.len());
    match kind {
        0..=3 => {
            let bit = 1 << (script.byte() % 8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        4 | 5 => {
            let count = 1 + script.number(24);
            let new = script.bytes(count);
            for (to, from) in bytes.iter_mut().skip(at).zip(new) {
                *to = *from;
            }
        }
        6 => {
            // Small and in place: the header, the desk and the directory.
            let at = script.number(DIRECTORY + 4 * PAGES / EXTENT);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = script.byte();
            }
        }
        7 => bytes.iter_mut().skip(start).take(EXTENT).for_each(|byte| *byte = 0),
        8 => bytes.truncate(at),
        _ => {
            let image = &images[script.number(images.len())];
            let from = script.number(PAGES / EXTENT) * EXTENT;
            for (to, from) in bytes.iter_mut().skip(start).zip(&image[from..from + EXTENT]) {
                *to = *from;
            }
            return false;
        }
    }
    true
}
