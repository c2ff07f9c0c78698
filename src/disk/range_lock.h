/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exclusive locks on ranges of blocks. Held for a local write and the marks after it, never while a source is waited for. */
#ifndef FUT_RANGE_LOCK_H
#define FUT_RANGE_LOCK_H

#include <glib.h>
#include <stdint.h>

typedef struct FutRange FutRange;
/* On the stack of whoever holds it. */
struct FutRange {
    uint64_t first, end;
    FutRange *next;
};

typedef struct {
    GMutex mutex;
    GCond freed;
    FutRange *held;
} FutRangeLock;

void fut_range_lock_init(FutRangeLock *lock);
/* Nothing is held any more. */
void fut_range_lock_done(FutRangeLock *lock);
/* Waits until nobody holds a block of [first, end), then holds them. Not recursive. */
void fut_range_lock_take(FutRangeLock *lock, FutRange *range, uint64_t first, uint64_t end);
void fut_range_lock_drop(FutRangeLock *lock, FutRange *range);

#endif
