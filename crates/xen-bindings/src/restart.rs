//! Whether this start may be ended by a restart in place, and ways to end it on purpose.
//!
//! Until the kernel has state worth keeping, a panic or trap shuts the domain down with a crash reason; from then on boot
//! starts the image again in place. The permission is forgotten with every start (it lies in `.bss`).

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

static ALLOWED: AtomicBool = AtomicBool::new(false);

/// From now on a panic or trap restarts the image in place.
pub fn allow() {
    ALLOWED.store(true, Relaxed);
}

/// Whether [`allow`] was called in this start.
#[must_use]
pub fn allowed() -> bool {
    ALLOWED.load(Relaxed)
}

/// Executes an instruction that does not exist: an exception as a stray pointer or a broken table would cause it.
pub fn fault() -> ! {
    // SAFETY: raises #UD and never comes back; nothing is read or written.
    unsafe { core::arch::asm!("ud2", options(noreturn, nomem, nostack)) }
}

/// Fills the stack until its guard page stops it, as a recursion without end would.
pub fn overflow_stack() -> ! {
    // SAFETY: writes below the stack pointer only, where nothing is in use, until the page below the stack faults; never comes back.
    unsafe { core::arch::asm!("2: push rax", "jmp 2b", options(noreturn)) }
}

/// Works without end and without result.
pub fn hang() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
