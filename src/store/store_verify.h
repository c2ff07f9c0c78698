/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads all of a store: what is damaged, and which snapshots that costs. */
#ifndef FUT_STORE_VERIFY_H
#define FUT_STORE_VERIFY_H

#include "store_prune.h"

typedef struct {
    char *what; /* one line, names the file */
    GArray *
        snapshots; /* uint64_t: IDs that cannot be restored because of it; may be empty, see `unread` */
} FutDamage;

typedef struct {
    GPtrArray *damages; /* of FutDamage */
    unsigned snapshots, files;
    unsigned
        unread; /* of the snapshots: their manifests are damaged, so that what they need is not known */
    uint64_t records, bytes; /* that were read */
} FutVerifyReport;

/* With `contents` also the hash of each snapshot's memory is computed, where one was taken at its cut, which proves the whole way from the guest to here.
 * False: it could not be done; that something is damaged is no error. */
bool fut_store_verify(FutStore *store, bool contents, FutStoreProgress progress, void *opaque,
                      FutVerifyReport *ret, GError **error);
void fut_verify_report_done(FutVerifyReport *report);

/* fut_memory_hash() of the memory as it was. `progress` (may be NULL) hears of bytes now and then; FUT_ERR_STATE when it says stop. */
bool fut_snapshot_memory_hash(FutSnapshot *snapshot, FutStoreProgress progress, void *opaque,
                              uint64_t *ret, GError **error);

#endif
