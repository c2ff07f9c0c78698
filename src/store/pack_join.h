/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fewer and smaller pack files: what nobody refers to is left out, and neighbours become one, so that the number of files stays small however
 * many snapshots there were. */
#ifndef FUT_PACK_JOIN_H
#define FUT_PACK_JOIN_H

#include "store_internal.h"
#include "store_marks.h"

typedef struct {
    guint first, count; /* packs of the set; count 0: nothing to do */
} FutJoin;

/* Stored bytes of a pack's marked records, and how many frames have one. */
uint64_t fut_join_live_bytes(const FutMarks *marks, guint pack, size_t *ret_frames);
/* What to do next, from pack `from` on: one pack of which more than half is not needed, or eight or more neighbours of about the same size. Packs
 * of which nothing is needed count as nothing. `tight`: also a pack of which an eighth is not needed, to gain room. A file that is damaged where it is needed
 * stays as it is, and so does the place of one that cannot be opened: both may be mended from a copy. */
FutJoin fut_join_choose(const FutMarks *marks, guint from, bool tight);
typedef enum {
    FUT_JOIN_DONE,
    FUT_JOIN_READERS, /* given up: somebody reads them */
    FUT_JOIN_SPOILT   /* given up: one is damaged; that is noted in the marks */
} FutJoinEnd;
/* Does it; the old files are gone after. With the store's lock. *ret_written: bytes, added. `set` is what was, not what is. */
bool fut_join_do(FutStore *store, FutMarks *marks, FutJoin join, uint64_t *ret_written,
                 FutJoinEnd *ret_end, GError **error);

#endif
