//! Everything that a Xenstore server must remember, and how each input changes it.
//!
//! [`Server`] holds the tree, the transactions, the watches, the connections with their queues, the domains, their
//! accounts and the settings. It does no input or output: time, the state of domains and the figures of the machine are
//! arguments. [`Server::decide`] looks at the state and says, as a [`Record`], what an [`Input`] would change and what
//! would become visible; [`Server::apply`] is the only thing that changes the state, and it cannot fail. Between the two
//! the record is made durable (crate `xenstore-recovery`), so a crash never leaves a request half done.
//!
//! Users of this crate can do what the wire has no room for: a transaction can have children ([`Input::Nested`]).
//!
//! This crate does not know rings, pages, event channels or sockets.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    unconditional_recursion,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(
        clippy::unreachable,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

extern crate alloc;

mod account;
mod allowance;
mod apply;
mod brief;
mod bytes;
mod conflict;
mod connection;
mod control;
mod crash;
mod decide;
mod decision;
mod domain;
mod domain_requests;
mod events;
mod heap;
mod input;
mod lease;
mod limit_requests;
mod lives;
mod losses;
mod mentions;
mod nesting;
mod node_changes;
mod node_requests;
mod numbered;
pub mod options;
mod overlay;
mod poison;
mod policy;
mod quota;
mod record;
mod recount;
mod rehearsal;
mod server;
mod settings;
mod share;
mod state;
mod timeouts;
mod told;
mod transaction;
mod transaction_requests;
pub mod tree;
mod watch;
mod watch_requests;

pub use account::Account;
pub use conflict::{ConflictFigures, ConflictLimits};
pub use connection::{
    Connection, ConnectionId, Epoch, Fault, OutQueue, QueuedMessage, RING_UNREAD_REPLIES, SOCKET_UNREAD_MOST,
    SOCKET_UNREAD_REPLIES,
};
pub use crash::{Armed, Step, Strike};
pub use domain::{Domain, Warned};
pub use input::{Channel, ConnectFailure, DomainState, Input, Time, World};
pub use lease::{Footprint, LEASE_SPACING, LEASE_TIME, LOSSES};
pub use lives::{Lives, REASON_MOST, RESTARTS_KEPT, Restart, message_in_words};
pub use nesting::{NESTING_MAX, Nesting};
pub use numbered::Numbered;
pub use poison::{IN_HAND_BYTES, InHand, KILLS_MOST, POISON, SET_ASIDE_MOST, SET_ASIDE_WITHIN};
pub use policy::{Entries, Legacy, Object, Policy, Rights, Subject, TargetRights};
pub use quota::{Limit, Quotas};
pub use record::{Action, Change, CrashKind, NodeChange, Output, Place, Record, Shown, Waiting};
pub use server::{Configuration, Server};
pub use settings::{Settings, TraceSwitch};
pub use state::{SavedState, State};
pub use transaction::{Facets, Write};
pub use watch::{Watch, WatchPath};
