/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMU command line made harmless: the same machine, but what would touch a file, a network, a display or another process is
 * replaced. What is then seen to stand in the way of protection is noted. */
#ifndef FUT_CHECK_WORDS_H
#define FUT_CHECK_WORDS_H

#include <glib.h>

typedef struct {
    GPtrArray *words;    /* char *; the harmless command line, without an end mark */
    GPtrArray *problems; /* char *; one line each: culprit and remedy */
} FutCheckWords;

/* argv: QEMU's program and its options, up to NULL. */
void fut_check_words_init(FutCheckWords *check, char *const *argv);
void fut_check_words_done(FutCheckWords *check);

#endif
