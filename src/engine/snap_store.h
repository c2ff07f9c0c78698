/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store as the place where snapshots of a series go (series.h). One thread. */
#ifndef FUT_SNAP_STORE_H
#define FUT_SNAP_STORE_H

#include "series.h"
#include "store_prune.h"

typedef struct FutSnapStore FutSnapStore;

extern const FutSeriesSinkOps fut_snap_store_ops; /* of a FutSnapStore */

/* Opens the store, makes it where there is none. */
FutSnapStore *fut_snap_store_open(const char *path, GError **error);
/* Also a snapshot that was begun is given up. Takes NULL. */
void fut_snap_store_close(FutSnapStore *store);
/* Begins a snapshot of the VM: the difference to `parent`, or a full one (0; also when the parent is there no more or is damaged: *parent
 * becomes 0). Frees nothing of what it is given. FUT_ERR_STATE when less than min_free bytes would stay free. */
bool fut_snap_store_begin(FutSnapStore *store, FutVmm *vmm, const char *vm, const char *reason,
                          uint64_t *parent, uint64_t min_free, GError **error);
void fut_snap_store_abort(FutSnapStore *store);
/* Since the last begin: what is damaged of the parent. If the snapshot did not come about because of it a full one will do. NULL: nothing.
 * Borrowed. */
const char *fut_snap_store_damage(const FutSnapStore *store);
/* Between snapshots: as fut_store_prune(). */
bool fut_snap_store_prune(FutSnapStore *store, const FutPrunePolicy *policy, uint64_t write_max,
                          FutPruneReport *ret, GError **error);
/* After a commit: what the store says of it; borrowed. */
const FutSnapshotInfo *fut_snap_store_info(const FutSnapStore *store);

#endif
