//! The first instructions: ELF notes that tell Xen how to start this image, the entries (PVH, PV, warm restart), the stacks.
//!
//! All three entries meet in `common_start`: fresh stack, pristine `.data`, zeroed `.bss`, clean FPU, then [`crate::start::main`].
//! A warm restart therefore runs the path that every cold start has tested.

use core::arch::global_asm;

/// How the image was entered, `boot_phase`.
pub const PHASE_COLD: u32 = 0;
/// `boot_phase` of a restart in place.
pub const PHASE_WARM: u32 = 1;
/// `boot_mode` of PV.
pub const MODE_PV: u32 = 1;

unsafe extern "C" {
    /// Runs the image again, in place; interrupts or upcalls must be off.
    pub safe fn warm_start() -> !;
    pub static image_start: u8;
    pub static text_end: u8;
    pub static data_load: u8;
    pub static data_start: u8;
    pub static bss_start: u8;
    pub static image_end: u8;
    pub static stack_guard: u8;
    pub static trap_stack_guard: u8;
    pub static trap_stack_top: u8;
    pub static second_stack_guard: u8;
    pub static second_stack_top: u8;
    pub static upcall_stack_guard: u8;
    pub static upcall_stack_top: u8;
    static boot_phase: u32;
}

/// This start is a restart in place: there is something to go on with, whatever has been cleared meanwhile.
pub fn is_warm() -> bool {
    // SAFETY: aligned, initialised by the entries, and changed by them alone.
    unsafe { boot_phase == PHASE_WARM }
}

global_asm!(
    r#"
.macro ELFNOTE type, description:vararg
    .pushsection .note.Xen,"a",@note
    .p2align 2
    .long 4, 9992f-9991f, \type
    .asciz "Xen"
9991: \description
9992: .p2align 2
    .popsection
.endm
    ELFNOTE 6,  .asciz "xenstore-stubdom"    /* GUEST_OS */
    ELFNOTE 7,  .asciz "0.1"                 /* GUEST_VERSION */
    ELFNOTE 5,  .asciz "xen-3.0"             /* XEN_VERSION */
    ELFNOTE 8,  .asciz "generic"             /* LOADER */
    ELFNOTE 3,  .quad 0                      /* VIRT_BASE */
    ELFNOTE 4,  .quad 0                      /* PADDR_OFFSET */
    ELFNOTE 1,  .quad start_pv               /* ENTRY */
    ELFNOTE 10, .asciz "!writable_page_tables|pae_pgdir_above_4gb"   /* FEATURES */
    ELFNOTE 17, .quad 1<<11                  /* SUPPORTED_FEATURES: dom0, for the self-test without any other domain */
    ELFNOTE 9,  .asciz "yes"                 /* PAE_MODE */
    ELFNOTE 18, .long start_pvh              /* PHYS32_ENTRY */

    .pushsection .text.head,"ax",@progbits
    .code64
    .globl start_pv
start_pv:                                    /* RSI: start_info */
    mov %rsi, boot_start_info(%rip)
    movl ${mode_pv}, boot_mode(%rip)
    movl ${cold}, boot_phase(%rip)
    jmp common_start

    .code32
    .globl start_pvh
start_pvh:                                   /* EBX: hvm_start_info; 32 bit, no paging, no stack */
    cld
    mov %ebx, boot_start_info
    movl $0, boot_start_info+4
    movl $2, boot_mode
    movl ${cold}, boot_phase
    mov $0x620, %eax                         /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $first_l4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx                    /* EFER: LME, NXE */
    rdmsr
    or $0x900, %eax
    wrmsr
    mov %cr0, %eax
    and $0xfffffffb, %eax                    /* not EM */
    or $0x80010022, %eax                     /* PG, WP, NE, MP */
    mov %eax, %cr0
    lgdt first_gdt_pointer
    ljmp $8, $1f
    .code64
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    jmp common_start

    .globl warm_start
warm_start:
    movl ${warm}, boot_phase(%rip)

common_start:
    cld
    lea stack_top(%rip), %rsp
    lea data_load(%rip), %rsi
    lea data_start(%rip), %rdi
    mov $data_length, %rcx
    rep movsb
    lea bss_start(%rip), %rdi
    mov $bss_end, %rcx
    sub %rdi, %rcx
    xor %eax, %eax
    rep stosb
    fninit
    movl $0x1f80, -8(%rsp)
    ldmxcsr -8(%rsp)
    xor %ebp, %ebp
    mov boot_phase(%rip), %edi
    mov boot_mode(%rip), %esi
    mov boot_start_info(%rip), %rdx
    call {main}
    ud2

    .globl unwind_resume
unwind_resume:                               /* referred to by the prebuilt liballoc, never reached */
    ud2
    .popsection

    .pushsection .noinit.entry,"aw",@nobits
    .p2align 12
    .globl stack_guard
stack_guard: .skip 4096
    .skip {stack_bytes}
    .globl stack_top
stack_top:
    .globl trap_stack_guard
trap_stack_guard: .skip 4096
    .skip 16384
    .globl trap_stack_top
trap_stack_top:
    .globl second_stack_guard
second_stack_guard: .skip 4096
    .skip 16384
    .globl second_stack_top
second_stack_top:
    .globl upcall_stack_guard
upcall_stack_guard: .skip 4096
    .skip 4096
    .globl upcall_stack_top
upcall_stack_top:
boot_start_info: .skip 8
boot_mode: .skip 4
    .globl boot_phase
boot_phase: .skip 4
    .popsection

    .pushsection .rodata.entry,"a",@progbits
    .p2align 4
first_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                 /* 64-bit code */
    .quad 0x00cf93000000ffff                 /* data */
first_gdt_pointer:
    .word 23
    .long first_gdt
    .long 0
    /* The first page tables (PVH): the lowest 4 GiB as they are, for as long as it takes to build better ones. */
    .p2align 12
first_l4:
    .quad first_l3 + 3
    .fill 511, 8, 0
first_l3:
    .quad first_l2 + 3
    .quad first_l2 + 0x1003
    .quad first_l2 + 0x2003
    .quad first_l2 + 0x3003
    .fill 508, 8, 0
first_l2:
    .set address, 0
    .rept 2048
    .quad address + 0x83
    .set address, address + 0x200000
    .endr
    .popsection
"#,
    main = sym crate::start::main,
    mode_pv = const MODE_PV,
    cold = const PHASE_COLD,
    warm = const PHASE_WARM,
    stack_bytes = const 128 * 1024,
    options(att_syntax),
);
