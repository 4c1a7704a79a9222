//! Transactions: what they saw, what they wrote, and what becomes of both in the end.
//!
//! A transaction works on a copy of the store as it was at its first request. It ends well if everything that it saw of that
//! state would be seen the same now; then its writes are made again, in order, on the store.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::arguments::only;
use super::requests::{Answer, ok, text};
use super::tree::{Caller, Entry, Tree, Wish, is_below};
use super::{Errno, Job};

/// What a request in a transaction learned of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Saw {
    /// Whether it is there.
    Existence,
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
    saw: BTreeMap<String, BTreeSet<Saw>>,
    writes: Vec<Write>,
    /// The paths that requests named, in the order of the first time.
    order: Vec<String>,
    failed: bool,
    /// Bytes of values that were written again; they stay charged until the end.
    overwritten: usize,
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
        let seen = self.saw.keys().map(String::len).sum::<usize>();
        seen + self.writes.iter().map(Write::bytes).sum::<usize>() + self.overwritten
    }

    /// What the limit `transaction-nodes` counts: paths that it saw something of, and writes.
    pub(super) fn touched(&self) -> usize {
        self.saw.len() + self.writes.len()
    }

    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The place of the write of this value, if nothing was removed there since.
    fn last_value(&self, path: &str) -> Option<usize> {
        for (index, write) in self.writes.iter().enumerate().rev() {
            match write {
                Write::Value(written, _) if written == path => return Some(index),
                Write::Remove(removed) if is_below(path, removed) => return None,
                _ => {}
            }
        }
        None
    }

    /// The value there is its own.
    pub(super) fn wrote_value(&self, path: &str) -> bool {
        self.last_value(path).is_some()
    }

    fn name(&mut self, path: &str) {
        if !self.order.iter().any(|known| known == path) {
            self.order.push(path.to_owned());
        }
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
        Saw::Existence => format!("{}", node.is_some()),
        Saw::Value => format!("{:?}", node.map(|node| &node.value)),
        Saw::Children => format!("{:?}", node.map(|node| &node.children)),
        Saw::Permissions => format!("{:?}", node.map(|node| &node.permissions)),
        Saw::Access(wish) => format!("{:?}", tree.access(caller, path, wish)),
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

    /// Adds to what the transaction saw; a path that it had not seen anything of counts.
    pub(super) fn note(&mut self, path: &str, saw: &[Saw]) -> Result<(), Errno> {
        let Some(open) = self.open() else { return Ok(()) };
        if !open.saw.contains_key(path) {
            self.touch()?;
        }
        if let Some(open) = self.open_mut() {
            open.saw.entry(path.to_owned()).or_default().extend(saw);
            open.name(path);
        }
        Ok(())
    }

    /// Adds to what the transaction wrote. A value that is written again takes the place of the older one.
    pub(super) fn wrote(&mut self, write: Write) -> Result<(), Errno> {
        let Some(open) = self.open() else { return Ok(()) };
        let again = match &write {
            Write::Value(path, _) => open.last_value(path),
            _ => None,
        };
        self.touch()?;
        if let Some(open) = self.open_mut() {
            open.name(&write.path().to_owned());
            match again {
                Some(index) => {
                    open.overwritten += open.writes[index].bytes();
                    open.writes[index] = write;
                }
                None => open.writes.push(write),
            }
        }
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Errno> {
        if self.over("transaction-nodes", self.touched_before + 1) {
            if let Some(open) = self.open_mut() {
                open.failed = true;
            }
            return Err("ENOSPC");
        }
        Ok(())
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
        let store = &self.model.store;
        let same = |path: &str, saw: Saw| {
            sight(open.snapshot(), self.caller, path, saw) == sight(store, self.caller, path, saw)
        };
        let all_same = |(path, saws): (&String, &BTreeSet<Saw>)| saws.iter().all(|saw| same(path, *saw));
        if open.outdated || !open.saw.iter().all(all_same) {
            return Err("EAGAIN");
        }
        self.gathered = Some(Vec::new());
        for write in &open.writes {
            let outcome = match write {
                Write::Value(path, value) => self.write_value(path, value),
                Write::Mkdir(path) => self.make_directory(path),
                Write::Remove(path) => self.remove_existing(path),
                Write::Permissions(path, entries) => self.write_permissions(path, entries),
            };
            // It was allowed in the transaction's own state, so the store has become another.
            outcome.map_err(|errno| if ["ENOSPC", "ENOMEM"].contains(&errno) { errno } else { "EAGAIN" })?;
        }
        self.tell_gathered(open);
        Ok(())
    }
}
