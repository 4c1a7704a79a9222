//! A guest that leaves things open.

use alloc::format;

use xenstore_wire::Errno;

use super::{Outcome, hold, refused, says};
use crate::store::Store;

/// Transactions that a domain can have open: the quota is 10, and from Xen 4.22 on it cannot be reached.
const TRANSACTIONS: u32 = 9;

pub fn transactions(store: &mut Store) -> Outcome {
    for number in 0..TRANSACTIONS {
        let transaction = store
            .begin()
            .map_err(|failure| format!("transaction {number} of {TRANSACTIONS}: {failure}"))?;
        for node in 0..5 {
            store
                .write(transaction, &format!("data/attack/{number}/{node}"), b"inside")
                .map_err(says)?;
        }
    }
    refused(store.begin(), Errno::ENOSPC, "one transaction more")?;
    refused(
        store.directory("data/attack"),
        Errno::ENOENT,
        "what open transactions wrote",
    )?;
    hold(format!(
        "ENOSPC after {TRANSACTIONS}, nothing of them is seen; they stay open"
    ))
}
