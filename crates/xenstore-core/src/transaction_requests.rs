//! TRANSACTION_START and TRANSACTION_END: snapshots, and commits that conflict only when something observed changed.

use alloc::vec::Vec;

use xenstore_wire::{Errno, Path, one_string};

use crate::connection::ConnectionId;
use crate::decision::{Answer, Decision, Outcome};
use crate::node_requests::access;
use crate::overlay::View;
use crate::policy::Rights;
use crate::quota::Limit;
use crate::record::{Change, Place};
use crate::transaction::{Facets, Transaction, Write};
use crate::tree::{Memory, Node};

impl<M: Memory> Decision<'_, M> {
    pub fn transaction_start(&mut self, id: ConnectionId) -> Outcome {
        let Some((_, state)) = self.requester else {
            return Err(Errno::EINVAL);
        };
        if self.transaction.is_some() {
            return Err(Errno::EBUSY);
        }
        if self.over(Limit::Transactions, (state.transactions.len() as u64).saturating_add(1)) {
            return Err(Errno::ENOSPC);
        }
        let mut next = state.last_transaction.wrapping_add(1);
        // 0 means "no transaction" on the wire; an id in use is not given again.
        while next == 0 || state.transactions.contains_key(&next) {
            next = next.wrapping_add(1);
        }
        self.change(Change::TransactionOpened {
            connection: id,
            id: next,
        });
        let mut text = alloc::format!("{next}").into_bytes();
        text.push(0);
        Ok(Answer::Reply(text))
    }

    pub fn transaction_end(&mut self, connection: ConnectionId, payload: &[u8]) -> Outcome {
        let commit = match one_string(payload) {
            Some(b"T") => true,
            Some(b"F") => false,
            _ => return Err(Errno::EINVAL),
        };
        let (id, open) = self.transaction.ok_or(Errno::ENOENT)?;
        // Whatever comes of it, the transaction is over.
        self.keep(Change::TransactionClosed { connection, id });
        self.transaction = None;
        if commit {
            self.commit(open)?;
        }
        Ok(Answer::ok())
    }

    fn commit(&mut self, open: &Transaction) -> Result<(), Errno> {
        if open.failed {
            return Err(Errno::ENOMEM);
        }
        let Some(roots) = open.roots else { return Ok(()) };
        if open.writes.is_empty() {
            // It saw one state of the store, which is all that a reader can ask for.
            return Ok(());
        }
        if open.outdated {
            return Err(Errno::EAGAIN);
        }
        if roots.snapshot != self.server.current() {
            let snapshot = View::new(&self.server.tree, roots.snapshot);
            for (path, facets) in &open.observed {
                if !self.holds(&snapshot, path.as_path(), *facets) {
                    return Err(Errno::EAGAIN);
                }
            }
        }
        self.place = Place::Store;
        self.collected = Some(Vec::new());
        for write in &open.writes {
            let outcome = match write {
                Write::Value(path, value) => self.write_value(path, value),
                Write::Mkdir(path) => self.make_directory(path),
                Write::Remove(path) => self.remove_existing(path),
                Write::Permissions(path, permissions) => self.write_permissions(path, permissions),
            };
            outcome.map_err(|errno| match errno {
                Errno::ENOSPC | Errno::ENOMEM => errno,
                // It was allowed in the transaction's own view: the store is another now.
                _ => Errno::EAGAIN,
            })?;
        }
        self.tell_collected(open);
        Ok(())
    }

    /// What the transaction observed of a node would be observed the same now.
    fn holds(&self, snapshot: &View<'_, M>, path: Path<'_>, facets: Facets) -> bool {
        let tree = &self.server.tree;
        let then = tree.find(snapshot.base(), path);
        let now = tree.find(self.view.base(), path);
        let same_access = |facet, wanted| {
            !facets.include(facet)
                || access(snapshot, &self.caller, path, wanted) == access(&self.view, &self.caller, path, wanted)
        };
        if !same_access(Facets::READING, Rights::READ)
            || !same_access(Facets::WRITING, Rights::WRITE)
            || !same_access(Facets::OWNING, Rights::OWN)
        {
            return false;
        }
        match (then, now) {
            (None, None) => true,
            (Some(then), Some(now)) => then.id() == now.id() || self.same(then, now, facets),
            _ => {
                let seen = Facets::EXISTENCE
                    .and(Facets::VALUE)
                    .and(Facets::CHILDREN)
                    .and(Facets::PERMISSIONS);
                !facets.touches(seen)
            }
        }
    }

    fn same(&self, then: Node<'_>, now: Node<'_>, facets: Facets) -> bool {
        let tree = &self.server.tree;
        let value = !facets.include(Facets::VALUE) || then.value() == now.value();
        let permissions =
            !facets.include(Facets::PERMISSIONS) || then.permissions().to_owned() == now.permissions().to_owned();
        let children = !facets.include(Facets::CHILDREN)
            || (then.child_count() == now.child_count()
                && tree
                    .children(then)
                    .map(|child| child.name())
                    .eq(tree.children(now).map(|child| child.name())));
        value && permissions && children
    }
}
