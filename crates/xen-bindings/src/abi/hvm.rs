//! Parameters of an HVM or PVH domain (`hvm/hvm_op.h`, `hvm/params.h`).

use super::layout;

pub const HVMOP_SET_PARAM: u64 = 0;
pub const HVMOP_GET_PARAM: u64 = 1;

pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
pub const HVM_PARAM_STORE_PFN: u32 = 1;
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;

/// Type "vector" in the top byte of `HVM_PARAM_CALLBACK_IRQ`; the vector is in the lowest byte.
pub const HVM_CALLBACK_TYPE_VECTOR: u64 = 2;

#[repr(C)]
#[derive(Default)]
pub struct XenHvmParam {
    pub domid: u16,
    pub pad: u16,
    pub index: u32,
    pub value: u64,
}
layout!(XenHvmParam, 16, domid = 0, index = 4, value = 8);
