//! What the server must do, as plainly as it can be said.
//!
//! Written from the project's description of the protocol and the README's list of what differs from C xenstored. Of the
//! server's own code it knows the numbers of the messages. Everything that can be counted is counted anew whenever it is asked
//! for, and whoever might have to go back to a state keeps a copy of it.

pub mod arguments;
mod control;
mod domains;
mod limits;
mod nodes;
mod requests;
mod state;
mod transactions;
pub mod tree;
mod watches;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

pub use limits::LIMITS;
pub use state::Known;
use transactions::Transaction;
pub use tree::Tree;
use tree::{Caller, Entry};
use watches::{Change, Watch};
use xenstore_wire::Header;

/// The name of an error on the wire.
pub type Errno = &'static str;

/// The domain that may do everything.
pub const PRIVILEGED: u16 = 0;
/// The domain that the server is.
pub const OWN: u16 = 99;
/// "Every domain" in a permission.
pub const ANY: u16 = 32757;
/// Bytes of a message's header.
const HEADER: usize = 16;
/// The most bytes of a payload.
const PAYLOAD_MAX: usize = 4096;
/// What a message that waits is charged with besides its bytes.
const MESSAGE: usize = 128;
/// Event channels have numbers up to this.
pub const PORT_MAX: u32 = 4096;

/// What the hypervisor says of a domain that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Life {
    /// It waits for its toolstack.
    pub shutdown: bool,
    /// It is all but gone.
    pub dead: bool,
    /// Which of all domains that ever had its number it is; 0 if the hypervisor does not tell.
    pub unique: u64,
}

/// How a new server is set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bits of what it can offer.
    pub features: u32,
    /// Seconds until an event is dropped, 0 for never.
    pub timeout: u64,
    /// In the order of [`LIMITS`]; 0 for none.
    pub limits: Vec<u32>,
    /// The hypervisor lists the domains that changed.
    pub lists_changes: bool,
    /// Who makes commits of others fail pays for it. The model knows nothing of that: nobody may.
    pub credit: bool,
}

/// A domain of which the server has heard.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Domain {
    unique: u64,
    introduced: bool,
    shutdown_told: bool,
    target: Option<u16>,
    features: u32,
    limits: Vec<u32>,
    most: Counts,
}

/// What is counted of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Nodes that it owns.
    pub nodes: u64,
    /// Its watches.
    pub watches: u64,
    /// Its open transactions.
    pub transactions: u64,
    /// Its requests of which not everything is seen.
    pub outstanding: u64,
    /// Bytes of all that.
    pub memory: u64,
}

/// A message that waits to be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Queued {
    bytes: Vec<u8>,
    event: bool,
    deadline: Option<u64>,
    /// The connection and the number of its request that this is a consequence of.
    cause: Option<(u64, u64)>,
}

impl Queued {
    /// What it is charged with.
    fn memory(&self) -> usize {
        self.bytes.len() + MESSAGE
    }
}

/// A client.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Connection {
    serial: u64,
    domid: u16,
    queue: VecDeque<Queued>,
    /// Bytes of the first message that can be seen already.
    begun: usize,
    /// Bytes that the client still takes.
    room: usize,
    /// Something was sent or shown since its streams began.
    used: bool,
    ignored: bool,
    resets: u64,
    requests: u64,
    watches: Vec<Watch>,
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
}

/// What `status` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Figures {
    requests: u64,
    queued: u64,
    expired: u64,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Model {
    settings: Settings,
    now: u64,
    /// What the hypervisor knows.
    world: BTreeMap<u16, Life>,
    changed: BTreeSet<u16>,
    store: Rc<Tree>,
    generation: u64,
    /// The permissions of `@introduceDomain` and `@releaseDomain`.
    special: BTreeMap<String, Vec<Entry>>,
    domains: BTreeMap<u16, Domain>,
    /// In the order in which they were made.
    connections: Vec<Connection>,
    next_serial: u64,
    /// Of domains that become known from now on.
    limits: Vec<u32>,
    most: Counts,
    /// There was a restart.
    restarted: bool,
    /// The largest values of all domains begin anew with whatever changes next, which is not followed here.
    most_is_forgotten: bool,
    traces: [bool; 2],
    /// A request of a client that is over its limits.
    pending: Option<(u16, Header, Vec<u8>)>,
    /// What each client has seen since the test looked.
    seen: BTreeMap<u16, Vec<u8>>,
    figures: Figures,
    dictated: Option<Vec<u8>>,
    /// What became of the requests taken since the test looked: type and error, or "OK".
    outcomes: Vec<(u32, Errno)>,
}

/// One thing being done: a request, or the end of domains.
struct Job<'m> {
    model: &'m mut Model,
    caller: Caller,
    /// The connection that asks, and the number of its request.
    asker: Option<(u64, u64)>,
    /// Its open transaction that the request is made in.
    within: Option<u32>,
    /// The store when it began, to go back to and to count memory by.
    before: Rc<Tree>,
    /// The transaction's own tree when it began.
    own_before: Option<Rc<Tree>>,
    /// Domains that exist and become known by being named.
    named: Vec<u16>,
    /// Events so far, for the domain with this number.
    told: Vec<(u16, Queued)>,
    /// A commit gathers what changed before it tells anyone.
    gathered: Option<Vec<Change>>,
}

impl Model {
    /// A new server, with the privileged domain connected.
    pub fn new(settings: Settings) -> Model {
        let closed = vec![Entry {
            letter: 'n',
            domid: PRIVILEGED,
            ignored: false,
        }];
        let readable = Entry {
            letter: 'r',
            domid: ANY,
            ignored: false,
        };
        let mut release = closed.clone();
        release.push(readable);
        let mut store = Tree(BTreeMap::new());
        for (path, generation) in [("/", 1), ("/tool", 2), ("/tool/xenstored", 3)] {
            store.create(path, b"", closed.clone(), generation);
        }
        let mut model = Model {
            now: 0,
            world: BTreeMap::new(),
            changed: BTreeSet::new(),
            store: Rc::new(store),
            generation: 3,
            special: BTreeMap::from([("@introduceDomain".into(), closed), ("@releaseDomain".into(), release)]),
            domains: BTreeMap::new(),
            connections: Vec::new(),
            next_serial: 1,
            limits: settings.limits.clone(),
            most: Counts::default(),
            restarted: false,
            most_is_forgotten: false,
            traces: [false; 2],
            pending: None,
            seen: BTreeMap::new(),
            figures: Figures::default(),
            dictated: None,
            outcomes: Vec::new(),
            settings,
        };
        model.world.insert(PRIVILEGED, Life::default());
        model.know(PRIVILEGED, 0);
        model.connect(PRIVILEGED);
        model.raise();
        model
    }
}
