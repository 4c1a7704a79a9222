//! A guest of a few MiB that does nothing but use its own Xenstore ring: kindly, or as badly as a guest can.
//!
//! Boots like the store itself (`boot`, feature `guest`), as PVH and as PV. Its command line says what it does (see [`Role`]); what it
//! finds out it says on its console, one line each, beginning with `ring-guest: `. A friendly guest checks every answer; a hostile one
//! breaks one rule again and again and checks that it gets exactly what the protocol says, and nothing else.
//!
//! Knows the wire format and the client's side of a ring. Does not know how the server works: what it expects comes from Xen's
//! documents and from what C xenstored does.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod bench;
mod failure;
mod friendly;
mod hostile;
mod latency;
mod load;
mod log;
mod new_port;
mod page;
mod ping;
mod role;
mod store;

use alloc::format;

pub use hostile::Attack;
pub use role::Role;
use xen_bindings::{Platform, shutdown};

use crate::log::Log;
use crate::store::Store;

/// Does what the command line says, for ever. A guest that cannot begin ends with a crash reason.
pub fn run(platform: Platform) -> ! {
    let mut log = Log::new(platform.console);
    let Some((page, port)) = platform.own_store else {
        log.line("no Xenstore ring: the toolstack gave no page or no event channel");
        shutdown::crash()
    };
    let role = match Role::parse(platform.command_line) {
        Ok(role) => role,
        Err(word) => {
            log.line(&format!("the command line says '{word}', which means nothing"));
            shutdown::crash()
        }
    };
    let mut store = Store::new(page, port, platform.events);
    log.line(&format!(
        "{} domain {}, {role}; features {:#x}, error {}",
        platform.mode,
        platform.own_domid,
        store.features(),
        store.error()
    ));
    match role {
        Role::Idle => store.sleep_for_ever(),
        Role::Friendly { rounds } => friendly::run(&mut store, &mut log, rounds),
        Role::Load { children } => load::run(&mut store, &mut log, platform.own_domid, children),
        Role::Ping => ping::run(&mut store, &mut log),
        Role::Bench => bench::run(&mut store, &mut log, platform.own_domid),
        Role::Hostile(attack) => hostile::run(&mut store, &mut log, attack),
        Role::NewPort { store_domid } => new_port::run(&mut store, &mut log, store_domid),
    }
}
