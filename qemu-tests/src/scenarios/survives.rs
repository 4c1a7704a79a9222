//! `survives`: the store panics, faults, hangs, runs out of memory or stack and gets NMIs while clients work, and nobody notices more
//! than a pause.

use super::{Kind, PLAIN, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "survives",
    about: "the store ends in every way it survives, idle and under load, with a guest running; no client sees an error",
    kind: Kind::Served(include_str!("../../dom0/survives.sh")),
    store_options: "--debug-crash,--hang-limit=4",
    ..PLAIN
};
