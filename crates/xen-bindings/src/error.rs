//! Errors of hypercalls.

use core::fmt;

/// A negative errno that Xen returned (`errno.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XenError(pub i32);

impl XenError {
    pub const EPERM: Self = Self(-1);
    pub const ENOENT: Self = Self(-2);
    pub const ESRCH: Self = Self(-3);
    pub const ENOMEM: Self = Self(-12);
    pub const EACCES: Self = Self(-13);
    pub const EFAULT: Self = Self(-14);
    pub const EBUSY: Self = Self(-16);
    pub const EEXIST: Self = Self(-17);
    pub const EINVAL: Self = Self(-22);
    pub const ENOSPC: Self = Self(-28);
    pub const ENOSYS: Self = Self(-38);
    pub const EOPNOTSUPP: Self = Self(-95);

    /// The name of the errno, where it is one that the operations used here can return.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::EPERM => "EPERM",
            Self::ENOENT => "ENOENT",
            Self::ESRCH => "ESRCH",
            Self(-5) => "EIO",
            Self(-6) => "ENXIO",
            Self(-7) => "E2BIG",
            Self(-9) => "EBADF",
            Self(-11) => "EAGAIN",
            Self::ENOMEM => "ENOMEM",
            Self::EACCES => "EACCES",
            Self::EFAULT => "EFAULT",
            Self::EBUSY => "EBUSY",
            Self::EEXIST => "EEXIST",
            Self(-19) => "ENODEV",
            Self::EINVAL => "EINVAL",
            Self::ENOSPC => "ENOSPC",
            Self(-34) => "ERANGE",
            Self::ENOSYS => "ENOSYS",
            Self::EOPNOTSUPP => "EOPNOTSUPP",
            _ => return None,
        })
    }
}

impl fmt::Display for XenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for XenError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn an_error_shows_its_name_and_number() {
        assert_eq!(XenError(-17).to_string(), "EEXIST (-17)");
        assert_eq!(XenError(-99).to_string(), "errno -99");
    }
}
