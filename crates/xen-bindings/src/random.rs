//! Numbers that nobody can foresee, from the processor's own source.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

/// The bit of CPUID leaf 1, ECX, that says RDRAND (Intel SDM volume 2, CPUID).
const RDRAND: u32 = 1 << 30;
/// So often it may have nothing in a row, before it counts as broken (Intel SDM volume 1, section 7.3.17).
const TRIES: u32 = 10;

/// A random number; none where the processor has no source of them, or a broken one.
pub fn random() -> Option<u64> {
    // SAFETY: every x86-64 processor has CPUID with leaf 1.
    #[allow(unused_unsafe, reason = "newer compilers know that it is safe")]
    let found = unsafe { __cpuid(1) };
    if found.ecx & RDRAND == 0 {
        return None;
    }
    (0..TRIES).find_map(|_| {
        let (number, there): (u64, u8);
        // SAFETY: the processor has the instruction, and it touches nothing but its operand and the flags.
        unsafe {
            asm!("rdrand {number}", "setc {there}", number = out(reg) number, there = out(reg_byte) there,
                options(nomem, nostack));
        }
        // All zeros or all ones are what broken ones have given.
        (there != 0 && number != 0 && number != u64::MAX).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_where_there_are_any() {
        let (one, other) = (random(), random());
        assert_eq!(one.is_some(), other.is_some());
        assert!(one.is_none() || one != other, "{one:?}");
    }
}
