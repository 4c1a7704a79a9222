//! Which nodes of the present state paths led to before: most clients ask for the same few nodes again and again, and going down to one
//! costs half of what deciding a READ costs.
//!
//! What is kept stays true while the present state leads from the path to the same id. A change that a node takes where it is keeps all
//! of it; whatever gives a node another id, or takes one away, forgets everything at once. Nothing here is durable.
//!
//! A path is told by 64 bits of a hash whose key no client knows, and by its last name. So nobody can bring about that another node is
//! found, and by chance it is the case for one look in 10¹⁹.

use alloc::vec::Vec;
use core::cell::RefCell;

use xenstore_wire::Path;

use super::memory::Memory;
use super::{Node, Root, Tree};

/// Ids for each place: 16 bytes of the heap for each four nodes, which have some 400 in the arena.
const IDS_FOR_EACH: u32 = 4;
const PLACES_LEAST: u32 = 64;
const PLACES_MOST: u32 = 1 << 15;

/// Where one path led. Era 0 is that of nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    path: u64,
    id: u32,
    era: u32,
}

/// What is known: each path has one place, from which another may drive it out.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    /// What was noted in another one counts no more.
    era: u32,
    /// As many as a power of two.
    places: RefCell<Vec<Way>>,
}

impl Ways {
    pub(super) const fn new() -> Self {
        Self {
            era: 1,
            places: RefCell::new(Vec::new()),
        }
    }

    /// Nodes of the present state have other ids now, or none.
    pub(super) fn forget(&mut self) {
        self.era = self.era.checked_add(1).unwrap_or_else(|| {
            self.places.get_mut().clear();
            1
        });
    }

    fn of(&self, path: u64) -> Option<u32> {
        let places = self.places.borrow();
        let way = places.get(place_of(path, places.len()))?;
        (way.path == path && way.era == self.era).then_some(way.id)
    }

    /// `ids`: how many there are.
    fn note(&self, path: u64, id: u32, ids: u32) {
        let mut places = self.places.borrow_mut();
        let wanted = (ids / IDS_FOR_EACH).clamp(PLACES_LEAST, PLACES_MOST) as usize;
        if places.len().saturating_mul(2) <= wanted {
            let wanted = wanted.checked_ilog2().map_or(0, |log| 1 << log);
            places.clear();
            if places.try_reserve_exact(wanted).is_err() {
                return;
            }
            places.resize(wanted, Way::default());
        }
        let place = place_of(path, places.len());
        if let Some(way) = places.get_mut(place) {
            let era = self.era;
            *way = Way { path, id, era };
        }
    }
}

fn place_of(path: u64, places: usize) -> usize {
    usize::try_from(path & (places as u64).wrapping_sub(1)).unwrap_or(0)
}

impl<M: Memory> Tree<M> {
    /// The node at a path. Visits as many blocks as the path has components, and for each large directory on the way one more for each
    /// level of its index; of the present state, often only the node itself.
    pub fn find(&self, root: Root, path: Path<'_>) -> Option<Node<'_>> {
        if root != self.current {
            return self.look_for(root, path);
        }
        let hash = self.hash.wide(path.as_str());
        let known = self.ways.of(hash).and_then(|id| self.arena.node(id));
        if let Some(node) = known.filter(|node| node.name() == path.name()) {
            #[cfg(test)]
            assert!(self.look_for(root, path).is_some_and(|found| found.id == node.id));
            return Some(node);
        }
        let node = self.look_for(root, path)?;
        self.ways.note(hash, node.id, self.arena.counts.ids());
        Some(node)
    }
}
