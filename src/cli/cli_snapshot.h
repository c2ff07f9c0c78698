/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands on stores share: which snapshot is meant, how one looks as text and JSON. */
#ifndef FUT_CLI_SNAPSHOT_H
#define FUT_CLI_SNAPSHOT_H

#include "cli.h"
#include "store_prune.h"

/* Options of all of them; NULL and 0 where not given. */
typedef struct {
    gboolean json, dry_run, contents;
    char *vm, *keep, *hourly, *daily, *max_bytes, *min_free; /* owned */
} FutSnapshotOptions;

/* A text of a store's as it may go to a terminal: what is not printed (control characters, marks that turn the writing's direction) is written
 * as \u001b, bytes that are no UTF-8 as \xff. Caller frees. */
char *fut_snapshot_shown(const char *text);

/* One sub-command: words after it, `argc` of them. */
typedef bool (*FutSnapshotVerb)(int argc, char **argv, const FutSnapshotOptions *options,
                                GError **error);
bool fut_snapshot_verify(int argc, char **argv, const FutSnapshotOptions *options, GError **error);
bool fut_snapshot_prune(int argc, char **argv, const FutSnapshotOptions *options, GError **error);
bool fut_snapshot_export(int argc, char **argv, const FutSnapshotOptions *options, GError **error);
bool fut_snapshot_diff(int argc, char **argv, const FutSnapshotOptions *options, GError **error);

/* Runs one of the words about a store: argv[0] is "list", "show", "verify", "delete", "prune", "export" or "diff". */
bool fut_snapshot_store_word(int argc, char **argv, GError **error);

/* "STORE" or "STORE@WHICH" into its parts; *ret_which is NULL without one. Callers free. A folder of the whole name is a store. */
void fut_snapshot_split(const char *word, char **ret_store, char **ret_which);
/* Prints JSON, and frees it. */
void fut_snapshot_print_json(json_t *take_value);
/* A bar on the terminal, of what is done of all; nothing where standard error is no terminal. `opaque`: what is being done, a text. */
bool fut_snapshot_progress(void *opaque, uint64_t done, uint64_t all);
void fut_snapshot_progress_end(void);

/* -- pure -- */
/* "0", "12K", "3.4M": at most five characters. Caller frees, as of all that follow. */
char *fut_snapshot_size(uint64_t bytes);
char *fut_snapshot_duration(uint64_t ns);
char *fut_snapshot_time(uint64_t time_us);
/* A table with a line for each; `all` is of FutSnapshotInfo. */
char *fut_snapshot_table(const GPtrArray *all);
char *fut_snapshot_block(const FutSnapshotInfo *info);
json_t *fut_snapshot_json(const FutSnapshotInfo *info, bool whole);

#endif
