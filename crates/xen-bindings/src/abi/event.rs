//! Operations on event channels (`event_channel.h`).

use super::layout;

pub const EVTCHNOP_BIND_INTERDOMAIN: u64 = 0;
pub const EVTCHNOP_BIND_VIRQ: u64 = 1;
pub const EVTCHNOP_CLOSE: u64 = 3;
pub const EVTCHNOP_SEND: u64 = 4;
pub const EVTCHNOP_STATUS: u64 = 5;
pub const EVTCHNOP_ALLOC_UNBOUND: u64 = 6;

pub const EVTCHNSTAT_CLOSED: u32 = 0;
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
pub const EVTCHNSTAT_VIRQ: u32 = 4;

#[repr(C)]
#[derive(Default)]
pub struct EvtchnBindInterdomain {
    pub remote_dom: u16,
    pub remote_port: u32,
    /// Out.
    pub local_port: u32,
}
layout!(
    EvtchnBindInterdomain,
    12,
    remote_dom = 0,
    remote_port = 4,
    local_port = 8
);

#[repr(C)]
#[derive(Default)]
pub struct EvtchnBindVirq {
    pub virq: u32,
    pub vcpu: u32,
    /// Out.
    pub port: u32,
}
layout!(EvtchnBindVirq, 12, virq = 0, vcpu = 4, port = 8);

#[repr(C)]
#[derive(Default)]
pub struct EvtchnAllocUnbound {
    pub dom: u16,
    pub remote_dom: u16,
    /// Out.
    pub port: u32,
}
layout!(EvtchnAllocUnbound, 8, dom = 0, remote_dom = 2, port = 4);

/// Argument of `EVTCHNOP_send`, and with the same layout of `EVTCHNOP_close`.
#[repr(C)]
#[derive(Default)]
pub struct EvtchnPort {
    pub port: u32,
}
layout!(EvtchnPort, 4);

#[repr(C)]
#[derive(Default)]
pub struct EvtchnStatus {
    pub dom: u16,
    pub port: u32,
    /// Out: `EVTCHNSTAT_*`.
    pub status: u32,
    pub vcpu: u32,
    /// Out, by status: the other domain in the lower 16 bits (unbound, interdomain), or the number of the virtual interrupt.
    pub u_first: u32,
    /// Out: the other domain's port (interdomain).
    pub u_second: u32,
}
layout!(
    EvtchnStatus,
    24,
    dom = 0,
    port = 4,
    status = 8,
    vcpu = 12,
    u_first = 16,
    u_second = 20
);
