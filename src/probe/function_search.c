/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions by words in their names. */
#include "function_search.h"

#include <string.h>

#include "probe_place.h"

#define WORDS_MAX 16u
#define SHORT_WORD 3u /* letters: such a word is in too many names by chance */
#define POINTS_NAME 16u
#define POINTS_PART 4u
#define POINTS_PIECE 1u
/* So many of the best are looked at for whether a probe can stand there. */
#define CANDIDATES_MAX (2 * FUT_FUNCTIONS_FOUND_MAX)

typedef struct {
    char **words; /* lower case; owned */
    unsigned count;
} Words;

typedef struct {
    FutSymbol symbol;
    unsigned points;
} Candidate;

static Words words_new(const char *text)
{
    g_autofree char *lower = g_ascii_strdown(text, -1);
    Words words = { g_new0(char *, WORDS_MAX + 1), 0 };

    for (const char *at = lower; *at && words.count < WORDS_MAX;) {
        size_t length = strspn(at, G_CSET_a_2_z G_CSET_DIGITS "_");
        if (length > 1) {
            words.words[words.count++] = g_strndup(at, length);
        }
        at += MAX(length, 1);
    }
    return words;
}

/* How well a word fits a name. */
static unsigned points_of(const char *word, const char *name)
{
    size_t length = strlen(word);
    unsigned best = 0;

    for (const char *at = name; (at = strstr(at, word)); at++) {
        bool begins = at == name || at[-1] == '_', ends = at[length] == '\0' || at[length] == '_';
        if (at == name && at[length] == '\0') {
            return POINTS_NAME;
        }
        if (begins && ends) {
            best = POINTS_PART;
        } else if (best == 0 && length > SHORT_WORD) {
            best = POINTS_PIECE;
        }
    }
    return best;
}

static unsigned rate(const Words *words, const char *name)
{
    char lower[128];
    unsigned points = 0;

    if (g_strlcpy(lower, name, sizeof(lower)) >= sizeof(lower)) {
        return 0;
    }
    for (char *at = lower; *at; at++) {
        *at = g_ascii_tolower(*at);
    }
    for (unsigned i = 0; i < words->count; i++) {
        points += points_of(words->words[i], lower);
    }
    return points;
}

/* Below 0: the left one is the better. Of equal points the shorter name: what is short is called by many. */
static int order_of(const Candidate *left, const Candidate *right)
{
    size_t left_length = strlen(left->symbol.name), right_length = strlen(right->symbol.name);

    if (left->points != right->points) {
        return left->points > right->points ? -1 : 1;
    }
    if (left_length != right_length) {
        return left_length < right_length ? -1 : 1;
    }
    return strcmp(left->symbol.name, right->symbol.name);
}

/* Parts that the compiler has cut off, and what stands before functions: nobody calls these. */
static bool is_function(const FutSymbol *symbol)
{
    return strchr("tTwW", symbol->type) && !strchr(symbol->name, '.') &&
           !g_str_has_prefix(symbol->name, "__pfx_") && !g_str_has_prefix(symbol->name, "__SC");
}

/* In order; one name once. */
static unsigned put(Candidate *best, unsigned count, const Candidate *one)
{
    unsigned at = count;

    while (at > 0 && order_of(one, &best[at - 1]) < 0) {
        at--;
    }
    if (at == CANDIDATES_MAX ||
        (at > 0 && strcmp(best[at - 1].symbol.name, one->symbol.name) == 0)) {
        return count;
    }
    unsigned after = MIN(count, CANDIDATES_MAX - 1) - at;
    memmove(&best[at + 1], &best[at], after * sizeof(best[0]));
    best[at] = *one;
    return MIN(count + 1, CANDIDATES_MAX);
}

unsigned fut_function_search(const FutGuestKernel *kernel, const char *words,
                             const char *ret_names[FUT_FUNCTIONS_FOUND_MAX])
{
    Words wanted = words_new(words);
    Candidate best[CANDIDATES_MAX], one;
    unsigned count = 0, found = 0;

    for (size_t i = 0; fut_kallsyms_at(kernel->symbols, i, &one.symbol); i++) {
        one.points = is_function(&one.symbol) ? rate(&wanted, one.symbol.name) : 0;
        if (one.points > 0) {
            count = put(best, count, &one);
        }
    }
    for (unsigned i = 0; i < count && found < FUT_FUNCTIONS_FOUND_MAX; i++) {
        FutProbePoint point = { .function = best[i].symbol.name };
        FutProbePlace unused;
        if (fut_probe_place_find(kernel, &point, &unused, NULL)) {
            ret_names[found++] = best[i].symbol.name;
        }
    }
    g_strfreev(wanted.words);
    return found;
}
