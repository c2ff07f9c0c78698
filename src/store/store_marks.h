/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which records snapshots refer to: a bit a record, and another for each level at which it is a node. */
#ifndef FUT_STORE_MARKS_H
#define FUT_STORE_MARKS_H

#include "pack.h"
#include "store.h"

typedef struct {
    const FutPackSet *set;             /* borrowed; must not change */
    uint16_t **masks;                  /* for each pack of the set a mask for each frame */
    uint16_t **walked[FUT_LEVELS_MAX]; /* likewise, as a node of that level; NULL: none */
    bool *spoilt;      /* for each pack of the set: something that is needed cannot be read there */
    GPtrArray *faults; /* of char *: what cannot be read or is missing, each once */
    GArray *absent; /* uint32_t: pack numbers that are needed and in no file that can be opened */
    uint32_t held;  /* of the nodes that cannot be read the highest pack number; 0: none */
} FutMarks;

void fut_marks_init(FutMarks *marks, const FutPackSet *set);
void fut_marks_done(FutMarks *marks);
/* Sets a record's mark, as what it is at `level`. *ret_was: it was set, at any level; *ret_walked: at this level, too, so that what is
 * below is known. False: there is no such record (fut_pack_set_fail() says why). */
bool fut_marks_set(FutMarks *marks, uint64_t place, unsigned level, bool *ret_was,
                   bool *ret_walked);
bool fut_marks_get(const FutMarks *marks, uint64_t place);

/* Called for each record of a snapshot, nodes before what is below them (level 0: a unit). False: not to go below it. The same record can
 * come several times. */
typedef bool (*FutVisitor)(void *opaque, uint64_t place, unsigned level);
/* What cannot be read below `area` and `level`. */
typedef void (*FutVisitFault)(void *opaque, uint64_t place, const GError *fault);
/* Goes through all areas. With `fault`, goes on after what cannot be read; without, false with the error. */
bool fut_snapshot_visit(const FutSnapshotInfo *info, FutRecordReader *reader, FutVisitor visit,
                        FutVisitFault fault, void *opaque, GError **error);

/* Marks all that a snapshot refers to; what was marked already is not gone through again. Stored bytes of what was not, by their share of
 * their frames. What cannot be read is noted in `faults`, `absent` and `held`, and gone past: what only it leads to is not marked. */
uint64_t fut_marks_add_snapshot(FutMarks *marks, const FutSnapshotInfo *info,
                                FutRecordReader *reader);
/* Once all that stays is added: what a node that cannot be read may lead to, which is everything as old as that node or older, is marked. */
void fut_marks_hold(FutMarks *marks);
/* Notes a fault of a pack of the set. */
void fut_marks_spoil(FutMarks *marks, guint pack, const char *what);
/* Is something needed in, or perhaps in, the packs `first` to `last`, which no file has? */
bool fut_marks_absent(const FutMarks *marks, uint32_t first, uint32_t last);

#endif
