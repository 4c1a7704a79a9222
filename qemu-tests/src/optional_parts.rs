//! Optional sets of parts: packages that only some scenarios need, each set in a folder of its own beside the bed's.
//!
//! A scenario asks for a set when it puts its files together (`Parts::with`), so nobody fetches what no chosen scenario uses.

use anyhow::Result;

use crate::apt::PrivateApt;
use crate::parts;

/// A set beside the ordinary parts of a bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalSet {
    /// What Xen's hotplug scripts call: they are written for bash, util-linux and iproute2.
    Hotplug,
    /// The device model of HVM guests, and the firmware that it and the domain builder load.
    DeviceModel,
}

impl OptionalSet {
    /// All of them.
    pub const ALL: [OptionalSet; 2] = [OptionalSet::Hotplug, OptionalSet::DeviceModel];

    /// Its name in the cache.
    pub fn name(self) -> &'static str {
        match self {
            OptionalSet::Hotplug => "hotplug",
            OptionalSet::DeviceModel => "device-model",
        }
    }

    /// Counted up when its list of packages changes, so that an old set in the cache is not taken for a complete one.
    pub fn layout(self) -> u32 {
        match self {
            OptionalSet::Hotplug | OptionalSet::DeviceModel => 1,
        }
    }

    /// The packages with programs and data.
    fn wanted(self) -> &'static [&'static str] {
        match self {
            // losetup is in the package mount.
            OptionalSet::Hotplug => &["bash", "util-linux", "mount", "iproute2"],
            OptionalSet::DeviceModel => &["qemu-system-xen", "qemu-system-data", "seabios"],
        }
    }

    /// The wanted packages and the libraries that they need, without those that the bed has anyway.
    pub fn packages(self, apt: &PrivateApt, bed: &[String]) -> Result<Vec<String>> {
        let wanted: Vec<String> = self.wanted().iter().map(|name| (*name).to_owned()).collect();
        let libraries = parts::libraries(apt, wanted.clone())?;
        let mut packages = wanted;
        packages.extend(libraries);
        packages.retain(|package| !bed.contains(package));
        Ok(packages)
    }
}
