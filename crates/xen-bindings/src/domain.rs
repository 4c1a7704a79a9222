//! What became of a domain: the interface for that differs between Xen's releases, so it is probed once.
//!
//! Since 4.21 `XEN_DOMCTL_get_domain_state` is part of the stable ABI: it names a unique id (a reused domid is told from the
//! old one) and lists the domains that changed. Before, `getdomaininfo` answers for one domain, under a version number that
//! depends on the release; a wrong number is refused at once and changes nothing, so all of them are tried.

use crate::abi::domctl::{
    CAP_CONTROL, CAP_XENSTORE, Domctl, GetDomainInfoHead, GetDomainState, INTERFACE_VERSIONS, STABLE_INTERFACE_VERSION,
    STATE_DEAD, STATE_DYING, STATE_EXIST, STATE_SHUTDOWN, XEN_DOMCTL_GET_DOMAIN_STATE, XEN_DOMCTL_GETDOMAININFO,
    XEN_DOMINF_DYING, XEN_DOMINF_SHUTDOWN, XEN_DOMINF_XS_DOMAIN,
};
use crate::abi::numbers::{DOMID_INVALID, hypercall as nr};
use crate::error::XenError;
use crate::hypercall;

pub use crate::evtchn::own_domid;

/// What Xen says about a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainState {
    /// The domain exists, perhaps only as a dead remainder.
    pub exists: bool,
    /// It has shut down (crashed and suspended included).
    pub shutdown: bool,
    /// It is being torn down.
    pub dying: bool,
    /// It is torn down; only references to its pages keep it.
    pub dead: bool,
    /// Differs between two domains that had the same domid; `None` before Xen 4.21.
    pub unique_id: Option<u64>,
    /// It may control others. Before Xen 4.21 nothing tells, and domain 0 counts as the only one.
    pub is_control: bool,
    /// It is a Xenstore domain.
    pub is_xenstore: bool,
}

impl DomainState {
    /// No such domain.
    pub const GONE: Self = Self {
        exists: false,
        shutdown: false,
        dying: false,
        dead: false,
        unique_id: None,
        is_control: false,
        is_xenstore: false,
    };
    /// A domain about which nothing can be learned: it counts as running.
    const UNKNOWN: Self = Self {
        exists: true,
        ..Self::GONE
    };

    fn of_state(answer: GetDomainState) -> Self {
        if answer.state & STATE_EXIST == 0 {
            return Self::GONE;
        }
        Self {
            exists: true,
            shutdown: answer.state & STATE_SHUTDOWN != 0,
            dying: answer.state & (STATE_DYING | STATE_DEAD) != 0,
            dead: answer.state & STATE_DEAD != 0,
            unique_id: Some(answer.unique_id),
            is_control: answer.caps & CAP_CONTROL != 0,
            is_xenstore: answer.caps & CAP_XENSTORE != 0,
        }
    }

    fn of_info(answer: GetDomainInfoHead) -> Self {
        // This flag means "torn down"; a domain that is only being torn down does not show.
        let dead = answer.flags & XEN_DOMINF_DYING != 0;
        Self {
            exists: true,
            shutdown: answer.flags & XEN_DOMINF_SHUTDOWN != 0,
            dying: dead,
            dead,
            unique_id: None,
            is_control: answer.domain == 0,
            is_xenstore: answer.flags & XEN_DOMINF_XS_DOMAIN != 0,
        }
    }
}

/// How the state of a domain is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// `XEN_DOMCTL_get_domain_state`, Xen 4.21 and later.
    DomainState,
    /// `XEN_DOMCTL_getdomaininfo` under this version.
    DomainInfo { version: u32 },
    /// Xen lets this domain ask nothing; the last answer. Then every domain counts as running.
    Nothing { answer: XenError },
}

/// Makes a domctl; the real one asks Xen, tests have another.
pub trait Control {
    /// Makes the operation; Xen's answer lands in `operation`.
    fn domctl(&self, operation: &mut Domctl) -> Result<(), XenError>;
}

/// Xen itself.
#[derive(Clone, Copy, Debug)]
pub struct Xen;

impl Control for Xen {
    fn domctl(&self, operation: &mut Domctl) -> Result<(), XenError> {
        let pointer = (&raw mut *operation).addr() as u64;
        // SAFETY: `Domctl` has the size of Xen's structure; this module makes only operations that read other domains' state.
        let value = unsafe { hypercall::raw(nr::DOMCTL, [pointer, 0, 0, 0, 0]) };
        hypercall::check(value).map(|_| ())
    }
}

/// Watches over the life of other domains.
#[derive(Clone, Copy, Debug)]
pub struct DomainWatch<C = Xen> {
    control: C,
    interface: Interface,
}

impl DomainWatch {
    /// Finds out which interface this Xen offers, by asking about domain `own`, which surely exists.
    #[must_use]
    pub fn probe(own: u16) -> Self {
        DomainWatch::probe_with(Xen, own)
    }
}

impl<C: Control> DomainWatch<C> {
    /// [`DomainWatch::probe`] with another way to make a domctl.
    #[must_use]
    pub fn probe_with(control: C, own: u16) -> Self {
        let interface = if get_domain_state(&control, own).is_ok() {
            Interface::DomainState
        } else {
            let mut answer = XenError::ENOSYS;
            let version = INTERFACE_VERSIONS.into_iter().find(|&version| {
                match get_domain_info(&control, version, own) {
                    Ok(_) => true,
                    Err(error) => {
                        // "Wrong version" says nothing about what this domain may do.
                        if error != XenError::EACCES || answer == XenError::ENOSYS {
                            answer = error;
                        }
                        false
                    }
                }
            });
            version.map_or(Interface::Nothing { answer }, |version| Interface::DomainInfo {
                version,
            })
        };
        Self { control, interface }
    }

    /// What [`DomainWatch::probe`] found.
    #[must_use]
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// The state of domain `domid`. Any error of Xen's means that there is no such domain: releases differ in which one.
    #[must_use]
    pub fn state(&self, domid: u16) -> DomainState {
        match self.interface {
            Interface::DomainState => get_domain_state(&self.control, domid)
                .map_or(DomainState::GONE, |(_, answer)| DomainState::of_state(answer)),
            Interface::DomainInfo { version } => {
                match get_domain_info(&self.control, version, domid) {
                    // Xen 4.17 answers with the next domain that exists.
                    Ok(answer) if answer.domain == domid => DomainState::of_info(answer),
                    _ => DomainState::GONE,
                }
            }
            Interface::Nothing { .. } => DomainState::UNKNOWN,
        }
    }

    /// A domain that changed its state since it was last reported here; `None`: no further one. Xen 4.21 and later, and only for the
    /// domain that has bound `VIRQ_DOM_EXC`; binding it marks all domains as changed.
    #[must_use]
    pub fn next_changed(&self) -> Option<(u16, DomainState)> {
        if self.interface != Interface::DomainState {
            return None;
        }
        get_domain_state(&self.control, DOMID_INVALID)
            .ok()
            .map(|(domid, answer)| (domid, DomainState::of_state(answer)))
    }
}

fn get_domain_state(control: &impl Control, domid: u16) -> Result<(u16, GetDomainState), XenError> {
    let mut operation = Domctl::new(XEN_DOMCTL_GET_DOMAIN_STATE, STABLE_INTERFACE_VERSION, domid);
    control.domctl(&mut operation)?;
    Ok((operation.domain, operation.domain_state()))
}

fn get_domain_info(control: &impl Control, version: u32, domid: u16) -> Result<GetDomainInfoHead, XenError> {
    let mut operation = Domctl::new(XEN_DOMCTL_GETDOMAININFO, version, domid);
    control.domctl(&mut operation)?;
    Ok(operation.domain_info())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    /// A Xen of one release with a few domains: (flags or state bits, capabilities, unique id) by domid.
    struct FakeXen {
        version: u32,
        stable: bool,
        allowed: bool,
        answers_with_the_next: bool,
        domains: BTreeMap<u16, (u32, u16, u64)>,
        changed: RefCell<BTreeSet<u16>>,
    }

    impl FakeXen {
        fn release(version: u32, stable: bool) -> Self {
            let domains = if stable {
                BTreeMap::from([
                    (0, (1, 1, 11)),
                    (5, (1, 4, 55)),
                    (7, (1 | 2, 0, 77)),
                    (8, (1 | 4 | 8, 0, 88)),
                ])
            } else {
                BTreeMap::from([(0, (0, 0, 0)), (5, (1 << 7, 0, 0)), (7, (1 << 2, 0, 0)), (8, (1, 0, 0))])
            };
            Self {
                version,
                stable,
                allowed: true,
                answers_with_the_next: false,
                domains,
                changed: BTreeSet::from([0, 9]).into(),
            }
        }
    }

    impl Control for FakeXen {
        fn domctl(&self, operation: &mut Domctl) -> Result<(), XenError> {
            let stable =
                self.stable && operation.cmd == XEN_DOMCTL_GET_DOMAIN_STATE && operation.interface_version == 0;
            if !stable && operation.interface_version != self.version {
                return Err(XenError::EACCES);
            }
            if !self.allowed {
                return Err(XenError::EPERM);
            }
            if operation.cmd == XEN_DOMCTL_GET_DOMAIN_STATE {
                if operation.domain == DOMID_INVALID {
                    operation.domain = self.changed.borrow_mut().pop_first().ok_or(XenError::ENOENT)?;
                } else if !self.domains.contains_key(&operation.domain) {
                    return Err(XenError::EPERM);
                }
                let (state, caps, unique_id) = self.domains.get(&operation.domain).copied().unwrap_or_default();
                operation.u[0] = u64::from(state) | u64::from(caps) << 16;
                operation.u[1] = unique_id;
                return Ok(());
            }
            let found = if self.answers_with_the_next {
                self.domains.range(operation.domain..).next()
            } else {
                self.domains.get_key_value(&operation.domain)
            };
            let (domid, (flags, ..)) = found.ok_or(XenError::ESRCH)?;
            operation.u[0] = u64::from(*domid) | u64::from(*flags) << 32;
            Ok(())
        }
    }

    #[test]
    fn the_stable_interface_is_preferred() {
        let watch = DomainWatch::probe_with(FakeXen::release(0x18, true), 5);
        assert_eq!(watch.interface(), Interface::DomainState);
    }

    #[test]
    fn every_older_version_is_found() {
        for version in 0x15..=0x18 {
            let watch = DomainWatch::probe_with(FakeXen::release(version, false), 5);
            assert_eq!(watch.interface(), Interface::DomainInfo { version });
        }
    }

    #[test]
    fn a_domain_that_may_not_ask_learns_why_and_takes_all_for_running() {
        let watch = DomainWatch::probe_with(
            FakeXen {
                allowed: false,
                ..FakeXen::release(0x17, false)
            },
            5,
        );
        assert_eq!(
            watch.interface(),
            Interface::Nothing {
                answer: XenError::EPERM
            }
        );
        assert_eq!(watch.state(7), DomainState::UNKNOWN);
        assert_eq!(watch.next_changed(), None);
        let watch = DomainWatch::probe_with(FakeXen::release(0x99, false), 5);
        assert_eq!(
            watch.interface(),
            Interface::Nothing {
                answer: XenError::EACCES
            }
        );
    }

    #[test]
    fn both_interfaces_tell_the_same_about_the_same_domains() {
        let new = DomainWatch::probe_with(FakeXen::release(0x18, true), 5);
        let old = DomainWatch::probe_with(FakeXen::release(0x17, false), 5);
        for domid in [0, 5, 7, 8, 9] {
            let state = new.state(domid);
            assert_eq!(
                state.unique_id,
                state
                    .exists
                    .then_some(u64::from(domid) * 11 + if domid == 0 { 11 } else { 0 })
            );
            assert_eq!(
                old.state(domid),
                DomainState {
                    unique_id: None,
                    ..state
                }
            );
        }
        assert!(new.state(0).is_control && !new.state(7).is_control);
        assert!(new.state(7).shutdown && new.state(8).dead && new.state(8).dying);
        assert!(new.state(5).is_xenstore && !new.state(7).is_xenstore);
    }

    #[test]
    fn the_answer_about_the_next_domain_is_not_taken_for_the_one_asked_about() {
        let watch = DomainWatch::probe_with(
            FakeXen {
                answers_with_the_next: true,
                ..FakeXen::release(0x15, false)
            },
            5,
        );
        assert_eq!(watch.state(6), DomainState::GONE);
        assert!(watch.state(7).exists);
    }

    #[test]
    fn changed_domains_are_listed_until_there_are_no_more() {
        let watch = DomainWatch::probe_with(FakeXen::release(0x18, true), 5);
        assert_eq!(
            watch.next_changed().map(|(domid, state)| (domid, state.exists)),
            Some((0, true))
        );
        assert_eq!(
            watch.next_changed(),
            Some((
                9,
                DomainState {
                    unique_id: None,
                    ..DomainState::GONE
                }
            ))
        );
        assert_eq!(watch.next_changed(), None);
    }
}
