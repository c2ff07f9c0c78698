/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the processors come to pages_main(): the first one from the boot loader (Multiboot 1), the others
 * through a trampoline below 1 MB. */
#define TRAMPOLINE 0x8000
#define LAPIC_COMMAND 0xfee00300
#define INIT_ALL_OTHERS 0x000c4500
#define START_ALL_OTHERS (0x000c4600 | TRAMPOLINE >> 12)
#define MAGIC 0x1badb002

    .text
    .code32
    .align 4
    .long MAGIC, 0, -MAGIC
    .globl _start
_start:
    cli
    mov $stacks + 4096, %esp
    cld
    mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $trampoline_end - trampoline, %ecx
    rep movsb
    movl $INIT_ALL_OTHERS, LAPIC_COMMAND
    mov $1000, %ecx
1:  pause
    dec %ecx
    jnz 1b
    movl $START_ALL_OTHERS, LAPIC_COMMAND
    push $0
    call pages_main

    .code16
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl TRAMPOLINE + gdt_register - trampoline
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $next_processor
    .align 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_register:
    .word . - gdt - 1
    .long TRAMPOLINE + gdt - trampoline
trampoline_end:

    .code32
next_processor:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $1, %eax
    lock xadd %eax, processors
    mov %eax, %ecx
    inc %ecx
    shl $12, %ecx
    lea stacks(%ecx), %esp
    push %eax
    call pages_main

    .data
processors:
    .long 1
    .bss
    .align 4096
stacks:
    .skip 16 * 4096
