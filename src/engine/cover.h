/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pair, as it is configured and as it stands, survives, and what it does not. */
#ifndef FUT_COVER_H
#define FUT_COVER_H

#include <jansson.h>

#include "pair.h"

typedef struct {
    FutRole role;
    FutPairState state;
    const char *arbiter;  /* KIND:WHERE */
    bool arbiter_private; /* it is a folder on this machine's own file system */
    bool encrypted;
    bool same_machine; /* the link does not leave this machine */
    unsigned disks;    /* of each host's own */
    unsigned shared_disks;
    bool flush_both; /* a backup's; a primary does not know */
} FutCoverFacts;

/* Is `path` on a file system of this machine, as far as its kind tells? False where that cannot be known. May block as long as
 * the file system does. */
bool fut_cover_is_private(const char *path);
/* Sets "protects_against" (an array of strings) and "not_against" (of objects: "what", "remedy"; the remedy may be ""). Without
 * protection the first is empty. */
void fut_cover_describe(json_t *object, const FutCoverFacts *facts);

#endif
