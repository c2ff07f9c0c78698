/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a series to a store: areas are the blocks of memory, then the disks. */
#include "snap_store.h"

#include <string.h>

#include "fut_error.h"

/* For whoever else writes to the store. */
#define LOCK_WAIT_MS FUT_STORE_LOCK_WAIT_MS

struct FutSnapStore {
    FutStore *store;
    FutSnapshotWriter *writer; /* NULL: none begun */
    FutSnapshotInfo *info;     /* of the last one that was committed */
    unsigned blocks;
    char *damage; /* owned; of the parent */
};

FutSnapStore *fut_snap_store_open(const char *path, GError **error)
{
    FutStore *store = fut_store_open(path, FUT_STORE_CREATE, error);

    if (!store) {
        return NULL;
    }
    FutSnapStore *ret = g_new0(FutSnapStore, 1);
    ret->store = store;
    return ret;
}

void fut_snap_store_abort(FutSnapStore *store)
{
    if (store->writer) {
        fut_snapshot_abort(g_steal_pointer(&store->writer));
    }
}

void fut_snap_store_close(FutSnapStore *store)
{
    if (store) {
        fut_snap_store_abort(store);
        fut_snapshot_info_free(store->info);
        g_free(store->damage);
        fut_store_close(store->store);
        g_free(store);
    }
}

const FutSnapshotInfo *fut_snap_store_info(const FutSnapStore *store)
{
    return store->info;
}

const char *fut_snap_store_damage(const FutSnapStore *store)
{
    return store->damage;
}

bool fut_snap_store_prune(FutSnapStore *store, const FutPrunePolicy *policy, uint64_t write_max,
                          FutPruneReport *ret, GError **error)
{
    g_assert(!store->writer);
    return fut_store_prune(store->store, policy, false, write_max, NULL, NULL, ret, error);
}

/* -- beginning -- */

static char **command_line(void)
{
    g_autofree char *bytes = NULL;
    gsize length = 0;
    GPtrArray *words = g_ptr_array_new();

    if (g_file_get_contents("/proc/self/cmdline", &bytes, &length, NULL)) {
        for (gsize at = 0; at < length; at += strlen(bytes + at) + 1) {
            g_ptr_array_add(words, g_strdup(bytes + at));
        }
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, FALSE);
}

/* "ram:NAME=LENGTH": the lines of memory blocks, in the blocks' order. The name may hold a "=". */
static char *block_name(char **lines, unsigned number)
{
    for (; *lines; lines++) {
        if (g_str_has_prefix(*lines, "ram:") && number-- == 0) {
            const char *name = *lines + 4, *end = strrchr(name, '=');
            return g_strndup(name, end ? (gsize)(end - name) : strlen(name));
        }
    }
    return NULL;
}

static void add_areas(FutSnapshotInfo *info, FutVmm *vmm)
{
    const FutMemory *memory = vmm->ops->memory(vmm);
    unsigned count = 0;
    const FutDiskInfo *disks = vmm->ops->disks ? vmm->ops->disks(vmm, &count) : NULL;

    for (unsigned i = 0; i < memory->count; i++) {
        g_autofree char *name = block_name(info->fingerprint, i);
        g_autofree char *number = g_strdup_printf("block%u", i);
        fut_snapshot_info_add(info, FUT_AREA_MEMORY, name ? name : number, memory->block[i].length);
    }
    for (unsigned i = 0; i < count; i++) {
        fut_snapshot_info_add(info, FUT_AREA_DISK, disks[i].name, disks[i].length);
    }
}

static FutSnapshotInfo *describe(FutVmm *vmm, const char *vm, const char *reason, GError **error)
{
    g_autoptr(FutSnapshotInfo) info = fut_snapshot_info_new();

    if (!vmm->ops->describe(vmm, &info->fingerprint, error)) {
        return NULL;
    }
    info->vm = g_strdup(vm);
    info->reason = g_strdup(reason);
    info->command = command_line();
    add_areas(info, vmm);
    return g_steal_pointer(&info);
}

/* The parent was deleted, is another machine's, or is damaged; if it was something else that fails here, too. *failure: of the attempt before. */
static void begin_full(FutSnapStore *store, FutSnapshotInfo *info, uint64_t min_free,
                       GError **failure)
{
    GError *again = NULL;

    info->parent = 0;
    store->writer = fut_store_begin(store->store, info, min_free, LOCK_WAIT_MS, &again);
    if (store->writer && g_error_matches(*failure, FUT_ERROR, FUT_ERR_IO)) {
        store->damage = g_strdup((*failure)->message);
    }
    g_clear_error(failure);
    *failure = again;
}

bool fut_snap_store_begin(FutSnapStore *store, FutVmm *vmm, const char *vm, const char *reason,
                          uint64_t *parent, uint64_t min_free, GError **error)
{
    g_autoptr(FutSnapshotInfo) info = describe(vmm, vm, reason, error);
    g_autoptr(GError) failure = NULL;

    g_clear_pointer(&store->damage, g_free);
    if (!info) {
        return false;
    }
    store->blocks = vmm->ops->memory(vmm)->count;
    info->parent = *parent;
    store->writer = fut_store_begin(store->store, info, min_free, LOCK_WAIT_MS, &failure);
    if (!store->writer && *parent != 0 && !g_error_matches(failure, FUT_ERROR, FUT_ERR_BUSY)) {
        begin_full(store, info, min_free, &failure);
        *parent = store->writer ? 0 : *parent;
    }
    if (!store->writer) {
        g_propagate_error(error, g_steal_pointer(&failure));
    }
    return store->writer != NULL;
}

/* -- the sink -- */

/* What a put returned, noting whose fault it was. */
static bool put_done(FutSnapStore *store, bool good, GError **error)
{
    if (!good && fut_snapshot_parent_damaged(store->writer) && !store->damage) {
        store->damage = g_strdup(error && *error ? (*error)->message : "its files");
    }
    return good;
}

static bool put_pages(void *sink, unsigned block, uint64_t page, const uint8_t *data,
                      uint64_t count, GError **error)
{
    FutSnapStore *store = sink;

    return put_done(store,
                    fut_snapshot_put(store->writer, block, page << FUT_PAGE_SHIFT, data,
                                     count << FUT_PAGE_SHIFT, error),
                    error);
}

static bool put_disk(void *sink, unsigned disk, uint64_t offset, const uint8_t *data,
                     uint64_t length, GError **error)
{
    FutSnapStore *store = sink;
    unsigned area = store->blocks + disk;

    bool good = data ? fut_snapshot_put(store->writer, area, offset, data, length, error)
                     : fut_snapshot_put_zeroes(store->writer, area, offset, length, error);

    return put_done(store, good, error);
}

static bool commit(void *sink, const FutSeriesCut *cut, GError **error)
{
    FutSnapStore *store = sink;

    if (!fut_snapshot_put_state(store->writer, cut->state, cut->state_length, error)) {
        return false;
    }
    fut_snapshot_note_times(store->writer, cut->time_us, cut->stop_ns, cut->took_ns,
                            cut->memory_hash);
    fut_snapshot_note_flows(store->writer, cut->flows, cut->flows_length);
    fut_snapshot_note_hot(store->writer, cut->hot, cut->hot_length);
    fut_snapshot_note_code(store->writer, cut->code, cut->code_length);
    fut_snapshot_info_free(g_steal_pointer(&store->info));
    return fut_snapshot_commit(g_steal_pointer(&store->writer), &store->info, error);
}

const FutSeriesSinkOps fut_snap_store_ops = { .pages = put_pages,
                                              .disk = put_disk,
                                              .commit = commit };
