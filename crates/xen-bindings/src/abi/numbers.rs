//! Hypercall numbers, domain identifiers and other constants of `xen.h` and `version.h`.

/// `__HYPERVISOR_*` (`xen.h`).
pub mod hypercall {
    pub const SET_TRAP_TABLE: u32 = 0;
    pub const MMU_UPDATE: u32 = 1;
    pub const SET_CALLBACKS: u32 = 4;
    pub const MEMORY_OP: u32 = 12;
    pub const UPDATE_VA_MAPPING: u32 = 14;
    pub const SET_TIMER_OP: u32 = 15;
    pub const XEN_VERSION: u32 = 17;
    pub const CONSOLE_IO: u32 = 18;
    pub const GRANT_TABLE_OP: u32 = 20;
    pub const IRET: u32 = 23;
    pub const VCPU_OP: u32 = 24;
    pub const SCHED_OP: u32 = 29;
    pub const EVENT_CHANNEL_OP: u32 = 32;
    pub const HVM_OP: u32 = 34;
    pub const DOMCTL: u32 = 36;
}

/// The caller itself, wherever a domain identifier is asked for.
pub const DOMID_SELF: u16 = 0x7ff0;
/// No domain; in `XEN_DOMCTL_get_domain_state`: the next domain whose state changed.
pub const DOMID_INVALID: u16 = 0x7ff4;
/// Domain identifiers below this one can belong to real domains.
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;

/// `VCPUOP_stop_periodic_timer` (`vcpu.h`).
pub const VCPUOP_STOP_PERIODIC_TIMER: u64 = 7;

/// Virtual interrupt of the one-shot timer, per vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// Virtual interrupt "a domain changed its state", global, sent to the handler that the toolstack named.
pub const VIRQ_DOM_EXC: u32 = 3;

/// `XENVER_version`: major in the upper, minor in the lower 16 bits.
pub const XENVER_VERSION: u64 = 0;

/// `CONSOLEIO_write`.
pub const CONSOLEIO_WRITE: u64 = 0;

/// Base of the CPUID leaves in which Xen announces itself; it may sit higher in steps of 0x100 (`arch-x86/cpuid.h`).
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// `SIF_INITDOMAIN` in `start_info.flags`: this is dom0.
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// `SIF_PRIVILEGED` in `start_info.flags`.
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// Flag of `hvm_start_info.flags` with the same meaning.
pub const XEN_HVM_START_INFO_INITDOMAIN: u32 = SIF_INITDOMAIN;
