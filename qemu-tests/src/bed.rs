//! The two beds: which Xen, which Debian release it comes from, and what its packages and folders are called.

use clap::ValueEnum;

/// A hypervisor with the tools and the dom0 kernel of the Debian release that ships it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Bed {
    /// Xen 4.17 and Linux 6.1, from Debian 12.
    #[value(name = "4.17")]
    Xen417,
    /// Xen 4.20 and Linux 6.12, from Debian 13.
    #[value(name = "4.20")]
    Xen420,
}

impl Bed {
    /// Both, oldest first.
    pub const ALL: [Bed; 2] = [Bed::Xen417, Bed::Xen420];

    /// Xen's version, as it stands in package and folder names.
    pub fn version(self) -> &'static str {
        match self {
            Bed::Xen417 => "4.17",
            Bed::Xen420 => "4.20",
        }
    }

    /// The Debian release whose packages make this bed.
    pub fn suite(self) -> &'static str {
        match self {
            Bed::Xen417 => "bookworm",
            Bed::Xen420 => "trixie",
        }
    }

    /// The hypervisor's package.
    pub fn hypervisor_package(self) -> String {
        format!("xen-hypervisor-{}-amd64", self.version())
    }

    /// The package with `xl`, `xenstored`, `init-xenstore-domain` and the others.
    pub fn tools_package(self) -> String {
        format!("xen-utils-{}", self.version())
    }

    /// The hypervisor, relative to the root of the unpacked parts.
    pub fn hypervisor_file(self) -> String {
        format!("boot/xen-{}-amd64.gz", self.version())
    }

    /// Xen's private folder (`bin`, `lib`, `boot`), relative to the root of the unpacked parts. The tools have it compiled in.
    pub fn tools_folder(self) -> String {
        format!("usr/lib/xen-{}", self.version())
    }
}

impl std::fmt::Display for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.version())
    }
}
