//! Tells a fault of the emulated processor from one of what runs on it.
//!
//! With software emulation, QEMU 7.2 lost a processor's flags in two of 24 boots on one AMD host, a busy one, and in none of hundreds on
//! others: they held what looked like an operand, the direction flag among it, and the kernel that ran at that moment copied backwards.
//! Its last words show flags that no processor can have.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Flags from this bit on are zero on every x86 processor.
const FIRST_RESERVED: u32 = 22;

/// The first line of a log that shows flags which cannot be. The processor itself stores them when a kernel fails, so no program brings
/// them about, unless it writes over that kernel's stack.
pub fn impossible_flags(log: &Path) -> Option<String> {
    let file = File::open(log).ok()?;
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.find(|line| shows_impossible_flags(line))
}

/// Of Linux ("EFLAGS: 00010246") and of Xen ("rflags: 0000000000010246").
fn shows_impossible_flags(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let Some((_, rest)) = lower.split_once("eflags: ").or_else(|| lower.split_once("rflags: ")) else {
        return false;
    };
    let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    u64::from_str_radix(&digits, 16).is_ok_and(|flags| digits.len() >= 8 && flags >> FIRST_RESERVED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_flags_are_impossible_and_all_others_are_not() {
        for line in [
            "[  139.206] RSP: 0018:ffffc90000023c40 EFLAGS: 06445682",
            "[    8.754] RSP: e02b:ffffffff82c03bb0 EFLAGS: 04444426",
            "(XEN) rflags: 0000000004444426   rip: ffff82d040203020",
        ] {
            assert!(shows_impossible_flags(line), "{line}");
        }
        for line in [
            "RSP: 002b:00007ffd EFLAGS: 00000246 ORIG_RAX: 0000000000000010",
            "EFLAGS: 003fffff",
            "(XEN) RFLAGS: 0000000000010246   CONTEXT: hypervisor",
            "flags: 0xdeadbeef00000000",
            "page flags: 17ffffc0000000",
        ] {
            assert!(!shows_impossible_flags(line), "{line}");
        }
    }
}
