/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls without the C library's part: nothing is written but what the kernel writes, errno neither. Negative error
 * or result, as the kernel gives it. For code that runs on another's thread-local storage (keeper.h). */
#ifndef FUT_PLAIN_SYSCALL_H
#define FUT_PLAIN_SYSCALL_H

static inline long fut_plain_syscall(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

#endif
