//! The table of intended differences between Debian's servers and ours.
//!
//! A row says of which peers it speaks, exactly when it applies, and why. Whatever no row explains fails the test, and so does
//! a row that nothing needs any more. [`answers`] and [`events`] hold the conditions, [`limits`] starts the two so that both
//! allow equally much, and [`left_out`] is the second table: requests that are not asked, because afterwards there would be
//! nothing left to compare.

pub mod answers;
pub mod events;
pub mod left_out;
pub mod limits;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use native_rings::packages::Product;

pub use table::TABLE;

use crate::guests::Message;

/// What each domain got in one go, with [`ANSWER`] in the place of the answer.
pub type Told = BTreeMap<u16, Vec<String>>;

/// What stands in a list of messages for the answer to the request.
pub const ANSWER: &str = "(answer)";

/// The name of a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "each row of the table says what its name means")]
pub enum Difference {
    WatchLimitError,
    DeadDomainsLeaveLists,
    ConflictOnlyInPeer,
    ConflictOnlyInOurs,
    ReaderSawOneState,
    TransactionIds,
    SpecialNodesAreNodes,
    DomainNumbersAreChecked,
    UnwatchChecksPaths,
    CommitToldByNewParent,
    ReleaseToldLate,
    ShutdownAndEndMerged,
    CommitAfterOwnersEnd,
    PrivilegedPathsAreLong,
    ImpossiblePermission,
    CommitOrder,
    QuotaError,
    MissingIsHidden,
    RootIsNoRequest,
    OwnerChangeError,
    NoDirectoryPart,
    ChildrenAreSorted,
    SpecialNamesInNodeRequests,
    UnknownDomainError,
    CreatorOwns,
    UnknownSpecialNames,
    SpecialPermissionsAreTold,
    RefusalsAreForgotten,
    CommitToldFromSnapshot,
    SpecialNodesAreTold,
    ReplayKnowsNodesAlone,
    CommitLooksAtOldPermissions,
    CommitRemovesUnderParent,
    SpecialEventsByRoot,
    CreatorSees,
    IdenticalEvents,
    OneStringIsAsked,
    WatchAnswerOutside,
    AnswerBeforeEvents,
    EventOrder,
    RemovalToldWhereNothingWas,
    RootIsNotTold,
    CommitTellsEachRequest,
    EndRemovesSilently,
    ShutdownToldAgain,
}

/// One row.
pub struct Row {
    /// Its name.
    pub name: Difference,
    /// The peers that differ so.
    pub peers: &'static [Product],
    /// When, and what the peer does and ours does.
    pub what: &'static str,
    /// Why ours does otherwise.
    pub why: &'static str,
    rule: Rule,
}

/// Who finds out whether a row applies.
enum Rule {
    /// The answers may differ if this is so.
    Answers(fn(&Circumstances<'_>, &Message, &Message) -> bool),
    /// The events (first the peer's) may differ in what this makes alike.
    Events(fn(&Circumstances<'_>, &mut Told, &mut Told)),
    /// The driver: it is about more than one request.
    Driver,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Occasion<'a> {
    /// A request.
    Request {
        /// The number of its type.
        kind: u32,
        /// What it carried.
        payload: &'a [u8],
    },
    /// The hypervisor said something of a domain.
    Life,
}

/// What is known when two answers are held against each other.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// The peer.
    pub product: Product,
    /// Who asked, or whose life changed.
    pub domid: u16,
    /// What happened.
    pub occasion: Occasion<'a>,
    /// Domains that were dead at some time.
    pub died: &'a BTreeSet<u16>,
    /// A domain is shut down and not gone.
    pub any_shut: bool,
    /// A transaction of this connection was repeated on one side.
    pub ids_differ: bool,
    /// The requests that change nodes and are carried out now: this one, or those of the transaction that it commits.
    pub changes: &'a Changes,
}

/// The requests that change nodes and are carried out in one go.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The number of the type and the payload of each.
    pub requests: Vec<(u32, Vec<u8>)>,
    /// Someone else may have changed something since the first of them.
    pub disturbed: bool,
}

impl Circumstances<'_> {
    fn is(&self, kinds: &[xenstore_wire::MessageType]) -> bool {
        matches!(self.occasion, Occasion::Request { kind, .. } if kinds.iter().any(|known| *known as u32 == kind))
    }

    fn payload(&self) -> &[u8] {
        match self.occasion {
            Occasion::Request { payload, .. } => payload,
            Occasion::Life => b"",
        }
    }
}

/// The rows that speak of this peer.
pub fn rows(product: Product) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.peers.contains(&product))
}

/// What a peer is called in text.
pub fn name_of(product: Product) -> &'static str {
    match product {
        Product::C417 => "C 4.17",
        Product::C420 => "C 4.20",
        Product::OCaml417 => "oxenstored 4.17",
    }
}

/// Both tables as Markdown.
pub fn markdown() -> String {
    let names = |peers: &[Product]| peers.iter().map(|peer| name_of(*peer)).collect::<Vec<_>>().join(", ");
    let mut text = String::from("| difference | peers | what | why |\n|---|---|---|---|\n");
    for row in TABLE {
        let peers = names(row.peers);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {:?} | {peers} | {} | {} |", row.name, row.what, row.why);
    }
    text.push_str("\n| not asked | peers | why |\n|---|---|---|\n");
    for row in left_out::TABLE {
        let _ = writeln!(text, "| {} | {} | {} |", row.what, names(row.peers), row.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_row_and_each_row_a_peer() {
        let names: BTreeSet<Difference> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(TABLE.iter().all(|row| !row.peers.is_empty()));
        assert!(left_out::TABLE.iter().all(|row| !row.peers.is_empty()));
    }

    #[test]
    fn the_tables_can_be_printed() {
        let text = markdown();
        assert_eq!(text.lines().count(), TABLE.len() + left_out::TABLE.len() + 5);
        println!("{text}");
    }
}
