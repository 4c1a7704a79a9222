//! Who may do what. Every decision about access is an answer of one [`Policy`]; the rest of the crate knows what to ask and
//! what becomes of a "no".
//!
//! A policy is code, not state: it is a `&'static dyn` in the server, named anew by whoever makes or restores one. Deciding
//! stays pure, because a policy sees only what it is asked about and keeps nothing; applying never asks it, so recovery
//! needs none and a record says the same under every policy. What a policy works with is durable state of the server: the
//! permissions and the label of each node, the targets of domains, and the options of [`Legacy`] in the configuration.

use serde::{Deserialize, Serialize};
use xenstore_wire::{DomId, MessageType, Permission};

use crate::tree::PermissionsView;

/// What someone may do to a node, or wants to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights(0);
    /// See its value, its children's names and its permissions.
    pub const READ: Rights = Rights(1);
    /// Change its value, remove it, make children.
    pub const WRITE: Rights = Rights(2);
    /// Change its permissions; needs to write too.
    pub const OWN: Rights = Rights(4 | 2);
    /// Everything.
    pub const ALL: Rights = Rights(7);

    fn of(permission: Permission) -> Rights {
        let read = if permission.access.allows_read() {
            Self::READ
        } else {
            Self::NONE
        };
        let write = if permission.access.allows_write() {
            Self::WRITE
        } else {
            Self::NONE
        };
        read.union(write)
    }

    /// Both.
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// All of `wanted` is granted.
    pub const fn include(self, wanted: Rights) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Some of `wanted` is granted.
    pub const fn touch(self, wanted: Rights) -> bool {
        self.0 & wanted.0 != 0
    }
}

/// Who wants something. These are facts; only a [`Policy`] draws conclusions from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The domain.
    pub domid: DomId,
    /// It is the domain that the configuration calls privileged: dom0, or another with `--priv-domid`.
    pub privileged: bool,
    /// The domain whose device model it is (SET_TARGET).
    pub target: Option<DomId>,
}

/// A list of permissions, wherever it lies. The first entry is the owner and what everyone else may do.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    /// In the tree.
    Stored(PermissionsView<'a>),
    /// In a list.
    List(&'a [Permission]),
}

impl<'a> Entries<'a> {
    /// All entries in order.
    pub fn iter(self) -> impl Iterator<Item = Permission> + Clone + 'a {
        let (stored, list) = match self {
            Entries::Stored(view) => (Some(view.iter()), None),
            Entries::List(list) => (None, Some(list.iter().copied())),
        };
        stored.into_iter().flatten().chain(list.into_iter().flatten())
    }
}

/// A node, or one of the two special nodes, as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its full path; `@introduceDomain` or `@releaseDomain`.
    pub name: &'a str,
    /// Its permissions.
    pub permissions: Entries<'a>,
    /// The label that the policy gave it when it was made; 0 = none. Special nodes have none.
    pub label: u32,
}

/// Decides. It is asked about every request and every node that a request uses, also when a transaction commits, and about
/// every event. What the server does by itself (the death of a domain) is not asked about.
///
/// Answers must depend on the arguments alone: a transaction asks again at its commit and takes another answer for a conflict.
pub trait Policy: Sync {
    /// `subject` may send requests of this kind: asked once before the request is read, without a domain, and where it is
    /// about another domain once more with that. A "no" is EACCES.
    fn may_request(&self, subject: &Subject, kind: MessageType, about: Option<DomId>) -> bool;

    /// What `subject` may do to this node. Reading needs [`Rights::READ`], writing and removing [`Rights::WRITE`], changing
    /// permissions [`Rights::OWN`]; to make a node needs WRITE on the nearest node above that exists. Who has none of the
    /// wanted rights on that one does not learn whether a node exists.
    fn rights(&self, subject: &Subject, node: &Object<'_>) -> Rights;

    /// It has all rights to all nodes, whatever these are: saves looking for those that entitle to an event.
    fn unrestricted(&self, _subject: &Subject) -> bool {
        false
    }

    /// The label of a node that `subject` makes below `parent`; 0 = none. Nothing on the wire shows or sets it.
    fn label_of_new(&self, _subject: &Subject, _path: &str, _parent: &Object<'_>) -> u32 {
        0
    }

    /// It may make a node with this label below `parent`, to which it may write. A "no" is EACCES.
    fn may_create(&self, _subject: &Subject, _path: &str, _label: u32, _parent: &Object<'_>) -> bool {
        true
    }

    /// The owner of a node that `subject` makes below a node of `above`.
    fn owner_of_new(&self, subject: &Subject, above: DomId) -> DomId;

    /// It may remove this node, which goes because it, or one above it to which `subject` may write, is removed. A "no" for
    /// any of them is EACCES.
    fn may_remove(&self, _subject: &Subject, _node: &Object<'_>) -> bool {
        true
    }

    /// It may give this node, whose permissions it may change, to the domain `to`. A "no" is EPERM.
    fn may_give(&self, subject: &Subject, node: &Object<'_>, to: DomId) -> bool;

    /// It may be told of an event: `seen` are the states of nodes that entitle to it, in C xenstored's rule: the node before
    /// (if it or its permissions changed), the node, its parent.
    fn may_see(&self, subject: &Subject, mut seen: &mut dyn Iterator<Item = Object<'_>>) -> bool {
        let mut readable = (&mut seen).map(|node| self.rights(subject, &node).include(Rights::READ));
        self.unrestricted(subject) || readable.any(|readable| readable)
    }

    /// No limits hold for it: neither those of domains nor time-outs, and the reserve of the store's memory is its.
    fn exempt(&self, subject: &Subject) -> bool;
}

/// What a domain with a target (SET_TARGET) may do to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum TargetRights {
    /// What the one or the other may do.
    #[default]
    Union,
    /// What the first entry says that names either, as in C xenstored: a target can take rights away.
    FirstMatch,
}

/// The policy of C xenstored: the privileged domain may do everything, the others what the permissions of nodes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Legacy {
    /// For domains with a target.
    pub target_rights: TargetRights,
}

impl Policy for Legacy {
    fn may_request(&self, subject: &Subject, kind: MessageType, about: Option<DomId>) -> bool {
        use MessageType as T;
        let for_all = match kind {
            T::Control
            | T::Introduce
            | T::Release
            | T::IsDomainIntroduced
            | T::Resume
            | T::SetTarget
            | T::SetFeature
            | T::GetQuota
            | T::SetQuota => false,
            T::GetFeature => about.is_none(),
            _ => true,
        };
        for_all || subject.privileged
    }

    fn rights(&self, subject: &Subject, node: &Object<'_>) -> Rights {
        if subject.privileged {
            return Rights::ALL;
        }
        let own = [subject.domid];
        let Some(target) = subject.target else {
            return rights_of(&own, node.permissions);
        };
        match self.target_rights {
            TargetRights::Union => rights_of(&own, node.permissions).union(rights_of(&[target], node.permissions)),
            TargetRights::FirstMatch => rights_of(&[subject.domid, target], node.permissions),
        }
    }

    fn unrestricted(&self, subject: &Subject) -> bool {
        subject.privileged
    }

    /// What an unprivileged domain makes is its own; the privileged one makes nodes for the domain below whose node they are.
    fn owner_of_new(&self, subject: &Subject, above: DomId) -> DomId {
        if subject.privileged { above } else { subject.domid }
    }

    /// XSA-352: only the privileged domain may give a node away.
    fn may_give(&self, subject: &Subject, node: &Object<'_>, to: DomId) -> bool {
        subject.privileged || node.permissions.iter().next().is_some_and(|owner| owner.domid == to)
    }

    fn exempt(&self, subject: &Subject) -> bool {
        subject.privileged
    }
}

/// The rights of whoever has one of these numbers: all as the owner, else those of the first entry that names one of them.
fn rights_of(domids: &[DomId], permissions: Entries<'_>) -> Rights {
    let matches = |entry: &Permission| domids.contains(&entry.domid) || entry.domid == DomId::ANY;
    let mut entries = permissions.iter();
    let Some(first) = entries.next() else {
        return Rights::NONE;
    };
    if matches(&first) {
        return Rights::ALL;
    }
    let named = entries.find(|entry| !entry.ignored && matches(entry));
    Rights::of(named.unwrap_or(first))
}

/// What holds for the server itself, when it tidies up after a domain that died.
struct Everything;

impl Policy for Everything {
    fn may_request(&self, _subject: &Subject, _kind: MessageType, _about: Option<DomId>) -> bool {
        true
    }
    fn rights(&self, _subject: &Subject, _node: &Object<'_>) -> Rights {
        Rights::ALL
    }
    fn unrestricted(&self, _subject: &Subject) -> bool {
        true
    }
    fn owner_of_new(&self, _subject: &Subject, above: DomId) -> DomId {
        above
    }
    fn may_give(&self, _subject: &Subject, _node: &Object<'_>, _to: DomId) -> bool {
        true
    }
    fn exempt(&self, _subject: &Subject) -> bool {
        true
    }
}

/// On whose behalf something is done, and the policy that judges it.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'s> {
    subject: Subject,
    policy: &'s dyn Policy,
}

impl<'s> Caller<'s> {
    pub fn new(subject: Subject, policy: &'s dyn Policy) -> Self {
        Caller { subject, policy }
    }

    /// The server itself.
    pub fn server(privileged: DomId) -> Self {
        let subject = Subject {
            domid: privileged,
            privileged: true,
            target: None,
        };
        Caller::new(subject, &Everything)
    }

    pub fn domid(&self) -> DomId {
        self.subject.domid
    }

    pub fn may_request(&self, kind: MessageType, about: Option<DomId>) -> bool {
        self.policy.may_request(&self.subject, kind, about)
    }

    pub fn rights(&self, node: &Object<'_>) -> Rights {
        self.policy.rights(&self.subject, node)
    }

    pub fn label_of_new(&self, path: &str, parent: &Object<'_>) -> u32 {
        self.policy.label_of_new(&self.subject, path, parent)
    }

    pub fn may_create(&self, path: &str, label: u32, parent: &Object<'_>) -> bool {
        self.policy.may_create(&self.subject, path, label, parent)
    }

    pub fn owner_of_new(&self, above: DomId) -> DomId {
        self.policy.owner_of_new(&self.subject, above)
    }

    pub fn may_remove(&self, node: &Object<'_>) -> bool {
        self.policy.may_remove(&self.subject, node)
    }

    pub fn may_give(&self, node: &Object<'_>, to: DomId) -> bool {
        self.policy.may_give(&self.subject, node, to)
    }

    pub fn may_see(&self, seen: &mut dyn Iterator<Item = Object<'_>>) -> bool {
        self.policy.may_see(&self.subject, seen)
    }

    pub fn exempt(&self) -> bool {
        self.policy.exempt(&self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenstore_wire::Access;

    fn entry(domid: u16, access: Access) -> Permission {
        Permission {
            domid: DomId(domid),
            access,
            ignored: false,
        }
    }

    fn guest(domid: u16) -> Subject {
        Subject {
            domid: DomId(domid),
            privileged: false,
            target: None,
        }
    }

    fn with_target(domid: u16, target: u16) -> Subject {
        Subject {
            target: Some(DomId(target)),
            ..guest(domid)
        }
    }

    fn rights(policy: Legacy, subject: Subject, list: &[Permission]) -> Rights {
        let node = Object {
            name: "/a",
            permissions: Entries::List(list),
            label: 0,
        };
        policy.rights(&subject, &node)
    }

    const UNION: Legacy = Legacy {
        target_rights: TargetRights::Union,
    };
    const FIRST: Legacy = Legacy {
        target_rights: TargetRights::FirstMatch,
    };

    #[test]
    fn the_owner_has_every_right_and_others_what_the_first_entry_says() {
        let list = [entry(1, Access::Read)];
        assert!(rights(UNION, guest(1), &list).include(Rights::OWN));
        assert!(rights(UNION, guest(2), &list).include(Rights::READ));
        assert!(!rights(UNION, guest(2), &list).touch(Rights::WRITE));
    }

    #[test]
    fn the_first_entry_that_names_the_caller_decides() {
        let list = [entry(0, Access::Both), entry(5, Access::None), entry(5, Access::Both)];
        assert_eq!(rights(UNION, guest(5), &list), Rights::NONE);
        let any = [
            entry(0, Access::None),
            entry(DomId::ANY.0, Access::Read),
            entry(5, Access::Write),
        ];
        assert_eq!(rights(UNION, guest(5), &any), Rights::READ);
    }

    #[test]
    fn xsa_322_an_entry_for_a_domain_that_was_gone_gives_nothing() {
        let stale = Permission {
            ignored: true,
            ..entry(5, Access::Both)
        };
        assert_eq!(rights(UNION, guest(5), &[entry(0, Access::None), stale]), Rights::NONE);
    }

    #[test]
    fn a_target_adds_rights_and_takes_none_away() {
        let list = [entry(0, Access::None), entry(7, Access::Read), entry(5, Access::Write)];
        let caller = with_target(5, 7);
        assert_eq!(rights(UNION, caller, &list), Rights::READ.union(Rights::WRITE));
        assert!(rights(UNION, caller, &[entry(7, Access::None)]).include(Rights::OWN));
    }

    #[test]
    fn where_the_first_match_counts_a_target_can_take_rights_away_as_in_c() {
        let caller = with_target(5, 7);
        let list = [entry(0, Access::None), entry(7, Access::Read), entry(5, Access::Write)];
        assert_eq!(rights(FIRST, caller, &list), Rights::READ);
        let list = [entry(0, Access::None), entry(5, Access::Write), entry(7, Access::Read)];
        assert_eq!(rights(FIRST, caller, &list), Rights::WRITE);
        assert!(rights(FIRST, caller, &[entry(7, Access::None)]).include(Rights::OWN));
        // Without a target both are the same.
        assert_eq!(rights(FIRST, guest(5), &list), rights(UNION, guest(5), &list));
    }

    #[test]
    fn who_names_a_domain_to_ask_for_its_features_must_be_privileged() {
        let asks = |subject: &Subject, about| UNION.may_request(subject, MessageType::GetFeature, about);
        assert!(asks(&guest(5), None));
        assert!(!asks(&guest(5), Some(DomId(5))) && !asks(&guest(5), Some(DomId(6))));
    }
}
