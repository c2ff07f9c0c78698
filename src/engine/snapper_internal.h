/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by snapper*.c. */
#ifndef FUT_SNAPPER_INTERNAL_H
#define FUT_SNAPPER_INTERNAL_H

#include "background.h"
#include "fut_error.h"
#include "guard.h"
#include "snap_policy.h"
#include "snap_store.h"
#include "snapper.h"
#include "store_prune.h"

/* So much stays free in the store's file system if nothing else is said. */
#define FUT_SNAPPER_MIN_FREE (128ull << 20)
/* The schedule's own snapshots, the only ones that it removes. */
#define FUT_SNAPPER_BY_SCHEDULE "by schedule"

typedef struct {
    char *store, *reason; /* owned */
    bool full, hash, soon;
    uint64_t asked_ns;
    uint64_t min_free;
    bool automatic;        /* the store is pruned after it */
    FutPrunePolicy bounds; /* of the schedule; without names */
} FutSnapOrder;

typedef struct {
    uint64_t number; /* of the order; 0: there was none */
    char *error;     /* owned; NULL: it is there */
    FutErr code;
    uint64_t id, parent, stored;
    uint64_t total_ns; /* from the order until it was durable */
    FutSeriesCut cut;
} FutSnapOutcome;

/* Somebody who waits for the end of one that was ordered. */
typedef struct {
    uint64_t number;
    bool done;
    uint64_t id;
    GError *error; /* owned; NULL: it is there */
} FutSnapWaiter;

struct FutSnapper {
    FutService *service;
    GMutex lock;
    GCond changed;
    GCond ended;           /* one has ended */
    FutSnapWaiter *waiter; /* borrowed; NULL: nobody waits */
    bool poked;
    bool wanted, running, end_wanted;
    FutSnapOrder order;
    uint64_t ordered; /* number of the newest order */
    FutSnapOutcome last;
    char *known_store; /* owned: the one used last */
    bool automatic;
    char *auto_store; /* owned */
    FutSnapClock clock;
    FutPrunePolicy bounds; /* of the schedule; without names */
    uint64_t removed;      /* snapshots that these let go */
    bool short_of_room;    /* the bounds cannot be kept */

    /* the snapper's thread */
    FutBackground background;
    FutSnapStore *store;
    char *store_path; /* owned */
    uint64_t parent;  /* the newest of this series in it; 0: none */
    uint64_t sampled_ns, sampled_cpu_ns;
    unsigned vcpus;
    uint64_t prune_due_ns;
    char *prune_error; /* owned; the last one that was told */

    FutGuard *guard; /* set before the engine uses it */
};

void fut_snap_order_clear(FutSnapOrder *order);
/* snapper_prune.c. The snapper's thread, after a snapshot by schedule, also one that did not come about: keeps the store within the
 * bounds. */
void fut_snapper_prune(FutSnapper *snapper, const FutSnapOrder *order);

#endif
