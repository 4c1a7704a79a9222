//! How this domain ends: always with a reason that the toolstack can read.

use crate::abi::numbers::hypercall as nr;
use crate::abi::sched::{
    SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SchedShutdown,
};
use crate::hypercall;

fn shutdown(reason: u32) -> ! {
    loop {
        // SAFETY: `SCHEDOP_shutdown` reads the structure and does not return in a domain.
        let _ = unsafe { hypercall::operate(nr::SCHED_OP, SCHEDOP_SHUTDOWN, &mut SchedShutdown { reason }) };
        core::hint::spin_loop();
    }
}

/// Ends the domain with `SHUTDOWN_crash`. Under dom0 the host reboots or halts, as Xen's command line says.
pub fn crash() -> ! {
    shutdown(SHUTDOWN_CRASH)
}

/// Ends the domain with `SHUTDOWN_poweroff`.
pub fn poweroff() -> ! {
    shutdown(SHUTDOWN_POWEROFF)
}

/// Ends the domain with `SHUTDOWN_reboot`; as dom0: reboots the host.
pub fn reboot() -> ! {
    shutdown(SHUTDOWN_REBOOT)
}

/// Lets another vCPU of the host run.
pub fn yield_now() {
    // SAFETY: takes no argument, changes nothing.
    let _ = unsafe { hypercall::raw(nr::SCHED_OP, [SCHEDOP_YIELD, 0, 0, 0, 0]) };
}
