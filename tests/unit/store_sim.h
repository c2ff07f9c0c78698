/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file system that exists in memory: it fails, is full, dies at any operation, and loses what was not synced when its power is cut. */
#ifndef FUT_TESTS_STORE_SIM_H
#define FUT_TESTS_STORE_SIM_H

#include <errno.h>
#include <string.h>

#include "store_fs.h"

typedef struct {
    uint64_t offset;
    GBytes *data;
} SimWrite;

typedef struct {
    GByteArray *now, *durable;
    GArray *pending; /* SimWrite: since the last sync */
} SimFile;

typedef struct {
    char *name; /* that then has the file; or, with file -1, has none */
    char *from; /* name that is gone by it, or NULL */
    int file;
} SimNaming;

typedef struct {
    FutStoreFs fs;
    GPtrArray *files;    /* SimFile */
    GHashTable *now;     /* name -> file + 1 */
    GHashTable *durable; /* likewise */
    GPtrArray *pending;  /* SimNaming: since the folder's last sync */
    GRand *rand;         /* borrowed */
    int die_after;       /* operations that still succeed; -1: any number */
    int fails_one_in;    /* 0: never */
    bool locked;
    bool relied_on; /* by a reader of many files */
    uint64_t free_bytes;
} SimFs;

static inline void sim_write_clear(void *opaque)
{
    g_bytes_unref(((SimWrite *)opaque)->data);
}

static inline void sim_file_free(gpointer opaque)
{
    SimFile *file = (SimFile *)opaque;

    g_byte_array_unref(file->now);
    g_byte_array_unref(file->durable);
    g_array_unref(file->pending);
    g_free(file);
}

static inline void sim_naming_free(gpointer opaque)
{
    SimNaming *naming = (SimNaming *)opaque;

    g_free(naming->name);
    g_free(naming->from);
    g_free(naming);
}

/* 0, or why this operation does not happen. */
static inline int sim_step(FutStoreFs *fs, bool may_be_full)
{
    SimFs *sim = (SimFs *)fs;

    if (sim->die_after == 0) {
        return EIO;
    }
    sim->die_after -= sim->die_after > 0;
    if (sim->fails_one_in && g_rand_int_range(sim->rand, 0, sim->fails_one_in) == 0) {
        return may_be_full ? ENOSPC : EIO;
    }
    return 0;
}

static inline SimFile *sim_file(FutStoreFs *fs, int file)
{
    return (SimFile *)((SimFs *)fs)->files->pdata[file];
}

static inline int sim_find(FutStoreFs *fs, const char *name)
{
    return GPOINTER_TO_INT(g_hash_table_lookup(((SimFs *)fs)->now, name)) - 1;
}

static inline void sim_name(SimFs *sim, const char *name, const char *from, int file)
{
    SimNaming *naming = g_new(SimNaming, 1);

    *naming = (SimNaming){ g_strdup(name), g_strdup(from), file };
    g_ptr_array_add(sim->pending, naming);
}

static inline int sim_open(FutStoreFs *fs, const char *name, int *ret_file)
{
    int code = sim_step(fs, false), file = sim_find(fs, name);

    *ret_file = file;
    return code ? code : file < 0 ? ENOENT : 0;
}

static inline int sim_create(FutStoreFs *fs, const char *name, int *ret_file)
{
    SimFs *sim = (SimFs *)fs;
    int code = sim_step(fs, true);

    if (code == 0) {
        SimFile *file = g_new(SimFile, 1);
        *file = (SimFile){ g_byte_array_new(), g_byte_array_new(),
                           g_array_new(FALSE, FALSE, sizeof(SimWrite)) };
        g_array_set_clear_func(file->pending, sim_write_clear);
        g_ptr_array_add(sim->files, file);
        *ret_file = (int)sim->files->len - 1;
        g_hash_table_insert(sim->now, g_strdup(name), GINT_TO_POINTER(*ret_file + 1));
        sim_name(sim, name, NULL, *ret_file);
    }
    return code;
}

static inline void sim_close(FutStoreFs *fs, int file)
{
}

static inline int sim_size(FutStoreFs *fs, int file, uint64_t *ret)
{
    *ret = sim_file(fs, file)->now->len;
    return sim_step(fs, false);
}

static inline int sim_read(FutStoreFs *fs, int file, void *data, size_t length, uint64_t offset)
{
    const GByteArray *is = sim_file(fs, file)->now;
    int code = sim_step(fs, false);

    if (code) {
        return code;
    }
    if (offset > is->len || is->len - offset < length) {
        return ENODATA;
    }
    if (length > 0) {
        memcpy(data, is->data + offset, length);
    }
    return 0;
}

static inline void sim_put(GByteArray *to, const void *data, size_t length, uint64_t offset)
{
    if (to->len < offset + length) {
        guint old = to->len;
        g_byte_array_set_size(to, (guint)(offset + length));
        memset(to->data + old, 0, offset + length - old);
    }
    memcpy(to->data + offset, data, length);
}

static inline int sim_write(FutStoreFs *fs, int file, const void *data, size_t length,
                            uint64_t offset)
{
    SimFs *sim = (SimFs *)fs;
    int code = sim_step(fs, true);
    /* Who dies in a write has written part of it. */
    size_t done = code ? (size_t)g_rand_int_range(sim->rand, 0, (gint32)length + 1) : length;

    if (done > 0) {
        SimWrite write = { offset, g_bytes_new(data, done) };
        g_array_append_val(sim_file(fs, file)->pending, write);
        sim_put(sim_file(fs, file)->now, data, done, offset);
    }
    return code;
}

static inline int sim_sync(FutStoreFs *fs, int file)
{
    SimFile *is = sim_file(fs, file);
    int code = sim_step(fs, false);

    if (code == 0) {
        g_byte_array_set_size(is->durable, 0);
        g_byte_array_append(is->durable, is->now->data, is->now->len);
        g_array_set_size(is->pending, 0);
    }
    return code;
}

static inline void sim_apply(GHashTable *names, const SimNaming *naming)
{
    if (naming->from) {
        g_hash_table_remove(names, naming->from);
    }
    if (naming->file < 0) {
        g_hash_table_remove(names, naming->name);
    } else {
        g_hash_table_insert(names, g_strdup(naming->name), GINT_TO_POINTER(naming->file + 1));
    }
}

static inline int sim_sync_folder(FutStoreFs *fs)
{
    SimFs *sim = (SimFs *)fs;
    int code = sim_step(fs, false);

    for (guint i = 0; code == 0 && i < sim->pending->len; i++) {
        sim_apply(sim->durable, (SimNaming *)sim->pending->pdata[i]);
    }
    if (code == 0) {
        g_ptr_array_set_size(sim->pending, 0);
    }
    return code;
}

static inline int sim_rename(FutStoreFs *fs, const char *from, const char *to)
{
    SimFs *sim = (SimFs *)fs;
    int code = sim_step(fs, true), file = sim_find(fs, from);

    if (code == 0 && file < 0) {
        code = ENOENT;
    }
    if (code == 0) {
        sim_name(sim, to, from, file);
        sim_apply(sim->now, (SimNaming *)sim->pending->pdata[sim->pending->len - 1]);
    }
    return code;
}

static inline int sim_remove(FutStoreFs *fs, const char *name)
{
    SimFs *sim = (SimFs *)fs;
    int code = sim_step(fs, false);

    if (code == 0 && sim_find(fs, name) < 0) {
        code = ENOENT;
    }
    if (code == 0) {
        sim_name(sim, name, NULL, -1);
        g_hash_table_remove(sim->now, name);
    }
    return code;
}

static inline int sim_list(FutStoreFs *fs, GPtrArray *names)
{
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, ((SimFs *)fs)->now);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        g_ptr_array_add(names, g_strdup((const char *)name));
    }
    return sim_step(fs, false);
}

static inline int sim_free_bytes(FutStoreFs *fs, uint64_t *ret)
{
    *ret = ((SimFs *)fs)->free_bytes;
    return 0;
}

static inline int sim_lock(FutStoreFs *fs)
{
    SimFs *sim = (SimFs *)fs;

    if (sim->locked) {
        return EAGAIN;
    }
    sim->locked = true;
    return 0;
}

static inline void sim_unlock(FutStoreFs *fs)
{
    ((SimFs *)fs)->locked = false;
}

static inline int sim_claim(FutStoreFs *fs)
{
    return ((SimFs *)fs)->relied_on ? EAGAIN : 0;
}

static inline void sim_unclaim(FutStoreFs *fs)
{
}

/* The store lets go of it; the test keeps it. */
static inline void sim_free(FutStoreFs *fs)
{
}

static const FutStoreFsOps sim_fs_ops = {
    .open = sim_open,
    .create = sim_create,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .sync_folder = sim_sync_folder,
    .rename = sim_rename,
    .remove = sim_remove,
    .list = sim_list,
    .free_bytes = sim_free_bytes,
    .lock = sim_lock,
    .unlock = sim_unlock,
    .claim = sim_claim,
    .unclaim = sim_unclaim,
    .free = sim_free,
};

static inline void sim_fs_init(SimFs *sim, GRand *rand)
{
    *sim = (SimFs){ .fs = { &sim_fs_ops, g_strdup("store") },
                    .files = g_ptr_array_new_with_free_func(sim_file_free),
                    .now = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                    .durable = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                    .pending = g_ptr_array_new_with_free_func(sim_naming_free),
                    .rand = rand,
                    .die_after = -1,
                    .free_bytes = 1ull << 40 };
}

static inline void sim_fs_done(SimFs *sim)
{
    g_ptr_array_unref(sim->files);
    g_hash_table_unref(sim->now);
    g_hash_table_unref(sim->durable);
    g_ptr_array_unref(sim->pending);
    g_free(sim->fs.path);
}

/* Time passes: the kernel has written all there is. */
static inline void sim_fs_write_back(SimFs *sim)
{
    sim->die_after = -1;
    sim->fails_one_in = 0;
    for (guint i = 0; i < sim->files->len; i++) {
        sim_sync(&sim->fs, (int)i);
    }
    sim_sync_folder(&sim->fs);
}

/* Of what was not synced, some is there and some is not: writes and names each by themselves. */
static inline void sim_fs_power_cut(SimFs *sim)
{
    GHashTableIter iter;
    gpointer key, value;

    for (guint i = 0; i < sim->files->len; i++) {
        SimFile *file = (SimFile *)sim->files->pdata[i];
        for (guint w = 0; w < file->pending->len; w++) {
            SimWrite *write = &g_array_index(file->pending, SimWrite, w);
            gsize length;
            const void *data = g_bytes_get_data(write->data, &length);
            if (g_rand_boolean(sim->rand)) {
                sim_put(file->durable, data, length, write->offset);
            }
        }
        g_array_set_size(file->pending, 0);
        g_byte_array_set_size(file->now, 0);
        g_byte_array_append(file->now, file->durable->data, file->durable->len);
    }
    for (guint i = 0; i < sim->pending->len; i++) {
        if (g_rand_boolean(sim->rand)) {
            sim_apply(sim->durable, (SimNaming *)sim->pending->pdata[i]);
        }
    }
    g_ptr_array_set_size(sim->pending, 0);
    g_hash_table_remove_all(sim->now);
    g_hash_table_iter_init(&iter, sim->durable);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_hash_table_insert(sim->now, g_strdup((const char *)key), value);
    }
}

#endif
