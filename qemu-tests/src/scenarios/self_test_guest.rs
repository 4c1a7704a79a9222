//! `self-test-guest`: the image as an ordinary guest under `xl create -c`, with the configuration that is installed.

use super::{Kind, PLAIN, Scenario};
use crate::archive::Archive;

pub const SCENARIO: Scenario = Scenario {
    name: "self-test-guest",
    about: "the image as an ordinary guest under `xl create -c` examines itself, the host's store included, and powers off",
    kind: Kind::ImageAsGuest(include_str!("../../dom0/self-test-guest.sh")),
    extras: |_| {
        let mut archive = Archive::default();
        archive.file("bed/selftest.cfg", include_str!("../../../xen-config/selftest.cfg"));
        Ok(archive)
    },
    ..PLAIN
};
