//! The end of a start that went wrong in Rust code: say where, then shut down with a crash reason.

use core::fmt::Write;
use core::panic::PanicInfo;
use xen_bindings::console::{self, Emergency};
use xen_bindings::{hypercall, shutdown};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Emergency, "\n{info}");
    end()
}

/// Boot cannot go on: says why, then ends.
pub fn fail(why: core::fmt::Arguments<'_>) -> ! {
    let _ = writeln!(Emergency, "xenstore-stubdom cannot start: {why}");
    end()
}

fn end() -> ! {
    if hypercall::available() {
        shutdown::crash();
    }
    console::emergency(b"no Xen to report to; resetting\n");
    reset()
}

/// Without Xen there is nobody to ask: an exception without handlers resets the machine.
fn reset() -> ! {
    let nothing = [0_u64; 2];
    // SAFETY: ends everything, which is what is wanted; only reached in ring 0 (a PV guest always has Xen).
    unsafe { core::arch::asm!("lidt [{}]", "ud2", in(reg) &nothing, options(noreturn)) }
}
