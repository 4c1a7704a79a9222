//! `refuses-to-start`: where the image cannot work it says why, and ends as crashed.

use super::{Kind, Scenario, as_the_script_says};
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "refuses-to-start",
    about: "without --event, or with too little memory, the image says why and its domain ends as crashed",
    kind: Kind::ImageAsGuest(include_str!("../../dom0/refuses-to-start.sh")),
    stores: &Store::OURS,
    store_options: "",
    measure: false,
    judge: as_the_script_says,
};
