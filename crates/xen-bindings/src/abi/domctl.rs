//! Control operations (`domctl.h`): the two that a Xenstore domain is allowed on other domains, and what dom0 uses to look at one that
//! has ended.
//!
//! `getdomaininfo` belongs to the versioned part of the ABI: 0x15 (Xen 4.17), 0x16 (4.18), 0x17 (4.19–4.21), 0x18 (4.22),
//! with the same fields at the same places in all of them. `get_domain_state` (since 4.21) is stable, version 0.

use super::layout;

pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
pub const XEN_DOMCTL_SENDTRIGGER: u32 = 28;
pub const XEN_DOMCTL_GET_DOMAIN_STATE: u32 = 90;

/// Interface version of the stable operations.
pub const STABLE_INTERFACE_VERSION: u32 = 0;
/// Versions of the other operations, from Xen 4.17 to 4.22.
pub const INTERFACE_VERSIONS: core::ops::RangeInclusive<u32> = 0x15..=0x18;

pub const XEN_DOMINF_DYING: u32 = 1 << 0;
pub const XEN_DOMINF_HVM_GUEST: u32 = 1 << 1;
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// Where in the flags the reason lies that a domain gave for its shutdown (`SHUTDOWN_*` in `sched.h`).
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
pub const XEN_DOMINF_SHUTDOWNMASK: u32 = 255;

pub const STATE_EXIST: u16 = 1 << 0;
pub const STATE_SHUTDOWN: u16 = 1 << 1;
pub const STATE_DYING: u16 = 1 << 2;
pub const STATE_DEAD: u16 = 1 << 3;
pub const CAP_CONTROL: u16 = 1 << 0;
pub const CAP_XENSTORE: u16 = 1 << 2;

/// Answer of `get_domain_state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetDomainState {
    pub state: u16,
    pub caps: u16,
    /// Must be 0.
    pub pad0: u32,
    /// Differs between any two domains that ever had the same domid.
    pub unique_id: u64,
}
layout!(GetDomainState, 16, state = 0, caps = 2, pad0 = 4, unique_id = 8);

/// The beginning of `getdomaininfo`'s answer; the rest is not read, and differs between builds of Xen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetDomainInfoHead {
    pub domain: u16,
    pub pad1: u16,
    pub flags: u32,
}
layout!(GetDomainInfoHead, 8, domain = 0, flags = 4);

/// Argument of `getvcpucontext`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GetVcpuContext {
    pub vcpu: u32,
    pub pad: u32,
    /// Address of a [`super::vcpu::VcpuGuestContext`] that Xen fills.
    pub ctxt: u64,
}
layout!(GetVcpuContext, 16, vcpu = 0, ctxt = 8);

/// The argument of a domctl; the union is 128 bytes, as 16 words.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Domctl {
    pub cmd: u32,
    pub interface_version: u32,
    pub domain: u16,
    pub pad: [u16; 3],
    pub u: [u64; 16],
}
layout!(Domctl, 144, cmd = 0, interface_version = 4, domain = 8, u = 16);

impl Domctl {
    /// An operation without input on `domain`.
    #[must_use]
    pub fn new(cmd: u32, interface_version: u32, domain: u16) -> Self {
        Self {
            cmd,
            interface_version,
            domain,
            ..Self::default()
        }
    }

    /// Puts the argument of `getvcpucontext` into the union.
    #[must_use]
    pub fn with_vcpu_context(mut self, argument: GetVcpuContext) -> Self {
        let [first, second, ..] = &mut self.u;
        (*first, *second) = (u64::from(argument.vcpu), argument.ctxt);
        self
    }

    /// The union as the answer of `get_domain_state`.
    #[must_use]
    pub fn domain_state(&self) -> GetDomainState {
        let [first, unique_id, ..] = self.u;
        GetDomainState {
            state: first as u16,
            caps: (first >> 16) as u16,
            pad0: (first >> 32) as u32,
            unique_id,
        }
    }

    /// The union's beginning as the answer of `getdomaininfo`.
    #[must_use]
    pub fn domain_info(&self) -> GetDomainInfoHead {
        let [first, ..] = self.u;
        GetDomainInfoHead {
            domain: first as u16,
            pad1: (first >> 16) as u16,
            flags: (first >> 32) as u32,
        }
    }
}
