/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages that a guest used last, as a snapshot keeps them: for each group of FUT_HOT_GROUP pages with one of them a number of 64 bits, little-endian:
 * the memory block's number, 16 bits, the group's, 32, and a bit for each page, the lowest for the first. The newest come first. It is a hint, and
 * read as one: what is wrong with it costs time at most. */
#ifndef FUT_HOT_LIST_H
#define FUT_HOT_LIST_H

#include "fut_buf.h"
#include "store.h"

#define FUT_HOT_GROUP 16u   /* pages: a frame of the store's has as many */
#define FUT_HOT_NOTED 2048u /* pages in a list that is written */
#define FUT_HOT_TAKEN 4096u /* pages taken from a list that is read */

typedef struct {
    unsigned block, area; /* number among the memory blocks, and among all areas of the snapshot */
    uint64_t group;
    uint16_t mask;
} FutHotGroup;

/* Appends. Keys as in pageset.h, FUT_HOT_NOTED at most. */
void fut_hot_list_encode(FutBuf *buf, const uint64_t *keys, size_t count);
/* Of FutHotGroup, in order, pages of this snapshot's memory only, each group once; empty if there is no list, or none that can be. Caller unrefs. */
GArray *fut_hot_list_decode(const FutSnapshotInfo *info);

#endif
