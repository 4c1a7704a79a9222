//! `grows`: a store domain that may become larger than it starts takes more than would have fitted, and keeps it across a crash.

use super::{Kind, PLAIN, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "grows",
    about: "the store domain grows towards its --maxmem, holds more than it began with, and recovers all of it",
    kind: Kind::Served(include_str!("../../dom0/grows.sh")),
    store_options: "--debug-crash",
    store_maximum: 24,
    ..PLAIN
};
