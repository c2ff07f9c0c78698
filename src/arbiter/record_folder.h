/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records kept as files in a folder, for the arbiters "file" and "manual".
 *
 *   DIR/VM.generation   the record: one line, as arbiter_record.h says
 *   DIR/VM.lock         locked (fcntl, so that it works over NFS too) while the record is looked at
 *                       and replaced; never removed
 *   DIR/VM.token        one line, made by who comes first and never changed: tells this folder from
 *                       others (kind "file" only)
 *   DIR/VM.new          what is about to replace a file; left over by a crash it means nothing
 *
 * A file is replaced by rename() after fsync(), so a crash leaves the old one or the new one. Not
 * changed after init: any thread.
 */
#ifndef FUT_RECORD_FOLDER_H
#define FUT_RECORD_FOLDER_H

#include "arbiter_record.h"

typedef struct {
    char *dir, *record_path, *lock_path, *token_path, *new_path; /* owned */
} FutRecordFolder;

/* Makes the folder if its parent is there. `kind` is for messages. */
bool fut_record_folder_init(FutRecordFolder *folder, const char *kind, const char *where,
                            const char *vm, GError **error);
void fut_record_folder_done(FutRecordFolder *folder);

/* Returns the open lock file, closing which unlocks; -1 on error, after 3 s at most. The lock
 * belongs to the open file, not to the process: two arbiters in one process exclude each other as
 * well. */
int fut_record_folder_lock(const FutRecordFolder *folder, GError **error);
/* A record is replaced whole, so this needs no lock. No file: generation 0. A record that does not
 * read exactly as it must is nobody's grant: FUT_ERR_IO until a person looks at it. */
bool fut_record_folder_read(const FutRecordFolder *folder, FutArbiterRecord *ret, GError **error);
/* With the lock: makes the record say (generation, node), and makes sure of it if it says so
 * already. `record` is what was read. */
bool fut_record_folder_hold(const FutRecordFolder *folder, const FutArbiterRecord *record,
                            uint64_t generation, const char *node, GError **error);
/* Without the lock: what FutArbiterOps.release is to do. */
bool fut_record_folder_release(const FutRecordFolder *folder, uint64_t generation, const char *node,
                               GError **error);

/* Without the lock: the folder's token, made if there is none. Caller frees. */
bool fut_record_folder_token(const FutRecordFolder *folder, char **ret_token, GError **error);

/* Other small files in the folder; with the lock. get: FUT_ARBITER_LINE_MAX bytes at most, as a
 * string, "" if there are NUL bytes in it; *ret_found says whether there is such a file. */
bool fut_record_folder_get(const char *path, char bytes[FUT_ARBITER_LINE_MAX + 1], bool *ret_found,
                           GError **error);
bool fut_record_folder_put(const FutRecordFolder *folder, const char *path, const char *line,
                           GError **error);
bool fut_record_folder_remove(const FutRecordFolder *folder, const char *path, GError **error);

#endif
