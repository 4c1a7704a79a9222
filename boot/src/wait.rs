//! Waiting for events, in assembly: the only places where an upcall can come.
//!
//! No upcall handler runs Rust code; a handler makes the wait return, and what happened is found in the shared info page.
//!
//! PV: upcalls are masked (`evtchn_upcall_mask` = 1) but for `SCHEDOP_block`, which unmasks them and looks for pending events
//! in one step inside Xen, so none can slip in between. The upcall's handler drops Xen's frame and jumps back to where the
//! upcall hit; it changes only RCX and flags, which a hypercall loses anyway.
//!
//! PVH: interrupts are off but for `sti; hlt`, where the instruction behind `sti` still runs undisturbed, so an event that came
//! before is delivered in the `hlt` and wakes it. The handler clears `evtchn_upcall_pending`, or Xen would inject it for ever;
//! the selector bits stay for the next drain. It does not return through the interrupt's frame but straight to the caller of the
//! wait: the frame lies on a stack of its own, always at the same place, so an interrupt that is injected once more at the
//! handler's first instruction overwrites it with one that leads back there, an endless loop. (Seen: Xen 4.17 on QEMU's SVM,
//! about once in ten thousand waits.)

use crate::layout::SHARED_INFO;
use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

unsafe extern "sysv64" {
    /// Waits, PV.
    pub fn wait_pv();
    /// Waits, PVH.
    pub fn wait_pvh();
}

unsafe extern "C" {
    /// Entry of upcalls, PV.
    pub static upcall_pv: u8;
    /// Interrupt handler of upcalls, PVH.
    pub static upcall_pvh: u8;
}

/// Stack pointer of the PVH wait: its return address.
static WAIT_STACK: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r#"
    .pushsection .text.wait,"ax",@progbits
    .globl wait_pv
wait_pv:
    mov $29, %eax                /* sched_op */
    mov $1, %edi                 /* SCHEDOP_block */
    xor %esi, %esi
    syscall
    movb $1, {shared_info}+1
    ret
    .globl upcall_pv
upcall_pv:                       /* frame: RCX, R11, RIP, CS, RFLAGS, RSP, SS */
    incq {upcalls}(%rip)
    mov 16(%rsp), %rcx
    mov 40(%rsp), %rsp
    jmp *%rcx

    .globl wait_pvh
wait_pvh:
    mov %rsp, {stack}(%rip)
    sti
    hlt
    cli                          /* woken without an upcall */
    ret
    .globl upcall_pvh
upcall_pvh:
    movb $0, {shared_info}
    incq {upcalls}(%rip)
    mov {stack}(%rip), %rsp      /* interrupts are off: the gate turned them off */
    ret
    .popsection
"#,
    shared_info = const SHARED_INFO,
    upcalls = sym xen_bindings::counters::UPCALLS,
    stack = sym WAIT_STACK,
    options(att_syntax),
);
