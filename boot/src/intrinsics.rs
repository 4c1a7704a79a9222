//! The memory functions that compiled Rust code calls by name. In assembly, so that no compiler can turn a loop in
//! `memcpy` into a call of `memcpy`.
//!
//! Up to 32 bytes: two overlapping moves of the largest size that fits. Above: 16 bytes at a time, and `rep movsb` from 512
//! bytes on, where its start-up has paid off.

use core::arch::global_asm;

global_asm!(include_str!("intrinsics.s"), options(att_syntax));
