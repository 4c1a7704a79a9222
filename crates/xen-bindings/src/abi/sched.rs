//! Operations on the run state of the caller (`sched.h`), and what dom0 may do with another's.

use super::layout;

pub const SCHEDOP_YIELD: u64 = 0;
pub const SCHEDOP_BLOCK: u64 = 1;
pub const SCHEDOP_SHUTDOWN: u64 = 2;
pub const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;
pub const SCHEDOP_WATCHDOG: u64 = 6;

pub const SHUTDOWN_POWEROFF: u32 = 0;
pub const SHUTDOWN_REBOOT: u32 = 1;
pub const SHUTDOWN_SUSPEND: u32 = 2;
pub const SHUTDOWN_CRASH: u32 = 3;
pub const SHUTDOWN_WATCHDOG: u32 = 4;
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

#[repr(C)]
pub struct SchedShutdown {
    pub reason: u32,
}
layout!(SchedShutdown, 4);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SchedRemoteShutdown {
    pub domain_id: u16,
    pub pad: u16,
    pub reason: u32,
}
layout!(SchedRemoteShutdown, 8, domain_id = 0, reason = 4);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SchedWatchdog {
    /// 0: take a new timer.
    pub id: u32,
    /// Seconds.
    pub timeout: u32,
}
layout!(SchedWatchdog, 8, id = 0, timeout = 4);
