//! `killed`: guests and programs of dom0 die in the middle of what they do with the store.

use super::{Kind, PLAIN, Scenario};
use crate::boot::Size;
use crate::client_guest;

pub const SCENARIO: Scenario = Scenario {
    name: "killed",
    about: "ten guests; guests, xl, clients and xenconsoled are killed in the middle of their work; nothing leaks, nobody notices",
    kind: Kind::Served(include_str!("../../dom0/killed.sh")),
    // Ten guests of 96 MiB.
    size: Size {
        machine: 2560,
        ..Size::USUAL
    },
    extras: client_guest::extras,
    ..PLAIN
};
