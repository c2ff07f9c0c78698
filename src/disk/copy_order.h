/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the background copy fetches next: front to back, and before that, if wanted, what lies around the VM's recent accesses. Pure; the
 * caller's lock. */
#ifndef FUT_COPY_ORDER_H
#define FUT_COPY_ORDER_H

#include "block_map.h"

#define FUT_COPY_UNIT_SHIFT 18
#define FUT_COPY_UNIT (1u << FUT_COPY_UNIT_SHIFT) /* bytes fetched at once, at most */
#define FUT_HOT_UNITS 64                          /* remembered; the oldest go first */
#define FUT_AHEAD_MAX 16                          /* units fetched ahead of a reader in sequence */

typedef enum {
    FUT_COPY_SEQUENTIAL,
    FUT_COPY_HOT_FIRST,
    FUT_COPY_IDLE_ONLY, /* hot first, and only while the VM leaves the disk alone */
    FUT_COPY_NONE,      /* only what the VM reads is fetched */
    FUT_COPY_POLICIES
} FutCopyPolicy;

/* "sequential", "hot-first", "idle-only", "none"; FUT_COPY_POLICIES for another word. */
FutCopyPolicy fut_copy_policy_from_name(const char *name);
const char *fut_copy_policy_name(FutCopyPolicy policy);

typedef struct {
    FutCopyPolicy policy;
    uint64_t cursor;     /* block where the way from front to back goes on */
    uint64_t known_end;  /* blocks before this one have had their holes marked */
    uint64_t read_end;   /* bytes: where the last read ended */
    unsigned run_length; /* reads in sequence up to there */
    unsigned hot_count;
    uint64_t hot[FUT_HOT_UNITS]; /* unit numbers, the most recent last */
} FutCopyOrder;

void fut_copy_order_init(FutCopyOrder *order, FutCopyPolicy policy);
/* The VM has read there; `missed`: some of it had to be fetched. */
void fut_copy_order_read(FutCopyOrder *order, const FutBlockMap *map, uint64_t offset,
                         uint64_t length, bool missed);
/* A block is partly here: its rest is wanted soon. */
void fut_copy_order_want(FutCopyOrder *order, uint64_t offset);
/* Blocks [*ret_first, *ret_end) of one unit, neither valid nor claimed. False: none for now. */
bool fut_copy_order_next(FutCopyOrder *order, const FutBlockMap *map, uint64_t *ret_first,
                         uint64_t *ret_end);

#endif
