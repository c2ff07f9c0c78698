/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps a store within its bounds: removes snapshots, then what only they referred to, and joins small files. */
#ifndef FUT_STORE_PRUNE_H
#define FUT_STORE_PRUNE_H

#include "prune_policy.h"

typedef struct {
    GArray *removed;       /* uint64_t: IDs, oldest first (with `dry_run`: that would be) */
    uint64_t bytes_before; /* of all pack files */
    uint64_t bytes_after;
    unsigned files_before, files_after;
    uint64_t written; /* bytes, by joining */
    bool
        readers; /* somebody reads so many of the files that all of them stay until the next prune */
    bool short_of_room; /* a bound is exceeded though only what has to stay is left */
    GPtrArray *
        damages; /* of char *, each one line: what of that which stays cannot be read or is missing, as far as it was come upon */
} FutPruneReport;

/* May be NULL; called now and then with what is done and what there is to do. False: stop here (nothing is lost by that). */
typedef bool (*FutStoreProgress)(void *opaque, uint64_t done, uint64_t all);

/* Takes the store's lock. `write_max`: bytes that joining may write in this call, 0 any. What is damaged is named in the report, stays as it is, and so does all
 * that it may lead to; if the newest snapshot of a VM is hit, the newest that is not stays, too. FUT_ERR_IO: a manifest cannot be read, so that it cannot be said at all what
 * is needed; nothing is removed then. */
bool fut_store_prune(FutStore *store, const FutPrunePolicy *policy, bool dry_run,
                     uint64_t write_max, FutStoreProgress progress, void *opaque,
                     FutPruneReport *ret, GError **error);
void fut_prune_report_done(FutPruneReport *report);

#endif
