//! The store as a map from path to node. A snapshot is a copy of it.

use std::collections::BTreeMap;

use super::Errno;

/// One entry of a permission list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// `n`, `r`, `w` or `b`.
    pub letter: char,
    /// For whom.
    pub domid: u16,
    /// The domain did not exist when it was named: the entry is shown and means nothing.
    pub ignored: bool,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Any bytes.
    pub value: Vec<u8>,
    /// The first is the owner and what everyone may do.
    pub permissions: Vec<Entry>,
    /// Names in the order in which they were made.
    pub children: Vec<String>,
    /// Changes with every change of the node.
    pub generation: u64,
}

impl Node {
    /// Who owns it.
    pub fn owner(&self) -> u16 {
        self.permissions[0].domid
    }

    /// What the limit `node-size` counts.
    pub fn size(&self) -> usize {
        16 + 8 * self.permissions.len() + self.value.len() + self.names()
    }

    /// Bytes of the children's names, each with a NUL.
    pub fn names(&self) -> usize {
        self.children.iter().map(|name| name.len() + 1).sum()
    }
}

/// All nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree(pub BTreeMap<String, Node>);

/// The path above; none above `/`.
pub fn parent(path: &str) -> Option<&str> {
    if path == "/" {
        return None;
    }
    let cut = path.rfind('/')?;
    Some(if cut == 0 { "/" } else { &path[..cut] })
}

/// The last name of a path.
pub fn name(path: &str) -> &str {
    &path[path.rfind('/').map_or(0, |cut| cut + 1)..]
}

/// The path and all above it, up to `/`.
pub fn upwards(path: &str) -> Vec<&str> {
    std::iter::successors(Some(path), |path| parent(path)).collect()
}

/// `path` is `above` or lies below it.
pub fn is_below(path: &str, above: &str) -> bool {
    upwards(path).contains(&above)
}

/// What somebody wants to do to a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wish {
    /// See it.
    Read,
    /// Change it.
    Write,
    /// Change its permissions.
    Own,
}

/// On whose behalf something is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The domain.
    pub domid: u16,
    /// It may do everything.
    pub privileged: bool,
    /// It has the rights of this one as well.
    pub target: Option<u16>,
}

/// What a list of permissions gives to one domain: reading, writing, owning.
fn rights(list: &[Entry], domid: u16) -> [bool; 3] {
    let is_meant = |entry: &Entry| entry.domid == domid || entry.domid == super::ANY;
    if is_meant(&list[0]) {
        return [true; 3];
    }
    let decides = list[1..].iter().find(|entry| is_meant(entry) && !entry.ignored);
    let letter = decides.unwrap_or(&list[0]).letter;
    ["rb".contains(letter), "wb".contains(letter), false]
}

impl Caller {
    fn rights(self, list: &[Entry]) -> [bool; 3] {
        if self.privileged {
            return [true; 3];
        }
        let mut all = rights(list, self.domid);
        if let Some(target) = self.target {
            for (have, more) in all.iter_mut().zip(rights(list, target)) {
                *have |= more;
            }
        }
        all
    }

    /// The list allows the wish.
    pub fn may(self, list: &[Entry], wish: Wish) -> bool {
        let [read, write, own] = self.rights(list);
        match wish {
            Wish::Read => read,
            Wish::Write => write,
            Wish::Own => own && write,
        }
    }

    /// The list allows some of the wish.
    pub fn may_some(self, list: &[Entry], wish: Wish) -> bool {
        let [_, write, own] = self.rights(list);
        match wish {
            Wish::Own => own || write,
            Wish::Read | Wish::Write => self.may(list, wish),
        }
    }
}

impl Tree {
    /// The node there.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// The nearest node at or above a path.
    pub fn nearest(&self, path: &str) -> &Node {
        let mut found = upwards(path).into_iter().filter_map(|path| self.get(path));
        found.next().unwrap_or_else(|| unreachable!("`/` always exists"))
    }

    /// Whether the caller may do this there. Who has no right on the nearest node above does not learn what is missing.
    pub fn access(&self, caller: Caller, path: &str, wish: Wish) -> Result<(), Errno> {
        let errno = match self.get(path) {
            Some(node) if caller.may(&node.permissions, wish) => return Ok(()),
            Some(_) => "EACCES",
            None => "ENOENT",
        };
        let above = self.nearest(parent(path).unwrap_or("/"));
        if caller.may_some(&above.permissions, wish) {
            Err(errno)
        } else {
            Err("EACCES")
        }
    }

    /// Adds a node whose parent is there.
    pub fn create(&mut self, path: &str, value: &[u8], permissions: Vec<Entry>, generation: u64) {
        let above = parent(path).and_then(|above| self.0.get_mut(above));
        if let Some(above) = above {
            above.children.push(name(path).to_owned());
            above.generation = generation;
        }
        let node = Node {
            value: value.to_vec(),
            permissions,
            children: Vec::new(),
            generation,
        };
        self.0.insert(path.to_owned(), node);
    }

    /// Takes a node and all below it away.
    pub fn remove(&mut self, path: &str, generation: u64) {
        self.0.retain(|other, _| !is_below(other, path));
        if let Some(above) = parent(path).and_then(|above| self.0.get_mut(above)) {
            above.children.retain(|child| child != name(path));
            above.generation = generation;
        }
    }

    /// The paths of the children in order.
    pub fn children(&self, path: &str) -> Vec<String> {
        let slash = if path == "/" { "" } else { path };
        let names = self.get(path).map_or(&[][..], |node| &node.children);
        names.iter().map(|name| format!("{slash}/{name}")).collect()
    }

    /// The node and all below it, each before its children.
    pub fn downwards(&self, path: &str) -> Vec<String> {
        let mut all = vec![path.to_owned()];
        for child in self.children(path) {
            all.extend(self.downwards(&child));
        }
        all
    }

    /// The node and all below it, each after its children.
    pub fn upwards_from_leaves(&self, path: &str) -> Vec<String> {
        let mut all = Vec::new();
        for child in self.children(path) {
            all.extend(self.upwards_from_leaves(&child));
        }
        all.push(path.to_owned());
        all
    }

    /// How many nodes a domain owns.
    pub fn owned_by(&self, domid: u16) -> i64 {
        let owned = self.0.values().filter(|node| node.owner() == domid);
        i64::try_from(owned.count()).unwrap_or(i64::MAX)
    }

    /// Bytes of the nodes that a domain owns, with their paths.
    pub fn bytes_of(&self, domid: u16) -> i64 {
        let owned = self.0.iter().filter(|(_, node)| node.owner() == domid);
        let bytes: usize = owned.map(|(path, node)| path.len() + node.size()).sum();
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }
}
