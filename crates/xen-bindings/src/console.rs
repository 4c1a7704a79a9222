//! Where this domain's text goes: the PV console's ring, or Xen's own log, or the debug port.
//!
//! The ring never blocks: bytes that find it full are lost and counted. The place is a global of this module, because the
//! report of a crash must reach it from anywhere; [`emergency`] is that door.

use crate::abi::console::{OUT_SIZE, XenconsInterface};
use crate::abi::numbers::{CONSOLEIO_WRITE, hypercall as nr};
use crate::evtchn::Port;
use crate::{counters, evtchn, hypercall, shutdown};
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};

static RING: AtomicPtr<XenconsInterface> = AtomicPtr::new(ptr::null_mut());
static RING_PORT: AtomicU32 = AtomicU32::new(0);
static DEBUG_PORT: AtomicBool = AtomicBool::new(false);
static XEN_LOG: AtomicBool = AtomicBool::new(false);

/// How often [`emergency`] gives the console daemon a chance to make room.
const EMERGENCY_YIELDS: u32 = 64;

/// Sends text to I/O port 0xE9, which Xen logs for HVM and PVH domains.
///
/// # Safety
/// The processor may execute `out` (not PV).
pub unsafe fn install_debug_port() {
    DEBUG_PORT.store(true, Ordering::Relaxed);
}

/// Sends text to Xen's own log, if Xen lets this domain (dom0; others in debug builds). Says whether it does.
pub fn install_xen_log() -> bool {
    let allowed = xen_log(b"");
    XEN_LOG.store(allowed, Ordering::Relaxed);
    allowed
}

/// Sends text to the ring of the PV console; port 0xE9 is then used in emergencies only.
///
/// # Safety
/// `page` is the mapped console page of this domain and stays so for ever; `port` is its event channel.
pub unsafe fn install_ring(page: *mut XenconsInterface, port: Port) {
    RING_PORT.store(port.0, Ordering::Relaxed);
    RING.store(page, Ordering::Relaxed);
}

fn xen_log(bytes: &[u8]) -> bool {
    let pointer = bytes.as_ptr().addr() as u64;
    // SAFETY: Xen reads `bytes.len()` bytes at the pointer.
    let value = unsafe { hypercall::raw(nr::CONSOLE_IO, [CONSOLEIO_WRITE, bytes.len() as u64, pointer, 0, 0]) };
    value >= 0
}

fn debug_port(bytes: &[u8]) {
    for &byte in bytes {
        // SAFETY: only reached after `install_debug_port`, whose caller promised that `out` may be executed.
        unsafe { core::arch::asm!("out 0xe9, al", in("al") byte, options(nomem, nostack, preserves_flags)) };
    }
}

/// Bytes that fit: `None` if the indices make no sense.
fn room(produced: u32, consumed: u32) -> Option<usize> {
    (OUT_SIZE as u32)
        .checked_sub(produced.wrapping_sub(consumed))
        .map(|free| free as usize)
}

/// Puts as many bytes as fit into the ring and returns how many.
///
/// # Safety
/// `ring` is the installed, mapped console page.
unsafe fn ring_write(ring: *mut XenconsInterface, bytes: &[u8]) -> usize {
    // SAFETY: the caller's promise. The other side writes `out_cons` only; every access is volatile, through raw pointers.
    unsafe {
        let consumed = ptr::read_volatile(&raw const (*ring).out_cons);
        let produced = ptr::read_volatile(&raw const (*ring).out_prod);
        let Some(free) = room(produced, consumed) else {
            return 0;
        };
        fence(Ordering::SeqCst);
        let count = free.min(bytes.len());
        let output = (&raw mut (*ring).output).cast::<u8>();
        let mut at = produced;
        for &byte in bytes.iter().take(count) {
            ptr::write_volatile(output.add(at as usize % OUT_SIZE), byte);
            at = at.wrapping_add(1);
        }
        fence(Ordering::SeqCst);
        ptr::write_volatile(&raw mut (*ring).out_prod, at);
        count
    }
}

fn write_ring_or_log(bytes: &[u8], patience: u32) -> usize {
    let ring = RING.load(Ordering::Relaxed);
    if ring.is_null() {
        return if XEN_LOG.load(Ordering::Relaxed) && xen_log(bytes) {
            bytes.len()
        } else {
            0
        };
    }
    let mut written = 0;
    for attempt in 0..=patience {
        let rest = bytes.get(written..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        if attempt > 0 {
            shutdown::yield_now();
        }
        // SAFETY: `install_ring`'s caller promised the page.
        written += unsafe { ring_write(ring, rest) };
        evtchn::notify(Port(RING_PORT.load(Ordering::Relaxed)));
    }
    written
}

/// The event channel of the console ring, if there is one.
#[must_use]
pub fn ring_port() -> Option<Port> {
    (!RING.load(Ordering::Relaxed).is_null()).then(|| Port(RING_PORT.load(Ordering::Relaxed)))
}

/// The domain's console. Text in, nothing out; lines end with `\n`.
#[derive(Debug)]
pub struct Console {
    lost: u64,
}

impl Console {
    /// Called by boot, once per (warm or cold) start.
    #[must_use]
    pub fn from_boot() -> Self {
        Self { lost: 0 }
    }

    /// Writes what fits and notifies the reader; the rest is lost and counted. Never blocks.
    pub fn write(&mut self, bytes: &[u8]) {
        let lost = (bytes.len() - report(bytes)) as u64;
        if lost != 0 {
            self.lost += lost;
            counters::console_lost(lost);
        }
    }

    /// Bytes lost by this value's [`Self::write`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

/// Text of last resort, from a panic or a trap: to every place there is, with a little patience for a full ring.
pub fn emergency(bytes: &[u8]) {
    // What goes to the debug port ends up in Xen's log, so a domain that writes there itself would say it twice.
    if DEBUG_PORT.load(Ordering::Relaxed) && !XEN_LOG.load(Ordering::Relaxed) {
        debug_port(bytes);
    }
    write_ring_or_log(bytes, EMERGENCY_YIELDS);
}

/// Text about an end after which the domain goes on: to its console, as far as that takes it at once, or else to the debug port. Xen
/// writes what comes from there to a serial line, for which everybody would have to wait.
/// Returns how many bytes were taken.
pub fn report(bytes: &[u8]) -> usize {
    let written = write_ring_or_log(bytes, 0);
    if RING.load(Ordering::Relaxed).is_null() && DEBUG_PORT.load(Ordering::Relaxed) && written == 0 {
        debug_port(bytes);
        return bytes.len();
    }
    written
}

/// One line for Xen's own log, as far as Xen takes any from this domain: from PVH by the debug port, from PV in debug builds only.
pub fn xen_log_line(line: &str) {
    if DEBUG_PORT.load(Ordering::Relaxed) && !XEN_LOG.load(Ordering::Relaxed) {
        debug_port(line.as_bytes());
        debug_port(b"\n");
    } else if !RING.load(Ordering::Relaxed).is_null() {
        // Where the ring is the console, Xen's log was not asked yet.
        xen_log(line.as_bytes());
        xen_log(b"\n");
    }
}

/// [`emergency`] as a formatter.
#[derive(Debug)]
pub struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        emergency(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    fn ring(produced: u32, consumed: u32) -> Box<XenconsInterface> {
        Box::new(XenconsInterface {
            input: [0; 1024],
            output: [0; OUT_SIZE],
            in_cons: 0,
            in_prod: 0,
            out_cons: consumed,
            out_prod: produced,
        })
    }

    fn write(ring: &mut XenconsInterface, bytes: &[u8]) -> usize {
        // SAFETY: an exclusive reference to memory of the right type.
        unsafe { ring_write(ring, bytes) }
    }

    #[test]
    fn text_goes_round_the_end_of_the_ring() {
        let mut ring = ring(u32::MAX - 1, u32::MAX - 1);
        assert_eq!(write(&mut ring, b"abc"), 3);
        assert_eq!(
            (ring.output[2046], ring.output[2047], ring.output[0], ring.out_prod),
            (b'a', b'b', b'c', 1)
        );
    }

    #[test]
    fn a_full_ring_takes_what_fits() {
        let mut ring = ring(2046, 0);
        assert_eq!(write(&mut ring, b"abc"), 2);
        assert_eq!(write(&mut ring, b"c"), 0);
        assert_eq!(ring.out_prod, 2048);
    }

    #[test]
    fn nonsense_indices_write_nothing() {
        let mut ring = ring(0, 1);
        assert_eq!(write(&mut ring, b"abc"), 0);
        assert_eq!(ring.out_prod, 0);
    }

    #[test]
    fn without_a_place_everything_is_counted_as_lost() {
        let mut console = Console::from_boot();
        console.write(b"hello");
        assert_eq!(console.lost(), 5);
    }
}
