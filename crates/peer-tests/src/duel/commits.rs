//! Ends of transactions: two servers that show a transaction different states may both be right, so a commit that only one of
//! them made is repeated on the other at once, where nothing can come between.

use xenstore_wire::MessageType::*;

use super::domains::{Asked, Transaction};
use super::exchange::{Outcome, id_of, is_change, one};
use super::{Checked, Duel, mismatch};
use crate::differences::Difference;

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Peer,
    Ours,
}

impl Duel {
    pub(super) fn end(&mut self, domid: u16, which: usize, commit: bool) -> Checked<()> {
        let Some(client) = self.domains.client(domid) else {
            return Ok(());
        };
        let transaction = client.transactions.remove(which);
        let ids = (transaction.peer, transaction.ours);
        let kind = TransactionEnd as u32;
        if !commit {
            return self.compared(domid, kind, ids, b"F\0").map(drop);
        }
        if transaction.disturbed && self.repeats_by_itself() {
            self.domains.set_ids_differ(domid);
        }
        let (peer, ours) = self.exchange(domid, kind, ids, b"T\0")?;
        let mut outcome = (peer.answer.text(), ours.answer.text());
        if outcome.0 == "!EINVAL" && self.repeats_by_itself() && transaction.has_others() {
            self.figures.met(Difference::ReplayKnowsNodesAlone);
            outcome.0 = "!EAGAIN".to_owned();
        }
        let after_a_death = transaction.disturbed && !self.domains.died().is_empty() && !self.repeats_by_itself();
        match (outcome.0.as_str(), outcome.1.as_str()) {
            ("OK|", "OK|") => self.both_committed(domid, &transaction, &peer, &ours),
            ("!EAGAIN", "!EAGAIN") if transaction.disturbed => {
                self.figures.errors += 1;
                self.compare_events(domid, kind, b"T\0", &transaction.changes(), (&peer, &ours))
            }
            ("!EAGAIN", "OK|") if transaction.disturbed => {
                self.figures.met(Difference::ConflictOnlyInPeer);
                self.domains.disturb();
                if changed(&transaction, Side::Ours) {
                    self.repeat(Side::Peer, domid, &transaction, &ours)
                } else {
                    Ok(())
                }
            }
            ("OK|", "!EAGAIN") if transaction.disturbed => {
                self.figures.met(Difference::ConflictOnlyInOurs);
                self.domains.disturb();
                if changed(&transaction, Side::Peer) {
                    self.repeat(Side::Ours, domid, &transaction, &peer)
                } else {
                    Ok(())
                }
            }
            ("!ENOMEM", "!EAGAIN") if after_a_death => {
                self.figures.met(Difference::CommitAfterOwnersEnd);
                Ok(())
            }
            ("!ENOMEM", "OK|") if after_a_death => {
                self.figures.met(Difference::CommitAfterOwnersEnd);
                self.domains.disturb();
                self.repeat(Side::Peer, domid, &transaction, &ours)
            }
            _ => Err(mismatch(domid, kind, b"T\0", "commits", outcome.0, outcome.1)),
        }
    }

    fn both_committed(&mut self, domid: u16, transaction: &Transaction, peer: &Outcome, ours: &Outcome) -> Checked<()> {
        let kind = TransactionEnd as u32;
        self.domains.disturb();
        *self.figures.successes.entry(kind).or_default() += 1;
        let (there, here) = (changed(transaction, Side::Peer), changed(transaction, Side::Ours));
        if transaction.disturbed && there != here {
            // To the one it was a mere reader, which committed what it saw.
            self.figures.met(Difference::ReaderSawOneState);
            let (side, before) = if there { (Side::Ours, peer) } else { (Side::Peer, ours) };
            return self.repeat(side, domid, transaction, before);
        }
        self.compare_events(domid, kind, b"T\0", &transaction.changes(), (peer, ours))?;
        self.compare_what_both_saw(domid, transaction)
    }

    /// Both committed: what they answered inside holds for both, unless it was a mere reader in ours.
    fn compare_what_both_saw(&mut self, domid: u16, transaction: &Transaction) -> Checked<()> {
        if !transaction.disturbed {
            return Ok(());
        }
        let reader = !transaction.asked.iter().any(Asked::changes);
        for asked in transaction.asked.iter().filter(|asked| asked.is_of_nodes()) {
            match self.compare_answers(domid, asked.kind, &asked.payload, &asked.peer, &asked.ours) {
                Err(_) if reader => self.figures.met(Difference::ReaderSawOneState),
                Err(_) if self.forgets(asked) => self.figures.met(Difference::RefusalsAreForgotten),
                other => other?,
            }
        }
        Ok(())
    }

    /// oxenstored does not mind whether this request would now be answered otherwise: it was refused, or changed nothing.
    fn forgets(&self, asked: &Asked) -> bool {
        self.repeats_by_itself() && (asked.peer.kind == 16 || asked.idle[0])
    }

    /// One committed and the other did not: repeated there, the transaction must give what it gave here.
    fn repeat(&mut self, side: Side, domid: u16, transaction: &Transaction, before: &Outcome) -> Checked<()> {
        self.domains.set_ids_differ(domid);
        let started = self.again(side, domid, TransactionStart as u32, 0, b"\0");
        let id = id_of(&started.answer)
            .unwrap_or_else(|| panic!("a transaction cannot be repeated: {}", started.answer.text()));
        for asked in &transaction.asked {
            let first = match side {
                Side::Peer => &asked.ours,
                Side::Ours => &asked.peer,
            };
            let forgotten = side == Side::Ours && self.forgets(asked);
            if !asked.can_be_repeated(first) || forgotten && is_change(asked.kind) {
                continue;
            }
            self.figures.requests += 1;
            let again = self.again(side, domid, asked.kind, id, &asked.payload);
            let (peer, ours) = in_order(side, &again.answer, first);
            match self.compare_answers(domid, asked.kind, &asked.payload, peer, ours) {
                Err(_) if forgotten => self.figures.met(Difference::RefusalsAreForgotten),
                other => other?,
            }
        }
        let kind = TransactionEnd as u32;
        let mut again = self.again(side, domid, kind, id, b"T\0");
        // With the number of the first one, for comparison.
        again.answer.request = before.answer.request;
        let text: &[u8] = match side {
            Side::Peer => b"T\0 (repeated on the peer)",
            Side::Ours => b"T\0 (repeated on ours)",
        };
        let (peer, ours) = in_order(side, &again.answer, &before.answer);
        self.compare_answers(domid, kind, text, peer, ours)?;
        let both = in_order(side, &again, before);
        self.compare_events(domid, kind, text, &transaction.changes(), both)?;
        for asked in &transaction.asked {
            if self.may_make_for_others(domid, asked.kind) && asked.changes() {
                self.give_to_creator(domid, &asked.payload)?;
            }
        }
        Ok(())
    }

    /// One more request to one side, where failing to answer would be a bug of the driver.
    fn again(&mut self, side: Side, domid: u16, kind: u32, id: u32, payload: &[u8]) -> Outcome {
        let request = self.next_request;
        self.next_request += 1;
        let server = match side {
            Side::Peer => &mut self.peer,
            Side::Ours => &mut self.ours,
        };
        one(server.as_mut(), domid, request, kind, id, payload)
            .unwrap_or_else(|text| panic!("repeating a transaction: {text}"))
    }
}

/// The peer's, then ours.
fn in_order<T>(side: Side, of_side: T, other: T) -> (T, T) {
    match side {
        Side::Peer => (of_side, other),
        Side::Ours => (other, of_side),
    }
}

/// The transaction changed something, by the answers of one side.
fn changed(transaction: &Transaction, side: Side) -> bool {
    transaction.asked.iter().any(|asked| match side {
        Side::Peer => asked.changed_peer(),
        Side::Ours => asked.changed_ours(),
    })
}
