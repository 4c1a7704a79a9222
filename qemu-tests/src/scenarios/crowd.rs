//! `crowd`: many small guests at once, created and destroyed three times over; afterwards everything is as it was.
//!
//! The same script with a few guests, for every run, and with three hundred.

use super::{Kind, PLAIN, Scenario};
use crate::boot::Size;
use crate::ring_guests;

pub const FEW: Scenario = Scenario {
    name: "crowd",
    about: "20 guests at once, three times over; each works, and afterwards tree, event channels and memory are as before",
    kind: Kind::Served(concat!(
        "GUESTS=20 TIMES=3\n",
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/crowd.sh")
    )),
    extras: ring_guests::extras,
    ..PLAIN
};

pub const MANY: Scenario = Scenario {
    name: "crowd-300",
    about: "as crowd, with 300 guests",
    only_by_name: true,
    kind: Kind::Served(concat!(
        "GUESTS=300 TIMES=3\n",
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/crowd.sh")
    )),
    // 4 MiB for each guest, and about 2 for what Xen keeps for it.
    size: Size {
        machine: 4096,
        dom0: 1024,
    },
    extras: ring_guests::extras,
    ..PLAIN
};
