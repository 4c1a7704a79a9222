//! What a request costs within the process, from the bytes of its message to the bytes of its reply: no rings, no sockets, no other process.
//! Time is what the thread has run, in a release build; instructions are counted by callgrind on the same program.
//!
//! [`store`] fills a store and does the work on it, [`time`] measures it, [`count`] counts it, [`recovery`] is how long a store takes to be read
//! back and how many nodes it has room for.

pub mod count;
pub mod recovery;
pub mod store;
pub mod time;

use cost_tests::operations::Operation;
use serde::{Deserialize, Serialize};

/// Nodes of the stores in which something else varies.
const NODES: usize = 100_000;
/// Children of the wide directory where it does not vary.
const WIDE: usize = 1_000;

/// A store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// Nodes of domains, about a hundred each.
    pub nodes: usize,
    /// Watches of guests on nodes that nobody changes.
    pub watches: usize,
    /// Children of one directory.
    pub wide: usize,
    /// Transactions that are open and have seen the store as it was.
    pub open: usize,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// One of the operations whose cost the tests gate.
    Of(Operation),
    /// DIRECTORY of a thousand names.
    Thousand,
    /// The TRANSACTION_END alone of a transaction of ten writes.
    Commit,
}

impl Work {
    /// Everything, in the order in which it is done: what changes nothing first.
    pub const ALL: [Work; 13] = [
        Work::Of(Operation::Read),
        Work::Of(Operation::Directory),
        Work::Thousand,
        Work::Of(Operation::GetPerms),
        Work::Of(Operation::WideRead),
        Work::Of(Operation::WatchAndUnwatch),
        Work::Of(Operation::Write),
        Work::Of(Operation::MkdirAndRm),
        Work::Of(Operation::WatchEvent),
        Work::Of(Operation::Transaction),
        Work::Commit,
        Work::Of(Operation::WideWrite),
        Work::Of(Operation::WideMkdirAndRm),
    ];

    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Work::Of(Operation::Directory) => "DIRECTORY of 10",
            Work::Of(operation) => operation.name(),
            Work::Thousand => "DIRECTORY of 1,000",
            Work::Commit => "commit of 10 writes",
        }
    }

    /// The work with this name.
    pub fn named(name: &str) -> Option<Work> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    /// It looks at the wide directory.
    fn is_wide(self) -> bool {
        matches!(
            self,
            Work::Of(Operation::WideRead | Operation::WideWrite | Operation::WideMkdirAndRm)
        )
    }

    /// It is also done without durable pages.
    fn also_plain(self) -> bool {
        matches!(self, Work::Of(Operation::Read | Operation::Write) | Work::Commit)
    }
}

/// What one kind of work costs in one store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub work: String,
    /// With durable pages.
    pub durable: bool,
    #[serde(flatten)]
    pub setting: Setting,
    /// Nanoseconds for each, the median and the least of several passes.
    pub ns: f64,
    pub least_ns: f64,
    /// Instructions for each, if they were counted.
    pub instructions: Option<f64>,
}

/// How long it took to read a store back, and what was there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovery {
    pub nodes: usize,
    /// Records behind the checkpoint.
    pub records: u64,
    /// Milliseconds of the thread, the median of several.
    pub ms: f64,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub rows: Vec<Row>,
    /// Why there are no instructions, if there are none.
    pub not_counted: Option<String>,
}

/// The stores, and what is done in each.
pub fn settings(nodes: &[usize]) -> Vec<(Setting, Vec<Work>)> {
    let of = |nodes| Setting {
        nodes,
        watches: 0,
        wide: WIDE,
        open: 0,
    };
    let mut all: Vec<(Setting, Vec<Work>)> = nodes.iter().map(|nodes| (of(*nodes), Work::ALL.to_vec())).collect();
    // Not more than was asked for.
    let middle = of(nodes
        .iter()
        .copied()
        .filter(|nodes| *nodes <= NODES)
        .max()
        .unwrap_or(NODES));
    let with = |wanted: &dyn Fn(&Work) -> bool| -> Vec<Work> { Work::ALL.into_iter().filter(wanted).collect() };
    let watching = with(&|work| {
        matches!(
            work,
            Work::Of(Operation::Read | Operation::Write | Operation::WatchEvent | Operation::WatchAndUnwatch)
        )
    });
    let watches = Setting {
        watches: 10_000,
        ..middle
    };
    all.push((watches, watching));
    for wide in [10, 100, 10_000, 100_000] {
        if wide <= middle.nodes {
            all.push((Setting { wide, ..middle }, with(&|work| work.is_wide())));
        }
    }
    let changing = with(&|work| {
        matches!(
            work,
            Work::Of(Operation::Read | Operation::Write | Operation::MkdirAndRm) | Work::Commit
        )
    });
    for open in [10, 100] {
        all.push((Setting { open, ..middle }, changing.clone()));
    }
    all
}
