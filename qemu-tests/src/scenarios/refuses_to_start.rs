//! `refuses-to-start`: where the image cannot work it says why, and ends as crashed.

use super::{Kind, PLAIN, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "refuses-to-start",
    about: "without --event, or with too little memory, the image says why and its domain ends as crashed",
    kind: Kind::ImageAsGuest(include_str!("../../dom0/refuses-to-start.sh")),
    ..PLAIN
};
