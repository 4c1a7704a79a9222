//! Where domains are mentioned: what a domain's end must look at, so that it costs what the domain had and not what the store has.
//!
//! A node mentions the domains of its permission list, its owner among them. Most nodes have their parent's list, so it suffices to
//! note a node that mentions a domain which its parent does not mention: from there down, what mentions the domain is found by going
//! from parents to children. A noted node need not mention the domain any more; it is noted until it or the domain is gone.
//!
//! Everything here follows from the store's tree and is made anew when that is read back. The privileged domain never ends, and
//! nothing is noted of it. Knows paths and lists; not what becomes of a dead domain's nodes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use xenstore_wire::{DomId, Path, Permissions};

use crate::tree::{Family, Memory, Node, Tree};

/// Domains that a node may be noted for without mentioning them; one more, and its children are looked at instead.
const OUTDATED_MAX: usize = 16;

/// The noted nodes.
#[derive(Clone, Debug)]
pub(crate) struct Mentions {
    privileged: DomId,
    by_path: BTreeMap<Arc<str>, Vec<DomId>>,
    by_domain: BTreeSet<(DomId, Arc<str>)>,
}

impl Mentions {
    pub fn new(privileged: DomId) -> Self {
        Mentions {
            privileged,
            by_path: BTreeMap::new(),
            by_domain: BTreeSet::new(),
        }
    }

    /// What follows from the store as it is.
    pub fn of<M: Memory>(privileged: DomId, tree: &Tree<M>, family: &Family) -> Self {
        let mut mentions = Mentions::new(privileged);
        let domains = |node: Node<'_>| node.permissions().iter().map(|entry| entry.domid).collect();
        family.each_apart(tree, |path, node, parent| {
            let path = if parent.is_some() {
                Path::new(path)
            } else {
                Ok(Path::ROOT)
            };
            let known: Vec<DomId> = parent.map(domains).unwrap_or_default();
            let mentioned: Vec<DomId> = domains(node);
            if let Ok(path) = path {
                mentions.note_new(path, mentioned.into_iter(), &known);
            }
        });
        mentions
    }

    /// The nodes noted for a domain, in the order of their paths.
    pub fn noted(&self, domid: DomId) -> impl Iterator<Item = Path<'_>> {
        let from = (domid, Arc::from(""));
        let found = self
            .by_domain
            .range(from..)
            .take_while(move |(other, _)| *other == domid);
        found.filter_map(|(_, path)| Path::new(path).ok())
    }

    /// A node is noted for a domain.
    pub fn is_noted(&self, path: Path<'_>, domid: DomId) -> bool {
        self.by_path
            .get(path.as_str())
            .is_some_and(|domains| domains.contains(&domid))
    }

    /// A node was made.
    pub fn created<M: Memory>(&mut self, tree: &Tree<M>, path: Path<'_>, permissions: &Permissions) {
        let mentioned = || permissions.entries().iter().map(|entry| entry.domid);
        if mentioned().all(|domid| self.is_everywhere(domid)) {
            return;
        }
        let known = self.above(tree, path);
        self.note_new(path, mentioned(), &known);
    }

    /// A node has other permissions from now on; `tree` still has the ones before.
    pub fn permissions_changed<M: Memory>(&mut self, tree: &Tree<M>, path: Path<'_>, after: &Permissions) {
        self.created(tree, path, after);
        let Some(node) = tree.find(tree.current(), path) else {
            return;
        };
        let gone = node.permissions().iter().map(|entry| entry.domid);
        let stays = |domid: DomId| after.entries().iter().any(|entry| entry.domid == domid);
        for domid in gone.filter(|domid| !stays(*domid)) {
            if node.child_count() == 0 {
                self.forget_at(path, domid);
            } else {
                // Its children may mention the domain, too, and relied on their parent.
                self.note(path, domid);
            }
        }
        let outdated = |domains: &&Vec<DomId>| domains.iter().filter(|domid| !stays(**domid)).count() > OUTDATED_MAX;
        if let Some(domains) = self.by_path.get(path.as_str()).filter(outdated) {
            let outdated: Vec<DomId> = domains.iter().copied().filter(|domid| !stays(*domid)).collect();
            self.pass_on(tree, node, path, &outdated);
        }
    }

    /// A node and all below it are gone.
    pub fn removed(&mut self, path: Path<'_>) {
        let mut gone: Vec<Arc<str>> = Vec::new();
        if let Some((key, _)) = self.by_path.get_key_value(path.as_str()) {
            gone.push(Arc::clone(key));
        }
        let mut below = String::from(path.as_str());
        if path != Path::ROOT {
            below.push('/');
        }
        let from = (Bound::Excluded(below.as_str()), Bound::Unbounded);
        let inside = self
            .by_path
            .range::<str, _>(from)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&below));
        gone.extend(inside.cloned());
        for key in gone {
            for domid in self.by_path.remove(&key).unwrap_or_default() {
                self.by_domain.remove(&(domid, Arc::clone(&key)));
            }
        }
    }

    /// A domain is gone, and no node mentions it.
    pub fn domain_gone(&mut self, domid: DomId) {
        let noted: Vec<Arc<str>> = self.noted(domid).map(|path| Arc::from(path.as_str())).collect();
        for key in noted {
            if let Ok(path) = Path::new(&key) {
                self.forget_at(path, domid);
            }
        }
    }

    /// Nobody asks where these are mentioned.
    fn is_everywhere(&self, domid: DomId) -> bool {
        domid == self.privileged || domid == DomId::ANY
    }

    /// The domains that need not be noted for a node because of its parent.
    fn above<M: Memory>(&self, tree: &Tree<M>, path: Path<'_>) -> Vec<DomId> {
        let Some(parent) = path.parent() else {
            return Vec::new();
        };
        let node = tree.find(tree.current(), parent);
        let mut known: Vec<DomId> = node
            .into_iter()
            .flat_map(|node| node.permissions().iter())
            .map(|entry| entry.domid)
            .collect();
        known.extend(self.by_path.get(parent.as_str()).into_iter().flatten());
        known
    }

    fn note_new(&mut self, path: Path<'_>, mentioned: impl Iterator<Item = DomId>, known: &[DomId]) {
        for domid in mentioned {
            if !known.contains(&domid) {
                self.note(path, domid);
            }
        }
    }

    fn note(&mut self, path: Path<'_>, domid: DomId) {
        if self.is_everywhere(domid) || self.is_noted(path, domid) {
            return;
        }
        let known = self.by_path.get_key_value(path.as_str());
        let key = known.map_or_else(|| Arc::from(path.as_str()), |(key, _)| Arc::clone(key));
        self.by_path.entry(Arc::clone(&key)).or_default().push(domid);
        self.by_domain.insert((domid, key));
    }

    fn forget_at(&mut self, path: Path<'_>, domid: DomId) {
        let key: Arc<str> = Arc::from(path.as_str());
        if let Some(domains) = self.by_path.get_mut(&key) {
            domains.retain(|other| *other != domid);
            if domains.is_empty() {
                self.by_path.remove(&key);
            }
        }
        self.by_domain.remove(&(domid, key));
    }

    /// Notes the children of a node in its place.
    fn pass_on<M: Memory>(&mut self, tree: &Tree<M>, node: Node<'_>, path: Path<'_>, domains: &[DomId]) {
        for child in tree.children(node) {
            let Ok(below) = xenstore_wire::PathBuf::join(path, child.name()) else {
                continue;
            };
            for entry in child
                .permissions()
                .iter()
                .filter(|entry| domains.contains(&entry.domid))
            {
                self.note(below.as_path(), entry.domid);
            }
        }
        for domid in domains {
            self.forget_at(path, *domid);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use xenstore_wire::{Access, Permission};

    use super::*;
    use crate::tree::{PlainMemory, Root};

    const PRIVILEGED: DomId = DomId(0);

    /// A store and what is noted of it, changed together as the server does.
    struct Bed {
        tree: Tree<PlainMemory>,
        mentions: Mentions,
        paths: Vec<String>,
        number: u64,
        dice: u64,
    }

    fn list(domids: &[u16]) -> Permissions {
        let entries = domids.iter().map(|domid| Permission {
            domid: DomId(*domid),
            access: Access::Read,
            ignored: false,
        });
        Permissions::from_entries(entries.collect()).unwrap()
    }

    impl Bed {
        fn new(seed: u64) -> Self {
            Bed {
                tree: Tree::new(PlainMemory::new(8 << 20), 5, &list(&[0]), 1),
                mentions: Mentions::new(PRIVILEGED),
                paths: Vec::from([String::from("/")]),
                number: 1,
                dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            }
        }

        fn below(&mut self, limit: usize) -> usize {
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            (self.dice >> 11) as usize % limit
        }

        fn some_list(&mut self) -> Permissions {
            let count = 1 + self.below(3);
            let domids: Vec<u16> = (0..count).map(|_| self.below(6) as u16).collect();
            list(&domids)
        }

        fn set(&mut self, root: Root) {
            self.tree.set_current(root);
            self.number += 1;
        }

        fn change(&mut self) {
            let some = self.below(self.paths.len());
            let at = self.paths[some].clone();
            let path = Path::new(&at).unwrap();
            let root = self.tree.current();
            match self.below(10) {
                0..5 => {
                    // Names of which one continues another, with a byte that sorts before the slash.
                    let name = ["a", "a-b", "b", "c"][self.below(4)];
                    let below = if at == "/" {
                        format!("/{name}")
                    } else {
                        format!("{at}/{name}")
                    };
                    if self.paths.contains(&below) || path.depth() > 4 {
                        return;
                    }
                    let inherited = self.tree.find(root, path).unwrap().permissions().to_owned();
                    let permissions = if self.below(3) == 0 {
                        self.some_list()
                    } else {
                        inherited
                    };
                    let new = Path::new(&below).unwrap();
                    self.mentions.created(&self.tree, new, &permissions);
                    let root = self.tree.create(root, new, b"", &permissions, self.number, self.number);
                    self.set(root);
                    self.paths.push(below);
                }
                5..9 => {
                    let permissions = self.some_list();
                    self.mentions.permissions_changed(&self.tree, path, &permissions);
                    let root = self.tree.set_permissions(root, path, &permissions, self.number);
                    self.set(root);
                }
                _ if at != "/" => {
                    self.mentions.removed(path);
                    let root = self.tree.remove(root, path, self.number);
                    self.set(root);
                    self.paths.retain(|other| !path.contains(Path::new(other).unwrap()));
                }
                _ => {}
            }
        }

        fn mentions(&self, path: Path<'_>, domid: DomId) -> bool {
            let node = self.tree.find(self.tree.current(), path).unwrap();
            node.permissions().iter().any(|entry| entry.domid == domid)
        }

        /// A node that mentions a domain is noted, or its parent leads to it; what is noted is there.
        fn check(&self, mentions: &Mentions) {
            for domid in (1..6).map(DomId) {
                for at in &self.paths {
                    let path = Path::new(at).unwrap();
                    let led_to = |above| self.mentions(above, domid) || mentions.is_noted(above, domid);
                    assert!(
                        !self.mentions(path, domid)
                            || mentions.is_noted(path, domid)
                            || path.parent().is_some_and(led_to),
                        "{at} and domain {domid}"
                    );
                }
                for noted in mentions.noted(domid) {
                    assert!(
                        self.paths.iter().any(|at| at == noted.as_str()),
                        "{} is gone",
                        noted.as_str()
                    );
                    assert!(mentions.is_noted(noted, domid));
                }
            }
            let by_path: usize = mentions.by_path.values().map(Vec::len).sum();
            assert_eq!(by_path, mentions.by_domain.len());
            assert_eq!(mentions.noted(PRIVILEGED).count(), 0);
        }
    }

    #[test]
    fn whatever_mentions_a_domain_is_found_from_what_is_noted() {
        for seed in 0..40 {
            let mut bed = Bed::new(seed);
            for _ in 0..300 {
                bed.change();
                bed.check(&bed.mentions);
            }
            let (tree, family) = Tree::open(bed.tree.memory().clone(), 0, bed.tree.current(), &[]).unwrap();
            let again = Mentions::of(PRIVILEGED, &tree, &family);
            bed.check(&again);
            bed.mentions.domain_gone(DomId(3));
            assert_eq!(bed.mentions.noted(DomId(3)).count(), 0);
        }
    }

    #[test]
    fn a_node_that_named_many_is_noted_for_few() {
        let mut bed = Bed::new(1);
        for (at, number) in [("/d", 2), ("/d/child", 3)] {
            let path = Path::new(at).unwrap();
            bed.mentions.created(&bed.tree, path, &list(&[0, 1]));
            let root = bed
                .tree
                .create(bed.tree.current(), path, b"", &list(&[0, 1]), number, number);
            bed.set(root);
            bed.paths.push(at.into());
        }
        let path = Path::new("/d").unwrap();
        for domid in 1..200 {
            bed.mentions.permissions_changed(&bed.tree, path, &list(&[0, domid]));
            let root = bed
                .tree
                .set_permissions(bed.tree.current(), path, &list(&[0, domid]), 9);
            bed.set(root);
            bed.check(&bed.mentions);
            assert!(bed.mentions.by_domain.len() <= OUTDATED_MAX + 3);
        }
        assert!(bed.mentions.is_noted(Path::new("/d/child").unwrap(), DomId(1)));
    }
}
