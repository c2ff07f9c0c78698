/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names nearest to one that was mistyped. */
#ifndef FUT_ALIKE_H
#define FUT_ALIKE_H

#include <glib.h>

#define FUT_ALIKE_MAX 3u

typedef struct {
    const char *word; /* borrowed */
    unsigned count;
    unsigned distances[FUT_ALIKE_MAX]; /* ascending */
    const char *names[FUT_ALIKE_MAX];  /* borrowed */
} FutAlike;

void fut_alike_init(FutAlike *alike, const char *word);
/*
 * Takes the name into account: it is alike if one of the two contains the other, or if few letters would have to be put in, taken out or
 * replaced. Both stay where they are until the end.
 */
void fut_alike_add(FutAlike *alike, const char *name);
/* The nearest, nearest first: "a, b, c"; "" if there are none. Caller frees. */
char *fut_alike_join(const FutAlike *alike);

#endif
