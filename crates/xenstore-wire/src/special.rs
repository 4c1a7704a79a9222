//! Special paths: "@releaseDomain", "@introduceDomain", those of one domain ("@releaseDomain/5"), and any other name.
//!
//! They are allowed where C xenstored allows them (WATCH, UNWATCH, GET_PERMS, SET_PERMS) and are no part of the tree.
//! A watch on an unknown special path is accepted and never fires, so unknown ones are values here as well.

use alloc::boxed::Box;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::path::is_well_formed;
use crate::{DomId, InvalidPath};

/// A valid special path: it starts with '@' and else obeys the rules of a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SpecialPath(Box<str>);

/// What a special path stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpecialKind {
    /// "@introduceDomain": a domain was introduced.
    IntroduceDomain,
    /// "@introduceDomain/N".
    IntroduceDomainOf(DomId),
    /// "@releaseDomain": a domain was shut down or destroyed.
    ReleaseDomain,
    /// "@releaseDomain/N" (Xen 4.22).
    ReleaseDomainOf(DomId),
    /// Any other: nothing will ever happen there.
    Other,
}

impl SpecialPath {
    /// "@introduceDomain".
    pub const INTRODUCE_DOMAIN: &'static str = "@introduceDomain";
    /// "@releaseDomain".
    pub const RELEASE_DOMAIN: &'static str = "@releaseDomain";

    /// Checks a text that must be a special path.
    pub fn new(text: &str) -> Result<SpecialPath, InvalidPath> {
        SpecialPath::try_from(Box::from(text))
    }

    /// The text, starting with '@'.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it stands for. A domid counts only as it is printed: C xenstored compares texts, so that
    /// "@releaseDomain/05" never fires.
    pub fn kind(&self) -> SpecialKind {
        match self.0.split_once('/') {
            None if &*self.0 == Self::INTRODUCE_DOMAIN => SpecialKind::IntroduceDomain,
            None if &*self.0 == Self::RELEASE_DOMAIN => SpecialKind::ReleaseDomain,
            Some((Self::INTRODUCE_DOMAIN, domid)) => {
                printed_domid(domid).map_or(SpecialKind::Other, SpecialKind::IntroduceDomainOf)
            }
            Some((Self::RELEASE_DOMAIN, domid)) => {
                printed_domid(domid).map_or(SpecialKind::Other, SpecialKind::ReleaseDomainOf)
            }
            _ => SpecialKind::Other,
        }
    }
}

/// The domid that prints as exactly this text.
fn printed_domid(text: &str) -> Option<DomId> {
    if text.starts_with('0') && text != "0" {
        return None;
    }
    // `parse` would also take a '+', but that byte is not allowed in a path.
    text.parse().ok().map(DomId)
}

impl TryFrom<Box<str>> for SpecialPath {
    type Error = InvalidPath;

    fn try_from(text: Box<str>) -> Result<SpecialPath, InvalidPath> {
        if text.starts_with('@') && is_well_formed(&text) {
            Ok(SpecialPath(text))
        } else {
            Err(InvalidPath)
        }
    }
}

impl fmt::Display for SpecialPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SpecialPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SpecialPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SpecialPath, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        SpecialPath::try_from(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_ones_are_recognised_and_all_others_are_other() {
        for (text, kind) in [
            ("@introduceDomain", SpecialKind::IntroduceDomain),
            ("@introduceDomain/0", SpecialKind::IntroduceDomainOf(DomId::DOM0)),
            ("@releaseDomain", SpecialKind::ReleaseDomain),
            ("@releaseDomain/5", SpecialKind::ReleaseDomainOf(DomId(5))),
            ("@releaseDomain/05", SpecialKind::Other),
            ("@releaseDomain/65536", SpecialKind::Other),
            ("@releaseDomain/5/6", SpecialKind::Other),
            ("@releasedomain", SpecialKind::Other),
            ("@", SpecialKind::Other),
            ("@anything/-5", SpecialKind::Other),
        ] {
            let special = SpecialPath::new(text).unwrap();
            assert_eq!((special.kind(), special.as_str()), (kind, text));
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in [
            "",
            "releaseDomain",
            "/@releaseDomain",
            "@releaseDomain/",
            "@a//b",
            "@a b",
        ] {
            assert_eq!(SpecialPath::new(text), Err(InvalidPath), "{text:?}");
        }
    }
}
