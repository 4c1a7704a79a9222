//! Permissions of a node: who owns it, what everyone else may do, and exceptions.
//!
//! Knows how permissions are written ("r5") and that a list is never empty. Who may do what is decided in the core;
//! here is only what the list says.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::number::strtol;
use crate::{DomId, InvalidPermission};

/// What an entry allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Access {
    /// `n`
    None,
    /// `r`
    Read,
    /// `w`
    Write,
    /// `b`
    Both,
}

impl Access {
    /// The access written with this letter.
    pub const fn from_letter(letter: u8) -> Option<Access> {
        match letter {
            b'n' => Some(Access::None),
            b'r' => Some(Access::Read),
            b'w' => Some(Access::Write),
            b'b' => Some(Access::Both),
            _ => None,
        }
    }

    /// The letter on the wire.
    pub const fn letter(self) -> char {
        match self {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        }
    }

    /// Whether reading is allowed.
    pub const fn allows_read(self) -> bool {
        matches!(self, Access::Read | Access::Both)
    }

    /// Whether writing is allowed.
    pub const fn allows_write(self) -> bool {
        matches!(self, Access::Write | Access::Both)
    }
}

/// One entry of a permission list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Permission {
    /// Whom the entry names.
    pub domid: DomId,
    /// What it allows.
    pub access: Access,
    /// The entry names a domain that did not exist when it was set, or that has died since (XSA-322): it is listed,
    /// but never matches.
    pub ignored: bool,
}

impl Permission {
    /// An entry that counts.
    pub const fn new(domid: DomId, access: Access) -> Permission {
        Permission {
            domid,
            access,
            ignored: false,
        }
    }

    /// Reads one permission (without NUL) as C does: a letter of `r w b n`, then a number that C's `strtol` with base
    /// 0 accepts (so "r0x10" and "r010" too) up to the end.
    ///
    /// Numbers outside 0..=65535 are refused. C xenstored stores them as entries that never match.
    pub fn parse(text: &[u8]) -> Result<Permission, InvalidPermission> {
        let (&letter, number) = text.split_first().ok_or(InvalidPermission)?;
        let access = Access::from_letter(letter).ok_or(InvalidPermission)?;
        let (value, rest) = strtol(number, 0);
        if number.is_empty() || !rest.is_empty() {
            return Err(InvalidPermission);
        }
        let domid = u16::try_from(value).map_err(|_| InvalidPermission)?;
        Ok(Permission::new(DomId(domid), access))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.access.letter(), self.domid)
    }
}

/// A node's permission list. Entry 0 is the owner together with the access of everyone who is not named; the entries
/// behind it are exceptions. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permissions(Vec<Permission>);

impl Permissions {
    /// A list of one entry.
    pub fn owned_by(owner: DomId, everyone: Access) -> Permissions {
        Permissions(alloc::vec![Permission::new(owner, everyone)])
    }

    /// A list of these entries; `None` if there is none.
    pub fn from_entries(entries: Vec<Permission>) -> Option<Permissions> {
        if entries.is_empty() {
            None
        } else {
            Some(Permissions(entries))
        }
    }

    /// All entries, the owner's first.
    pub fn entries(&self) -> &[Permission] {
        &self.0
    }

    /// The entries behind the first: the exceptions.
    pub fn exceptions(&self) -> &[Permission] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The owner.
    pub fn owner(&self) -> DomId {
        // The list is never empty; INVALID would own nothing.
        self.0.first().map_or(DomId::INVALID, |first| first.domid)
    }

    /// What domains may do that are neither the owner nor named.
    pub fn everyone(&self) -> Access {
        self.0.first().map_or(Access::None, |first| first.access)
    }

    /// The same list with another owner, who counts.
    pub fn with_owner(&self, owner: DomId) -> Permissions {
        let mut entries = self.0.clone();
        if let Some(first) = entries.first_mut() {
            *first = Permission::new(owner, first.access);
        }
        Permissions(entries)
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Permissions, D::Error> {
        let entries = Vec::deserialize(deserializer)?;
        Permissions::from_entries(entries).ok_or_else(|| serde::de::Error::custom(InvalidPermission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn permissions_are_read_like_c_does() {
        for (text, want) in [
            ("r5", Some((Access::Read, 5))),
            ("n0", Some((Access::None, 0))),
            ("b0x10", Some((Access::Both, 16))),
            ("w010", Some((Access::Write, 8))),
            ("r +7", Some((Access::Read, 7))),
            ("r32757", Some((Access::Read, 32757))),
            ("r65535", Some((Access::Read, 65535))),
            ("r65536", None),
            ("r-1", None),
            ("r", None),
            ("", None),
            ("r ", None),
            ("x5", None),
            ("R5", None),
            ("r5 ", None),
            ("r5r", None),
            ("r08", None),
            ("r0x", None),
        ] {
            let want = want.map(|(access, domid)| Permission::new(DomId(domid), access));
            assert_eq!(Permission::parse(text.as_bytes()).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn a_list_is_never_empty() {
        assert_eq!(Permissions::from_entries(Vec::new()), None);
        let stored = postcard::to_allocvec(&Vec::<Permission>::new()).unwrap();
        assert!(postcard::from_bytes::<Permissions>(&stored).is_err());
    }

    #[test]
    fn a_new_owner_keeps_the_other_entries() {
        let list = [("n0", false), ("r5", false), ("w9", true)].map(|(text, ignored)| Permission {
            ignored,
            ..Permission::parse(text.as_bytes()).unwrap()
        });
        let list = Permissions::from_entries(list.to_vec()).unwrap();
        let mine = list.with_owner(DomId(7));
        assert_eq!((mine.owner(), mine.everyone()), (DomId(7), Access::None));
        assert_eq!(mine.exceptions(), list.exceptions());
        assert_eq!(list.owner(), DomId(0));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(letter in "[rwbn]", domid: u16) {
            let access = Access::from_letter(letter.as_bytes()[0]).unwrap();
            let permission = Permission::new(DomId(domid), access);
            prop_assert_eq!(Permission::parse(permission.to_string().as_bytes()), Ok(permission));
            prop_assert_eq!(access.allows_read(), "rb".contains(&letter));
            prop_assert_eq!(access.allows_write(), "wb".contains(&letter));
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_print_as_something_equal(bytes: Vec<u8>) {
            if let Ok(permission) = Permission::parse(&bytes) {
                prop_assert_eq!(Permission::parse(permission.to_string().as_bytes()), Ok(permission));
            }
        }
    }
}
