//! What a block of a directory's index looks like: the header that all blocks have, then entries of one size in the
//! order of their keys.
//!
//! | index | leaf entry | entry above the leaves |
//! |---|---|---|
//! | by hash | hash 4, id of the node 4 | smallest hash below 4, id of the block 4 |
//! | by order | order key 8, hash 4, length of name and NUL 4 | smallest order key below 8, id 4, sum of lengths 4 |
//!
//! A leaf by order usually has the names, too, each with its NUL, so that children are listed without a look at them: its kind is
//! another one, the number of entries (2) comes before them, and the names behind them. With names longer than [`NAMES_MAX`] together
//! it has none.
//!
//! This module does not know how blocks form an index; that is `index`.

use alloc::vec::Vec;

use super::block::{HASH_INDEX, HEADER, NAMED_LEAF, ORDER_INDEX, u16_at, u32_at};

/// The most entries of an index block.
pub(super) const INDEX_MAX: usize = 32;
/// Bytes of names that a leaf holds at most: 32 for each, which is more than most have.
pub(super) const NAMES_MAX: usize = INDEX_MAX * 32;
/// Bytes of the number of entries of a leaf with names.
pub(super) const NAMED_COUNT: usize = 2;
/// Bytes of an entry in an index by hash: key 4, reference 4.
const HASH_ENTRY: usize = 8;
/// Bytes of an entry in an index by order: key 8, reference 4, bytes 4.
const ORDER_ENTRY: usize = 16;
/// The two indexes of a large directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    /// Keys are hashes of names; leaves refer to nodes.
    Hash,
    /// Keys are order keys; leaves hold the hash and the length of the name with its NUL.
    Order,
}

impl Sort {
    pub(super) const fn entry_size(self) -> usize {
        match self {
            Sort::Hash => HASH_ENTRY,
            Sort::Order => ORDER_ENTRY,
        }
    }
}

/// One entry of an index block. In blocks above the leaves: the smallest key below, the block, and the sum of `bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) reference: u32,
    /// Only in the index by order: bytes of the names, each with its NUL.
    pub(super) bytes: u32,
}

/// A block of a directory's index.
#[derive(Clone, Copy)]
pub(super) struct IndexBlock<'a> {
    sort: Sort,
    level: u8,
    entries: &'a [u8],
    names: Option<&'a [u8]>,
}

impl<'a> IndexBlock<'a> {
    pub(super) fn parse(block: &'a [u8]) -> Option<Self> {
        let (kind, level, body) = (*block.get(2)?, *block.get(3)?, block.get(HEADER..)?);
        let (sort, entries, names) = match kind {
            HASH_INDEX => (Sort::Hash, body, None),
            ORDER_INDEX => (Sort::Order, body, None),
            NAMED_LEAF if level == 0 => {
                let count = usize::from(u16_at(body, 0)?);
                let rest = body.get(NAMED_COUNT..)?;
                let (entries, names) = rest.split_at_checked(count.checked_mul(ORDER_ENTRY)?)?;
                (Sort::Order, entries, Some(names))
            }
            _ => return None,
        };
        Some(Self {
            sort,
            level,
            entries,
            names,
        })
    }

    /// The names of a leaf's children, each with its NUL, in the order of the entries; if it has them.
    pub(super) const fn names(&self) -> Option<&'a [u8]> {
        self.names
    }

    /// The names of a leaf's children from the entry at this place on, if it has them.
    pub(super) fn names_from(&self, at: usize) -> Option<&'a [u8]> {
        let before = self.iter().take(at);
        let before = before.fold(0, |sum: usize, entry| sum.saturating_add(entry.bytes as usize));
        self.names?.get(before..)
    }

    /// 0 = leaf.
    pub(super) const fn level(&self) -> u8 {
        self.level
    }

    pub(super) const fn len(&self) -> usize {
        match self.sort {
            Sort::Hash => self.entries.len() / HASH_ENTRY,
            Sort::Order => self.entries.len() / ORDER_ENTRY,
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Entry> {
        let start = at.checked_mul(self.sort.entry_size())?;
        match self.sort {
            Sort::Hash => Some(Entry {
                key: u64::from(u32_at(self.entries, start)?),
                reference: u32_at(self.entries, start.checked_add(4)?)?,
                bytes: 0,
            }),
            Sort::Order => Some(Entry {
                key: u64_at(self.entries, start)?,
                reference: u32_at(self.entries, start.checked_add(8)?)?,
                bytes: u32_at(self.entries, start.checked_add(12)?)?,
            }),
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Entry> + 'a {
        (0..self.len()).map_while(move |at| self.get(at))
    }

    /// The last entry whose key is not above `key`.
    pub(super) fn last_at_most(&self, key: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(|entry| entry.key <= key) {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// Writes an index block into `out`, all but what `seal` writes. `names`: those of a leaf by order, if all are known.
    pub(super) fn encode(sort: Sort, level: u8, entries: &[Entry], names: Option<&[u8]>, out: &mut Vec<u8>) {
        let names = names.filter(|names| sort == Sort::Order && level == 0 && names.len() <= NAMES_MAX);
        let kind = match sort {
            Sort::Hash => HASH_INDEX,
            Sort::Order if names.is_some() => NAMED_LEAF,
            Sort::Order => ORDER_INDEX,
        };
        out.clear();
        out.extend_from_slice(&[0, 0, kind, level, 0, 0, 0, 0, 0, 0, 0, 0]);
        if names.is_some() {
            let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&count.to_le_bytes());
        }
        for entry in entries {
            match sort {
                Sort::Hash => {
                    let [a, b, c, d, ..] = entry.key.to_le_bytes();
                    out.extend_from_slice(&[a, b, c, d]);
                    out.extend_from_slice(&entry.reference.to_le_bytes());
                }
                Sort::Order => {
                    out.extend_from_slice(&entry.key.to_le_bytes());
                    out.extend_from_slice(&entry.reference.to_le_bytes());
                    out.extend_from_slice(&entry.bytes.to_le_bytes());
                }
            }
        }
        out.extend_from_slice(names.unwrap_or_default());
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::super::block::{is_intact, references, seal};
    use super::super::checksum::crc32c;
    use super::*;

    #[test]
    fn an_index_block_comes_back_and_is_searched() {
        for sort in [Sort::Hash, Sort::Order] {
            let entries: Vec<Entry> = [3, 5, 5, 9]
                .iter()
                .zip(10..)
                .map(|(&key, reference)| Entry {
                    key,
                    reference,
                    bytes: if sort == Sort::Order { 4 } else { 0 },
                })
                .collect();
            let mut out = Vec::new();
            IndexBlock::encode(sort, 1, &entries, None, &mut out);
            seal(&mut out, 5, crc32c);
            assert!(is_intact(&out, crc32c));
            let block = IndexBlock::parse(&out).unwrap();
            assert_eq!(block.iter().collect::<Vec<_>>(), entries);
            let found: Vec<_> = [2, 3, 4, 5, 8, 9, 10].map(|key| block.last_at_most(key)).into();
            assert_eq!(found, [None, Some(0), Some(0), Some(2), Some(2), Some(3), Some(3)]);
            assert_eq!(references(&out).collect::<Vec<_>>(), [10, 11, 12, 13]);
        }
    }

    #[test]
    fn a_leaf_by_order_has_names_unless_they_are_long() {
        let entries = [3, 5].map(|key| Entry {
            key,
            reference: 7,
            bytes: 4,
        });
        let long = [b'n'; NAMES_MAX + 1];
        let short = b"one\0two\0".as_slice();
        for (sort, level, names, kept) in [
            (Sort::Order, 0, short, Some(short)),
            (Sort::Order, 0, &long, None),
            (Sort::Order, 1, short, None),
        ] {
            let mut out = Vec::new();
            IndexBlock::encode(sort, level, &entries, Some(names), &mut out);
            seal(&mut out, 5, crc32c);
            let block = IndexBlock::parse(&out).unwrap();
            assert_eq!(block.names(), kept);
            assert_eq!((block.len(), block.iter().collect::<Vec<_>>()), (2, entries.to_vec()));
            let expected: &[u32] = if level == 0 { &[] } else { &[7, 7] };
            assert_eq!(references(&out).collect::<Vec<_>>(), expected);
        }
    }
}
