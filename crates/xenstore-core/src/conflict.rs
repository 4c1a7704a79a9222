//! Who makes others' commits fail, and what it costs them (XSA-206): conflict credit with blame, as in oxenstored.
//!
//! What unprivileged domains change while others have transactions open is remembered for a short time. When a commit fails,
//! those that changed what it had observed lose a point each; a domain without points is paused: its requests are not taken,
//! while its replies and events still go out. Points come back with time. So a guest that keeps writing what another's
//! transaction reads leaves it time to succeed.
//!
//! Knows paths and times, not requests. The figures are those of oxenstored (`oxenstored.conf`: conflict-burst-limit,
//! conflict-max-history-seconds, conflict-rate-limit-is-aggregate).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, Path, PathBuf};

use crate::domain::Domain;
use crate::input::Time;
use crate::numbered::Numbered;
use crate::record::NodeChange;
use crate::transaction::Facets;

/// The newest changes of one domain that are remembered one by one; older ones count as changes below what they have in common.
const CHANGES_REMEMBERED: usize = 32;
/// Domains whose changes are remembered; of more, those that changed something least recently are forgotten.
const DOMAINS_REMEMBERED: usize = 256;
/// Points that one record gives back in turn; more are due at once in the next.
const POINTS_AT_ONCE: u64 = 64;

/// How conflicts are paid for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConflictLimits {
    /// Points of a domain that has caused no conflicts lately; 0 = nobody is ever paused. oxenstored: 5.
    pub burst: u32,
    /// Milliseconds for which a change can be blamed, and after which a point comes back; at least 1. oxenstored: 50.
    pub history_ms: u32,
    /// One point comes back to one domain in all, in turn, those that are paused first; else to each domain. oxenstored: yes.
    pub aggregate: bool,
    /// So many commits of a client must fail in a row before what they observed is kept from others (see `lease`); 0 = there
    /// are no leases. Ours: 3.
    pub losses: u32,
}

impl Default for ConflictLimits {
    fn default() -> Self {
        ConflictLimits {
            burst: 5,
            history_ms: 50,
            aggregate: true,
            losses: crate::lease::LOSSES,
        }
    }
}

impl ConflictLimits {
    /// Nobody pays, and nobody gets a lease.
    pub const NONE: ConflictLimits = ConflictLimits {
        burst: 0,
        history_ms: 50,
        aggregate: true,
        losses: 0,
    };

    fn nanoseconds(&self) -> u64 {
        u64::from(self.history_ms.max(1)).saturating_mul(1_000_000)
    }

    /// What was done at `at` can be blamed still.
    fn counts(&self, at: Time, now: Time) -> bool {
        now.0.saturating_sub(at.0) < self.nanoseconds()
    }

    /// A domain that lacks so many points is paused.
    pub(crate) fn pauses(&self, lacking: u32) -> bool {
        self.burst != 0 && lacking >= self.burst
    }
}

/// Counted since the server first started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConflictFigures {
    /// Commits that failed because of a conflict.
    pub lost: u64,
    /// Those of them that nobody could be blamed for.
    pub without_culprit: u64,
    /// Those that failed because another client had a lease.
    pub by_lease: u64,
    /// Points taken from domains.
    pub points: u64,
    /// Leases given.
    pub leases: u64,
}

/// What a change reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reach<'p> {
    /// The node, or the topmost of several.
    pub path: Path<'p>,
    /// More than its value: what is below, and its place among the children of the node above.
    pub whole: bool,
}

impl<'p> Reach<'p> {
    fn of(change: &'p NodeChange) -> Reach<'p> {
        let (path, whole) = match change {
            NodeChange::SetValue { path, .. } => (path, false),
            NodeChange::Create { path, .. }
            | NodeChange::SetPermissions { path, .. }
            | NodeChange::Remove { path, .. } => (path, true),
        };
        let path = path.as_path();
        Reach { path, whole }
    }

    /// What was observed of this node may be another by the change.
    pub fn changes(&self, path: Path<'_>, observed: Facets) -> bool {
        if self.path.contains(path) {
            self.whole || (self.path == path && observed.include(Facets::VALUE))
        } else {
            self.whole && self.path.parent() == Some(path) && observed.include(Facets::CHILDREN)
        }
    }
}

/// One change that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    at: Time,
    generation: u64,
    path: PathBuf,
    whole: bool,
}

impl Made {
    fn reach(&self) -> Reach<'_> {
        Reach {
            path: self.path.as_path(),
            whole: self.whole,
        }
    }
}

/// What one domain changed lately, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Lately {
    /// Changes that are not kept one by one: somewhere below this path.
    more: Option<Made>,
    made: VecDeque<Made>,
}

impl Lately {
    fn add(&mut self, made: Made) {
        self.made.retain(|older| older.reach() != made.reach());
        self.made.push_back(made);
        if self.made.len() <= CHANGES_REMEMBERED {
            return;
        }
        let Some(oldest) = self.made.pop_front() else { return };
        let path = match &self.more {
            Some(more) => common(more.path.as_path(), oldest.path.as_path()),
            None => oldest.path,
        };
        self.more = Some(Made {
            path,
            whole: true,
            ..oldest
        });
    }

    fn forget_old(&mut self, now: Time, limits: &ConflictLimits) {
        self.made.retain(|made| limits.counts(made.at, now));
        self.more = self.more.take().filter(|more| limits.counts(more.at, now));
    }

    fn newest(&self) -> Time {
        self.made.back().map_or(Time(0), |made| made.at)
    }

    fn all(&self) -> impl Iterator<Item = &Made> {
        self.more.iter().chain(&self.made)
    }
}

/// The deepest node above both, or one of them.
fn common(one: Path<'_>, other: Path<'_>) -> PathBuf {
    let mut above = one.ancestors();
    above
        .find(|above| above.contains(other))
        .unwrap_or(Path::ROOT)
        .to_owned()
}

/// What is remembered of conflicts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Conflicts {
    lately: BTreeMap<DomId, Lately>,
    /// The domains that lack points, in the order in which they get one.
    short: VecDeque<DomId>,
    /// When the next point comes back; none while nobody lacks any.
    due: Option<Time>,
    pub figures: ConflictFigures,
}

impl Conflicts {
    /// A domain changed the store; `generation` is the newest that it gave out.
    pub fn remember<'c>(
        &mut self,
        domid: DomId,
        at: Time,
        generation: u64,
        changes: impl Iterator<Item = &'c NodeChange>,
        limits: &ConflictLimits,
    ) {
        self.lately.retain(|_, lately| limits.counts(lately.newest(), at));
        let lately = self.lately.entry(domid).or_default();
        lately.forget_old(at, limits);
        for change in changes {
            let Reach { path, whole } = Reach::of(change);
            let path = path.to_owned();
            lately.add(Made {
                at,
                generation,
                path,
                whole,
            });
        }
        if self.lately.len() > DOMAINS_REMEMBERED {
            let others = self.lately.iter().filter(|(other, _)| **other != domid);
            if let Some((oldest, _)) = others.min_by_key(|(_, lately)| lately.newest()) {
                let oldest = *oldest;
                self.lately.remove(&oldest);
            }
        }
    }

    /// Who but `victim` changed what was observed of one of these nodes after `generation` and not too long ago.
    pub fn culprits(
        &self,
        victim: DomId,
        observed: &[(Path<'_>, Facets)],
        generation: u64,
        now: Time,
        limits: &ConflictLimits,
    ) -> Vec<DomId> {
        let guilty = |made: &Made| {
            let changes = |(path, facets): &(Path<'_>, Facets)| made.reach().changes(*path, *facets);
            limits.counts(made.at, now) && made.generation > generation && observed.iter().any(changes)
        };
        self.lately
            .iter()
            .filter(|(domid, lately)| **domid != victim && lately.all().any(guilty))
            .map(|(domid, _)| *domid)
            .collect()
    }

    /// The domain loses a point.
    pub fn blame(&mut self, domid: DomId, domain: &mut Domain, now: Time, limits: &ConflictLimits) {
        self.figures.points = self.figures.points.saturating_add(1);
        domain.conflicts = domain.conflicts.saturating_add(1);
        if limits.burst == 0 {
            return;
        }
        let was_paused = limits.pauses(domain.lacking);
        // As in oxenstored: one point below none at most.
        domain.lacking = domain.lacking.saturating_add(1).min(limits.burst.saturating_add(1));
        if !self.short.contains(&domid) {
            self.short.push_back(domid);
        }
        // Who is paused now is paused for a whole interval.
        if self.due.is_none() || (limits.pauses(domain.lacking) && !was_paused) {
            self.due = Some(Time(now.0.saturating_add(limits.nanoseconds())));
        }
    }

    /// When the next point comes back.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// The points that have come back until `now`, and when the next is due.
    pub fn returned(
        &self,
        domains: &Numbered<DomId, Domain>,
        now: Time,
        limits: &ConflictLimits,
    ) -> Option<(Vec<(DomId, u32)>, Time)> {
        let due = self.due.filter(|due| *due <= now)?;
        let late = now.0.saturating_sub(due.0).checked_div(limits.nanoseconds());
        let points = late.unwrap_or(0).saturating_add(1).min(POINTS_AT_ONCE);
        let next = Time(due.0.saturating_add(limits.nanoseconds().saturating_mul(points)));
        let lacking = |domid: &DomId| domains.get(domid).map_or(0, |domain| domain.lacking);
        let each = u32::try_from(points).unwrap_or(u32::MAX);
        let mut turn: VecDeque<(DomId, u32)> = self.short.iter().map(|domid| (*domid, lacking(domid))).collect();
        if !limits.aggregate {
            let all = turn.into_iter().map(|(domid, lacks)| (domid, lacks.min(each)));
            return Some((all.collect(), next));
        }
        let mut given: Vec<(DomId, u32)> = Vec::new();
        for _ in 0..points {
            let paused = turn.iter().position(|(_, lacks)| limits.pauses(*lacks));
            let Some((domid, lacks)) = turn.remove(paused.unwrap_or(0)) else {
                break;
            };
            given.push((domid, 1));
            if lacks > 1 {
                turn.push_back((domid, lacks.saturating_sub(1)));
            }
        }
        Some((given, next))
    }

    /// These points came back.
    pub fn give_back(&mut self, points: &[(DomId, u32)], next: Time, domains: &mut Numbered<DomId, Domain>) {
        for (domid, points) in points {
            self.short.retain(|other| other != domid);
            let Some(domain) = domains.get_mut(domid) else {
                continue;
            };
            domain.lacking = domain.lacking.saturating_sub(*points);
            if domain.lacking > 0 {
                self.short.push_back(*domid);
            }
        }
        self.due = (!self.short.is_empty()).then_some(next);
    }

    /// The domain is gone.
    pub fn forget(&mut self, domid: DomId) {
        self.lately.remove(&domid);
        self.short.retain(|other| *other != domid);
        if self.short.is_empty() {
            self.due = None;
        }
    }
}
