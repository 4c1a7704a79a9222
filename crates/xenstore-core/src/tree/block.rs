//! What a block looks like: the header that all have, and nodes.
//!
//! All numbers are little-endian. Every block begins with
//!
//! | bytes | |
//! |---|---|
//! | 0..2 | length of the whole block |
//! | 2 | kind and flags |
//! | 3 | node: number of permission entries; index: level (0 = leaf) |
//! | 4..8 | its id: a block is alive where the table says that its id lies here |
//! | 8..12 | CRC-32C of bytes 0..8 and 12.. |
//!
//! A node goes on with the lengths of name and value (2 bytes each), name, value, permission entries (domid 2, access
//! 1, flags 1), generation and order key (LEB128), the security label (4, only if not 0), and its directory: nothing;
//! or the summed length of names (2) and pairs of (hash 4, id 4) in creation order; or, with more than [`SMALL_MAX`]
//! children, the two indexes (4 each), the count (4) and the summed length (4).
//!
//! Blocks of a directory's indexes are the subject of `index_block`. This module does not know where blocks lie.

use alloc::vec::Vec;

use super::checksum::Crc32c;
use super::index_block::Sort;
use super::permissions::PermissionsView;

/// Bytes before what depends on the kind of block.
pub(super) const HEADER: usize = 12;
/// The longest name, in bytes: `XENSTORE_ABS_PATH_MAX` of Xen's public `io/xs_wire.h`.
pub const NAME_MAX: usize = 3072;
/// The longest value, in bytes: `XENSTORE_PAYLOAD_MAX` of Xen's public `io/xs_wire.h`.
pub const VALUE_MAX: usize = 4096;
/// The most permission entries of a node.
pub const PERMISSIONS_MAX: usize = 255;
/// The most children that stand in the node itself.
pub(super) const SMALL_MAX: usize = 16;
/// A directory with indexes that shrinks to this many children gives them up.
pub(super) const SMALL_AGAIN: u32 = 8;

/// Bytes of a large directory, at the end of its block: the index by hash, the one by order, count, length of the names.
pub(super) const LARGE_BYTES: usize = 16;
/// Bytes of a child in a small directory: hash and id.
pub(super) const SMALL_ENTRY: usize = 8;
/// Bytes that a node takes in addition to name, value and permissions, at most.
pub(super) const NODE_OVERHEAD: usize = HEADER + 4 + 10 + 10 + 4 + 2 + SMALL_MAX * SMALL_ENTRY;
/// Bytes of the largest block.
pub(super) const BLOCK_MAX: usize = NODE_OVERHEAD + NAME_MAX + VALUE_MAX + PERMISSIONS_MAX * 4;

const KIND: u8 = 0x0F;
const NODE: u8 = 1;
pub(super) const HASH_INDEX: u8 = 2;
pub(super) const ORDER_INDEX: u8 = 3;
/// A leaf of an index by order that holds the names, too.
pub(super) const NAMED_LEAF: u8 = 4;
const LABELLED: u8 = 0x10;
const SMALL_DIRECTORY: u8 = 0x20;
const LARGE_DIRECTORY: u8 = 0x40;

/// A node as it stands in one block. Cheap to copy; nothing in it is owned.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub(super) id: u32,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) permissions: &'a [u8],
    pub(super) generation: u64,
    pub(super) order: u64,
    pub(super) label: u32,
    pub(super) directory: Directory<'a>,
}

/// The children of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Directory<'a> {
    /// At most [`SMALL_MAX`], in the node: pairs of (hash of the name, id), oldest first.
    Small { names: u32, entries: &'a [u8] },
    /// Any number: an index by hash (its entries refer to the children), and one by order.
    Large {
        by_hash: u32,
        by_order: u32,
        count: u32,
        names: u32,
    },
}

impl<'a> Directory<'a> {
    pub(super) const EMPTY: Self = Directory::Small { names: 0, entries: &[] };

    /// The directory of the node in a block, without a look at the rest: whoever goes down needs no more.
    pub(super) fn of(block: &'a [u8]) -> Option<Directory<'a>> {
        let flags = *block.get(2)?;
        if flags & KIND != NODE {
            return None;
        }
        if flags & LARGE_DIRECTORY != 0 {
            return Self::parse(flags, block.get(block.len().checked_sub(LARGE_BYTES)?..)?);
        }
        if flags & SMALL_DIRECTORY == 0 {
            return Some(Self::EMPTY);
        }
        let permission_bytes = usize::from(*block.get(3)?).wrapping_mul(4);
        let name_and_value = usize::from(u16_at(block, 12)?).checked_add(usize::from(u16_at(block, 14)?))?;
        let rest = block.get(16..)?.get(name_and_value..)?.get(permission_bytes..)?;
        let rest = behind_number(behind_number(rest)?)?;
        Self::parse(flags, rest.get(if flags & LABELLED == 0 { 0 } else { 4 }..)?)
    }

    fn parse(flags: u8, bytes: &'a [u8]) -> Option<Directory<'a>> {
        if flags & LARGE_DIRECTORY != 0 {
            Some(Directory::Large {
                by_hash: u32_at(bytes, 0)?,
                by_order: u32_at(bytes, 4)?,
                count: u32_at(bytes, 8)?,
                names: u32_at(bytes, 12)?,
            })
        } else if flags & SMALL_DIRECTORY != 0 {
            Some(Directory::Small {
                names: u32::from(u16_at(bytes, 0)?),
                entries: bytes.get(2..)?,
            })
        } else {
            Some(Self::EMPTY)
        }
    }
}

impl<'a> Node<'a> {
    /// What is shown for a node that cannot be read, which needs memory that has changed on its own.
    pub(super) const UNREADABLE: Node<'static> = Node {
        id: u32::MAX,
        name: &[],
        value: &[],
        permissions: &[],
        generation: 0,
        order: 0,
        label: 0,
        directory: Directory::EMPTY,
    };

    /// The last component of its path; "" for the root.
    pub fn name(&self) -> &'a str {
        core::str::from_utf8(self.name).unwrap_or_default()
    }

    /// Any bytes, at most [`VALUE_MAX`].
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// Who owns the node and who may do what.
    pub fn permissions(&self) -> PermissionsView<'a> {
        PermissionsView::new(self.permissions)
    }

    /// Changes whenever the node or the list of its children changes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its place among its siblings: the key given at its creation.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// The security label; 0 if there is none.
    pub fn label(&self) -> u32 {
        self.label
    }

    /// The id of its block. Two nodes with the same id, in whatever roots that are alive at the same time, are the same
    /// in everything, and so is all that is below them.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The number of its children.
    pub fn child_count(&self) -> u32 {
        match self.directory {
            Directory::Small { entries, .. } => u32::try_from(entries.len() / SMALL_ENTRY).unwrap_or(0),
            Directory::Large { count, .. } => count,
        }
    }

    /// The length of the list of children as DIRECTORY_PART sees it: every name with a NUL.
    pub fn child_names_len(&self) -> u64 {
        match self.directory {
            Directory::Small { names, .. } | Directory::Large { names, .. } => u64::from(names),
        }
    }

    /// The name of the node in a block, without a look at the rest.
    pub(super) fn name_in(block: &'a [u8]) -> Option<&'a [u8]> {
        let flags = *block.get(2)?;
        let length = usize::from(u16_at(block, 12)?);
        block.get(16..)?.get(..length).filter(|_| flags & KIND == NODE)
    }

    /// The permission entries of the node in a block, without a look at the rest: reading a tree back asks this of every one.
    pub(super) fn permissions_in(block: &'a [u8]) -> Option<&'a [u8]> {
        let flags = *block.get(2)?;
        let permission_bytes = usize::from(*block.get(3)?).wrapping_mul(4);
        let name_and_value = usize::from(u16_at(block, 12)?).checked_add(usize::from(u16_at(block, 14)?))?;
        let rest = block.get(16..)?.get(name_and_value..)?;
        rest.get(..permission_bytes).filter(|_| flags & KIND == NODE)
    }

    pub(super) fn parse(block: &'a [u8]) -> Option<Node<'a>> {
        let flags = *block.get(2)?;
        if flags & KIND != NODE {
            return None;
        }
        let permission_bytes = usize::from(*block.get(3)?).wrapping_mul(4);
        let name_len = usize::from(u16_at(block, 12)?);
        let value_len = usize::from(u16_at(block, 14)?);
        let rest = block.get(16..)?;
        let (name, rest) = rest.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        let (permissions, rest) = rest.split_at_checked(permission_bytes)?;
        let (generation, rest) = take_number(rest)?;
        let (order, rest) = take_number(rest)?;
        let (label, rest) = if flags & LABELLED == 0 {
            (0, rest)
        } else {
            (u32_at(rest, 0)?, rest.get(4..)?)
        };
        let directory = Directory::parse(flags, rest)?;
        Some(Node {
            id: u32_at(block, 4)?,
            name,
            value,
            permissions,
            generation,
            order,
            label,
            directory,
        })
    }

    /// Writes the block into `out`, all but what [`seal`] writes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let labelled = if self.label == 0 { 0 } else { LABELLED };
        let directory = match self.directory {
            Directory::Large { .. } => LARGE_DIRECTORY,
            Directory::Small { entries: [], .. } => 0,
            Directory::Small { .. } => SMALL_DIRECTORY,
        };
        out.clear();
        out.extend_from_slice(&[0, 0, NODE | labelled | directory]);
        out.push(u8::try_from(self.permissions.len() / 4).unwrap_or(u8::MAX));
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&short(self.name.len()));
        out.extend_from_slice(&short(self.value.len()));
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.value);
        out.extend_from_slice(self.permissions);
        push_number(out, self.generation);
        push_number(out, self.order);
        if self.label != 0 {
            out.extend_from_slice(&self.label.to_le_bytes());
        }
        match self.directory {
            Directory::Small { entries: [], .. } => {}
            Directory::Small { names, entries } => {
                out.extend_from_slice(&short(names as usize));
                out.extend_from_slice(entries);
            }
            Directory::Large {
                by_hash,
                by_order,
                count,
                names,
            } => {
                for word in [by_hash, by_order, count, names] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// The pairs (hash, id) of a small directory.
pub(super) fn small_entries(entries: &[u8]) -> impl DoubleEndedIterator<Item = (u32, u32)> + Clone + '_ {
    entries.chunks_exact(SMALL_ENTRY).map(|entry| {
        (
            u32_at(entry, 0).unwrap_or_default(),
            u32_at(entry, 4).unwrap_or_default(),
        )
    })
}

pub(super) fn push_small_entry(out: &mut Vec<u8>, hash: u32, id: u32) {
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
}

/// Gives a block its length, its id and its checksum.
pub(super) fn seal(block: &mut [u8], id: u32, crc32c: Crc32c) {
    let [a, b] = short(block.len());
    if let Some([length_low, length_high, _, _, id_bytes @ ..]) = block.first_chunk_mut::<8>() {
        (*length_low, *length_high) = (a, b);
        *id_bytes = id.to_le_bytes();
    }
    let sum = checksum(block, crc32c).to_le_bytes();
    if let Some(place) = block.get_mut(8..HEADER) {
        place.copy_from_slice(&sum);
    }
}

/// Whether the checksum of a block fits its content.
pub(super) fn is_intact(block: &[u8], crc32c: Crc32c) -> bool {
    u32_at(block, 8) == Some(checksum(block, crc32c))
}

fn checksum(block: &[u8], crc32c: Crc32c) -> u32 {
    let head = crc32c(0, block.get(..8).unwrap_or_default());
    crc32c(head, block.get(HEADER..).unwrap_or_default())
}

/// Length and id from the beginning of a block; `None` if the length cannot be.
pub(super) fn length_and_id(bytes: &[u8]) -> Option<(usize, u32)> {
    let length = usize::from(u16_at(bytes, 0)?);
    if length < HEADER || length > bytes.len() {
        None
    } else {
        Some((length, u32_at(bytes, 4)?))
    }
}

/// The ids of the blocks that a block refers to. Empty if it cannot be read.
pub(super) fn references(block: &[u8]) -> impl Iterator<Item = u32> + Clone + '_ {
    let flags = block.get(2).copied();
    let (bytes, stride, offset) = match flags.map(|flags| flags & KIND) {
        // Most nodes have no children, and reading a tree back asks this of every one.
        Some(NODE) if flags.is_some_and(|flags| flags & (SMALL_DIRECTORY | LARGE_DIRECTORY) == 0) => (&[][..], 1, 0),
        Some(NODE) => match Directory::of(block) {
            Some(Directory::Small { entries, .. }) => (entries, SMALL_ENTRY, 4),
            Some(Directory::Large { .. }) => (
                block
                    .len()
                    .checked_sub(LARGE_BYTES)
                    .and_then(|start| block.get(start..)?.get(..8))
                    .unwrap_or_default(),
                4,
                0,
            ),
            None => (&[][..], 1, 0),
        },
        Some(HASH_INDEX) => (block.get(HEADER..).unwrap_or_default(), Sort::Hash.entry_size(), 4),
        Some(ORDER_INDEX) if block.get(3) != Some(&0) => {
            (block.get(HEADER..).unwrap_or_default(), Sort::Order.entry_size(), 8)
        }
        _ => (&[][..], 1, 0),
    };
    bytes
        .chunks_exact(stride)
        .filter_map(move |entry| u32_at(entry, offset))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_le_bytes(*two))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

// Lengths are checked before a block is built; see `Tree::fits`.
fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
}

fn behind_number(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    bytes.get(last.checked_add(1)?..)
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    let mut shift = 0u32;
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        number |= u64::from(byte & 0x7F).checked_shl(shift)?;
        rest = tail;
        if byte & 0x80 == 0 {
            return Some((number, rest));
        }
        shift = shift.wrapping_add(7);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::checksum::crc32c;
    use super::*;

    fn example() -> Node<'static> {
        Node {
            name: b"frontend",
            value: b"/local/domain/12",
            permissions: &[0, 0, 1, 0, 12, 0, 2, 0],
            generation: 40_000_000,
            order: 9_000_000,
            ..Node::UNREADABLE
        }
    }

    #[test]
    fn a_typical_node_takes_at_most_60_bytes() {
        let mut out = Vec::new();
        example().encode(&mut out);
        assert!(out.len() <= 60, "{}", out.len());
    }

    #[test]
    fn a_node_comes_back_as_it_was() {
        let mut entries = Vec::new();
        push_small_entry(&mut entries, 7, 70);
        push_small_entry(&mut entries, 8, 80);
        let large = Directory::Large {
            by_hash: 1,
            by_order: 2,
            count: 300,
            names: 4000,
        };
        for directory in [
            Directory::EMPTY,
            Directory::Small {
                names: 9,
                entries: &entries,
            },
            large,
        ] {
            for (label, generation, order) in [(0, 0, 127), (5, u64::MAX, 128), (u32::MAX, 1 << 63, u64::MAX)] {
                let node = Node {
                    label,
                    generation,
                    order,
                    directory,
                    ..example()
                };
                let mut out = Vec::new();
                node.encode(&mut out);
                seal(&mut out, 99, crc32c);
                let back = Node::parse(&out).unwrap();
                assert_eq!(Node::name_in(&out), Some(node.name));
                assert_eq!(Node::permissions_in(&out), Some(node.permissions));
                assert_eq!(
                    alloc::format!("{:?}", Directory::of(&out).unwrap()),
                    alloc::format!("{directory:?}")
                );
                assert_eq!(
                    alloc::format!("{back:?}"),
                    alloc::format!("{:?}", Node { id: 99, ..node })
                );
                let expected: &[u32] = match directory {
                    Directory::Small { entries: [], .. } => &[],
                    Directory::Small { .. } => &[70, 80],
                    Directory::Large { .. } => &[1, 2],
                };
                assert_eq!(references(&out).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn the_largest_node_is_as_large_as_promised() {
        let node = Node {
            name: &[b'n'; NAME_MAX],
            value: &[b'v'; VALUE_MAX],
            permissions: &[0; PERMISSIONS_MAX * 4],
            generation: u64::MAX,
            order: u64::MAX,
            label: 1,
            directory: Directory::Small {
                names: 1,
                entries: &[0; SMALL_MAX * SMALL_ENTRY],
            },
            id: 0,
        };
        let mut out = Vec::new();
        node.encode(&mut out);
        assert_eq!(out.len(), BLOCK_MAX);
    }

    #[test]
    fn a_cut_block_is_refused_and_not_misread() {
        let mut out = Vec::new();
        Node { label: 3, ..example() }.encode(&mut out);
        seal(&mut out, 1, crc32c);
        for length in 0..out.len() {
            assert!(Node::parse(&out[..length]).is_none());
        }
    }
}
