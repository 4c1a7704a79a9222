//! `hvm`: an HVM guest with Debian's device model; hvmloader and then Linux use the same ring.

use anyhow::Result;

use super::{Kind, PLAIN, Scenario};
use crate::archive::Archive;
use crate::boot::Size;
use crate::device_guests;
use crate::optional_parts::OptionalSet;
use crate::parts::Parts;
use crate::store::Store;

pub const RECONNECTING: Scenario = Scenario {
    name: "hvm",
    about: "an HVM guest boots through hvmloader and SeaBIOS, uses its keys and a disk of the device model, and reboots",
    kind: Kind::Served(concat!(
        include_str!("../../dom0/orders.sh"),
        include_str!("../../dom0/hvm.sh")
    )),
    stores: &Store::ALL,
    // The device model with its libraries is 80 MiB, once in the initramfs and once in memory.
    size: Size {
        machine: 2304,
        dom0: 1024,
    },
    extras,
    ..PLAIN
};

/// hvmloader zeroes the ring's indices without a word where RECONNECTION is not offered.
pub const RESETTING: Scenario = Scenario {
    name: "hvm-reset",
    about: "as hvm, without the feature RECONNECTION: hvmloader resets the ring silently",
    stores: &Store::OURS,
    store_options: "--features=14",
    ..RECONNECTING
};

pub fn extras(parts: &Parts) -> Result<Archive> {
    let parts = parts.with(OptionalSet::DeviceModel)?;
    let mut archive = Archive::default();
    device_guests::add_device_model(&mut archive, &parts)?;
    archive.file(
        "bed/device-guest-initrd",
        device_guests::guest(&parts, &["xen-blkfront"])?.finish()?,
    );
    archive.file("bed/hvm.cfg", include_str!("../../guest/hvm.cfg"));
    Ok(archive)
}
