//! Exceptions: what the processor (PVH) or Xen (PV) does when our code is wrong.
//!
//! A trap is the end of this start: its handler reports everything it knows to the console and shuts the domain down with a
//! crash reason. It never returns into the code that trapped; only the self-test's [`probe`] gets control back, at a place it
//! prepared.
//!
//! PVH: every vector has a stack of its own kind (interrupt stack table), so a stack overflow still reaches its handler.
//! PV: Xen pushes the frame on the current stack; overflowing it into the guard page ends the domain.

use crate::entry;
use crate::layout::{PAGE_SIZE, SHARED_INFO};
use crate::panic::{end, say};
use crate::wait;
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use xen_bindings::abi::numbers::hypercall as nr;
use xen_bindings::abi::paging::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, TI_IF, TrapInfo};
use xen_bindings::abi::shared::SharedInfo;
use xen_bindings::{Mode, hypercall, shutdown};

/// Vectors of the processor's exceptions.
const EXCEPTIONS: usize = 32;
/// Vector of upcalls (PVH).
pub const UPCALL_VECTOR: u8 = 0x20;
const VECTORS: usize = UPCALL_VECTOR as usize + 1;
/// Distance between the entries of two vectors, bytes.
const STUB_BYTES: usize = 16;
/// "Vector" of PV's failsafe callback.
const FAILSAFE: u64 = 254;
/// "Vector" of an upcall that came while the domain worked: the work took longer than it may (`xen_bindings::events`).
pub const HANG: u64 = 253;

const NMI: usize = 2;
const DOUBLE_FAULT: usize = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: usize = 18;

/// Registers as the entry stubs push them.
#[repr(C)]
pub struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

unsafe extern "C" {
    static trap_stubs_pvh: [[u8; STUB_BYTES]; EXCEPTIONS];
    static trap_stubs_pv: [[u8; 2 * STUB_BYTES]; EXCEPTIONS];
    static failsafe_pv: u8;
    fn probe_resume() -> !;
}

unsafe extern "sysv64" {
    fn probe_call(function: extern "sysv64" fn(usize), argument: usize) -> u64;
}

global_asm!(
    r#"
    .pushsection .text.traps,"ax",@progbits
    .p2align 4
    .globl trap_stubs_pvh
trap_stubs_pvh:
    .set vector, 0
    .rept 32
    .p2align 4
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push $0
    .endif
    push $vector
    jmp trap_pvh
    .set vector, vector + 1
    .endr

    .p2align 5
    .globl trap_stubs_pv
trap_stubs_pv:                   /* Xen's frame has RCX and R11 on top */
    .set vector, 0
    .rept 32
    .p2align 5
    pop %rcx
    pop %r11
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push $0
    .endif
    push $vector
    jmp trap_pv
    .set vector, vector + 1
    .endr

    .globl failsafe_pv
failsafe_pv:                     /* frame: RCX, R11, DS, ES, FS, GS, then as usual */
    add $48, %rsp
    push $0
    push ${failsafe}
    jmp trap_pv

.macro PUSH_REGISTERS
    cld
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
.endm

trap_pvh:                        /* on the stack of the vector already */
    PUSH_REGISTERS
    and $-16, %rsp
    call {handler}
    ud2
trap_pv:
trap_on_stack_of_traps:
    PUSH_REGISTERS
    lea trap_stack_top(%rip), %rsp
    call {handler}
    ud2

    .globl probe_call
probe_call:                      /* RDI: function, RSI: its argument; returns 0, or 1 if it trapped */
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    sub $8, %rsp
    mov %rsp, {resume}(%rip)
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    xor %eax, %eax
1:  movq $0, {resume}(%rip)
    add $8, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .globl probe_resume
probe_resume:
    mov {resume}(%rip), %rsp
    mov $1, %eax
    jmp 1b
    .popsection
"#,
    handler = sym trap_handler,
    resume = sym PROBE_STACK,
    failsafe = const FAILSAFE,
    options(att_syntax),
);

/// Stack pointer of a running [`probe`], 0 if there is none.
static PROBE_STACK: AtomicU64 = AtomicU64::new(0);
static PROBE_VECTOR: AtomicU64 = AtomicU64::new(0);
static PROBE_ADDRESS: AtomicU64 = AtomicU64::new(0);
/// Traps whose handler has not ended.
static DEPTH: AtomicU32 = AtomicU32::new(0);
/// Whether CR2 must be read from the shared info page.
static PARAVIRTUAL: AtomicU32 = AtomicU32::new(0);

/// A trap that [`probe`] caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    pub vector: u64,
    /// Of a page fault; otherwise without meaning.
    pub address: usize,
}

/// Calls `function` and returns the trap that ended it, if one did. For the self-test only: what the function held stays as it was.
pub fn probe(function: extern "sysv64" fn(usize), argument: usize) -> Option<Trap> {
    // SAFETY: the assembly keeps all callee-saved registers and the stack pointer, whichever way the call ends; functions
    // that are probed own nothing that would have to be dropped.
    let trapped = unsafe { probe_call(function, argument) } != 0;
    trapped.then(|| Trap {
        vector: PROBE_VECTOR.load(Relaxed),
        address: PROBE_ADDRESS.load(Relaxed) as usize,
    })
}

fn fault_address() -> u64 {
    if PARAVIRTUAL.load(Relaxed) != 0 {
        let page = SHARED_INFO as *const SharedInfo;
        // SAFETY: traps are installed after the page is mapped, and it stays mapped.
        return unsafe { core::ptr::read_volatile(&raw const (*page).vcpu_info[0].arch.cr2) };
    }
    let address;
    // SAFETY: a PVH guest runs in ring 0 and may read CR2.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        2 => "NMI",
        3 => "breakpoint",
        6 => "invalid opcode",
        7 => "no FPU",
        8 => "double fault",
        12 => "stack fault",
        13 => "general protection",
        PAGE_FAULT => "page fault",
        18 => "machine check",
        FAILSAFE => "failsafe callback",
        HANG => "hang: the work took too long",
        _ => "exception",
    }
}

extern "sysv64" fn trap_handler(frame: &TrapFrame) -> ! {
    let address = fault_address();
    if PROBE_STACK.load(Relaxed) != 0 {
        PROBE_VECTOR.store(frame.vector, Relaxed);
        PROBE_ADDRESS.store(address, Relaxed);
        // SAFETY: a probe is running; its stack frame is the one that `probe_call` saved.
        unsafe { probe_resume() }
    }
    match DEPTH.fetch_add(1, Relaxed) {
        0 => {
            note(frame, address);
            report(frame, address);
        }
        // The report may have been hit by an NMI, which is no reason to end. A report that traps by itself is cut short.
        1 => xen_bindings::console::emergency(b"trap within the report of a trap\n"),
        _ => shutdown::crash(),
    }
    end()
}

/// What the next start is told of a trap.
fn note(frame: &TrapFrame, address: u64) {
    let f = frame;
    crate::kept::note_end(format_args!(
        "trap {} ({}) error {:#x} at rip {:#x} rsp {:#x} rbp {:#x} cr2 {address:#x}",
        f.vector,
        name(f.vector),
        f.error_code,
        f.rip,
        f.rsp,
        f.rbp
    ));
}

/// Everything there is to know about a trap, in one piece of text.
fn report(frame: &TrapFrame, address: u64) {
    let f = frame;
    let guards = [
        (
            &raw const entry::stack_guard,
            "\nThis is the page below the stack: it overflowed.",
        ),
        (
            &raw const entry::trap_stack_guard,
            "\nThis is the page below the stack of traps: it overflowed.",
        ),
    ];
    let page = address as usize & !(PAGE_SIZE - 1);
    let overflow = guards
        .iter()
        .find(|(guard, _)| f.vector == PAGE_FAULT && guard.addr() == page)
        .map_or("", |(_, text)| text);
    say(format_args!(
        "\ntrap {} ({}) error {:#x} at rip {:#x}, address {address:#x}\n\
         rsp {:016x} rflags {:08x} cs {:04x} ss {:04x} rbp {:016x}\n\
         rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n\
         rsi {:016x} rdi {:016x} r8  {:016x} r9  {:016x}\n\
         r10 {:016x} r11 {:016x} r12 {:016x} r13 {:016x}\n\
         r14 {:016x} r15 {:016x}{overflow}\n",
        f.vector,
        name(f.vector),
        f.error_code,
        f.rip,
        f.rsp,
        f.rflags,
        f.cs,
        f.ss,
        f.rbp,
        f.rax,
        f.rbx,
        f.rcx,
        f.rdx,
        f.rsi,
        f.rdi,
        f.r8,
        f.r9,
        f.r10,
        f.r11,
        f.r12,
        f.r13,
        f.r14,
        f.r15,
    ));
}

/// The processor's tables, PVH. They survive a warm restart in place and are read-only once loaded.
#[repr(C, align(4096))]
pub struct CpuTables {
    gdt: [u64; 5],
    tss: [u32; 26],
    idt: [[u64; 2]; VECTORS],
}

/// Where [`CpuTables`] lie.
pub struct TablesCell(UnsafeCell<CpuTables>);
// SAFETY: written by boot alone, before anything else runs.
unsafe impl Sync for TablesCell {}

#[unsafe(link_section = ".noinit.tables")]
pub static TABLES: TablesCell = TablesCell(UnsafeCell::new(CpuTables {
    gdt: [0; 5],
    tss: [0; 26],
    idt: [[0; 2]; VECTORS],
}));

impl TablesCell {
    pub fn address(&self) -> usize {
        self.0.get().addr()
    }
}

/// Interrupt gate to `handler` on stack `ist` (1–7) of the interrupt stack table.
fn gate(handler: usize, ist: u64) -> [u64; 2] {
    let handler = handler as u64;
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
    const CODE: u64 = 8 << 16;
    [
        handler & 0xffff | CODE | ist << 32 | PRESENT_INTERRUPT_GATE | (handler >> 16 & 0xffff) << 48,
        handler >> 32,
    ]
}

/// Prepares traps and upcalls, PVH, cold start. The page of [`TABLES`] can be made read-only afterwards.
///
/// # Safety
/// Runs once, in ring 0, with the image mapped at its linked addresses.
pub unsafe fn install_pvh() {
    // SAFETY: boot runs alone.
    let tables = unsafe { &mut *TABLES.0.get() };
    *tables = CpuTables {
        gdt: [0; 5],
        tss: [0; 26],
        idt: [[0; 2]; VECTORS],
    };
    let stacks = [
        &raw const entry::trap_stack_top,
        &raw const entry::second_stack_top,
        &raw const entry::upcall_stack_top,
    ];
    for (index, top) in stacks.into_iter().enumerate() {
        // Stack `n` of the interrupt stack table (n from 1) is at byte 36 + 8 (n - 1).
        tables.tss[9 + 2 * index] = top.addr() as u32;
    }
    // No I/O permission bitmap: its offset is the size of the segment.
    tables.tss[25] = 104 << 16;
    for (vector, entry) in tables.idt.iter_mut().enumerate().take(EXCEPTIONS) {
        let ist = if matches!(vector, NMI | DOUBLE_FAULT | MACHINE_CHECK) {
            2
        } else {
            1
        };
        *entry = gate((&raw const trap_stubs_pvh).addr() + vector * STUB_BYTES, ist);
    }
    tables.idt[UPCALL_VECTOR as usize] = gate((&raw const wait::upcall_pvh).addr(), 3);
    let tss = (&raw const tables.tss).addr() as u64;
    tables.gdt[1] = 0x00af_9b00_0000_ffff;
    tables.gdt[2] = 0x00cf_9300_0000_ffff;
    tables.gdt[3] = 103 | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    tables.gdt[4] = tss >> 32;
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let gdt = Pointer {
        limit: (size_of_val(&tables.gdt) - 1) as u16,
        base: (&raw const tables.gdt).addr() as u64,
    };
    let idt = Pointer {
        limit: (size_of_val(&tables.idt) - 1) as u16,
        base: (&raw const tables.idt).addr() as u64,
    };
    // SAFETY: the new code and data segments equal the ones in use, so no segment register has to be loaded again.
    unsafe {
        asm!("lgdt [{}]", "ltr {:x}", "lidt [{}]", in(reg) &gdt, in(reg) 0x18_u32, in(reg) &idt, options(nostack));
    }
}

/// Prepares traps and upcalls, PV.
///
/// # Safety
/// Runs as a PV guest, with the image mapped at its linked addresses and the shared info page in place.
pub unsafe fn install_pv() -> Result<(), xen_bindings::XenError> {
    PARAVIRTUAL.store(1, Relaxed);
    let mut table = [TrapInfo::default(); EXCEPTIONS + 1];
    for (vector, entry) in table.iter_mut().enumerate().take(EXCEPTIONS) {
        let address = ((&raw const trap_stubs_pv).addr() + vector * 2 * STUB_BYTES) as u64;
        *entry = TrapInfo {
            vector: vector as u8,
            flags: TI_IF,
            cs: FLAT_KERNEL_CS,
            address,
        };
    }
    let (upcall, failsafe) = (
        (&raw const wait::upcall_pv).addr() as u64,
        (&raw const failsafe_pv).addr() as u64,
    );
    // SAFETY: the table ends with an entry of zeros; the handlers are made for the frames that Xen builds.
    let results = unsafe {
        [
            hypercall::raw(nr::SET_TRAP_TABLE, [table.as_ptr().addr() as u64, 0, 0, 0, 0]),
            hypercall::raw(nr::SET_CALLBACKS, [upcall, failsafe, 0, 0, 0]),
        ]
    };
    results
        .into_iter()
        .find(|&result| result < 0)
        .map_or(Ok(()), |error| Err(xen_bindings::XenError(error as i32)))
}

/// Lets NMIs through again: the processor (PVH) and Xen (PV) hold them back from one NMI to the next return from an interrupt, and a
/// restart in place is none.
pub fn allow_nmi(mode: Mode) {
    match mode {
        // SAFETY: returns to the next instruction, with the same segments, stack and flags.
        Mode::Pvh => unsafe {
            asm!(
                "mov {stack}, rsp",
                "mov {scratch:e}, ss",
                "push {scratch}",
                "push {stack}",
                "pushfq",
                "mov {scratch:e}, cs",
                "push {scratch}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "iretq",
                "2:",
                stack = out(reg) _,
                scratch = out(reg) _,
            );
        },
        // SAFETY: hypercall iret goes on at the next instruction with the stack as it was; flags 2 keep upcalls off. The registers that
        // it loads from its frame are declared as changed.
        Mode::Pv => unsafe {
            asm!(
                "mov {stack}, rsp",
                "push {segment}",
                "push {stack}",
                "push 2",
                "push {code}",
                "lea {segment}, [rip + 2f]",
                "push {segment}",
                "push 0",
                "push 0",
                "push 0",
                "push 0",
                "mov eax, {iret}",
                "syscall",
                "2:",
                stack = out(reg) _,
                segment = inout(reg) u64::from(FLAT_KERNEL_SS) => _,
                code = in(reg) u64::from(FLAT_KERNEL_CS & !3),
                iret = const nr::IRET,
                out("rax") _,
                out("rcx") _,
                out("r11") _,
            );
        },
    }
}

/// The warm-restart part of installing: what lies in `.bss`.
pub fn reinstall(mode: Mode) {
    PARAVIRTUAL.store(u32::from(mode == Mode::Pv), Relaxed);
}
