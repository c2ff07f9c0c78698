/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which snapshots stay. Pure. */
#ifndef FUT_PRUNE_POLICY_H
#define FUT_PRUNE_POLICY_H

#include "store.h"

/* A bound that is 0 is none. keep, hourly and daily together: what any of them wants stays; all 0: everything. The newest snapshot of each VM
 * stays whatever is said. */
typedef struct {
    unsigned keep;      /* so many, the newest */
    unsigned hourly;    /* the newest of each hour (UTC) that has one, for so many hours */
    unsigned daily;     /* likewise for days */
    uint64_t max_bytes; /* of all files: the oldest go first */
    uint64_t min_free;  /* bytes of the file system that have to stay free: likewise */
    const char *
        vm; /* only snapshots of that VM may go, and only they count for the three above; NULL: of any */
    const char *reason; /* likewise: that were taken for that reason */
} FutPrunePolicy;

/* `all`: GPtrArray of FutSnapshotInfo, oldest first. stays[i] tells what keep, hourly and daily say. */
void fut_prune_thin(const GPtrArray *all, const FutPrunePolicy *policy, bool *stays);
/* Does the policy say anything about it? */
bool fut_prune_may_go(const FutSnapshotInfo *info, const FutPrunePolicy *policy);
/* Is it the newest of its VM? */
bool fut_prune_is_newest(const GPtrArray *all, guint i);

#endif
