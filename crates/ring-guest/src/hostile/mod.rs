//! The ways in which a guest can be bad, each by name.
//!
//! An attack is a function that breaks its rule once (or a thousand times) and compares what it sees with what the protocol says. It is
//! run again and again until the guest is destroyed. The console gets `ATTACK name: as expected …` after the first time and every ten
//! seconds, and `ATTACK name: UNEXPECTED …` whenever something else happened.

mod floods;
mod indices;
mod leftovers;
mod messages;
mod silence;
mod streams;

use alloc::format;
use alloc::string::String;

use xen_bindings::time;
use xenstore_ring::{feature, offset};
use xenstore_wire::Errno;

use crate::failure::Failure;
use crate::log::Log;
use crate::store::{SECOND, Store};

/// What an attack ended with: `Ok` if everything was as the protocol says, with a few words; else what was not.
type Outcome = Result<After, String>;

/// What comes after an attack.
struct After {
    /// What was seen.
    seen: String,
    /// Whether to begin again; if not, everything is left as it is.
    again: bool,
}

macro_rules! attacks {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $run:path;)*) => {
        /// A way to be bad.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Attack { $($(#[$doc])* $variant),* }

        impl Attack {
            /// All of them.
            pub const ALL: [Attack; [$($name),*].len()] = [$(Attack::$variant),*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Attack::$variant => $name),* }
            }

            fn once(self, store: &mut Store) -> Outcome {
                match self { $(Attack::$variant => $run(store)),* }
            }
        }
    };
}

attacks! {
    /// Indices that are further apart than the ring is long.
    IndicesApart, "indices-apart", indices::apart;
    /// Indices that go back, and indices that belong to the server.
    IndicesBack, "indices-back", indices::back;
    /// Messages that announce more than a payload may have.
    TooLong, "too-long", messages::too_long;
    /// Types that do not exist, that are the server's, that are dom0's; and noise as payload.
    Types, "types", messages::types;
    /// A request that ends the server's life, again and again.
    Poison, "poison", messages::poison;
    /// Half a header, and nothing more.
    HalfHeader, "half-header", silence::half_header;
    /// Requests, and nobody who reads the replies until all is full; then they are read.
    NeverReads, "never-reads", silence::never_reads;
    /// As before, but they are never read: the guest ends with both rings full.
    Full, "full", silence::full;
    /// All indices zeroed without a word, as hvmloader does.
    SilentReset, "silent-reset", streams::silent_reset;
    /// A reconnect, with everything half done, again and again.
    Reconnect, "reconnect", streams::reconnect;
    /// As many watches as there may be, all on one path that changes.
    WatchFlood, "watch-flood", floods::watches;
    /// Events without a reason, as fast as the processor can.
    EventFlood, "event-flood", floods::events;
    /// As many nodes as there may be, in one request and one by one.
    NodeFlood, "node-flood", floods::nodes;
    /// As many nodes as there may be with as many bytes in them as there may be, written and removed without end.
    ValueFlood, "value-flood", floods::values;
    /// As before, but they stay.
    ValuesKept, "values-kept", floods::values_kept;
    /// As many transactions as there may be, left open.
    Transactions, "transactions", leftovers::transactions;
}

impl Attack {
    /// The attack called `name`.
    pub fn from_name(name: &str) -> Option<Attack> {
        Attack::ALL.into_iter().find(|attack| attack.name() == name)
    }
}

/// Attacks for ever.
pub fn run(store: &mut Store, log: &mut Log, attack: Attack) -> ! {
    let name = attack.name();
    if let Err(failure) = store.domain_path(0) {
        log.line(&format!(
            "ATTACK {name}: UNEXPECTED no ordinary request works: {failure}"
        ));
    }
    let offered = feature::RECONNECTION | feature::ERROR;
    if store.features() & offered != offered {
        log.line(&format!("ATTACK {name}: UNEXPECTED features {:#x}", store.features()));
    }
    let (mut times, mut said) = (0_u64, 0);
    loop {
        match attack.once(store) {
            Ok(After { seen, again }) => {
                times += 1;
                let now = time::now_ns();
                if times == 1 || !again || now > said + 10 * SECOND {
                    log.line(&format!("ATTACK {name}: as expected, {times} times: {seen}"));
                    said = now;
                }
                if !again {
                    store.sleep_for_ever();
                }
            }
            Err(why) => {
                log.line(&format!(
                    "ATTACK {name}: UNEXPECTED {why}; indices {:?}",
                    store.indices()
                ));
                store.sleep(SECOND);
                let _ = store.reconnect();
            }
        }
    }
}

fn again(seen: impl Into<String>) -> Outcome {
    Ok(After {
        seen: seen.into(),
        again: true,
    })
}

fn hold(seen: impl Into<String>) -> Outcome {
    Ok(After {
        seen: seen.into(),
        again: false,
    })
}

fn says(failure: Failure) -> String {
    format!("{failure}")
}

/// The request must fail with this error.
fn refused<T: core::fmt::Debug>(outcome: Result<T, Failure>, expected: Errno, what: &str) -> Result<(), String> {
    match outcome {
        Err(Failure::Refused(errno)) if errno == expected => Ok(()),
        Err(failure) => Err(format!("{what}: {failure} instead of {}", expected.name())),
        Ok(answer) => Err(format!("{what}: {answer:?} instead of {}", expected.name())),
    }
}

/// The connection is given up with this error, and stays so: nothing in the ring moves, and a notify changes nothing.
fn given_up(store: &mut Store, error: u32, what: &str) -> Result<(), String> {
    store
        .until(60, |store| store.error() != 0)
        .map_err(|failure| format!("{what}: the error field stays zero: {failure}"))?;
    if store.error() != error {
        return Err(format!("{what}: error {} instead of {error}", store.error()));
    }
    let before = store.indices();
    store.notify();
    store.sleep(SECOND / 20);
    if store.indices() != before {
        return Err(format!("{what}: the ring was used after the error: {before:?} before"));
    }
    Ok(())
}

/// A reconnect through the page makes everything good and leaves nothing of before.
fn reconnects(store: &mut Store) -> Result<(), String> {
    let features = store.features();
    store
        .reconnect()
        .map_err(|failure| format!("the reconnect: {failure}"))?;
    if store.error() != 0 || store.features() != features {
        return Err(format!(
            "after a reconnect: error {}, features {:#x}",
            store.error(),
            store.features()
        ));
    }
    if store.indices() != [0; 4] {
        return Err("after a reconnect the queues are not empty".into());
    }
    works(store)
}

/// An ordinary request works.
fn works(store: &mut Store) -> Result<(), String> {
    let path = store
        .domain_path(77)
        .map_err(|failure| format!("an ordinary request: {failure}"))?;
    if path != "/local/domain/77" {
        return Err(format!("domain 77 has the path {path}"));
    }
    Ok(())
}

/// The server has taken everything that was sent.
fn all_taken(store: &mut Store) -> Result<(), String> {
    store
        .until(60, |store| store.load(offset::REQ_CONS) == store.load(offset::REQ_PROD))
        .map_err(|failure| format!("what was sent is not taken: {failure}"))
}
