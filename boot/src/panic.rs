//! The end of a start: say why, then start again in place if there is something to go on with, else shut down with a crash
//! reason.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use xen_bindings::console;
use xen_bindings::{hypercall, restart, shutdown};

use crate::{entry, kept};

/// A text that is collected first and then said in one piece; what is longer is cut off. Needs no heap.
struct Text {
    bytes: [u8; 1536],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let count = room.len().min(text.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

/// Says something: to every console there is if this is the end, else only as far as nobody has to wait for it.
pub fn say(text: fmt::Arguments<'_>) {
    say_to(if goes_on() { console::report } else { emergency }, text);
}

fn emergency(bytes: &[u8]) -> usize {
    console::emergency(bytes);
    bytes.len()
}

fn say_to(console: fn(&[u8]) -> usize, text: fmt::Arguments<'_>) {
    in_one_piece(text, |bytes| {
        console(bytes);
    });
}

/// Makes one text of its pieces: each that goes to a console by itself costs a notification.
pub fn in_one_piece(text: fmt::Arguments<'_>, out: impl FnOnce(&[u8])) {
    let mut whole = Text {
        bytes: [0; 1536],
        length: 0,
    };
    let _ = whole.write_fmt(text);
    out(&whole.bytes[..whole.length]);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kept::note_end(format_args!("{info}"));
    say(format_args!("\n{info}\n"));
    end()
}

/// Boot cannot go on: says why, then ends.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    kept::note_end(why);
    say(format_args!(
        concat!(env!("CARGO_BIN_NAME"), " cannot start: {}\n"),
        why
    ));
    end()
}

/// There have been starts enough: says why, and ends the domain.
pub fn give_up(why: fmt::Arguments<'_>) -> ! {
    say_to(
        emergency,
        format_args!(concat!(env!("CARGO_BIN_NAME"), " gives up: {}\n"), why),
    );
    shutdown::crash()
}

/// Another start follows where this one ends.
pub fn goes_on() -> bool {
    restart::allowed() || entry::is_warm()
}

/// Ends this start.
pub fn end() -> ! {
    if goes_on() {
        if restart::allowed() {
            kept::note_served();
        }
        entry::warm_start();
    }
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
