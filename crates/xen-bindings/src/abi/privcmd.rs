//! How a program in dom0's Linux reaches Xen: the requests of `/dev/xen/privcmd` (Linux: `include/uapi/xen/privcmd.h`).

use super::layout;

/// `_IOC(_IOC_NONE, 'P', number, size)` of Linux on x86.
const fn request(number: u64, size: usize) -> u64 {
    (size as u64) << 16 | (b'P' as u64) << 8 | number
}

/// Makes a hypercall.
pub const IOCTL_PRIVCMD_HYPERCALL: u64 = request(0, size_of::<PrivcmdHypercall>());
/// Maps frames of another domain.
pub const IOCTL_PRIVCMD_MMAPBATCH_V2: u64 = request(4, size_of::<PrivcmdMmapbatchV2>());

/// Argument of [`IOCTL_PRIVCMD_HYPERCALL`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PrivcmdHypercall {
    pub op: u64,
    pub arg: [u64; 5],
}
layout!(PrivcmdHypercall, 48, op = 0, arg = 8);

/// Argument of [`IOCTL_PRIVCMD_MMAPBATCH_V2`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PrivcmdMmapbatchV2 {
    /// Frames.
    pub num: u32,
    pub dom: u16,
    pub pad: u16,
    /// Where they are to appear: in a mapping of the device.
    pub addr: u64,
    /// Address of `num` frame numbers of 64 bits.
    pub arr: u64,
    /// Address of `num` errno values of 32 bits, 0 or negative, one for each frame.
    pub err: u64,
}
layout!(PrivcmdMmapbatchV2, 32, num = 0, dom = 4, addr = 8, arr = 16, err = 24);
