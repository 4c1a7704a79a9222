//! The permission entries of a node, as they stand in its block: domid (2 bytes), access (1), flags (1).
//!
//! Translates between bytes and the types of `xenstore-wire`; decides nothing.

use alloc::vec::Vec;

use xenstore_wire::{Access, DomId, Permission, Permissions};

const IGNORED: u8 = 1;

/// The permissions of a node, not copied out of its block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PermissionsView<'a> {
    bytes: &'a [u8],
}

impl<'a> PermissionsView<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// All entries. The first one is the owner and what everyone else may do.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Permission> + Clone + 'a {
        self.bytes.chunks_exact(4).map(decode)
    }

    /// The number of entries.
    pub const fn len(self) -> usize {
        self.bytes.len() / 4
    }

    /// Never true for a node that can be read.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The domain that owns the node.
    pub fn owner(self) -> DomId {
        self.first().domid
    }

    /// What a domain may do that has no entry of its own.
    pub fn everyone(self) -> Access {
        self.first().access
    }

    /// A copy that lives longer than the tree.
    pub fn to_owned(self) -> Permissions {
        Permissions::from_entries(self.iter().collect())
            .unwrap_or_else(|| Permissions::owned_by(DomId::DOM0, Access::None))
    }

    fn first(self) -> Permission {
        self.bytes.first_chunk::<4>().map_or(decode(&[]), |entry| decode(entry))
    }
}

fn decode(entry: &[u8]) -> Permission {
    let &[low, high, access, flags] = entry else {
        return Permission {
            domid: DomId::DOM0,
            access: Access::None,
            ignored: false,
        };
    };
    let access = match access {
        1 => Access::Read,
        2 => Access::Write,
        3 => Access::Both,
        _ => Access::None,
    };
    Permission {
        domid: DomId(u16::from_le_bytes([low, high])),
        access,
        ignored: flags & IGNORED != 0,
    }
}

/// The bytes of the entries.
pub(super) fn encode(permissions: &Permissions) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(permissions.entries().len().saturating_mul(4));
    for entry in permissions.entries() {
        let [low, high] = entry.domid.0.to_le_bytes();
        let access = match entry.access {
            Access::None => 0,
            Access::Read => 1,
            Access::Write => 2,
            Access::Both => 3,
        };
        bytes.extend_from_slice(&[low, high, access, if entry.ignored { IGNORED } else { 0 }]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_come_back_as_they_were() {
        let entries: Vec<Permission> = [Access::None, Access::Read, Access::Write, Access::Both]
            .into_iter()
            .zip([0, 1, 0x7FF0, u16::MAX])
            .flat_map(|(access, domid)| {
                [false, true].map(|ignored| Permission {
                    domid: DomId(domid),
                    access,
                    ignored,
                })
            })
            .collect();
        let permissions = Permissions::from_entries(entries).unwrap();
        let bytes = encode(&permissions);
        let view = PermissionsView::new(&bytes);
        assert_eq!(view.to_owned(), permissions);
        assert_eq!((view.owner(), view.everyone(), view.len()), (DomId(0), Access::None, 8));
    }
}
