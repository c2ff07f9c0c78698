/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The symbol table that a Linux kernel carries in its own image, for x86-64 kernels with relative
 * addresses (CONFIG_KALLSYMS_BASE_RELATIVE). Two orders of its parts are known: that of 6.1 and that
 * since 6.4 (scripts/kallsyms.c of these versions). It has no header: it is found by its token table, which
 * always holds the digits in sequence.
 */
#ifndef FUT_KALLSYMS_H
#define FUT_KALLSYMS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FutKallsyms FutKallsyms;

typedef struct {
    uint64_t address;
    char type; /* as nm prints it: 't' and 'T' are code */
    const char *name;
} FutSymbol;

/*
 * From an image of the kernel in memory. FUT_ERR_UNSUPPORTED if no table is in it, or none that makes
 * sense; the work is bounded whatever it holds. Nothing points into the image afterwards.
 */
FutKallsyms *fut_kallsyms_decode(const uint8_t *image, size_t size, GError **error);
void fut_kallsyms_free(FutKallsyms *symbols);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutKallsyms, fut_kallsyms_free)
/* An empty one, to be filled: from a file of symbols. */
FutKallsyms *fut_kallsyms_new(void);
/* Copies the name, cut at 511 bytes. What goes beyond 500,000 symbols is left out. */
void fut_kallsyms_add(FutKallsyms *symbols, uint64_t address, char type, const char *name);
/* Adds `by` to all addresses within the kernel's half of memory. */
void fut_kallsyms_move(FutKallsyms *symbols, uint64_t by);
size_t fut_kallsyms_count(const FutKallsyms *symbols);
/* The first of that name; false: there is none. The name is borrowed. */
bool fut_kallsyms_find(const FutKallsyms *symbols, const char *name, FutSymbol *ret);
/* By number, in the table's order; false: there are not so many. */
bool fut_kallsyms_at(const FutKallsyms *symbols, size_t number, FutSymbol *ret);
/* Functions whose names are like `word` (alike.h): at most three, "a, b, c"; "" if there are none. Caller frees. */
char *fut_kallsyms_like(const FutKallsyms *symbols, const char *word);

#endif
