//! Leases for those who keep losing: what the last failed transaction had observed is kept from others for a short time when it
//! is tried again.
//!
//! A client whose transactions begin with the same path and have lost [`LOSSES`] times in a row gets a lease when it begins that
//! transaction again. Until that transaction ends, or [`LEASE_TIME`] has passed, commits that would change what it had observed
//! get EAGAIN, and plain writes of other unprivileged domains that would do so wait: their request stays in the ring.
//!
//! There is one lease of the privileged domain and one of all others at most, and the latter begin at least [`LEASE_SPACING`]
//! apart: so a guest's write waits no longer than a lease lasts, and is free half of the time whatever guests do. The privileged
//! domain is never bound by a guest's lease. **No deadlock**: two guests never hold leases at once; a lease of the privileged
//! domain binds the holder of the other and is not bound by it; and each ends by itself, whoever waits.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xenstore_wire::{Errno, Header, MessageType, Path, PathBuf, resolve, strings};

use crate::apply::Used;
use crate::conflict::Reach;
use crate::connection::ConnectionId;
use crate::input::Time;
use crate::overlay::View;
use crate::server::Server;
use crate::transaction::{Facets, Write};
use crate::tree::Memory;

/// So many commits in a row must have lost, if nothing else is set ([`crate::ConflictLimits::losses`]).
pub const LOSSES: u32 = 3;
/// How long a lease lasts, in nanoseconds: some hundred requests of a guest that waits for each reply.
pub const LEASE_TIME: u64 = 50_000_000;
/// The time from the beginning of a guest's lease to the next of any guest, in nanoseconds.
pub const LEASE_SPACING: u64 = 100_000_000;
/// Paths that a lease may hold; a transaction that observed more gets none.
const LEASE_PATHS: usize = 256;

/// What a transaction observed, whenever it did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Footprint(BTreeMap<PathBuf, Facets>);

impl Footprint {
    /// Adds an observation. False: there are too many.
    pub(crate) fn add(&mut self, path: &PathBuf, facets: Facets) -> bool {
        let known = self.0.entry(path.clone()).or_default();
        *known = known.and(facets);
        self.0.len() <= LEASE_PATHS
    }

    pub(crate) fn bytes(&self) -> usize {
        let paths = self.0.keys().map(|path| path.as_str().len());
        paths.fold(0, usize::saturating_add)
    }

    fn touched_by(&self, reach: Reach<'_>) -> bool {
        let mut observed = self.0.iter();
        observed.any(|(path, facets)| reach.changes(path.as_path(), *facets))
    }
}

/// A client's transaction that keeps losing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Losing {
    /// The path that it names first, by which it is known again.
    pub first: PathBuf,
    /// How often it has lost in a row.
    pub times: u32,
    /// What it had observed, once it has lost often enough.
    pub footprint: Option<Footprint>,
}

impl Losing {
    /// What its client is charged with for it.
    pub fn used(&self) -> Used {
        let footprint = self.footprint.as_ref().map_or(0, Footprint::bytes);
        Used::of(0, self.first.as_str().len().saturating_add(footprint))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Lease {
    number: u64,
    holder: ConnectionId,
    transaction: u32,
    footprint: Footprint,
    until: Time,
}

/// The leases there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Leases {
    of_privileged: Option<Lease>,
    of_guest: Option<Lease>,
    /// When a guest may get the next.
    free: Time,
    given: u64,
}

impl Leases {
    fn all(&self) -> impl Iterator<Item = &Lease> {
        self.of_privileged.iter().chain(&self.of_guest)
    }

    /// A client can get one now.
    pub fn available(&self, privileged: bool, now: Time) -> bool {
        if privileged {
            self.of_privileged.is_none()
        } else {
            self.of_guest.is_none() && self.free <= now
        }
    }

    pub fn give(&mut self, privileged: bool, holder: ConnectionId, transaction: u32, footprint: Footprint, now: Time) {
        self.given = self.given.saturating_add(1);
        let lease = Some(Lease {
            number: self.given,
            holder,
            transaction,
            footprint,
            until: Time(now.0.saturating_add(LEASE_TIME)),
        });
        if privileged {
            self.of_privileged = lease;
        } else {
            self.of_guest = lease;
            self.free = Time(now.0.saturating_add(LEASE_SPACING));
        }
    }

    /// Those that `ends` says end.
    fn end(&mut self, ends: impl Fn(&Lease) -> bool) {
        for place in [&mut self.of_privileged, &mut self.of_guest] {
            if place.as_ref().is_some_and(&ends) {
                *place = None;
            }
        }
    }

    /// A transaction ended; none: all of its client.
    pub fn end_of(&mut self, holder: ConnectionId, transaction: Option<u32>) {
        self.end(|lease| lease.holder == holder && transaction.is_none_or(|id| lease.transaction == id));
    }

    pub fn end_until(&mut self, now: Time) {
        self.end(|lease| lease.until <= now);
    }

    /// When the first ends by itself.
    pub fn due(&self) -> Option<Time> {
        self.all().map(|lease| lease.until).min()
    }

    /// The lease of another that such a change would break.
    fn against(
        &self,
        reach: Reach<'_>,
        client: ConnectionId,
        transaction: Option<u32>,
        privileged: bool,
        now: Time,
    ) -> Option<u64> {
        let guests = self.of_guest.iter().filter(|_| !privileged);
        let mut binding = self
            .of_privileged
            .iter()
            .chain(guests)
            .filter(|lease| lease.until > now);
        // A client's own plain writes are its own business; of its transactions only one holds the lease.
        let own = |lease: &Lease| lease.holder == client && transaction.is_none_or(|id| lease.transaction == id);
        let lease = binding.find(|lease| !own(lease) && lease.footprint.touched_by(reach))?;
        Some(lease.number)
    }
}

/// What a write would change in this view; none: nothing.
fn reach<'p, M: Memory>(view: &View<'_, M>, kind: MessageType, path: Path<'p>) -> Option<Reach<'p>> {
    let there = view.find(path).is_some();
    match kind {
        MessageType::Write | MessageType::Mkdir if !there => {
            let missing = path.ancestors().take_while(|above| view.find(*above).is_none());
            let path = missing.last()?;
            Some(Reach { path, whole: true })
        }
        MessageType::Write => Some(Reach { path, whole: false }),
        MessageType::Rm | MessageType::SetPerms if there => Some(Reach { path, whole: true }),
        _ => None,
    }
}

impl<M: Memory> Server<M> {
    /// The lease that this request has to wait for: a plain write of an unprivileged domain that would change what another
    /// client has leased. It must not be taken before [`Server::lease_lasts`] says no; what came before it may.
    pub fn waits_for(&self, now: Time, id: ConnectionId, header: Header, payload: &[u8]) -> Option<u64> {
        self.leases.all().next()?;
        let domid = self.connections.get(&id)?.domid;
        if header.transaction_id != 0 || self.exempt(domid) {
            return None;
        }
        let kind = MessageType::from_wire(header.kind)?;
        let path = resolve(strings(payload).next()?, domid, None).ok()?.path;
        let view = View::new(&self.tree, self.current());
        let reach = reach(&view, kind, path.as_path())?;
        self.leases.against(reach, id, None, false, now)
    }

    /// The lease with this number is in force.
    pub fn lease_lasts(&self, now: Time, number: u64) -> bool {
        self.leases
            .all()
            .any(|lease| lease.number == number && lease.until > now)
    }

    /// A commit of these writes would change what another client has leased.
    pub(crate) fn breaks_lease<'w>(
        &self,
        now: Time,
        id: ConnectionId,
        transaction: u32,
        writes: impl Iterator<Item = &'w Write>,
    ) -> Result<(), Errno> {
        if self.leases.all().next().is_none() {
            return Ok(());
        }
        let state = self.connections.get(&id);
        let privileged = state.is_some_and(|state| self.exempt(state.domid));
        let view = View::new(&self.tree, self.current());
        for write in writes {
            let kind = match write {
                Write::Value(..) => MessageType::Write,
                Write::Mkdir(_) => MessageType::Mkdir,
                Write::Remove(_) => MessageType::Rm,
                Write::Permissions(..) => MessageType::SetPerms,
            };
            let reach = reach(&view, kind, write.path().as_path());
            let against = |reach| self.leases.against(reach, id, Some(transaction), privileged, now);
            if reach.and_then(against).is_some() {
                return Err(Errno::EAGAIN);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach_of(path: &str, whole: bool) -> Reach<'_> {
        Reach {
            path: Path::new(path).unwrap(),
            whole,
        }
    }

    #[test]
    fn a_footprint_is_touched_by_what_it_observed_and_nothing_else() {
        let mut footprint = Footprint::default();
        let path = |text| Path::new(text).unwrap().to_owned();
        footprint.add(&path("/a/value"), Facets::READING.and(Facets::VALUE));
        footprint.add(&path("/a/list"), Facets::READING.and(Facets::CHILDREN));
        let touched = |text, whole| footprint.touched_by(reach_of(text, whole));
        assert!(touched("/a/value", false) && touched("/a/value", true) && touched("/a", true));
        assert!(!touched("/a/value/below", false) && !touched("/a/value/below", true) && !touched("/a", false));
        assert!(touched("/a/list/new", true) && !touched("/a/list/old", false) && !touched("/a/list", false));
        assert!(!touched("/b", true));
    }
}
