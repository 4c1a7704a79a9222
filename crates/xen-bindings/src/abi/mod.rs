//! Xen's public ABI for x86_64, written by hand: numbers and memory layouts, nothing that acts.
//!
//! Every layout states its size and its offsets as compile-time assertions; `tests/abi_probe.rs` compares the same
//! figures, and every number, with a C compiler's view of the installed Xen headers. Structures that Xen 4.17's headers
//! do not have yet (`XEN_DOMCTL_get_domain_state`) have assertions only.
//!
//! Knows nothing about how a hypercall is made, and nothing about Xenstore.

pub mod boot;
pub mod console;
pub mod domctl;
pub mod event;
pub mod grant;
pub mod hvm;
pub mod memory;
pub mod numbers;
pub mod paging;
pub mod privcmd;
pub mod sched;
pub mod shared;
pub mod vcpu;

/// States size and offsets of a `repr(C)` structure; a wrong layout does not compile.
macro_rules! layout {
    ($type:ty, $size:expr $(, $($field:ident).+ = $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $($field).+) == $offset);)*
        };
    };
}
pub(crate) use layout;
