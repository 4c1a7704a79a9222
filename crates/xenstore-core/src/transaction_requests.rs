//! TRANSACTION_START and TRANSACTION_END: snapshots, and commits that conflict only when something observed changed.

use alloc::vec::Vec;

use xenstore_wire::{Errno, one_string};

use crate::connection::ConnectionId;
use crate::decision::{Answer, Decision, Outcome};
use crate::overlay::View;
use crate::quota::Limit;
use crate::record::{Change, Place};
use crate::rehearsal::Rehearsal;
use crate::transaction::{Transaction, Write};
use crate::tree::Memory;

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
        self.place = Place::Store;
        self.collected = Some(Vec::new());
        let mut rehearsal = (roots.snapshot != self.server.current())
            .then(|| Rehearsal::new(View::new(&self.server.tree, roots.snapshot), self.caller, open));
        for (index, written) in open.writes.iter().enumerate() {
            if let Some(rehearsal) = &mut rehearsal {
                rehearsal.before(index, written, &self.view)?;
            }
            let outcome = match &written.write {
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
        if let Some(rehearsal) = &rehearsal {
            rehearsal.holds(open.writes.len(), &self.view)?;
        }
        self.tell_collected(open);
        Ok(())
    }
}
