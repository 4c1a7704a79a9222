//! Who owns what a guest makes: in oxenstored the owner of the directory, in C and ours the guest. The difference is found at
//! once and taken away, so that it does not hide others.

use xenstore_wire::MessageType::*;

use super::domains::Asked;
use super::{Checked, Duel, mismatch};
use crate::differences::Difference;
use crate::guests::Message;

impl Duel {
    /// A guest has made, perhaps, a node and some above it: dom0 gives to the guest on both what the peer gave to another.
    pub(super) fn give_to_creator(&mut self, domid: u16, payload: &[u8]) -> Checked<()> {
        let mut path = absolute(domid, payload);
        while !path.is_empty() {
            let asked = path.clone() + "\0";
            let (peer, ours) = self.exchange(0, GetPerms as u32, (0, 0), asked.as_bytes())?;
            let (there, here) = (peer.answer.text(), ours.answer.text());
            if there == here {
                return Ok(());
            }
            if !only_owner_differs(domid, &there, &here) {
                return Err(mismatch(0, GetPerms as u32, asked.as_bytes(), "owners", there, here));
            }
            self.figures.met(Difference::CreatorOwns);
            let list = [asked.as_bytes(), &ours.answer.payload].concat();
            // Who is told of this follows from the difference.
            let (peer, ours) = self.exchange(0, SetPerms as u32, (0, 0), &list)?;
            self.compare_answers(0, SetPerms as u32, &list, &peer.answer, &ours.answer)?;
            self.domains.disturb();
            path.truncate(path.rfind('/').unwrap_or(0));
        }
        Ok(())
    }

    /// The same inside a transaction, where nobody else can look and the guest may not give on the peer what is not its own:
    /// such a transaction is aborted.
    pub(super) fn end_if_not_creators(&mut self, domid: u16, which: usize, payload: &[u8]) -> Checked<()> {
        let path = payload.split(|byte| *byte == 0).next().unwrap_or_default();
        let asked = [path, b"\0"].concat();
        let Some(transaction) = self
            .domains
            .client(domid)
            .and_then(|client| client.transactions.get(which))
        else {
            return Ok(());
        };
        let (ids, disturbed) = ((transaction.peer, transaction.ours), transaction.disturbed);
        let (peer, ours) = self.exchange(domid, GetPerms as u32, ids, &asked)?;
        let (there, here) = (peer.answer.text(), ours.answer.text());
        if there == here {
            self.note_inside(domid, which, GetPerms as u32, &asked, peer.answer, ours.answer);
            return Ok(());
        }
        let hidden = there == "!EACCES" && is_owned_by(domid, &here);
        if hidden || only_owner_differs(domid, &there, &here) {
            self.figures.met(Difference::CreatorOwns);
        } else if !disturbed {
            return Err(mismatch(domid, GetPerms as u32, &asked, "owners", there, here));
        }
        self.end(domid, which, false)
    }

    fn note_inside(&mut self, domid: u16, which: usize, kind: u32, payload: &[u8], peer: Message, ours: Message) {
        if let Some(client) = self.domains.client(domid)
            && let Some(transaction) = client.transactions.get_mut(which)
        {
            transaction.asked.push(Asked::new(kind, payload, peer, ours));
        }
    }
}

fn absolute(domid: u16, payload: &[u8]) -> String {
    let path = String::from_utf8_lossy(payload.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    if path.starts_with('/') {
        path
    } else {
        format!("/local/domain/{domid}/{path}")
    }
}

/// Lists of permissions as GET_PERMS gives them, `|` for NUL.
fn is_owned_by(domid: u16, list: &str) -> bool {
    let owner = list.split('|').next().and_then(|entry| entry.get(1..));
    owner.is_some_and(|owner| owner == domid.to_string())
}

fn only_owner_differs(domid: u16, peer: &str, ours: &str) -> bool {
    let rest = |list: &str| -> Option<(String, String)> {
        let (owner, rest) = list.split_once('|')?;
        Some((owner.get(..1)?.to_owned(), rest.to_owned()))
    };
    is_owned_by(domid, ours) && !peer.starts_with('!') && rest(peer) == rest(ours)
}
