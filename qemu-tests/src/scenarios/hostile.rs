//! `hostile`: guests that break every rule of their rings, one after the other, while dom0 and a friendly guest work.

use super::{Kind, PLAIN, Scenario};
use crate::ring_guests;

pub const SCENARIO: Scenario = Scenario {
    name: "hostile",
    about: "guests break every rule of their rings, while dom0 and a friendly guest work and notice nothing; nothing is left of them",
    kind: Kind::Served(concat!(
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/hostile.sh")
    )),
    store_options: "--debug-crash",
    extras: ring_guests::extras,
    ..PLAIN
};
