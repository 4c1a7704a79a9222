//! Who may do what to a node. The only place where permissions are decided.

use xenstore_wire::{DomId, Permission};

/// What a caller may do to a node, or wants to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights(u8);

impl Rights {
    pub const NONE: Rights = Rights(0);
    pub const READ: Rights = Rights(1);
    pub const WRITE: Rights = Rights(2);
    /// Change permissions; needs to write too.
    pub const OWN: Rights = Rights(4 | 2);
    const ALL: Rights = Rights(7);

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

    fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// All of `wanted` is granted.
    pub fn include(self, wanted: Rights) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Some of `wanted` is granted.
    pub fn touch(self, wanted: Rights) -> bool {
        self.0 & wanted.0 != 0
    }
}

/// On whose behalf a request is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    pub domid: DomId,
    /// May do everything.
    pub privileged: bool,
    /// Has the rights of this domain too (SET_TARGET).
    pub target: Option<DomId>,
}

impl Caller {
    /// The rights that a permission list gives. With a target they are the union of both domains' rights; C takes the
    /// first entry that matches either, so that a target can take rights away.
    pub fn rights(&self, entries: impl Iterator<Item = Permission> + Clone) -> Rights {
        if self.privileged {
            return Rights::ALL;
        }
        let own = rights_of(self.domid, entries.clone());
        match self.target {
            Some(target) => own.union(rights_of(target, entries)),
            None => own,
        }
    }
}

fn rights_of(domid: DomId, mut entries: impl Iterator<Item = Permission>) -> Rights {
    let matches = |entry: &Permission| entry.domid == domid || entry.domid == DomId::ANY;
    let Some(first) = entries.next() else {
        return Rights::NONE;
    };
    if matches(&first) {
        return Rights::ALL;
    }
    let named = entries.find(|entry| !entry.ignored && matches(entry));
    Rights::of(named.unwrap_or(first))
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

    fn guest(domid: u16) -> Caller {
        Caller {
            domid: DomId(domid),
            privileged: false,
            target: None,
        }
    }

    #[test]
    fn the_owner_has_every_right_and_others_what_the_first_entry_says() {
        let list = [entry(1, Access::Read)];
        assert!(guest(1).rights(list.into_iter()).include(Rights::OWN));
        assert!(guest(2).rights(list.into_iter()).include(Rights::READ));
        assert!(!guest(2).rights(list.into_iter()).touch(Rights::WRITE));
    }

    #[test]
    fn the_first_entry_that_names_the_caller_decides() {
        let list = [entry(0, Access::Both), entry(5, Access::None), entry(5, Access::Both)];
        assert_eq!(guest(5).rights(list.into_iter()), Rights::NONE);
        let any = [
            entry(0, Access::None),
            entry(DomId::ANY.0, Access::Read),
            entry(5, Access::Write),
        ];
        assert_eq!(guest(5).rights(any.into_iter()), Rights::READ);
    }

    #[test]
    fn xsa_322_an_entry_for_a_domain_that_was_gone_gives_nothing() {
        let stale = Permission {
            ignored: true,
            ..entry(5, Access::Both)
        };
        assert_eq!(
            guest(5).rights([entry(0, Access::None), stale].into_iter()),
            Rights::NONE
        );
    }

    #[test]
    fn a_target_adds_rights_and_takes_none_away() {
        let caller = Caller {
            target: Some(DomId(7)),
            ..guest(5)
        };
        let list = [entry(0, Access::None), entry(7, Access::Read), entry(5, Access::Write)];
        assert!(caller.rights(list.into_iter()).include(Rights::READ));
        assert!(caller.rights(list.into_iter()).include(Rights::WRITE));
        assert!(caller.rights([entry(7, Access::None)].into_iter()).include(Rights::OWN));
    }
}
