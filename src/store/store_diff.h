/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between two snapshots, and a copy of one as a store of its own. */
#ifndef FUT_STORE_DIFF_H
#define FUT_STORE_DIFF_H

#include "store_prune.h"

/* Units first .. first + count - 1 of an area (number in `b`) differ. In order. */
typedef void (*FutDiffSink)(void *opaque, unsigned area, uint64_t first, uint64_t count);
/* Areas that only one of them has, or with another length, are an error (FUT_ERR_MISMATCH). The device state is not compared: it differs. Costs
 * what differs, not what there is. */
bool fut_store_diff(FutStore *store, uint64_t a, uint64_t b, FutDiffSink sink, void *opaque,
                    GError **error);
/* Makes a store at `path` (which has to be empty, or missing) with that one snapshot, under its ID. */
bool fut_store_export(FutStore *store, uint64_t id, const char *path, FutStoreProgress progress,
                      void *opaque, GError **error);

#endif
