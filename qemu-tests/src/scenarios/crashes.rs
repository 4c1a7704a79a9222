//! `crashes`: the store ends again and again, in every way it survives and at any instruction, while guests and dom0 always have
//! something under way; they check every answer and every event, and none of them notices more than a pause.
//!
//! The same script with a few crashes, for every run, and with hundreds, during which guests are also saved, restored and booted through
//! hvmloader. `XENSTORE_CRASHES` in the environment says how many.

use anyhow::Result;

use super::{Kind, PLAIN, Scenario, hvm};
use crate::archive::Archive;
use crate::boot::Size;
use crate::parts::Parts;
use crate::{client_guest, ring_guests};

pub const FEW: Scenario = Scenario {
    name: "crashes-few",
    about: "as crashes, 30 of them, without the guest that is saved and the HVM guest",
    kind: Kind::Served(concat!(
        "CRASHES=30 LONG=no\n",
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/crashes.sh")
    )),
    store_options: OPTIONS,
    extras: ring_guests::extras_with_crashes,
    ..PLAIN
};

pub const MANY: Scenario = Scenario {
    name: "crashes",
    about: "the store crashes 200 times in every way it survives while guests always have requests under way; nobody notices",
    only_by_name: true,
    kind: Kind::Served(concat!(
        "CRASHES=200 LONG=yes\n",
        include_str!("../../dom0/ring-guests.sh"),
        include_str!("../../dom0/orders.sh"),
        include_str!("../../dom0/crashes.sh")
    )),
    store_options: OPTIONS,
    // The device model, and the image of a saved guest, lie in dom0's memory.
    size: Size {
        machine: 2560,
        dom0: 1280,
    },
    extras,
    ..PLAIN
};

/// A hang lasts as long as its limit, so that is short; but on a busy host an emulated processor may be away for a second.
const OPTIONS: &str = "--debug-crash,--hang-limit=2";

fn extras(parts: &Parts) -> Result<Archive> {
    let mut archive = ring_guests::extras_with_crashes(parts)?;
    archive.merge(client_guest::extras(parts)?);
    archive.merge(hvm::extras(parts)?);
    Ok(archive)
}
