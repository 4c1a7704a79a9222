//! `lifecycle`: what xl can do with a Linux guest, and what the store says after each step.

use super::{Kind, PLAIN, Scenario};
use crate::boot::Size;
use crate::client_guest;

pub const SCENARIO: Scenario = Scenario {
    name: "lifecycle",
    about: "a PV and a PVH guest are created, paused, renamed, saved, restored, rebooted, shut down, destroyed; nothing is left",
    kind: Kind::Served(include_str!("../../dom0/lifecycle.sh")),
    // The image of a saved guest lies in dom0's memory.
    size: Size {
        machine: 2048,
        dom0: 1024,
    },
    extras: client_guest::extras,
    ..PLAIN
};
