//! Domain ids, the way Xen counts them and the way C xenstored reads them from a payload.
//!
//! Knows the reserved numbers of `xen/include/public/xen.h`; does not know which domains exist.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::number::strtoul;

/// A Xen domain id. Any 16-bit number is representable; only numbers below [`DomId::FIRST_RESERVED`] name a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct DomId(pub u16);

impl DomId {
    /// The first domain of the host.
    pub const DOM0: DomId = DomId(0);
    /// Numbers from here on are never given to a domain (`DOMID_FIRST_RESERVED`).
    pub const FIRST_RESERVED: DomId = DomId(0x7FF0);
    /// "The calling domain" (`DOMID_SELF`).
    pub const SELF: DomId = DomId(0x7FF0);
    /// "No domain" (`DOMID_INVALID`).
    pub const INVALID: DomId = DomId(0x7FF4);
    /// "Every domain" in a node's permissions (`DOMID_ANY`, 32757; Xen 4.22, feature bit `DOMID_ANY`).
    pub const ANY: DomId = DomId(0x7FF5);

    /// Whether Xen can ever give this number to a domain.
    pub const fn is_ordinary(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Reads a domid argument as C xenstored does (`parse_domid` in `tools/xenstored/domain.c`): decimal `strtoul`, the
/// whole string consumed, at most 65535. `None` is EINVAL.
///
/// What follows from `strtoul` and is kept on purpose: leading white space and a `+` are accepted, `-0` is 0, and the
/// empty string is domain 0.
pub fn parse_domid(text: &[u8]) -> Option<DomId> {
    let (value, rest) = strtoul(text, 10);
    if !rest.is_empty() {
        return None;
    }
    u16::try_from(value).ok().map(DomId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_domid_is_read_like_c_does() {
        for (text, want) in [
            ("0", Some(0)),
            ("5", Some(5)),
            ("007", Some(7)),
            ("65535", Some(65535)),
            (" \t+12", Some(12)),
            ("-0", Some(0)),
            ("", Some(0)),
            ("65536", None),
            ("-1", None),
            ("5 ", None),
            ("0x5", None),
            ("abc", None),
            ("+", None),
            (" ", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(parse_domid(text.as_bytes()), want.map(DomId), "{text:?}");
        }
    }

    #[test]
    fn a_domid_prints_as_its_number() {
        assert_eq!(DomId::ANY.to_string(), "32757");
        assert!(!DomId::SELF.is_ordinary());
        assert!(DomId(0x7FEF).is_ordinary());
    }
}
