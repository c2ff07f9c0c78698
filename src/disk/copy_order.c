/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "copy_order.h"

#include <string.h>

#define UNIT_BLOCKS (FUT_COPY_UNIT >> FUT_BLOCK_SHIFT)

static const char *const names[FUT_COPY_POLICIES] = { "sequential", "hot-first", "idle-only",
                                                      "none" };

FutCopyPolicy fut_copy_policy_from_name(const char *name)
{
    for (unsigned i = 0; i < FUT_COPY_POLICIES; i++) {
        if (strcmp(names[i], name) == 0) {
            return (FutCopyPolicy)i;
        }
    }
    return FUT_COPY_POLICIES;
}

const char *fut_copy_policy_name(FutCopyPolicy policy)
{
    return names[policy];
}

void fut_copy_order_init(FutCopyOrder *order, FutCopyPolicy policy)
{
    memset(order, 0, sizeof(*order));
    order->policy = policy;
    order->known_end = UINT64_MAX;
}

static void remove_hot(FutCopyOrder *order, unsigned at)
{
    order->hot_count--;
    memmove(&order->hot[at], &order->hot[at + 1], (order->hot_count - at) * sizeof(order->hot[0]));
}

/* Puts a unit last, where it is taken first. */
static void push_hot(FutCopyOrder *order, uint64_t unit)
{
    for (unsigned i = order->hot_count; i-- > 0;) {
        if (order->hot[i] == unit) {
            remove_hot(order, i);
            break;
        }
    }
    if (order->hot_count == FUT_HOT_UNITS) {
        remove_hot(order, 0);
    }
    order->hot[order->hot_count++] = unit;
}

/* First run of absent blocks in [from, end); false if there is none. */
static bool absent_in(const FutBlockMap *map, uint64_t from, uint64_t end, uint64_t *ret_first,
                      uint64_t *ret_end)
{
    end = MIN(end, map->blocks);
    *ret_first = from < end ? fut_block_map_next_absent(map, from, end) : end;
    *ret_end = *ret_first;
    while (*ret_end < end && fut_block_map_next_absent(map, *ret_end, end) == *ret_end) {
        (*ret_end)++;
    }
    return *ret_first < end;
}

static bool absent_in_unit(const FutBlockMap *map, uint64_t unit, uint64_t *ret_first,
                           uint64_t *ret_end)
{
    return absent_in(map, unit * UNIT_BLOCKS, (unit + 1) * UNIT_BLOCKS, ret_first, ret_end);
}

void fut_copy_order_read(FutCopyOrder *order, const FutBlockMap *map, uint64_t offset,
                         uint64_t length, bool missed)
{
    bool in_sequence = offset == order->read_end && offset > 0;
    uint64_t unit = (offset + length - 1) >> FUT_COPY_UNIT_SHIFT, first, end;

    order->run_length = in_sequence ? MIN(order->run_length + 1, FUT_AHEAD_MAX) : 0;
    order->read_end = offset + length;
    if (order->policy == FUT_COPY_NONE || order->policy == FUT_COPY_SEQUENTIAL) {
        return;
    }
    /* The nearest goes in last and is fetched first. */
    for (unsigned ahead = order->run_length; ahead > 0; ahead--) {
        if (absent_in_unit(map, unit + ahead, &first, &end)) {
            push_hot(order, unit + ahead);
        }
    }
    if (missed) {
        push_hot(order, unit);
    }
}

void fut_copy_order_want(FutCopyOrder *order, uint64_t offset)
{
    push_hot(order, offset >> FUT_COPY_UNIT_SHIFT);
}

static bool next_hot(FutCopyOrder *order, const FutBlockMap *map, uint64_t *ret_first,
                     uint64_t *ret_end)
{
    while (order->hot_count > 0) {
        if (absent_in_unit(map, order->hot[order->hot_count - 1], ret_first, ret_end)) {
            return true;
        }
        order->hot_count--;
    }
    return false;
}

/* Blocks whose fetch failed lie behind the cursor: once at the end, it starts again. */
static bool next_from(FutCopyOrder *order, const FutBlockMap *map, uint64_t from,
                      uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t end = MIN(map->blocks, order->known_end);
    uint64_t block = from < end ? fut_block_map_next_absent(map, from, end) : end;

    if (block >= end) {
        return false;
    }
    uint64_t unit_end = (block / UNIT_BLOCKS + 1) * UNIT_BLOCKS;
    absent_in(map, block, MIN(unit_end, end), ret_first, ret_end);
    order->cursor = *ret_end;
    return true;
}

bool fut_copy_order_next(FutCopyOrder *order, const FutBlockMap *map, uint64_t *ret_first,
                         uint64_t *ret_end)
{
    if (order->policy == FUT_COPY_NONE) {
        return false;
    }
    return (order->policy != FUT_COPY_SEQUENTIAL && next_hot(order, map, ret_first, ret_end)) ||
           next_from(order, map, order->cursor, ret_first, ret_end) ||
           next_from(order, map, 0, ret_first, ret_end);
}
