//! The longest requests, in instructions. Counting each request for itself would take days, because callgrind writes a whole profile
//! for each. So requests are timed first, at full speed and several times, and those that took longest are counted in another
//! pass, which does exactly the same.

use std::collections::BTreeMap;
use std::time::Instant;

use xenstore_wire::MessageType;

use crate::desk::Desk;
use crate::dice::Dice;
use crate::host::{Host, Size};
use crate::operations::Operation;

/// Requests of each operation that are counted.
const COUNTED: usize = 6;
/// Passes at full speed. The machine does other things, too: the shortest time of a request counts.
const PASSES: usize = 3;
/// Trees that can go, one for each operation, and the directories in each, and the nodes in each of these: more than is tidied up
/// during the requests.
const EXTRA: [usize; 3] = [5, 60, 1000];

/// The upkeep of the tree while requests come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upkeep {
    /// It is done whenever a request comes.
    Done,
    /// A large tree was removed just before each operation.
    Going,
}

impl Upkeep {
    /// Its name, for a command line.
    pub fn name(self) -> &'static str {
        match self {
            Upkeep::Done => "done",
            Upkeep::Going => "going",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Upkeep {
        if name == "going" { Upkeep::Going } else { Upkeep::Done }
    }
}

/// Pages of a filled store, in which some of each domain's nodes can go.
pub fn filled(size: Size) -> Vec<u8> {
    let [trees, directories, nodes] = EXTRA;
    let mut desk = Desk::new(Host::bytes_for(size) + trees * directories * nodes * 160);
    let host = Host::fill(&mut desk, size);
    for tree in 0..trees {
        for directory in 0..directories {
            for node in 0..nodes {
                let path = format!("/extra/{tree}/{directory}/{node}");
                desk.must(host.dom0, MessageType::Write, 0, &format!("{path}|extra"));
            }
        }
    }
    desk.rest();
    desk.into_bytes()
}

/// Removes one of the trees. Checkpoints keep what they were made of, so the upkeep begins once both are newer; then it outlasts
/// the requests that come next.
fn begin_upkeep(desk: &mut Desk, host: &Host, tree: usize) {
    desk.must(host.dom0, MessageType::Rm, 0, &format!("/extra/{tree}|"));
    let (mut written, mut lasted) = (0, 0);
    while lasted < LASTS {
        written += 1;
        assert!(written < 20_000, "nothing is tidied up");
        desk.must(host.dom0, MessageType::Write, 0, &format!("/extra/written|{written}"));
        let busy = desk.server().tree().figures().doomed_blocks > 0;
        lasted = if busy { lasted + 1 } else { 0 };
    }
}

/// Requests after which upkeep that is not done yet goes on for some time.
const LASTS: usize = 3;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'o> {
    /// In a store of this size.
    pub size: Size,
    /// How often each operation is.
    pub times: usize,
    /// Meanwhile.
    pub upkeep: Upkeep,
    /// In this order.
    pub operations: &'o [Operation],
}

impl Pass<'_> {
    /// Does it, with `around` called for each request. Where upkeep is to go on, it must have lasted.
    pub fn run(&self, pages: Vec<u8>, mut around: impl FnMut(Operation, usize, &mut dyn FnMut())) {
        let (mut desk, host) = (Desk::resume(pages), Host::again(self.size));
        let mut dice = Dice::new(1);
        desk.rest();
        for (number, operation) in self.operations.iter().enumerate() {
            let mut work = operation.prepare(&mut desk, &host, self.times, &mut dice);
            let mut transaction = 0;
            if self.upkeep == Upkeep::Going {
                begin_upkeep(&mut desk, &host, number);
            }
            for number in 0..work.count() {
                if self.upkeep == Upkeep::Done {
                    desk.rest();
                }
                around(*operation, number, &mut || {
                    work.run_one(&mut desk, number, &mut transaction)
                });
            }
            let left = desk.server().tree().figures().doomed_blocks;
            let name = operation.name();
            assert!(
                self.upkeep == Upkeep::Done || left > 0,
                "the upkeep came to an end during {name}"
            );
            desk.rest();
        }
    }

    /// The requests that took longest, by operation.
    pub fn slowest(&self, pages: &[u8]) -> BTreeMap<&'static str, Vec<usize>> {
        let mut times: BTreeMap<(&str, usize), u128> = BTreeMap::new();
        for _ in 0..PASSES {
            self.run(pages.to_vec(), |operation, number, work| {
                let start = Instant::now();
                work();
                let took = start.elapsed().as_nanos();
                let least = times.entry((operation.name(), number)).or_insert(took);
                *least = took.min(*least);
            });
        }
        let mut slowest = BTreeMap::new();
        for operation in self.operations {
            let name = operation.name();
            let mut requests: Vec<(u128, usize)> = times
                .iter()
                .filter(|((of, _), _)| *of == name)
                .map(|((_, number), took)| (*took, *number))
                .collect();
            requests.sort_unstable_by(|a, b| b.cmp(a));
            slowest.insert(name, requests.iter().take(COUNTED).map(|(_, number)| *number).collect());
        }
        slowest
    }
}
