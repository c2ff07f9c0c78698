/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Edit distance (Levenshtein 1966), given up where it exceeds what is of interest. */
#include "alike.h"

#include <string.h>

#define LENGTH_MAX 127u
/* Letters of a word that may differ: one of these many, and one. */
#define LETTERS_A_FAULT 4u

void fut_alike_init(FutAlike *alike, const char *word)
{
    *alike = (FutAlike){ .word = word };
}

/* UINT_MAX: more than `most`. */
static unsigned distance(const char *a, size_t a_length, const char *b, size_t b_length,
                         unsigned most)
{
    unsigned row[LENGTH_MAX + 1];

    for (size_t j = 0; j <= b_length; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        unsigned diagonal = row[0], least = row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
            least = MIN(least, row[j]);
        }
        if (least > most) {
            return G_MAXUINT;
        }
    }
    return row[b_length] > most ? G_MAXUINT : row[b_length];
}

/* G_MAXUINT: not alike. Less for a name that contains the word than for one that is written otherwise. */
static unsigned unlikeness(const char *word, const char *name)
{
    size_t length = strlen(word), own = strlen(name), more = MAX(length, own) - MIN(length, own);
    unsigned most = 1 + (unsigned)length / LETTERS_A_FAULT;

    if (length > 2 && strstr(name, word)) {
        return (unsigned)more;
    }
    if (own > 5 && strstr(word, name)) {
        return (unsigned)more;
    }
    if (length > LENGTH_MAX || own > LENGTH_MAX || more > most) {
        return G_MAXUINT;
    }
    return distance(word, length, name, own, most);
}

void fut_alike_add(FutAlike *alike, const char *name)
{
    unsigned far = unlikeness(alike->word, name), at = alike->count;

    for (unsigned i = 0; i < alike->count; i++) {
        if (strcmp(alike->names[i], name) == 0) {
            return;
        }
    }
    while (at > 0 && alike->distances[at - 1] > far) {
        at--;
    }
    if (far == G_MAXUINT || at == FUT_ALIKE_MAX) {
        return;
    }
    alike->count = MIN(alike->count + 1, FUT_ALIKE_MAX);
    for (unsigned i = alike->count - 1; i > at; i--) {
        alike->distances[i] = alike->distances[i - 1];
        alike->names[i] = alike->names[i - 1];
    }
    alike->distances[at] = far;
    alike->names[at] = name;
}

char *fut_alike_join(const FutAlike *alike)
{
    GString *text = g_string_new("");

    for (unsigned i = 0; i < alike->count; i++) {
        g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", alike->names[i]);
    }
    return g_string_free(text, FALSE);
}
