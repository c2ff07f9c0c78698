/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "restore_early.h"

#include <string.h>

#include "fut_error.h"

struct FutRestoreEarly {
    GThread *thread; /* NULL: it was joined */
    char *from;
    bool want_hot;
    /* The thread's until it has ended. */
    FutStore *store;
    FutSnapshot *snapshot;
    FutHotPages *hot;
    GError *error;
};

static bool open_snapshot(FutRestoreEarly *early, GError **error)
{
    const char *at = strrchr(early->from, '@');
    guint64 id = 0;

    if (!at || !g_ascii_string_to_unsigned(at + 1, 10, 1, G_MAXINT64, &id, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "restore=%s: must be STORE@ID", early->from);
        return false;
    }
    g_autofree char *path = g_strndup(early->from, (gsize)(at - early->from));
    early->store = fut_store_open(path, FUT_STORE_READ, error);
    early->snapshot = early->store ? fut_snapshot_open(early->store, id, error) : NULL;
    return early->snapshot != NULL;
}

static void *work(void *opaque)
{
    FutRestoreEarly *early = opaque;

    if (open_snapshot(early, &early->error) && early->want_hot) {
        early->hot = fut_hot_pages_new(early->snapshot);
    }
    return NULL;
}

FutRestoreEarly *fut_restore_early_new(const char *from, bool hot)
{
    FutRestoreEarly *early = g_new0(FutRestoreEarly, 1);

    early->from = g_strdup(from);
    early->want_hot = hot;
    early->thread = g_thread_new("futago-early", work, early);
    return early;
}

bool fut_restore_early_take(FutRestoreEarly *take_early, FutStore **ret_store,
                            FutSnapshot **ret_snapshot, FutHotPages **ret_hot, GError **error)
{
    g_autoptr(FutRestoreEarly) early = take_early;

    g_thread_join(g_steal_pointer(&early->thread));
    if (early->error) {
        g_propagate_error(error, g_steal_pointer(&early->error));
        return false;
    }
    *ret_store = g_steal_pointer(&early->store);
    *ret_snapshot = g_steal_pointer(&early->snapshot);
    *ret_hot = g_steal_pointer(&early->hot);
    return true;
}

void fut_restore_early_free(FutRestoreEarly *early)
{
    if (!early) {
        return;
    }
    if (early->thread) {
        g_thread_join(early->thread);
    }
    fut_hot_pages_free(early->hot);
    fut_snapshot_close(early->snapshot);
    fut_store_close(early->store);
    g_clear_error(&early->error);
    g_free(early->from);
    g_free(early);
}
