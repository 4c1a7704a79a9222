//! Hypercalls: one instruction, chosen once by [`select`], no hypercall page.
//!
//! Registers (Xen's hypercall ABI for 64-bit guests): number in RAX, arguments in RDI, RSI, RDX, R10, R8; the result in
//! RAX; the argument registers are lost. Before [`select`] — in a test on a host, for instance — every hypercall answers
//! `ENOSYS` without doing anything.

use crate::abi::numbers::hypercall as nr;
use crate::counters;
use crate::error::XenError;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The instruction that enters Xen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Instruction {
    /// PV.
    Syscall = 1,
    /// PVH on AMD or Hygon.
    Vmmcall = 2,
    /// PVH on any other vendor.
    Vmcall = 3,
}

static SELECTED: AtomicU8 = AtomicU8::new(0);

/// Chooses the instruction for all further hypercalls.
///
/// # Safety
/// The processor runs as a Xen guest of the kind that `instruction` belongs to.
pub unsafe fn select(instruction: Instruction) {
    SELECTED.store(instruction as u8, Relaxed);
}

/// Whether [`select`] was called, that is, whether this code runs on Xen.
#[must_use]
pub fn available() -> bool {
    SELECTED.load(Relaxed) != 0
}

macro_rules! enter {
    ($instruction:literal, $number:expr, $arguments:expr) => {{
        let [a, b, c, d, e]: [u64; 5] = $arguments;
        let result: i64;
        // `syscall` also overwrites RCX and R11. No `nostack`: a PV upcall may push below RSP.
        core::arch::asm!(
            $instruction,
            inlateout("rax") u64::from($number) => result,
            inlateout("rdi") a => _,
            inlateout("rsi") b => _,
            inlateout("rdx") c => _,
            inlateout("r10") d => _,
            inlateout("r8") e => _,
            lateout("rcx") _,
            lateout("r11") _,
        );
        result
    }};
}

/// Makes hypercall `number`; returns what Xen returned (negative: an errno).
///
/// # Safety
/// The arguments are what this hypercall expects: pointers lead to memory of the right size that this domain owns (never a
/// mapped grant: a PVH domain's hypercalls refuse those), valid for the writes Xen does, and the operation's effects on
/// page tables, traps and memory keep what the compiler relies on.
pub unsafe fn raw(number: u32, arguments: [u64; 5]) -> i64 {
    counters::hypercall();
    // SAFETY: `select`'s caller promised that the chosen instruction enters Xen; the rest is this function's contract.
    unsafe {
        match SELECTED.load(Relaxed) {
            1 => enter!("syscall", number, arguments),
            2 => enter!("vmmcall", number, arguments),
            3 => enter!("vmcall", number, arguments),
            _ => i64::from(XenError::ENOSYS.0),
        }
    }
}

/// Turns Xen's return value into a result; values that do not fit an errno become [`XenError`] all the same.
pub(crate) fn check(value: i64) -> Result<u64, XenError> {
    u64::try_from(value).map_err(|_| XenError(i32::try_from(value).unwrap_or(i32::MIN)))
}

/// A hypercall whose last argument is a structure that Xen reads and may write.
///
/// # Safety
/// `T` is the structure that operation `command` of hypercall `number` expects, and the effects keep what the compiler relies on.
pub(crate) unsafe fn operate<T>(number: u32, command: u64, argument: &mut T) -> Result<u64, XenError> {
    // SAFETY: the pointer comes from an exclusive reference to a structure of the promised type.
    check(unsafe { raw(number, [command, (&raw mut *argument).addr() as u64, 0, 0, 0]) })
}

/// Xen's version, (major, minor).
pub fn xen_version() -> Result<(u16, u16), XenError> {
    // SAFETY: `XENVER_version` takes no pointer and changes nothing.
    let value = check(unsafe { raw(nr::XEN_VERSION, [crate::abi::numbers::XENVER_VERSION, 0, 0, 0, 0]) })?;
    Ok(((value >> 16) as u16, value as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_xen_a_hypercall_is_enosys() {
        assert!(!available());
        assert_eq!(xen_version(), Err(XenError::ENOSYS));
    }

    #[test]
    fn results_and_errors_are_told_apart() {
        assert_eq!(check(0x4_0014), Ok(0x4_0014));
        assert_eq!(check(-17), Err(XenError::EEXIST));
        assert_eq!(check(i64::MIN), Err(XenError(i32::MIN)));
    }
}
