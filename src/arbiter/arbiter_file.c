/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "file:DIR": one record a VM in a folder that both hosts see (or, on one machine, in any).
 * record_folder.h says what is in it. */
#include <unistd.h>

#include "arbiter_kinds.h"
#include "record_folder.h"

typedef struct {
    FutArbiter arbiter;
    FutRecordFolder folder;
} FileArbiter;

static FutArbiter *file_open(const char *where, const char *vm, GError **error)
{
    FutRecordFolder folder;

    if (!fut_record_folder_init(&folder, "file", where, vm, error)) {
        return NULL;
    }
    FileArbiter *file = g_new0(FileArbiter, 1);
    file->arbiter.ops = &fut_arbiter_file;
    file->folder = folder;
    return &file->arbiter;
}

static void file_close(FutArbiter *arbiter)
{
    FileArbiter *file = (FileArbiter *)arbiter;

    fut_record_folder_done(&file->folder);
    g_free(file);
}

/* With the lock. */
static FutClaim claim_locked(const FutRecordFolder *folder, uint64_t generation, const char *node,
                             char **ret_text, GError **error)
{
    FutArbiterRecord record = { 0 };

    if (!fut_record_folder_read(folder, &record, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    FutClaim claim = fut_arbiter_judge(&record, generation, node, folder->record_path,
                                       "is the shared folder mounted?", ret_text);
    if (claim == FUT_CLAIM_GRANTED &&
        !fut_record_folder_hold(folder, &record, generation, node, error)) {
        claim = FUT_CLAIM_UNKNOWN;
    }
    fut_arbiter_record_clear(&record);
    return claim;
}

static FutClaim file_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                           char **ret_text)
{
    const FutRecordFolder *folder = &((const FileArbiter *)arbiter)->folder;
    g_autoptr(GError) error = NULL;
    FutClaim claim = FUT_CLAIM_UNKNOWN;
    int lock = fut_record_folder_lock(folder, &error);

    if (lock >= 0) {
        claim = claim_locked(folder, generation, node, ret_text, &error);
        close(lock);
    }
    if (error) {
        *ret_text = g_strdup(error->message);
    }
    return claim;
}

static bool file_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error)
{
    return fut_record_folder_read(&((const FileArbiter *)arbiter)->folder, ret, error);
}

static bool file_release(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error)
{
    return fut_record_folder_release(&((const FileArbiter *)arbiter)->folder, generation, node,
                                     error);
}

static bool file_identify(FutArbiter *arbiter, char **ret_identity, GError **error)
{
    g_autofree char *token = NULL;

    if (!fut_record_folder_token(&((const FileArbiter *)arbiter)->folder, &token, error)) {
        return false;
    }
    *ret_identity = g_strdup_printf("file, token %s", token);
    return true;
}

const FutArbiterOps fut_arbiter_file = {
    .kind = "file",
    .usage = "file:DIR",
    .open = file_open,
    .claim = file_claim,
    .read = file_read,
    .release = file_release,
    .identify = file_identify,
    .close = file_close,
};
