//! The ring of the PV console (`io/console.h`).

use super::layout;

/// Bytes of the ring from the console to the guest.
pub const IN_SIZE: usize = 1024;
/// Bytes of the ring from the guest to the console.
pub const OUT_SIZE: usize = 2048;

/// Page shared with the console daemon. Indices run freely; data lies at the index modulo the size.
#[repr(C)]
pub struct XenconsInterface {
    pub input: [u8; IN_SIZE],
    pub output: [u8; OUT_SIZE],
    pub in_cons: u32,
    pub in_prod: u32,
    pub out_cons: u32,
    pub out_prod: u32,
}
layout!(
    XenconsInterface,
    3088,
    output = 1024,
    in_cons = 3072,
    in_prod = 3076,
    out_cons = 3080,
    out_prod = 3084
);
