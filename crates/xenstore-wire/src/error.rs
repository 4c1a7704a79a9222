//! The error names that exist on the wire, and the two ways in which parsing here can fail.
//!
//! An ERROR reply carries one of sixteen names (`xsd_errors[]` in `xs_wire.h`) and a NUL. C xenstored sends every
//! other errno as "EINVAL"; here other errors cannot be expressed.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// An error as a client sees it. The order is that of `xsd_errors[]`; it has no meaning on the wire.
        #[allow(clippy::upper_case_acronyms, reason = "the names of the wire")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum Errno { $($(#[$doc])* $name),* }

        impl Errno {
            /// All sixteen, in the order of `xsd_errors[]`.
            pub const ALL: [Errno; 16] = [$(Errno::$name),*];

            /// The name as it stands in an ERROR reply, without the NUL.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name)),* }
            }

            /// The payload of an ERROR reply: the name and a NUL.
            pub const fn payload(self) -> &'static [u8] {
                match self { $(Errno::$name => concat!(stringify!($name), "\0").as_bytes()),* }
            }
        }
    };
}

errnos! {
    /// Malformed request, invalid path or argument.
    EINVAL,
    /// Not allowed.
    EACCES,
    /// Already there.
    EEXIST,
    /// On the wire by definition; not sent by this server.
    EISDIR,
    /// Not there.
    ENOENT,
    /// Out of memory, or a transaction that failed earlier.
    ENOMEM,
    /// A quota is reached.
    ENOSPC,
    /// A memory quota is reached, or the request could not be served at all.
    EIO,
    /// On the wire by definition; not sent by this server.
    ENOTEMPTY,
    /// Unknown request.
    ENOSYS,
    /// On the wire by definition; not sent by this server.
    EROFS,
    /// Already in use, or a transaction within a transaction.
    EBUSY,
    /// The transaction conflicts: try again.
    EAGAIN,
    /// On the wire by definition; not sent by this server.
    EISCONN,
    /// The reply would be longer than [`crate::PAYLOAD_MAX`].
    E2BIG,
    /// Not the owner.
    EPERM,
}

impl Errno {
    /// The error with this name (no NUL).
    pub fn from_name(name: &str) -> Option<Errno> {
        Errno::ALL.into_iter().find(|errno| errno.name() == name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Errno {}

/// Not a path: a client hears EINVAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidPath;

/// Not a permission, or a list of them without an owner: a client hears EINVAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidPermission;

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Xenstore path")
    }
}

impl fmt::Display for InvalidPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Xenstore permission")
    }
}

impl core::error::Error for InvalidPath {}
impl core::error::Error for InvalidPermission {}

impl From<InvalidPath> for Errno {
    fn from(_: InvalidPath) -> Errno {
        Errno::EINVAL
    }
}

impl From<InvalidPermission> for Errno {
    fn from(_: InvalidPermission) -> Errno {
        Errno::EINVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_again_and_its_payload_ends_in_one_nul() {
        for errno in Errno::ALL {
            assert_eq!(Errno::from_name(errno.name()), Some(errno));
            assert_eq!(errno.payload().strip_suffix(b"\0"), Some(errno.name().as_bytes()));
        }
        assert_eq!(Errno::from_name("ESRCH"), None);
        assert_eq!(Errno::E2BIG.name(), "E2BIG");
    }
}
