/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which compression pays on this link: none on a fast one, LZ4 on a slower one, Zstandard on a slow one. Pure.
 *
 * What is measured is how fast the link takes bytes while bytes wait for it, whatever they are, so that the choice
 * has no influence on its own measure. Nothing is changed before two measures in a row ask for it, and
 * a lighter choice needs a link half as fast again as the one at which the heavier was made. While
 * nothing waits the choice stays: that the link keeps up may be the compression's doing. Where messages do not get smaller, one of
 * two, four, ... is still tried, at last one of 64. */
#ifndef FUT_PACK_CHOICE_H
#define FUT_PACK_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire_packed.h"

/* Bytes a second below which each kind is worth its time, with one core of some years ago in mind. */
#define FUT_LINK_FAST 250e6
#define FUT_LINK_SLOW 50e6

typedef struct {
    FutPackKind kind;   /* the choice */
    FutPackKind wanted; /* by the last measure */
    double bytes_per_s; /* the last measure; 0: none yet */
    bool measuring;
    uint64_t begin_ns, begin_bytes;
    unsigned vain,
        skip; /* messages to be left as they are after the next one in vain; of these still to come */
    uint64_t changes;
} FutPackChoice;

/* A new link: nothing is known of it. */
void fut_pack_choice_start(FutPackChoice *choice);
/* Before a large message is sent: `taken` bytes the link has taken so far, `pending` wait. Returns the choice. */
FutPackKind fut_pack_choice_next(FutPackChoice *choice, uint64_t taken, size_t pending,
                                 uint64_t now_ns);
/* What became of the message it was asked for before: smaller by a tenth at least, or compressed in vain. */
void fut_pack_choice_result(FutPackChoice *choice, bool vain);

#endif
