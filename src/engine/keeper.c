/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: a process that shares the VMM's memory so that a killed VMM closes its sockets first.
 *
 * It runs on the parent's thread-local storage, so it makes plain system calls only, none of which can fail in a way
 * that would write errno, and no signal can reach it. */
#include "keeper.h"

#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_SIZE 16384
/* The parent's threads die one after the other; the memory has to outlive the last of them. */
#define LINGER_MS 200

static long plain_syscall(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static int keep(void *opaque)
{
    pid_t parent = (pid_t)(intptr_t)opaque;
    struct timespec linger = { 0, LINGER_MS * 1000000l };
    uint64_t parent_died = UINT64_C(1) << (SIGUSR1 - 1);

    plain_syscall(SYS_close_range, 0, UINT32_MAX, 0, 0);
    plain_syscall(SYS_prctl, PR_SET_NAME, (long)"futago-keeper", 0, 0);
    plain_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR1, 0, 0);
    while (plain_syscall(SYS_getppid, 0, 0, 0, 0) == parent &&
           plain_syscall(SYS_rt_sigtimedwait, (long)&parent_died, 0, 0, sizeof(parent_died)) < 0) {
    }
    plain_syscall(SYS_nanosleep, (long)&linger, 0, 0, 0);
    plain_syscall(SYS_exit_group, 0, 0, 0, 0);
    return 0;
}

/* A sandboxed VMM (libvirt's default) would be killed for starting a process. */
static bool sandboxed(void)
{
    g_autofree char *status = NULL;

    return !g_file_get_contents("/proc/self/status", &status, NULL, NULL) ||
           !strstr(status, "\nSeccomp:\t0\n");
}

void fut_keeper_start(void)
{
    sigset_t all, before;

    if (sandboxed()) {
        return;
    }
    uint8_t *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    if (stack == MAP_FAILED) {
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = clone(keep, stack + STACK_SIZE, CLONE_VM, (void *)(intptr_t)getpid());
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        munmap(stack, STACK_SIZE);
    }
}
