//! The store as it will be once the changes decided so far are applied: a tree and a few changed nodes over it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Bound;

use xenstore_wire::{Path, PathBuf, Permissions};

use crate::policy::{Entries, Object};
use crate::tree::{Memory, Node, Root, Tree};

/// A node that was changed or made.
#[derive(Clone, Debug)]
pub(crate) struct ChangedNode {
    pub value: Box<[u8]>,
    pub permissions: Permissions,
    /// What a policy gave it when it was made; 0 = none.
    pub label: u32,
    /// Bytes of its children's names, each with a NUL.
    pub child_names: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// None: the node is gone.
    node: Option<ChangedNode>,
    /// What the tree below has at and under this path does not count any more.
    hides: bool,
    /// Its place among the nodes made in this view; none: it keeps the place that it has in the tree.
    made: Option<u32>,
}

/// A node of the view.
pub(crate) enum Found<'v> {
    Tree(Node<'v>),
    Changed(&'v ChangedNode),
}

impl<'v> Found<'v> {
    pub fn value(&self) -> &[u8] {
        match self {
            Found::Tree(node) => node.value(),
            Found::Changed(node) => &node.value,
        }
    }

    pub fn child_names(&self) -> u64 {
        match self {
            Found::Tree(node) => node.child_names_len(),
            Found::Changed(node) => node.child_names,
        }
    }

    pub fn entries(&self) -> Entries<'v> {
        match self {
            Found::Tree(node) => Entries::Stored(node.permissions()),
            Found::Changed(node) => Entries::List(node.permissions.entries()),
        }
    }

    pub fn label(&self) -> u32 {
        match self {
            Found::Tree(node) => node.label(),
            Found::Changed(node) => node.label,
        }
    }

    /// As a policy sees it; `path` is its own.
    pub fn object<'o>(&self, path: Path<'o>) -> Object<'o>
    where
        'v: 'o,
    {
        Object {
            name: path.as_str(),
            permissions: self.entries(),
            label: self.label(),
        }
    }

    pub fn permissions(&self) -> Permissions {
        match self {
            Found::Tree(node) => node.permissions().to_owned(),
            Found::Changed(node) => node.permissions.clone(),
        }
    }

    pub fn to_changed(&self) -> ChangedNode {
        self.with_value(self.value())
    }

    /// The node with another value.
    pub fn with_value(&self, value: &[u8]) -> ChangedNode {
        ChangedNode {
            value: value.into(),
            permissions: self.permissions(),
            label: self.label(),
            child_names: self.child_names(),
        }
    }
}

/// The longest path that is kept of what was looked for, in bytes: that of a device's key, and some more.
const SEEN_PATH: usize = 64;

/// A place in the tree that was looked for, and what is there.
#[derive(Clone, Copy)]
struct Seen<'s> {
    path: [u8; SEEN_PATH],
    length: usize,
    node: Option<Node<'s>>,
}

/// The last two of them: making a node, a request asks for it and its parent again and again.
#[derive(Default)]
struct LastTwo<'s> {
    last: Option<Seen<'s>>,
    before: Option<Seen<'s>>,
}

impl<'s> LastTwo<'s> {
    /// What is at this path; none: that was not looked for lately.
    fn of(&self, path: Path<'_>) -> Option<Option<Node<'s>>> {
        let path = path.as_str().as_bytes();
        let mut both = [&self.last, &self.before].into_iter().flatten();
        let seen = both.find(|seen| seen.path.get(..seen.length) == Some(path))?;
        Some(seen.node)
    }

    fn note(&mut self, path: Path<'_>, node: Option<Node<'s>>) {
        let from = path.as_str().as_bytes();
        let mut path = [0; SEEN_PATH];
        if let Some(to) = path.get_mut(..from.len()) {
            to.copy_from_slice(from);
            let length = from.len();
            self.before = self.last.replace(Seen { path, length, node });
        }
    }
}

/// A tree with changes over it.
pub(crate) struct View<'s, M: Memory> {
    tree: &'s Tree<M>,
    base: Root,
    /// Something was looked for in the tree. Most requests do so once, and for them nothing is kept.
    looked: Cell<bool>,
    seen: RefCell<Option<Box<LastTwo<'s>>>>,
    changed: BTreeMap<PathBuf, Entry>,
    /// Nodes made so far.
    made: u32,
}

impl<'s, M: Memory> View<'s, M> {
    pub fn new(tree: &'s Tree<M>, base: Root) -> Self {
        View {
            tree,
            base,
            looked: Cell::new(false),
            seen: RefCell::new(None),
            changed: BTreeMap::new(),
            made: 0,
        }
    }

    pub fn base(&self) -> Root {
        self.base
    }

    /// Forgets all changes.
    pub fn discard(&mut self) {
        self.changed.clear();
    }

    pub fn find(&self, path: Path<'_>) -> Option<Found<'_>> {
        if self.changed.is_empty() {
            return self.in_tree(path).map(Found::Tree);
        }
        if let Some(entry) = self.changed.get(path.as_str()) {
            return entry.node.as_ref().map(Found::Changed);
        }
        if path
            .ancestors()
            .any(|above| self.changed.get(above.as_str()).is_some_and(|entry| entry.hides))
        {
            return None;
        }
        self.in_tree(path).map(Found::Tree)
    }

    /// What the tree below has at this path. It does not change while the view lives.
    fn in_tree(&self, path: Path<'_>) -> Option<Node<'s>> {
        let looked_before = self.looked.replace(true);
        let (true, Ok(mut seen)) = (looked_before, self.seen.try_borrow_mut()) else {
            return self.tree.find(self.base, path);
        };
        let lately = seen.get_or_insert_default();
        if let Some(seen) = lately.of(path) {
            return seen;
        }
        let parent = path.parent().and_then(|parent| lately.of(parent));
        let node = match parent {
            Some(parent) => parent.and_then(|parent| self.tree.child(parent, path.name())),
            None => self.tree.find(self.base, path),
        };
        lately.note(path, node);
        node
    }

    /// The node itself or the nearest one above it that exists. `/` always does.
    pub fn nearest<'p>(&self, path: Path<'p>) -> Option<(Path<'p>, Found<'_>)> {
        path.ancestors()
            .find_map(|above| self.find(above).map(|found| (above, found)))
    }

    /// The children's paths in order of creation: the tree's, then those made since.
    pub fn children(&self, path: Path<'_>) -> Vec<PathBuf> {
        let mut children = Vec::new();
        let hidden = path
            .ancestors()
            .any(|above| self.changed.get(above.as_str()).is_some_and(|entry| entry.hides));
        if !hidden && let Some(node) = self.in_tree(path) {
            for child in self.tree.children(node) {
                let Ok(below) = PathBuf::join(path, child.name()) else {
                    continue;
                };
                let still_there = |entry: &Entry| entry.node.is_some() && entry.made.is_none();
                if self.changed.get(below.as_path().as_str()).is_none_or(still_there) {
                    children.push(below);
                }
            }
        }
        if self.changed.is_empty() {
            return children;
        }
        let mut made: Vec<(u32, &PathBuf)> = Vec::new();
        // A path sorts before its children.
        let range = (Bound::Excluded(path.as_str()), Bound::Unbounded);
        for (below, entry) in self.changed.range::<str, _>(range) {
            if !path.contains(below.as_path()) {
                // Names sort by bytes, and `-` sorts before `/`: a sibling may lie between us and our children.
                if below.as_path().as_str().starts_with(path.as_str()) {
                    continue;
                }
                break;
            }
            if entry.node.is_some()
                && let Some(place) = entry.made
                && below.as_path().parent() == Some(path)
            {
                made.push((place, below));
            }
        }
        made.sort_unstable_by_key(|(place, _)| *place);
        children.extend(made.into_iter().map(|(_, below)| below.clone()));
        children
    }

    /// Both list the same names in the same order.
    pub fn same_children(&self, other: &View<'_, M>, path: Path<'_>) -> bool {
        if let (Some(Found::Tree(own)), Some(Found::Tree(others))) = (self.find(path), other.find(path)) {
            // A node whose list changed in a view is not the tree's any more.
            return own.child_count() == others.child_count()
                && (self.tree.children(own).map(|child| child.name()))
                    .eq(other.tree.children(others).map(|child| child.name()));
        }
        self.children(path) == other.children(path)
    }

    /// A node that was there, changed.
    pub fn put(&mut self, path: &PathBuf, node: ChangedNode) {
        let known = self.changed.get(path.as_path().as_str());
        let entry = Entry {
            node: Some(node),
            hides: known.is_some_and(|entry| entry.hides),
            made: known.and_then(|entry| entry.made),
        };
        self.changed.insert(path.clone(), entry);
    }

    /// A node that was not there.
    pub fn create(&mut self, path: &PathBuf, node: ChangedNode) {
        let known = self.changed.get(path.as_path().as_str());
        let entry = Entry {
            node: Some(node),
            hides: known.is_some_and(|entry| entry.hides),
            made: Some(self.made),
        };
        self.made = self.made.saturating_add(1);
        self.changed.insert(path.clone(), entry);
        self.change_child_names(path, |names, name| names.saturating_add(name));
    }

    /// The node and all below it are gone.
    pub fn remove(&mut self, path: &PathBuf) {
        let below: Vec<PathBuf> = self
            .changed
            .range::<str, _>((Bound::Excluded(path.as_path().as_str()), Bound::Unbounded))
            .map(|(other, _)| other)
            .take_while(|other| other.as_path().as_str().starts_with(path.as_path().as_str()))
            .filter(|other| path.as_path().contains(other.as_path()))
            .cloned()
            .collect();
        for other in below {
            self.changed.remove(other.as_path().as_str());
        }
        self.changed.insert(
            path.clone(),
            Entry {
                node: None,
                hides: true,
                made: None,
            },
        );
        self.change_child_names(path, |names, name| names.saturating_sub(name));
    }

    fn change_child_names(&mut self, path: &PathBuf, change: impl Fn(u64, u64) -> u64) {
        let Some(parent) = path.as_path().parent() else { return };
        let Some(mut node) = self.find(parent).map(|found| found.to_changed()) else {
            return;
        };
        let name = (path.as_path().name().len() as u64).saturating_add(1);
        node.child_names = change(node.child_names, name);
        self.put(&parent.to_owned(), node);
    }
}
