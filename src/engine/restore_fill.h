/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All of a snapshot's memory at once, by as many threads as there are processors: what takes the time is unpacking. */
#ifndef FUT_RESTORE_FILL_H
#define FUT_RESTORE_FILL_H

#include "pageset.h"
#include "store.h"

/* Whatever `memory` held, it is the snapshot's afterwards: areas of memory in its order. Nobody else touches either meanwhile. *ret_pages: that
 * were not zeroes. FUT_ERR_IO: the store is damaged, and memory neither what it was nor what it should be. */
bool fut_restore_fill(FutSnapshot *snapshot, const FutMemory *memory, uint64_t *ret_pages,
                      GError **error);

#endif
