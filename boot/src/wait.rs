//! Waiting for events, in assembly, and what an upcall does.
//!
//! An upcall that comes while the domain waits makes the wait return, and what happened is found in the shared info page. One
//! that comes while the domain works means that the work took too long (`xen_bindings::events`): it is a trap like an exception.
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
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64};
use xen_bindings::abi::shared::SharedInfo;

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
/// The domain waits: an upcall is what it waits for.
static WAITING: AtomicBool = AtomicBool::new(false);

global_asm!(
    r#"
    .pushsection .text.wait,"ax",@progbits
    .globl wait_pv
wait_pv:
    movb $1, {waiting}(%rip)
    mov $29, %eax                /* sched_op */
    mov $1, %edi                 /* SCHEDOP_block */
    xor %esi, %esi
    syscall
    movb $1, {shared_info}+1
    movb $0, {waiting}(%rip)
    ret
    .globl upcall_pv
upcall_pv:                       /* frame: RCX, R11, RIP, CS, RFLAGS, RSP, SS */
    cmpb $0, {waiting}(%rip)
    je 1f
    incq {upcalls}(%rip)
    mov 16(%rsp), %rcx
    mov 40(%rsp), %rsp
    jmp *%rcx
1:  pop %rcx
    pop %r11
    push $0
    push ${hang}
    jmp trap_on_stack_of_traps

    .globl wait_pvh
wait_pvh:
    mov %rsp, {stack}(%rip)
    movb $1, {waiting}(%rip)
    sti
    hlt
    cli                          /* woken without an upcall */
    movb $0, {waiting}(%rip)
    ret
    .globl upcall_pvh
upcall_pvh:
    cmpb $0, {waiting}(%rip)
    je 1f
    movb $0, {shared_info}
    movb $0, {waiting}(%rip)
    incq {upcalls}(%rip)
    mov {stack}(%rip), %rsp      /* interrupts are off: the gate turned them off */
    ret
1:  push %rax
    mov {timer}(%rip), %eax
    bt %rax, {shared_info}+{pending}
    pop %rax
    jc 2f
    movb $0, {shared_info}       /* an upcall of the last wait, injected once more */
    iretq
2:  push $0
    push ${hang}
    jmp trap_on_stack_of_traps
    .popsection
"#,
    shared_info = const SHARED_INFO,
    upcalls = sym xen_bindings::counters::UPCALLS,
    stack = sym WAIT_STACK,
    waiting = sym WAITING,
    timer = sym xen_bindings::events::TIMER_PORT,
    pending = const offset_of!(SharedInfo, evtchn_pending),
    hang = const crate::traps::HANG,
    options(att_syntax),
);
