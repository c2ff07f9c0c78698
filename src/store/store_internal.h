/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the store share. */
#ifndef FUT_STORE_INTERNAL_H
#define FUT_STORE_INTERNAL_H

#include "known_records.h"
#include "manifest.h"
#include "pack.h"
#include "pack_writer.h"
#include "store.h"

struct FutStore {
    FutStoreFs *fs;
    FutStoreMode mode;
    FutStoreIdentity identity;
    uint64_t next_pack, next_snapshot; /* as the file says */
    uint64_t spare_pack, spare_end;    /* pack numbers that are reserved for this process */
    uint64_t last_id;                  /* that this process tried to commit */
    bool locked;
    FutKnownRecords *known; /* NULL until something is written */
};

/* Names of all files. */
GPtrArray *fut_store_names(FutStore *store, GError **error);
/* All pack files as they are now. */
bool fut_store_packs(FutStore *store, FutPackSet *ret, GError **error);
/* The lock of who writes; not while this process has it. */
bool fut_store_lock(FutStore *store, unsigned wait_ms, GError **error);
void fut_store_unlock(FutStore *store);
/* With the lock: a number that was never used, and never will be again. */
bool fut_store_take_pack_number(FutStore *store, uint32_t *ret, GError **error);
/* With the lock: no snapshot gets an ID below this any more. */
bool fut_store_raise_snapshot(FutStore *store, uint64_t next, GError **error);
/* With the lock, nobody writing: removes temporary files and what joined files stand for. */
bool fut_store_tidy(FutStore *store, const FutPackSet *set, GError **error);

#endif
