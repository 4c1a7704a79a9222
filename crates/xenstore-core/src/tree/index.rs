//! The indexes of large directories: B+-trees of blocks.
//!
//! Each large directory has one by hash (to find a child by name) and one by order key (to list children in the order
//! of their creation, from any byte of the list of names). A change writes the blocks on one path anew, at most
//! [`INDEX_MAX`] entries each, and says what the new root is. Keys may repeat: entries with the same key are told apart
//! by what they refer to.
//!
//! Knows entries and blocks; not what the leaves refer to.

use alloc::vec;
use alloc::vec::Vec;

use super::arena::{Arena, Exhausted};
use super::index_block::{Entry, INDEX_MAX, IndexBlock, Sort};
use super::memory::Memory;

/// A block with fewer entries is merged with a neighbour when something is removed from it.
const FEW: usize = INDEX_MAX / 4;

/// A position in an index: from the root to a leaf, the block and the place in it.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    trail: Vec<(u32, usize)>,
}

impl Cursor {
    /// The blocks from the root of the index to the leaf, and the place in each.
    pub(super) fn blocks(&self) -> &[(u32, usize)] {
        &self.trail
    }
}

/// A change of one leaf.
enum Edit<'a> {
    /// The name is that of the child, without NUL.
    Insert(usize, Entry, &'a [u8]),
    Remove(usize),
}

/// What a block holds while it is changed.
#[derive(Default)]
struct Content {
    entries: Vec<Entry>,
    /// The names of a leaf by order, each with its NUL; none if some are not known.
    names: Option<Vec<u8>>,
}

/// A part of a [`Content`] that becomes a block.
struct Piece<'a> {
    entries: &'a [Entry],
    names: Option<&'a [u8]>,
}

impl Content {
    fn of(block: IndexBlock<'_>) -> Content {
        Content {
            entries: block.iter().collect(),
            names: block.names().map(Vec::from),
        }
    }

    /// Where the name of the entry at this place begins among the names.
    fn name_at(&self, place: usize) -> usize {
        let before = self.entries.iter().take(place);
        before.fold(0, |sum: usize, entry| sum.saturating_add(entry.bytes as usize))
    }

    fn insert(&mut self, place: usize, entry: Entry, name: &[u8]) {
        let place = place.min(self.entries.len());
        let at = self.name_at(place);
        if let Some(names) = &mut self.names
            && at <= names.len()
        {
            names.splice(at..at, name.iter().copied().chain([0]));
        }
        self.entries.insert(place, entry);
    }

    fn remove(&mut self, place: usize) {
        if place >= self.entries.len() {
            return;
        }
        let (from, to) = (self.name_at(place), self.name_at(place.saturating_add(1)));
        if let Some(names) = &mut self.names
            && to <= names.len()
        {
            names.drain(from..to);
        }
        self.entries.remove(place);
    }

    /// What is in `other` comes behind this.
    fn append(&mut self, other: Content) {
        self.entries.extend(other.entries);
        self.names = match (self.names.take(), other.names) {
            (Some(mut names), Some(others)) => {
                names.extend(others);
                Some(names)
            }
            _ => None,
        };
    }

    /// Cuts what is too long for one block into two. Nothing at all gives no piece.
    fn split(&self, sort: Sort, grew_at_end: bool) -> Vec<Piece<'_>> {
        let (entries, names) = (self.entries.as_slice(), self.names.as_deref());
        if entries.is_empty() {
            return Vec::new();
        }
        if entries.len() <= INDEX_MAX {
            return vec![Piece { entries, names }];
        }
        let middle = if grew_at_end && sort == Sort::Order {
            INDEX_MAX
        } else {
            entries.len() / 2
        };
        let (left, right) = entries.split_at(middle.min(entries.len()));
        let of_both = names.and_then(|names| names.split_at_checked(self.name_at(middle)));
        vec![
            Piece {
                entries: left,
                names: of_both.map(|(names, _)| names),
            },
            Piece {
                entries: right,
                names: of_both.map(|(_, names)| names),
            },
        ]
    }
}

impl<M: Memory> Arena<M> {
    /// The last entry of an index whose key is not above `key`. Visits one block of each level.
    pub(super) fn index_last_at_most(&self, root: u32, key: u64) -> Option<Entry> {
        let mut block = self.index(root)?;
        loop {
            let entry = block.get(block.last_at_most(key)?)?;
            if block.level() == 0 {
                return Some(entry);
            }
            block = self.below(&block, entry)?;
        }
    }

    /// The entry that a cursor stands at.
    pub(super) fn index_entry(&self, cursor: &Cursor) -> Option<Entry> {
        let &(block, at) = cursor.trail.last()?;
        self.index(block)?.get(at)
    }

    /// The last position whose key is not above `key`.
    pub(super) fn index_seek(&self, root: u32, key: u64) -> Option<Cursor> {
        self.index_descend(root, |block| block.last_at_most(key))
    }

    /// The first position.
    pub(super) fn index_first(&self, root: u32) -> Option<Cursor> {
        self.index_descend(root, |_| Some(0))
    }

    /// The entry that contains the byte `offset` of the list of names, and the offset of that byte in it.
    pub(super) fn index_at_byte(&self, root: u32, offset: u64) -> Option<(Cursor, u64)> {
        let mut rest = offset;
        let cursor = self.index_descend(root, |block| {
            block
                .iter()
                .position(|entry| match rest.checked_sub(u64::from(entry.bytes)) {
                    Some(beyond) => {
                        rest = beyond;
                        false
                    }
                    None => true,
                })
        })?;
        Some((cursor, rest))
    }

    /// Moves a cursor to the next entry. False at the end.
    pub(super) fn index_next(&self, cursor: &mut Cursor) -> bool {
        self.index_step(
            cursor,
            |at, length| at.checked_add(1).filter(|next| *next < length),
            |_| 0,
        )
    }

    /// Moves a cursor to the previous entry. False at the beginning.
    pub(super) fn index_previous(&self, cursor: &mut Cursor) -> bool {
        self.index_step(cursor, |at, _| at.checked_sub(1), |length| length.saturating_sub(1))
    }

    /// The position of the entry with this key that satisfies `is_it`.
    pub(super) fn index_find(&self, root: u32, key: u64, mut is_it: impl FnMut(Entry) -> bool) -> Option<Cursor> {
        let mut cursor = self.index_seek(root, key)?;
        loop {
            let entry = self.index_entry(&cursor)?;
            if entry.key != key {
                return None;
            }
            if is_it(entry) {
                return Some(cursor);
            }
            if !self.index_previous(&mut cursor) {
                return None;
            }
        }
    }

    /// How many levels an index has.
    pub(super) fn index_height(&self, root: u32) -> usize {
        self.index(root)
            .map_or(0, |block| usize::from(block.level()).saturating_add(1))
    }

    /// A new index of at most [`INDEX_MAX`] entries, in order. `names`: those of the children, each with its NUL, for one by order.
    pub(super) fn index_build(
        &mut self,
        sort: Sort,
        entries: &[Entry],
        names: Option<&[u8]>,
    ) -> Result<u32, Exhausted> {
        self.index_place(sort, 0, &Piece { entries, names })
    }

    /// The index with one entry more, after those with the same key. `name`: the child's.
    pub(super) fn index_insert(&mut self, sort: Sort, root: u32, entry: Entry, name: &[u8]) -> Result<u32, Exhausted> {
        let found = self.index_seek(root, entry.key);
        let at = found
            .as_ref()
            .and_then(|cursor| cursor.trail.last())
            .map_or(0, |(_, at)| at.saturating_add(1));
        let cursor = found.or_else(|| self.index_first(root)).ok_or(Exhausted)?;
        Ok(self
            .index_edit(sort, cursor, &Edit::Insert(at, entry, name))?
            .unwrap_or(root))
    }

    /// The index without the entry with this key and reference.
    pub(super) fn index_remove(&mut self, sort: Sort, root: u32, (key, old): (u64, u32)) -> Result<u32, Exhausted> {
        let Some(cursor) = self.index_find(root, key, |entry| entry.reference == old) else {
            return Ok(root);
        };
        let at = cursor.trail.last().map_or(0, |(_, at)| *at);
        Ok(self.index_edit(sort, cursor, &Edit::Remove(at))?.unwrap_or(root))
    }

    // A level must be one less than the one above it: so no loop can be endless, whatever the memory contains.
    fn below(&self, block: &IndexBlock<'_>, entry: Entry) -> Option<IndexBlock<'_>> {
        self.index(entry.reference)
            .filter(|below| below.level().checked_add(1) == Some(block.level()))
    }

    fn index_descend(&self, root: u32, mut choose: impl FnMut(IndexBlock<'_>) -> Option<usize>) -> Option<Cursor> {
        let mut block = self.index(root)?;
        let mut trail = Vec::with_capacity(usize::from(block.level()).saturating_add(1));
        let mut id = root;
        loop {
            let at = choose(block)?;
            let entry = block.get(at)?;
            trail.push((id, at));
            if block.level() == 0 {
                return Some(Cursor { trail });
            }
            block = self.below(&block, entry)?;
            id = entry.reference;
        }
    }

    fn index_step(
        &self,
        cursor: &mut Cursor,
        step: impl Fn(usize, usize) -> Option<usize>,
        start: impl Fn(usize) -> usize,
    ) -> bool {
        let leaf = cursor.trail.len();
        self.index_step_above(cursor, leaf, step, start).is_some()
    }

    /// To the next position in the blocks above this depth, and from there down to a leaf, which comes out.
    fn index_step_above(
        &self,
        cursor: &mut Cursor,
        mut depth: usize,
        step: impl Fn(usize, usize) -> Option<usize>,
        start: impl Fn(usize) -> usize,
    ) -> Option<IndexBlock<'_>> {
        // Upwards to the first block in which there is a next entry, then downwards along its edge.
        let turn = loop {
            depth = depth.checked_sub(1)?;
            let &(id, at) = cursor.trail.get(depth)?;
            let block = self.index(id)?;
            if let Some(next) = step(at, block.len()) {
                break (id, next, block);
            }
        };
        let (id, at, mut block) = turn;
        cursor.trail.truncate(depth);
        cursor.trail.push((id, at));
        let mut at = at;
        while block.level() > 0 {
            let entry = block.get(at)?;
            let below = self.below(&block, entry)?;
            at = start(below.len());
            cursor.trail.push((entry.reference, at));
            block = below;
        }
        Some(block)
    }

    /// Visits the leaf where the cursor stands, with where in it, and all behind it, each from its beginning, as long as `visit` says
    /// so.
    pub(super) fn index_leaves(&self, mut cursor: Cursor, mut visit: impl FnMut(IndexBlock<'_>, usize) -> bool) {
        let here = cursor.trail.pop().and_then(|(id, at)| Some((self.index(id)?, at)));
        if !here.is_some_and(|(leaf, at)| visit(leaf, at)) {
            return;
        }
        while let Some(&(id, slot)) = cursor.trail.last() {
            // The other leaves of the block above, which is looked up once for all of them.
            let Some(above) = self.index(id) else { return };
            for entry in above.iter().skip(slot.saturating_add(1)) {
                if !self.below(&above, entry).is_some_and(|leaf| visit(leaf, 0)) {
                    return;
                }
            }
            // Then the first one of the next such block.
            let depth = cursor.trail.len().saturating_sub(1);
            let next = |at: usize, length| at.checked_add(1).filter(|next| *next < length);
            let first = self.index_step_above(&mut cursor, depth, next, |_| 0);
            if !first.is_some_and(|leaf| visit(leaf, 0)) {
                return;
            }
            cursor.trail.pop();
        }
    }

    fn index_place(&mut self, sort: Sort, level: u8, piece: &Piece<'_>) -> Result<u32, Exhausted> {
        let mut block = self.scratch();
        IndexBlock::encode(sort, level, piece.entries, piece.names, &mut block);
        self.place(block)
    }

    fn content(&self, block: u32) -> Content {
        self.index(block).map(Content::of).unwrap_or_default()
    }

    /// Carries out a change at the leaf where the cursor stands, then all that follows from it up to the root. `None`
    /// if nothing is left.
    fn index_edit(&mut self, sort: Sort, mut cursor: Cursor, edit: &Edit<'_>) -> Result<Option<u32>, Exhausted> {
        let removing = matches!(edit, Edit::Remove(_));
        let Some((leaf, _)) = cursor.trail.pop() else {
            return Ok(None);
        };
        let mut content = self.content(leaf);
        // Where this level has become longer: splitting an index that only grows at its end leaves full blocks behind.
        let mut grew_at_end = false;
        match *edit {
            Edit::Insert(at, entry, name) => {
                grew_at_end = at >= content.entries.len();
                content.insert(at, entry, name);
            }
            Edit::Remove(at) => content.remove(at),
        }
        let mut level = 0u8;
        while let Some((parent, slot)) = cursor.trail.pop() {
            let mut above = self.content(parent);
            let slot = slot.min(above.entries.len());
            let mut slots = slot..slot.saturating_add(1).min(above.entries.len());
            if removing && content.entries.len() < FEW && above.entries.len() > 1 {
                slots = self.join_with_neighbour(&mut content, &above.entries, slot);
            }
            let pieces = content.split(sort, grew_at_end);
            let mut written = Vec::with_capacity(pieces.len());
            for piece in pieces {
                written.push(self.write_piece(sort, level, &piece)?);
            }
            grew_at_end = slots.end == above.entries.len();
            above.entries.splice(slots, written);
            content = above;
            level = level.wrapping_add(1);
        }
        self.write_root(sort, level, content, grew_at_end)
    }

    fn write_root(
        &mut self,
        sort: Sort,
        mut level: u8,
        mut content: Content,
        grew_at_end: bool,
    ) -> Result<Option<u32>, Exhausted> {
        if content.entries.len() > INDEX_MAX {
            let mut above = Content::default();
            for piece in content.split(sort, grew_at_end) {
                above.entries.push(self.write_piece(sort, level, &piece)?);
            }
            (level, content) = (level.wrapping_add(1), above);
        }
        match (level, content.entries.as_slice()) {
            (_, []) => Ok(None),
            // One block remains on the level below: it is the root.
            (1.., [only]) => Ok(Some(only.reference)),
            (_, entries) => {
                let names = content.names.as_deref();
                self.index_place(sort, level, &Piece { entries, names }).map(Some)
            }
        }
    }

    /// Adds the entries of a neighbour of the block in `slot` to `content`. Returns the slots that they come from.
    fn join_with_neighbour(&self, content: &mut Content, above: &[Entry], slot: usize) -> core::ops::Range<usize> {
        let (first, neighbour) = match slot.checked_sub(1) {
            Some(left) => (left, left),
            None => (slot, slot.saturating_add(1)),
        };
        let other = above.get(neighbour).map(|entry| self.content(entry.reference));
        let mut other = other.unwrap_or_default();
        if neighbour < slot {
            core::mem::swap(content, &mut other);
        }
        content.append(other);
        first..first.saturating_add(2).min(above.len())
    }

    /// Writes a block, and says what stands for it in the level above.
    fn write_piece(&mut self, sort: Sort, level: u8, piece: &Piece<'_>) -> Result<Entry, Exhausted> {
        let entries = piece.entries;
        Ok(Entry {
            key: entries.first().map_or(0, |entry| entry.key),
            reference: self.index_place(sort, level, piece)?,
            bytes: entries
                .iter()
                .fold(0, |sum: u32, entry| sum.saturating_add(entry.bytes)),
        })
    }
}
