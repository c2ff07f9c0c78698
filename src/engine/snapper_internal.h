/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by snapper*.c. */
#ifndef FUT_SNAPPER_INTERNAL_H
#define FUT_SNAPPER_INTERNAL_H

#include "guard.h"
#include "snap_policy.h"
#include "snap_store.h"
#include "snapper.h"

/* So much stays free in the store's file system if nothing else is said. */
#define FUT_SNAPPER_MIN_FREE (128ull << 20)

typedef struct {
    char *store, *reason; /* owned */
    bool full, hash;
    uint64_t min_free;
} FutSnapOrder;

typedef struct {
    uint64_t number; /* of the order; 0: there was none */
    char *error;     /* owned; NULL: it is there */
    FutErr code;
    uint64_t id, parent, stored;
    FutSeriesCut cut;
} FutSnapOutcome;

struct FutSnapper {
    FutService *service;
    GMutex lock;
    GCond changed;
    bool poked;
    bool wanted, running, end_wanted;
    FutSnapOrder order;
    uint64_t ordered; /* number of the newest order */
    FutSnapOutcome last;
    char *known_store; /* owned: the one used last */
    bool automatic;
    char *auto_store; /* owned */
    FutSnapClock clock;

    /* the snapper's thread */
    FutSnapStore *store;
    char *store_path; /* owned */
    uint64_t parent;  /* the newest of this series in it; 0: none */
    uint64_t sampled_ns, sampled_cpu_ns;
    unsigned vcpus;

    FutGuard *guard; /* set before the engine uses it */
};

void fut_snap_order_clear(FutSnapOrder *order);

#endif
