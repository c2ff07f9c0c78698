/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The background copy's side: what to fetch, how fast, and what came. */
#include "fut_clock.h"
#include "reloc_internal.h"

/* With idle-only, how long the VM must have left the disk alone. */
#define IDLE_NS (500 * FUT_NS_PER_MS)

/* 0: the copy may go on; else when to ask again. `lock` is held. */
static uint64_t held_back(FutReloc *reloc, uint64_t now_ns)
{
    const FutCopyControl *control = &reloc->control;

    reloc->pace.busy_ns = __atomic_load_n(&reloc->busy_ns, __ATOMIC_RELAXED);
    if (!control->hurry && control->paused) {
        return UINT64_MAX;
    }
    if (!control->hurry && control->policy == FUT_COPY_IDLE_ONLY) {
        uint64_t idle_ns = fut_copy_pace_idle_ns(&reloc->pace, now_ns);
        if (idle_ns < IDLE_NS) {
            return IDLE_NS - idle_ns;
        }
    }
    return fut_copy_pace_wait(&reloc->pace, FUT_COPY_UNIT, now_ns);
}

bool fut_reloc_copy_next(FutReloc *reloc, uint64_t now_ns, FutCopyPiece *ret, uint64_t *ret_wait_ns)
{
    bool found = false;

    g_mutex_lock(&reloc->lock);
    *ret_wait_ns = held_back(reloc, now_ns);
    if (*ret_wait_ns == 0) {
        *ret_wait_ns = UINT64_MAX;
        found = fut_copy_order_next(&reloc->order, &reloc->map, &ret->first, &ret->end);
    }
    if (found) {
        ret->offset = ret->first << FUT_BLOCK_SHIFT;
        ret->length = (uint32_t)fut_reloc_bytes(reloc, ret->first, ret->end);
        fut_block_map_claim(&reloc->map, ret->first, ret->end);
        fut_copy_pace_sent(&reloc->pace, ret->length);
    }
    g_mutex_unlock(&reloc->lock);
    return found;
}

int fut_reloc_copy_store(FutReloc *reloc, const FutCopyPiece *piece, const void *data,
                         uint64_t latency_ns, uint64_t now_ns)
{
    int error = fut_reloc_store(reloc, piece->first, piece->end, data);

    FUT_COUNT(reloc, copied, piece->length);
    g_mutex_lock(&reloc->lock);
    fut_copy_pace_done(&reloc->pace, piece->length, latency_ns, now_ns);
    g_mutex_unlock(&reloc->lock);
    fut_reloc_unclaim(reloc, piece->first, piece->end);
    return error;
}

void fut_reloc_copy_drop(FutReloc *reloc, const FutCopyPiece *piece, uint64_t now_ns)
{
    g_mutex_lock(&reloc->lock);
    fut_copy_pace_done(&reloc->pace, piece->length, 0, now_ns);
    g_mutex_unlock(&reloc->lock);
    fut_reloc_unclaim(reloc, piece->first, piece->end);
}

int fut_reloc_hole(FutReloc *reloc, uint64_t length, uint64_t offset)
{
    uint64_t last = offset + length;
    uint64_t first = (offset + FUT_BLOCK_SIZE - 1) >> FUT_BLOCK_SHIFT;
    uint64_t end = last == reloc->size ? reloc->map.blocks : last >> FUT_BLOCK_SHIFT;

    if (first >= end) {
        return 0;
    }
    FUT_COUNT(reloc, holes, fut_reloc_bytes(reloc, first, end));
    return fut_reloc_store(reloc, first, end, NULL);
}

void fut_reloc_holes_known(FutReloc *reloc, uint64_t offset)
{
    g_mutex_lock(&reloc->lock);
    reloc->order.known_end = offset == UINT64_MAX ? UINT64_MAX : offset >> FUT_BLOCK_SHIFT;
    g_mutex_unlock(&reloc->lock);
}

FutCopyControl fut_reloc_control(FutReloc *reloc)
{
    g_mutex_lock(&reloc->lock);
    FutCopyControl control = reloc->control;
    g_mutex_unlock(&reloc->lock);
    return control;
}

void fut_reloc_set_control(FutReloc *reloc, const FutCopyControl *control, uint64_t now_ns)
{
    bool free_run = control->hurry;

    g_mutex_lock(&reloc->lock);
    reloc->control = *control;
    reloc->order.policy =
        free_run && control->policy == FUT_COPY_NONE ? FUT_COPY_HOT_FIRST : control->policy;
    fut_copy_pace_set_rate(&reloc->pace, control->adaptive && !free_run,
                           free_run ? 0 : control->rate, now_ns);
    g_mutex_unlock(&reloc->lock);
}
