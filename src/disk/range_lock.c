/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "range_lock.h"

void fut_range_lock_init(FutRangeLock *lock)
{
    g_mutex_init(&lock->mutex);
    g_cond_init(&lock->freed);
    lock->held = NULL;
}

void fut_range_lock_done(FutRangeLock *lock)
{
    g_assert(!lock->held);
    g_mutex_clear(&lock->mutex);
    g_cond_clear(&lock->freed);
}

static gboolean is_free(const FutRangeLock *lock, uint64_t first, uint64_t end)
{
    for (const FutRange *at = lock->held; at; at = at->next) {
        if (at->first < end && first < at->end) {
            return FALSE;
        }
    }
    return TRUE;
}

void fut_range_lock_take(FutRangeLock *lock, FutRange *range, uint64_t first, uint64_t end)
{
    range->first = first;
    range->end = end;
    g_mutex_lock(&lock->mutex);
    while (!is_free(lock, first, end)) {
        g_cond_wait(&lock->freed, &lock->mutex);
    }
    range->next = lock->held;
    lock->held = range;
    g_mutex_unlock(&lock->mutex);
}

void fut_range_lock_drop(FutRangeLock *lock, FutRange *range)
{
    g_mutex_lock(&lock->mutex);
    FutRange **at = &lock->held;
    while (*at != range) {
        g_assert(*at);
        at = &(*at)->next;
    }
    *at = range->next;
    g_cond_broadcast(&lock->freed);
    g_mutex_unlock(&lock->mutex);
}
