/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arbiter "manual:DIR": a person decides. Every claim, that of a start too, waits until the person
 * grants exactly that generation to exactly that node, on that node's host. DIR is local: what the
 * other host was granted only the person knows, so nothing here is taken for leave to go on. Where
 * both hosts have the same DIR its record is heeded all the same.
 *
 *   DIR/VM.generation, .lock, .new   as record_folder.h says: what this host was granted last
 *   DIR/VM.grant                     a grant not taken up yet, one line:
 *                                    futago-grant 1 generation=7 node=hostA until=1700000000
 *
 * A grant that nobody takes up lapses: it was an answer to what the person saw at that time.
 */
#include <string.h>
#include <unistd.h>

#include "arbiter_kinds.h"
#include "fut_error.h"
#include "record_folder.h"

#define GRANT_LASTS_S 600

typedef struct {
    FutArbiter arbiter;
    FutRecordFolder folder;
    char *vm, *grant_path;
} ManualArbiter;

static FutArbiter *manual_open(const char *where, const char *vm, GError **error)
{
    FutRecordFolder folder;

    if (!fut_record_folder_init(&folder, "manual", where, vm, error)) {
        return NULL;
    }
    ManualArbiter *manual = g_new0(ManualArbiter, 1);
    manual->arbiter.ops = &fut_arbiter_manual;
    manual->folder = folder;
    manual->vm = g_strdup(vm);
    manual->grant_path = g_strdup_printf("%s/%s.grant", folder.dir, vm);
    return &manual->arbiter;
}

static void manual_close(FutArbiter *arbiter)
{
    ManualArbiter *manual = (ManualArbiter *)arbiter;

    fut_record_folder_done(&manual->folder);
    g_free(manual->vm);
    g_free(manual->grant_path);
    g_free(manual);
}

/* -- grants -- */

static int64_t now_s(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

static char *grant_line(uint64_t generation, const char *node, int64_t until_s)
{
    return g_strdup_printf("futago-grant 1 generation=%" G_GUINT64_FORMAT
                           " node=%s until=%" G_GINT64_FORMAT "\n",
                           generation, node, until_s);
}

/* Only what grant_line() writes is understood, and only while it lasts. A clock that was set back
 * ends a grant as well. */
static bool line_grants(const char *line, uint64_t generation, const char *node)
{
    const char *until = strstr(line, " until=");
    int64_t now = now_s();
    gint64 until_s = 0;

    if (!until) {
        return false;
    }
    g_autofree char *digits = g_strndup(until + 7, strcspn(until + 7, "\n"));
    if (!g_ascii_string_to_signed(digits, 10, now, now + GRANT_LASTS_S, &until_s, NULL)) {
        return false;
    }
    g_autofree char *wanted = grant_line(generation, node, until_s);
    return strcmp(line, wanted) == 0;
}

/* With the lock. */
static bool is_granted(const ManualArbiter *manual, uint64_t generation, const char *node,
                       GError **error)
{
    char line[FUT_ARBITER_LINE_MAX + 1];
    bool found;

    return fut_record_folder_get(manual->grant_path, line, &found, error) && found &&
           line_grants(line, generation, node);
}

/* With the lock. */
static bool put_grant(const ManualArbiter *manual, uint64_t generation, const char *node,
                      GError **error)
{
    FutArbiterRecord record = { 0 };

    if (!fut_record_folder_read(&manual->folder, &record, error)) {
        return false;
    }
    bool late = record.generation >= generation;
    if (late) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "generation %" G_GUINT64_FORMAT
                    " cannot be granted any more: %s was granted %" G_GUINT64_FORMAT
                    " (see futago status for what is waited for)",
                    generation, record.holder, record.generation);
    }
    fut_arbiter_record_clear(&record);
    if (late) {
        return false;
    }
    g_autofree char *line = grant_line(generation, node, now_s() + GRANT_LASTS_S);
    return fut_record_folder_put(&manual->folder, manual->grant_path, line, error);
}

static bool manual_grant(FutArbiter *arbiter, uint64_t generation, const char *node, GError **error)
{
    const ManualArbiter *manual = (const ManualArbiter *)arbiter;
    int lock = fut_record_folder_lock(&manual->folder, error);

    if (lock < 0) {
        return false;
    }
    bool ok = put_grant(manual, generation, node, error);
    close(lock);
    return ok;
}

/* -- claims -- */

static char *waiting_text(const ManualArbiter *manual, uint64_t generation, const char *node)
{
    return g_strdup_printf("waiting for a person: futago grant %s --generation %" G_GUINT64_FORMAT
                           " on this host (before a start add --node %s --arbiter manual:%s)",
                           manual->vm, generation, node, manual->folder.dir);
}

/* With the lock. An older record says nothing: the other host may have been granted any number
 * since. */
static FutClaim judge(const ManualArbiter *manual, const FutArbiterRecord *record,
                      uint64_t generation, const char *node, char **ret_text, GError **error)
{
    if (record->generation >= generation) {
        return fut_arbiter_judge(record, generation, node, manual->folder.record_path, "",
                                 ret_text);
    }
    if (is_granted(manual, generation, node, error)) {
        return FUT_CLAIM_GRANTED;
    }
    *ret_text = waiting_text(manual, generation, node);
    return FUT_CLAIM_UNKNOWN;
}

/* With the lock. */
static FutClaim claim_locked(const ManualArbiter *manual, uint64_t generation, const char *node,
                             char **ret_text, GError **error)
{
    FutArbiterRecord record = { 0 };

    if (!fut_record_folder_read(&manual->folder, &record, error)) {
        return FUT_CLAIM_UNKNOWN;
    }
    FutClaim claim = judge(manual, &record, generation, node, ret_text, error);
    if (claim == FUT_CLAIM_GRANTED) {
        if (!fut_record_folder_hold(&manual->folder, &record, generation, node, error)) {
            claim = FUT_CLAIM_UNKNOWN;
        } else {
            /* If this fails the grant is left over for a generation that is past: it means nothing. */
            fut_record_folder_remove(&manual->folder, manual->grant_path, NULL);
        }
    }
    fut_arbiter_record_clear(&record);
    return claim;
}

static FutClaim manual_claim(FutArbiter *arbiter, uint64_t generation, const char *node,
                             char **ret_text)
{
    const ManualArbiter *manual = (const ManualArbiter *)arbiter;
    g_autoptr(GError) error = NULL;
    FutClaim claim = FUT_CLAIM_UNKNOWN;
    int lock = fut_record_folder_lock(&manual->folder, &error);

    if (lock >= 0) {
        claim = claim_locked(manual, generation, node, ret_text, &error);
        close(lock);
    }
    if (error) {
        g_free(*ret_text);
        *ret_text = g_strdup(error->message);
    }
    return claim;
}

static bool manual_read(FutArbiter *arbiter, FutArbiterRecord *ret, GError **error)
{
    return fut_record_folder_read(&((const ManualArbiter *)arbiter)->folder, ret, error);
}

static bool manual_release(FutArbiter *arbiter, uint64_t generation, const char *node,
                           GError **error)
{
    return fut_record_folder_release(&((const ManualArbiter *)arbiter)->folder, generation, node,
                                     error);
}

/* The record is each host's own: there is nothing that could be compared. */
static bool manual_identify(FutArbiter *arbiter, char **ret_identity, GError **error)
{
    *ret_identity = g_strdup("manual");
    return true;
}

const FutArbiterOps fut_arbiter_manual = {
    .kind = "manual",
    .usage = "manual:DIR",
    .open = manual_open,
    .claim = manual_claim,
    .read = manual_read,
    .release = manual_release,
    .identify = manual_identify,
    .grant = manual_grant,
    .close = manual_close,
};
