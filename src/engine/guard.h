/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Protects memory of this process against writing, by userfaultfd: who writes to a protected page, a system call included, waits until
 * the owner has let it go. Needs the right to handle faults of the kernel: root, CAP_SYS_PTRACE or access to /dev/userfaultfd. */
#ifndef FUT_GUARD_H
#define FUT_GUARD_H

#include "pageset.h"

typedef struct FutGuard FutGuard;
/* Somebody waits to write there. The guard's own thread. False: not yet, it calls again in a fraction of a millisecond. */
typedef bool (*FutGuardFault)(void *opaque, const uint8_t *address);

/* NULL: this kernel, or this process's rights, do not allow it. */
FutGuard *fut_guard_new(const FutMemory *memory, FutGuardFault fault, void *opaque);
/* Nobody waits any more, and the thread has ended. Takes NULL. */
void fut_guard_free(FutGuard *guard);
/* Whole pages. Pages that were never touched are not protected. Any thread. */
bool fut_guard_set(FutGuard *guard, uint8_t *at, size_t length, bool on);

#endif
