//! Whether a transaction would see the same again: its writes are done once more on its snapshot while its commit does them
//! on the store, and what it observed between two of them is compared.
//!
//! Knows nothing of quotas, events and records: the writes were allowed when they were made.

use xenstore_wire::{Errno, Path, PathBuf};

use crate::node_requests::{access, to_be_made};
use crate::overlay::{ChangedNode, Found, View};
use crate::policy::{Caller, Rights};
use crate::transaction::{Facets, Transaction, Write, Written};
use crate::tree::Memory;

/// The transaction's own view, going along with its commit.
pub(crate) struct Rehearsal<'s, M: Memory> {
    then: View<'s, M>,
    caller: Caller<'s>,
    open: &'s Transaction,
    /// The newest write after which something was observed: later ones need not be done again here.
    last: usize,
}

impl<'s, M: Memory> Rehearsal<'s, M> {
    /// Begins with the snapshot.
    pub fn new(snapshot: View<'s, M>, caller: Caller<'s>, open: &'s Transaction) -> Self {
        let last = open.observed.last_key_value().map_or(0, |(moment, _)| *moment);
        Rehearsal {
            then: snapshot,
            caller,
            open,
            last: usize::try_from(last).unwrap_or(usize::MAX),
        }
    }

    /// Before the write with this index is done on `now`: what was observed before it still holds, and the node above what
    /// it made is there. (Where others removed that one meanwhile, the write would make a node that the transaction has
    /// never seen missing.) Then it is done here.
    pub fn before(&mut self, index: usize, written: &Written, now: &View<'_, M>) -> Result<(), Errno> {
        self.holds(index, now)?;
        if written.top().parent().is_some_and(|parent| now.find(parent).is_none()) {
            return Err(Errno::EAGAIN);
        }
        if index < self.last {
            self.repeat(&written.write);
        }
        Ok(())
    }

    /// What was observed after so many writes would be observed the same in `now`, which has had as many.
    pub fn holds(&self, writes: usize, now: &View<'_, M>) -> Result<(), Errno> {
        let moment = u32::try_from(writes).unwrap_or(u32::MAX);
        let mut observed = self.open.observed.get(&moment).into_iter().flatten();
        if observed.all(|(path, facets)| self.same(now, path.as_path(), *facets)) {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        }
    }

    fn repeat(&mut self, write: &Write) {
        let view = &mut self.then;
        match write {
            Write::Value(path, value) => match view.find(path.as_path()).map(|found| found.to_changed()) {
                Some(mut node) => {
                    node.value = value.clone();
                    view.put(path, node);
                }
                None => make(view, &self.caller, path, value),
            },
            Write::Mkdir(path) => {
                if view.find(path.as_path()).is_none() {
                    make(view, &self.caller, path, &[]);
                }
            }
            Write::Remove(path) => {
                if view.find(path.as_path()).is_some() {
                    view.remove(path);
                }
            }
            Write::Permissions(path, permissions) => {
                if let Some(mut node) = view.find(path.as_path()).map(|found| found.to_changed()) {
                    node.permissions = permissions.clone();
                    view.put(path, node);
                }
            }
        }
    }

    fn same(&self, now: &View<'_, M>, path: Path<'_>, facets: Facets) -> bool {
        let then = &self.then;
        let same_access = |facet, wanted| {
            !facets.include(facet)
                || access(then, &self.caller, path, wanted) == access(now, &self.caller, path, wanted)
        };
        let parent = |view: &View<'_, M>| path.parent().is_some_and(|parent| view.find(parent).is_some());
        if !same_access(Facets::READING, Rights::READ)
            || !same_access(Facets::WRITING, Rights::WRITE)
            || !same_access(Facets::OWNING, Rights::OWN)
            || (facets.include(Facets::PARENT) && parent(then) != parent(now))
        {
            return false;
        }
        match (then.find(path), now.find(path)) {
            (None, None) => true,
            (Some(Found::Tree(before)), Some(Found::Tree(after))) if before.id() == after.id() => true,
            (Some(before), Some(after)) => {
                (!facets.include(Facets::VALUE) || before.value() == after.value())
                    && (!facets.include(Facets::PERMISSIONS) || before.permissions() == after.permissions())
                    && (!facets.include(Facets::OWNER) || before.permissions().owner() == after.permissions().owner())
                    && (!facets.include(Facets::CHILDREN) || then.same_children(now, path))
            }
            _ => !facets.touches(Facets::OF_A_NODE),
        }
    }
}

fn make<M: Memory>(view: &mut View<'_, M>, caller: &Caller<'_>, path: &PathBuf, value: &[u8]) {
    let Some((missing, permissions)) = to_be_made(view, caller, path.as_path()) else {
        return;
    };
    for node in &missing {
        let value = if node == path { value } else { &[] };
        let above = node.as_path().parent().unwrap_or(Path::ROOT);
        let parent = view.find(above);
        let label = parent.map_or(0, |parent| {
            caller.label_of_new(node.as_path().as_str(), &parent.object(above))
        });
        let made = ChangedNode {
            value: value.into(),
            permissions: permissions.clone(),
            label,
            child_names: 0,
        };
        view.create(node, made);
    }
}
