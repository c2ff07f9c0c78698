/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "byteorder.h"
#include "fut_clock.h"
#include "fut_error.h"

#define PACKS_RESERVED 16 /* at a time */
#define LOCK_EVERY_US 5000
#define OPEN_TRIES 20

/* -- the file "store" -- */

static bool write_identity(FutStore *store, uint64_t next_pack, uint64_t next_snapshot,
                           GError **error)
{
    uint8_t bytes[S_SIZE] = { 0 };

    memcpy(bytes + S_MAGIC, "FUTSTORE", 8);
    fut_put_le32(bytes + S_VERSION, FUT_STORE_VERSION);
    memcpy(bytes + S_ID, store->identity.id, sizeof(store->identity.id));
    fut_put_le64(bytes + S_SEED, store->identity.seed);
    fut_put_le64(bytes + S_NEXT_PACK, next_pack);
    fut_put_le64(bytes + S_NEXT_SNAPSHOT, next_snapshot);
    fut_put_le64(bytes + S_CHECKSUM, XXH3_64bits(bytes, S_CHECKSUM));
    if (!fut_store_put_file(store->fs, FUT_STORE_NAME, bytes, sizeof(bytes), error)) {
        return false;
    }
    store->next_pack = next_pack;
    store->next_snapshot = next_snapshot;
    return true;
}

static bool fail_identity(const FutStore *store, FutErr code, const char *what, GError **error)
{
    g_set_error(error, FUT_ERROR, code, "%s/" FUT_STORE_NAME " %s", store->fs->path, what);
    return false;
}

/* False without error: there is none. */
static bool read_identity(FutStore *store, GError **error)
{
    FutStoreFs *fs = store->fs;
    uint8_t bytes[S_SIZE];
    int file;

    int code = fs->ops->open(fs, FUT_STORE_NAME, &file);
    if (code == ENOENT) {
        return false;
    }
    if (code == 0) {
        code = fs->ops->read(fs, file, bytes, sizeof(bytes), 0);
        fs->ops->close(fs, file);
    }
    if (code) {
        return fut_store_fs_fail(fs, "read", FUT_STORE_NAME, code, error);
    }
    if (memcmp(bytes + S_MAGIC, "FUTSTORE", 8) != 0 ||
        fut_get_le64(bytes + S_CHECKSUM) != XXH3_64bits(bytes, S_CHECKSUM)) {
        return fail_identity(store, FUT_ERR_IO, "is damaged: take it from a copy of the store",
                             error);
    }
    if (fut_get_le32(bytes + S_VERSION) != FUT_STORE_VERSION) {
        return fail_identity(store, FUT_ERR_UNSUPPORTED, "is of a later version of Futago", error);
    }
    memcpy(store->identity.id, bytes + S_ID, sizeof(store->identity.id));
    store->identity.seed = fut_get_le64(bytes + S_SEED);
    store->next_pack = fut_get_le64(bytes + S_NEXT_PACK);
    store->next_snapshot = fut_get_le64(bytes + S_NEXT_SNAPSHOT);
    return true;
}

/* As it is now, for who has the lock. */
static bool read_again(FutStore *store, GError **error)
{
    FutStoreIdentity was = store->identity;
    GError *fault = NULL;

    if (!read_identity(store, &fault)) {
        if (fault) {
            g_propagate_error(error, fault);
            return false;
        }
        return fut_store_fs_fail(store->fs, "read", FUT_STORE_NAME, ENOENT, error);
    }
    if (memcmp(was.id, store->identity.id, sizeof(was.id)) != 0) {
        store->identity = was;
        return fail_identity(store, FUT_ERR_STATE, "is another store's by now: open it again",
                             error);
    }
    if (store->next_pack != store->spare_end) {
        /* Another process has taken numbers since. Ours lie below its files' now: what is joined or given up goes by the order of numbers. */
        store->spare_pack = store->spare_end = 0;
    }
    return true;
}

/* -- opening -- */

static bool make_store(FutStore *store, GError **error)
{
    g_autoptr(GPtrArray) names = fut_store_names(store, error);
    uint8_t random[24];

    if (!names) {
        return false;
    }
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        if (strcmp(name, FUT_STORE_LOCK) != 0 && !g_str_has_suffix(name, FUT_TMP_SUFFIX) &&
            strcmp(name, "lost+found") != 0) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                        "%s is no store and not empty (it has '%s'): name another folder",
                        store->fs->path, name);
            return false;
        }
    }
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "no random bytes: %s", g_strerror(errno));
        return false;
    }
    memcpy(store->identity.id, random, sizeof(store->identity.id));
    store->identity.seed = fut_get_le64(random + 16);
    return write_identity(store, 1, 1, error);
}

static bool open_or_make(FutStore *store, GError **error)
{
    g_autoptr(GError) fault = NULL;

    if (read_identity(store, &fault)) {
        return true;
    }
    if (fault) {
        g_propagate_error(error, g_steal_pointer(&fault));
        return false;
    }
    if (store->mode != FUT_STORE_CREATE) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s is no store: name a folder with snapshots",
                    store->fs->path);
        return false;
    }
    if (!fut_store_lock(store, FUT_STORE_LOCK_WAIT_MS, error)) {
        return false;
    }
    /* Another process may have been faster. */
    bool good = read_identity(store, &fault) || (!fault && make_store(store, error));
    if (fault) {
        g_propagate_error(error, g_steal_pointer(&fault));
    }
    fut_store_unlock(store);
    return good;
}

FutStore *fut_store_open_fs(FutStoreFs *take_fs, FutStoreMode mode, GError **error)
{
    FutStore *store = g_new0(FutStore, 1);

    store->fs = take_fs;
    store->mode = mode;
    if (!open_or_make(store, error)) {
        fut_store_close(store);
        return NULL;
    }
    return store;
}

FutStore *fut_store_open(const char *path, FutStoreMode mode, GError **error)
{
    FutStoreFs *fs = fut_store_fs_new(path, mode == FUT_STORE_CREATE, error);

    return fs ? fut_store_open_fs(fs, mode, error) : NULL;
}

void fut_store_close(FutStore *store)
{
    if (store) {
        fut_store_unlock(store);
        fut_known_records_free(store->known);
        fut_store_fs_free(store->fs);
        g_free(store);
    }
}

const char *fut_store_path(const FutStore *store)
{
    return store->fs->path;
}

/* -- the lock and what it guards -- */

bool fut_store_lock(FutStore *store, unsigned wait_ms, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + wait_ms * FUT_NS_PER_MS;
    int code;

    g_assert(!store->locked && store->mode != FUT_STORE_READ);
    while ((code = store->fs->ops->lock(store->fs)) == EAGAIN && fut_now_ns() < deadline_ns) {
        g_usleep(LOCK_EVERY_US);
    }
    if (code == EAGAIN) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "another process writes to %s: try again when it is done", store->fs->path);
        return false;
    }
    if (code) {
        return fut_store_fs_fail(store->fs, "lock", FUT_STORE_LOCK, code, error);
    }
    store->locked = true;
    return true;
}

void fut_store_unlock(FutStore *store)
{
    if (store->locked) {
        store->fs->ops->unlock(store->fs);
        store->locked = false;
    }
}

/* What is in the folder says more than the file does if somebody has put an older copy of that there. */
static bool highest_pack(FutStore *store, uint64_t *ret, GError **error)
{
    g_autoptr(GPtrArray) names = fut_store_names(store, error);
    uint32_t first, last;

    *ret = 0;
    for (guint i = 0; names && i < names->len; i++) {
        if (fut_pack_parse_name(names->pdata[i], &first, &last)) {
            *ret = MAX(*ret, last);
        }
    }
    return names != NULL;
}

bool fut_store_take_pack_number(FutStore *store, uint32_t *ret, GError **error)
{
    uint64_t highest;

    g_assert(store->locked);
    if (store->spare_pack == store->spare_end) {
        if (!read_again(store, error) || !highest_pack(store, &highest, error)) {
            return false;
        }
        uint64_t from = MAX(store->next_pack, highest + 1);
        if (from > UINT32_MAX - PACKS_RESERVED) {
            return fail_identity(store, FUT_ERR_STATE,
                                 "has no pack numbers left: export to a new store", error);
        }
        if (!write_identity(store, from + PACKS_RESERVED, store->next_snapshot, error)) {
            return false;
        }
        store->spare_pack = from;
        store->spare_end = from + PACKS_RESERVED;
    }
    *ret = (uint32_t)store->spare_pack++;
    return true;
}

bool fut_store_raise_snapshot(FutStore *store, uint64_t next, GError **error)
{
    g_assert(store->locked);
    return read_again(store, error) &&
           (store->next_snapshot >= next || write_identity(store, store->next_pack, next, error));
}

/* -- files -- */

GPtrArray *fut_store_names(FutStore *store, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    int code = store->fs->ops->list(store->fs, names);
    if (code) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot list %s: %s", store->fs->path,
                    g_strerror(code));
        return NULL;
    }
    return g_steal_pointer(&names);
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool same_names(GPtrArray *a, GPtrArray *b)
{
    bool same = a->len == b->len;

    g_ptr_array_sort(a, by_text);
    g_ptr_array_sort(b, by_text);
    for (guint i = 0; i < a->len && same; i++) {
        same = strcmp(a->pdata[i], b->pdata[i]) == 0;
    }
    return same;
}

/* Files that are joined meanwhile could be missed, the old ones and the new: so the names are read again, and only if they are the same the
 * set is whole. */
bool fut_store_packs(FutStore *store, FutPackSet *ret, GError **error)
{
    for (int i = 0; i < OPEN_TRIES; i++) {
        g_autoptr(GPtrArray) names = fut_store_names(store, error);
        if (!names) {
            return false;
        }
        if (!fut_pack_set_open(ret, store->fs, names, &store->identity)) {
            continue;
        }
        g_autoptr(GPtrArray) again = fut_store_names(store, error);
        if (again && (i == OPEN_TRIES - 1 || same_names(names, again))) {
            return true;
        }
        fut_pack_set_done(ret);
        if (!again) {
            return false;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_BUSY, "%s changes all the time: try again",
                store->fs->path);
    return false;
}

bool fut_store_tidy(FutStore *store, const FutPackSet *set, GError **error)
{
    g_autoptr(GPtrArray) names = fut_store_names(store, error);
    int code = 0;

    g_assert(store->locked);
    if (!names) {
        return false;
    }
    for (guint i = 0; i < names->len && code == 0; i++) {
        if (g_str_has_suffix(names->pdata[i], FUT_TMP_SUFFIX)) {
            code = store->fs->ops->remove(store->fs, names->pdata[i]);
        }
    }
    for (guint i = 0; i < set->covered->len && code == 0; i++) {
        code = store->fs->ops->remove(store->fs, set->covered->pdata[i]);
    }
    return code == 0 || fut_store_fs_fail(store->fs, "tidy", "", code, error);
}

/* -- snapshots -- */

static gint by_time(gconstpointer a, gconstpointer b)
{
    const FutSnapshotInfo *x = *(FutSnapshotInfo *const *)a, *y = *(FutSnapshotInfo *const *)b;

    if (x->time_us != y->time_us) {
        return x->time_us < y->time_us ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

static void damaged_free(gpointer opaque)
{
    FutDamagedSnapshot *damaged = opaque;

    g_free(damaged->what);
    g_free(damaged);
}

static FutDamagedSnapshot *damaged_new(uint64_t id, const char *what)
{
    FutDamagedSnapshot *damaged = g_new(FutDamagedSnapshot, 1);

    *damaged = (FutDamagedSnapshot){ id, g_strdup(what) };
    return damaged;
}

GPtrArray *fut_store_list(FutStore *store, GPtrArray **ret_damaged, GError **error)
{
    g_autoptr(GPtrArray) names = fut_store_names(store, error);
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(damaged_free);
    GPtrArray *all;
    uint64_t id;

    if (!names) {
        return NULL;
    }
    all = g_ptr_array_new_with_free_func((GDestroyNotify)fut_snapshot_info_free);
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GError) fault = NULL;
        if (!fut_manifest_parse_name(names->pdata[i], &id)) {
            continue;
        }
        FutSnapshotInfo *info = fut_manifest_read(store->fs, id, &store->identity, &fault);
        if (info) {
            g_clear_pointer(&info->code, g_bytes_unref); /* long, and nobody looks at it here */
            g_ptr_array_add(all, info);
        } else if (!g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE)) { /* deleted meanwhile */
            g_ptr_array_add(damaged, damaged_new(id, fault->message));
        }
    }
    g_ptr_array_sort(all, by_time);
    if (ret_damaged) {
        *ret_damaged = g_steal_pointer(&damaged);
    }
    return all;
}

bool fut_store_delete(FutStore *store, uint64_t id, GError **error)
{
    g_autofree char *name = fut_manifest_name(id);

    if (!fut_store_lock(store, FUT_STORE_LOCK_WAIT_MS, error)) {
        return false;
    }
    bool good = fut_store_raise_snapshot(store, id + 1, error);
    if (good) {
        int code = store->fs->ops->remove(store->fs, name);
        code = code ? code : store->fs->ops->sync_folder(store->fs);
        good = code == 0;
        if (code == ENOENT) {
            g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                        "there is no snapshot %" G_GUINT64_FORMAT " in %s", id, store->fs->path);
        } else if (code) {
            fut_store_fs_fail(store->fs, "remove", name, code, error);
        }
    }
    fut_store_unlock(store);
    return good;
}
