/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `futago run` and `futago standby` have in common: options into a QEMU command line. */
#ifndef FUT_CLI_START_H
#define FUT_CLI_START_H

#include "cli.h"

#define FUT_START_NUMBERS 9

typedef struct {
    bool backup;
    char *name, *node, *arbiter, *address, *mode, *flush;          /* owned; NULL when not given */
    char *tls, *tls_name, *tracker, *compress, *on_panic, *events; /* likewise */
    char **shared_disks;                                           /* likewise */
    char *numbers[FUT_START_NUMBERS]; /* owned; in the order of the table in cli_start.c */
    char *restore;                    /* owned: STORE@ID that the guest begins as; NULL: it boots */
    bool restore_force, restore_lazy, restore_check, restore_keep_clock, restore_ready;
    const char *restore_connections; /* NULL: the default */
    char **restore_identities;       /* owned, NULL-terminated; NULL: none */
    char *restore_hook;              /* owned */
    gboolean force_generation, insecure, print, send_at_kick;
    char **qemu; /* borrowed: the words after "--"; NULL when there is no "--" */
} FutStart;

void fut_start_done(FutStart *start);
/* Reads and checks a command line; FUT_ERR_ARG. The module checks ranges and what belongs
 * together. */
bool fut_start_parse(FutStart *start, const FutCommand *command, bool backup, int argc, char **argv,
                     GError **error);
/* Index of "--", or argc. */
int fut_start_separator(int argc, char **argv);
/* Value of QEMU's -plugin option. Caller frees. */
char *fut_start_plugin(const FutStart *start, const char *module);
/* QEMU's command line; the words are owned by the array, which ends with NULL. */
GPtrArray *fut_start_command(const FutStart *start, const char *module);
/* Where futago.so is: $FUTAGO_MODULE, else in the build tree of this executable, else installed.
 * FUT_ERR_ARG or FUT_ERR_IO when it is not there. Caller frees. */
char *fut_start_module(GError **error);

/* What is to be in QEMU's GLIBC_TUNABLES, where `own` (NULL: nothing) is: a value that is there already stays. Caller frees. */
char *fut_start_tunables(const char *own);

/* Replaces this process by QEMU, or prints its arguments. */
bool fut_start_execute(FutStart *start, const char *module, GError **error);
/* The whole command. On success QEMU has replaced this process, unless --print was given. */
bool fut_start_run(const FutCommand *command, bool backup, int argc, char **argv, GError **error);

#endif
