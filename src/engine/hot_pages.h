/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the pages that a snapshot's guest used last (hot_list.h) into memory of its own, by threads of its own, while the machine that is to have them is
 * still being made. A page that cannot be read is left out: who needs it will ask for it. */
#ifndef FUT_HOT_PAGES_H
#define FUT_HOT_PAGES_H

#include "hot_list.h"

typedef struct FutHotPages FutHotPages;

/* Begins to read; the snapshot is used during the call only. NULL: there is no list. */
FutHotPages *fut_hot_pages_new(const FutSnapshot *snapshot);

typedef enum {
    FUT_HOT_READY,
    FUT_HOT_NOT_YET,
    FUT_HOT_OVER
} FutHotNext;
/* The next group in the list's order. READY: *ret's mask has the pages that were read, `zero` those of them that are zeroes, and *ret_data their contents, the lowest first,
 * valid until fut_hot_pages_free(). One thread. */
FutHotNext fut_hot_pages_next(FutHotPages *hot, FutHotGroup *ret, uint16_t *ret_zero,
                              const uint8_t **ret_data);
/* Ends the threads. Takes NULL. */
void fut_hot_pages_free(FutHotPages *hot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutHotPages, fut_hot_pages_free)

#endif
