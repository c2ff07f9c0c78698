/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of a restore needs no machine, done while the machine is made: the store is opened, and pages that the guest will want first are read. */
#ifndef FUT_RESTORE_EARLY_H
#define FUT_RESTORE_EARLY_H

#include "hot_pages.h"

typedef struct FutRestoreEarly FutRestoreEarly;

/* Begins with snapshot ID of "STORE@ID". `hot`: reads pages. Never fails: take() tells. */
FutRestoreEarly *fut_restore_early_new(const char *from, bool hot);
/* Waits until the store is open, and frees it. The caller closes what it gets. *ret_hot: NULL if there is no such thing. */
bool fut_restore_early_take(FutRestoreEarly *take_early, FutStore **ret_store,
                            FutSnapshot **ret_snapshot, FutHotPages **ret_hot, GError **error);
/* Takes NULL. */
void fut_restore_early_free(FutRestoreEarly *early);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutRestoreEarly, fut_restore_early_free)

#endif
