/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls without the C library's part: nothing is written but what the kernel writes, errno neither. Negative error
 * or result, as the kernel gives it. For code that runs on another's thread-local storage (keeper.h). */
#ifndef FUT_PLAIN_SYSCALL_H
#define FUT_PLAIN_SYSCALL_H

static inline long fut_plain_syscall5(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long fut_plain_syscall(long number, long a, long b, long c, long d)
{
    return fut_plain_syscall5(number, a, b, c, d, 0);
}

#endif
