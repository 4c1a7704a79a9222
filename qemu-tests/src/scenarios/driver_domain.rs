//! `driver-domain`: a guest serves a disk and a network interface to another guest, and dom0 has no part in it but to build both.

use anyhow::Result;

use super::{Kind, PLAIN, Scenario};
use crate::archive::Archive;
use crate::boot::Size;
use crate::device_guests;
use crate::optional_parts::OptionalSet;
use crate::parts::Parts;
use crate::store::Store;

pub const SCENARIO: Scenario = Scenario {
    name: "driver-domain",
    about: "a guest with xl devd serves a disk and a network interface to another guest; nothing is left of them",
    kind: Kind::Served(concat!(
        include_str!("../../dom0/orders.sh"),
        include_str!("../../dom0/driver-domain.sh")
    )),
    stores: &Store::ALL,
    size: Size {
        machine: 2304,
        dom0: 768,
    },
    extras,
    ..PLAIN
};

fn extras(parts: &Parts) -> Result<Archive> {
    let parts = parts.with(OptionalSet::Hotplug)?;
    let mut archive = Archive::default();
    // dom0 itself gets no back ends.
    archive.file("bed/driver-initrd", device_guests::driver_domain(&parts)?.finish()?);
    archive.file(
        "bed/device-guest-initrd",
        device_guests::guest(&parts, &device_guests::FRONT_ENDS)?.finish()?,
    );
    archive.file("bed/driver.cfg", include_str!("../../guest/driver.cfg"));
    archive.file("bed/client.cfg", include_str!("../../guest/client.cfg"));
    Ok(archive)
}
