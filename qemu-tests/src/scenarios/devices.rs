//! `devices`: disks and network interfaces of guests, with back ends in dom0 and Xen's own hotplug scripts.

use anyhow::Result;

use super::{Kind, PLAIN, Scenario};
use crate::archive::Archive;
use crate::device_guests;
use crate::optional_parts::OptionalSet;
use crate::parts::Parts;
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "devices",
    about: "a PV and a PVH guest use disks and network interfaces that come and go; nothing is left of them",
    kind: Kind::Served(concat!(
        include_str!("../../dom0/orders.sh"),
        include_str!("../../dom0/devices.sh")
    )),
    stores: &Store::ALL,
    extras,
    ..PLAIN
};

fn extras(parts: &Parts) -> Result<Archive> {
    let parts = parts.with(OptionalSet::Hotplug)?;
    let mut archive = Archive::default();
    device_guests::add_back_ends(&mut archive, &parts)?;
    archive.file(
        "bed/device-guest-initrd",
        device_guests::guest(&parts, &device_guests::FRONT_ENDS)?.finish()?,
    );
    archive.file("bed/devices.cfg", include_str!("../../guest/devices.cfg"));
    Ok(archive)
}
