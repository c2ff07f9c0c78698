/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's command line of a VM that moves, as the other host has to start it. Words are bytes, of any encoding. Pure. */
#ifndef FUT_MOVE_WORDS_H
#define FUT_MOVE_WORDS_H

#include <glib.h>
#include <stdbool.h>

/* A disk, and where it is served at the new place. */
typedef struct {
    char *name;   /* for errors; owned */
    char *image;  /* as QEMU was given it, or the socket of the NBD server that it is on; owned */
    char *socket; /* of an NBD server; owned */
} FutMoveDisk;

/* Value of a key of the words' module option (-plugin …futago.so,…); NULL: there is none, or no such key. Caller frees. */
char *fut_move_option(GPtrArray *words, const char *key);
/* The module's options for the new place: those of the words but what belongs to a place or a role, then `own`, "key=value" words, NULL-terminated. Caller frees. */
char *fut_move_plugin(GPtrArray *words, char *const *own);
/* A new command line: without -S, -daemonize, -pidfile and -incoming, with -S and `plugin` as the module's option, every disk's image replaced by its server.
 * FUT_ERR_UNSUPPORTED names a disk whose image (or "server.path") is in no -drive, -blockdev or -hdX. The words are owned by the array; it does not end
 * with NULL. */
GPtrArray *fut_move_words(GPtrArray *words, const char *plugin, const FutMoveDisk *disks,
                          size_t count, GError **error);
/* Replaces, in every word, each "OLD" by "NEW"; `rules` are "OLD=NEW", NULL-terminated or NULL. */
void fut_move_map(GPtrArray *words, char *const *rules);

#endif
