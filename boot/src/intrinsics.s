    .pushsection .text.intrinsics,"ax",@progbits

    .p2align 4
    .globl memcpy
memcpy:                          /* RDI to, RSI from, RDX length; returns RDI */
    mov %rdi, %rax
    cmp $16, %rdx
    jb 2f
    cmp $32, %rdx
    ja 1f
    movups (%rsi), %xmm0
    movups -16(%rsi,%rdx), %xmm1
    movups %xmm0, (%rdi)
    movups %xmm1, -16(%rdi,%rdx)
    ret
1:  cmp $512, %rdx
    jae 4f
    movups -16(%rsi,%rdx), %xmm1 /* the last 16 bytes, whatever the length */
    lea -16(%rdi,%rdx), %r8
3:  movups (%rsi), %xmm0
    movups %xmm0, (%rdi)
    add $16, %rsi
    add $16, %rdi
    cmp %r8, %rdi
    jb 3b
    movups %xmm1, (%r8)
    ret
4:  mov %rdx, %rcx
    rep movsb
    ret
2:  cmp $8, %rdx
    jb 5f
    mov (%rsi), %rcx
    mov -8(%rsi,%rdx), %r8
    mov %rcx, (%rdi)
    mov %r8, -8(%rdi,%rdx)
    ret
5:  cmp $4, %rdx
    jb 6f
    mov (%rsi), %ecx
    mov -4(%rsi,%rdx), %r8d
    mov %ecx, (%rdi)
    mov %r8d, -4(%rdi,%rdx)
    ret
6:  test %rdx, %rdx
    je 7f
    movzbl (%rsi), %ecx          /* 1 to 3 bytes: first, middle, last */
    movzbl -1(%rsi,%rdx), %r8d
    mov %rdx, %r9
    shr $1, %r9
    movzbl (%rsi,%r9), %r10d
    mov %cl, (%rdi)
    mov %r10b, (%rdi,%r9)
    mov %r8b, -1(%rdi,%rdx)
7:  ret

    .p2align 4
    .globl memmove
memmove:
    cmp $32, %rdx                /* short copies read everything before they write */
    jbe memcpy
    mov %rdi, %rax
    sub %rsi, %rax
    cmp %rdx, %rax               /* unsigned: below only if the target begins within the source */
    jae 1f
    mov %rdi, %rax
    movups (%rsi), %xmm1         /* backwards; the first 16 bytes last */
    mov %rdx, %rcx
2:  movups -16(%rsi,%rcx), %xmm0
    movups %xmm0, -16(%rdi,%rcx)
    sub $16, %rcx
    cmp $16, %rcx
    ja 2b
    movups %xmm1, (%rdi)
    ret
1:  mov %rdi, %rax
    cmp $512, %rdx
    jb 3f
    mov %rdx, %rcx
    rep movsb
    ret
3:  movups -16(%rsi,%rdx), %xmm1 /* forwards; the last 16 bytes were read first */
    lea -16(%rdi,%rdx), %r8
4:  movups (%rsi), %xmm0
    movups %xmm0, (%rdi)
    add $16, %rsi
    add $16, %rdi
    cmp %r8, %rdi
    jb 4b
    movups %xmm1, (%r8)
    ret

    .p2align 4
    .globl memset
memset:                          /* RDI to, SIL byte, RDX length; returns RDI */
    mov %rdi, %r9
    movzbl %sil, %eax
    cmp $16, %rdx
    jb 1f
    cmp $512, %rdx
    jae 3f
    mov $0x0101010101010101, %rcx
    imul %rcx, %rax
    movq %rax, %xmm0
    punpcklqdq %xmm0, %xmm0
    lea -16(%rdi,%rdx), %r8
2:  movups %xmm0, (%rdi)
    add $16, %rdi
    cmp %r8, %rdi
    jb 2b
    movups %xmm0, (%r8)
    mov %r9, %rax
    ret
1:  test %rdx, %rdx
    je 4f
5:  mov %al, (%rdi)
    inc %rdi
    dec %rdx
    jne 5b
4:  mov %r9, %rax
    ret
3:  mov %rdx, %rcx
    rep stosb
    mov %r9, %rax
    ret

    .p2align 4
    .globl memcmp
    .globl bcmp
memcmp:                          /* RDI, RSI, RDX length; returns the difference of the first two bytes that differ */
bcmp:
    xor %ecx, %ecx
1:  lea 8(%rcx), %r8
    cmp %rdx, %r8
    ja 2f
    mov (%rdi,%rcx), %rax
    mov (%rsi,%rcx), %r9
    cmp %r9, %rax
    jne 3f
    mov %r8, %rcx
    jmp 1b
2:  cmp %rdx, %rcx               /* the last, less than 8, bytes */
    je 4f
    movzbl (%rdi,%rcx), %eax
    movzbl (%rsi,%rcx), %r9d
    inc %rcx
    sub %r9d, %eax
    je 2b
    ret
3:  bswap %rax                   /* big endian: the first byte counts most */
    bswap %r9
    cmp %r9, %rax
    sbb %eax, %eax
    or $1, %eax
    ret
4:  xor %eax, %eax
    ret

    .p2align 4
    .globl strlen
strlen:
    xor %eax, %eax
1:  cmpb $0, (%rdi,%rax)
    je 2f
    inc %rax
    jmp 1b
2:  ret
    .popsection
