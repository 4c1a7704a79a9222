//! Transactions: what they saw, what they wrote, and what becomes of both in the end.
//!
//! A transaction works on a copy of the store as it was at its first request. In the end its writes are made again, in order,
//! on the store, and next to that on another copy of what it began with. What it saw between two writes must be seen the same
//! in both, and what a write made must have the same node above it; otherwise the commit is a conflict and nothing of it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::arguments::only;
use super::requests::{Answer, ok, text};
use super::tree::{Caller, Entry, Tree, Wish, is_below};
use super::{Errno, Job};

/// What a request in a transaction learned of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Saw {
    /// Whether the node above it is there.
    Parent,
    /// Whose it is.
    Owner,
    /// Its value.
    Value,
    /// Its children and their order.
    Children,
    /// Its list of permissions.
    Permissions,
    /// What the wish to do this to it comes to.
    Access(Wish),
}

/// What a request in a transaction wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// WRITE
    Value(String, Vec<u8>),
    /// MKDIR
    Mkdir(String),
    /// RM
    Remove(String),
    /// SET_PERMS
    Permissions(String, Vec<Entry>),
}

impl Write {
    fn path(&self) -> &str {
        match self {
            Write::Value(path, _) | Write::Mkdir(path) | Write::Remove(path) | Write::Permissions(path, _) => path,
        }
    }

    fn bytes(&self) -> usize {
        let more = match self {
            Write::Value(_, value) => value.len(),
            Write::Permissions(_, entries) => 8 * entries.len(),
            Write::Mkdir(_) | Write::Remove(_) => 0,
        };
        self.path().len() + more
    }

    /// It gives rights to this domain.
    pub(super) fn names(&self, domid: u16) -> bool {
        matches!(self, Write::Permissions(_, entries) if entries.iter().any(|entry| entry.domid == domid))
    }
}

/// An open transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// The store at the first request, and that with its own writes.
    trees: Option<(Rc<Tree>, Rc<Tree>)>,
    /// What it saw of a path, by the number of its writes that had to come before.
    saw: BTreeMap<(usize, String), BTreeSet<Saw>>,
    /// What it wrote, with the topmost node that each write changed or made.
    writes: Vec<(Write, String)>,
    /// The paths that requests named, in the order of the first time.
    order: Vec<String>,
    /// All paths that it has to do with: those, the topmost nodes that its writes changed or made, and the nodes above these.
    used: BTreeSet<String>,
    failed: bool,
    /// What it would write must not be written any more.
    pub(super) outdated: bool,
}

impl Transaction {
    pub(super) fn begin(&mut self, store: Rc<Tree>) {
        self.trees.get_or_insert((Rc::clone(&store), store));
    }

    pub(super) fn snapshot(&self) -> &Tree {
        &self.trees().0
    }

    pub(super) fn own(&self) -> &Tree {
        &self.trees().1
    }

    pub(super) fn own_copy(&self) -> Rc<Tree> {
        Rc::clone(&self.trees().1)
    }

    pub(super) fn own_mut(&mut self) -> &mut Tree {
        match &mut self.trees {
            Some((_, own)) => Rc::make_mut(own),
            None => unreachable!("it has begun"),
        }
    }

    /// Its tree is this again.
    pub(super) fn go_back(&mut self, own: Rc<Tree>) {
        if let Some((_, now)) = &mut self.trees {
            *now = own;
        }
    }

    fn trees(&self) -> &(Rc<Tree>, Rc<Tree>) {
        self.trees.as_ref().unwrap_or_else(|| unreachable!("it has begun"))
    }

    /// The bytes that its domain is charged with.
    pub(super) fn bytes(&self) -> usize {
        let seen = self.saw.keys().map(|(_, path)| path.len()).sum::<usize>();
        let used = self.used.iter().map(String::len).sum::<usize>();
        seen + used + self.writes.iter().map(|(write, _)| write.bytes()).sum::<usize>()
    }

    /// What the limit `transaction-nodes` counts: paths that it saw something of, and writes.
    pub(super) fn touched(&self) -> usize {
        self.saw.len() + self.writes.len()
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = &Write> {
        self.writes.iter().map(|(write, _)| write)
    }

    /// How many of its writes must come before for this path to look as it does now: the last that changed it or a node above it,
    /// or added or removed a child.
    fn moment(&self, path: &str) -> usize {
        let touches = |(write, top): &(Write, String)| {
            let lists = !matches!(write, Write::Permissions(..)) && super::tree::parent(top) == Some(path);
            is_below(path, top) || lists
        };
        self.writes.iter().rposition(touches).map_or(0, |index| index + 1)
    }

    /// The place of the write of this value, if nothing was removed there since.
    fn last_value(&self, path: &str) -> Option<usize> {
        for (index, (write, _)) in self.writes.iter().enumerate().rev() {
            match write {
                Write::Value(written, _) if written == path => return Some(index),
                Write::Remove(removed) if is_below(path, removed) => return None,
                _ => {}
            }
        }
        None
    }

    fn name(&mut self, path: &str) {
        if !self.order.iter().any(|known| known == path) {
            self.order.push(path.to_owned());
        }
        self.used.insert(path.to_owned());
    }

    /// The paths that a write has to do with.
    fn concerned(write: &Write, top: &str) -> BTreeSet<String> {
        let mut paths = BTreeSet::from([write.path().to_owned(), top.to_owned()]);
        if !matches!(write, Write::Permissions(..)) {
            paths.extend(super::tree::parent(top).map(str::to_owned));
        }
        paths
    }

    /// The bytes of these paths, where they are new.
    fn new_bytes<'p>(&self, paths: impl IntoIterator<Item = &'p String>) -> usize {
        let new = paths.into_iter().filter(|path| !self.used.contains(*path));
        new.map(|path| path.len()).sum()
    }

    /// When a path was first named; one that was only removed with a node above it, when that was.
    pub(super) fn place(&self, path: &str) -> usize {
        let above = super::tree::upwards(path).into_iter();
        let mut places = above.filter_map(|above| self.order.iter().position(|known| known == above));
        places.next().unwrap_or(usize::MAX)
    }
}

/// What would be seen of a node in this tree, as far as it was looked at.
fn sight(tree: &Tree, caller: Caller, path: &str, saw: Saw) -> String {
    let node = tree.get(path);
    match saw {
        Saw::Parent => format!(
            "{}",
            super::tree::parent(path).is_some_and(|above| tree.get(above).is_some())
        ),
        Saw::Owner => format!("{:?}", node.map(|node| node.owner())),
        Saw::Value => format!("{:?}", node.map(|node| &node.value)),
        Saw::Children => format!("{:?}", node.map(|node| &node.children)),
        Saw::Permissions => format!("{:?}", node.map(|node| &node.permissions)),
        Saw::Access(wish) => format!("{:?}", tree.access(caller, path, wish)),
    }
}

/// Makes a write again where nobody else writes.
fn repeat(tree: &mut Tree, caller: Caller, write: &Write) {
    let there = tree.get(write.path()).is_some();
    match write {
        Write::Value(path, value) => {
            make(tree, caller, path);
            if let Some(node) = tree.0.get_mut(path) {
                node.value = value.clone();
            }
        }
        Write::Mkdir(path) => make(tree, caller, path),
        Write::Remove(path) if there => tree.remove(path, 0),
        Write::Remove(_) => {}
        Write::Permissions(path, entries) => {
            if let Some(node) = tree.0.get_mut(path) {
                node.permissions = entries.clone();
            }
        }
    }
}

fn make(tree: &mut Tree, caller: Caller, path: &str) {
    let mut permissions = tree.nearest(path).permissions.clone();
    if !caller.privileged {
        permissions[0].domid = caller.domid;
    }
    for node in super::tree::upwards(path).into_iter().rev() {
        if tree.get(node).is_none() {
            tree.create(node, b"", permissions.clone(), 0);
        }
    }
}

impl Job<'_> {
    pub(super) fn start(&mut self) -> Answer {
        if self.within.is_some() {
            return Err("EBUSY");
        }
        let open = self.model.transactions(self.caller.domid).len();
        if self.over("transactions", open + 1) {
            return Err("ENOSPC");
        }
        let domid = self.caller.domid;
        let connection = self.model.connection_mut(domid).ok_or("EINVAL")?;
        connection.last_transaction += 1;
        let id = connection.last_transaction;
        connection.transactions.insert(id, Transaction::default());
        text(id.to_string())
    }

    /// Adds to what the transaction saw; what it had not seen anything of counts.
    pub(super) fn note(&mut self, path: &str, saw: &[Saw]) -> Result<(), Errno> {
        let Some(open) = self.open() else { return Ok(()) };
        let place = (open.moment(path), path.to_owned());
        if !open.saw.contains_key(&place) {
            let more = path.len() + open.new_bytes([&place.1]);
            self.touch(more)?;
        }
        if let Some(open) = self.open_mut() {
            open.saw.entry(place).or_default().extend(saw);
            open.name(path);
        }
        Ok(())
    }

    /// The topmost node that a write to this path would change or make.
    pub(super) fn top(&self, path: &str) -> String {
        let missing = |path: &&str| super::tree::parent(path).is_some_and(|above| self.tree().get(above).is_none());
        let upwards = super::tree::upwards(path);
        let made = upwards.iter().take_while(|path| missing(path)).count();
        upwards[made].to_owned()
    }

    /// Adds to what the transaction wrote. A value that is written again takes the place of the older one.
    pub(super) fn wrote(&mut self, write: Write, top: String) -> Result<(), Errno> {
        let Some(open) = self.open() else { return Ok(()) };
        let again = match &write {
            Write::Value(path, _) => open.last_value(path),
            _ => None,
        };
        let concerned = Transaction::concerned(&write, &top);
        let more = write.bytes() + open.new_bytes(&concerned);
        match again {
            None => self.touch(more)?,
            Some(index) => match more.saturating_sub(open.writes[index].0.bytes()) {
                0 => {}
                more => self.may_hold(more)?,
            },
        }
        if let Some(open) = self.open_mut() {
            open.name(write.path());
            open.used.extend(concerned);
            match again {
                Some(index) => open.writes[index].0 = write,
                None => open.writes.push((write, top)),
            }
        }
        Ok(())
    }

    /// One thing more, of so many bytes.
    fn touch(&mut self, more: usize) -> Result<(), Errno> {
        let touched = self.open().map_or(0, Transaction::touched);
        if self.over("transaction-nodes", touched + 1) {
            if let Some(open) = self.open_mut() {
                open.failed = true;
            }
            return Err("ENOSPC");
        }
        self.may_hold(more)
    }

    /// TRANSACTION_END
    pub(super) fn finish(&mut self, payload: &[u8]) -> Answer {
        let commit = match only(payload).as_deref() {
            Some(b"T") => true,
            Some(b"F") => false,
            _ => return Err("EINVAL"),
        };
        let id = self.within.take().ok_or("ENOENT")?;
        let open = self.model.connection(self.caller.domid);
        let open = open.and_then(|connection| connection.transactions.get(&id)).cloned();
        let open = open.ok_or("ENOENT")?;
        let outcome = if commit { self.commit(&open) } else { Ok(()) };
        // Whatever came of it, it is over.
        if let Some(connection) = self.model.connection_mut(self.caller.domid) {
            connection.transactions.remove(&id);
        }
        outcome?;
        ok()
    }

    fn commit(&mut self, open: &Transaction) -> Result<(), Errno> {
        if open.failed {
            return Err("ENOMEM");
        }
        if open.writes.is_empty() {
            return Ok(());
        }
        if open.outdated {
            return Err("EAGAIN");
        }
        self.gathered = Some(Vec::new());
        let mut then = open.snapshot().clone();
        for (index, (write, top)) in open.writes.iter().enumerate() {
            self.compare(&then, open, index)?;
            let above = super::tree::parent(top);
            if above.is_some_and(|above| self.model.store.get(above).is_none()) {
                return Err("EAGAIN");
            }
            repeat(&mut then, self.caller, write);
            let outcome = match write {
                Write::Value(path, value) => self.write_value(path, value),
                Write::Mkdir(path) => self.make_directory(path),
                Write::Remove(path) => self.remove_existing(path),
                Write::Permissions(path, entries) => self.write_permissions(path, entries),
            };
            // It was allowed in the transaction's own state, so the store has become another.
            outcome.map_err(|errno| {
                if ["ENOSPC", "ENOMEM"].contains(&errno) {
                    errno
                } else {
                    "EAGAIN"
                }
            })?;
        }
        self.compare(&then, open, open.writes.len())?;
        self.tell_gathered(open);
        Ok(())
    }

    /// What was seen after so many writes is the same in both.
    fn compare(&self, then: &Tree, open: &Transaction, writes: usize) -> Result<(), Errno> {
        let now = &self.model.store;
        let mut seen = open.saw.iter().filter(|((moment, _), _)| *moment == writes);
        let same = |path: &str, saw: Saw| sight(then, self.caller, path, saw) == sight(now, self.caller, path, saw);
        let all_same = seen.all(|((_, path), saws)| saws.iter().all(|saw| same(path, *saw)));
        if all_same { Ok(()) } else { Err("EAGAIN") }
    }
}
