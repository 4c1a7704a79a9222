//! Operations on the caller's own run state (`sched.h`).

use super::layout;

pub const SCHEDOP_YIELD: u64 = 0;
pub const SCHEDOP_BLOCK: u64 = 1;
pub const SCHEDOP_SHUTDOWN: u64 = 2;

pub const SHUTDOWN_POWEROFF: u32 = 0;
pub const SHUTDOWN_REBOOT: u32 = 1;
pub const SHUTDOWN_CRASH: u32 = 3;

#[repr(C)]
pub struct SchedShutdown {
    pub reason: u32,
}
layout!(SchedShutdown, 4);
