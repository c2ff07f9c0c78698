/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small VM whose memory and disk go into a store and come back. */
#ifndef FUT_TESTS_STORE_FIXTURE_H
#define FUT_TESTS_STORE_FIXTURE_H

#include <glib/gstdio.h>
#include <string.h>

#include "expect.h"
#include "store_verify.h"
#include "test_tmp.h"

#define RAM_UNITS 1300u /* three lowest nodes */
#define ROM_UNITS 1u
#define DISK_BYTES (700u * FUT_UNIT_SIZE + 512u)
#define DISK_UNITS 701u

enum {
    RAM,
    ROM,
    DISK,
    AREAS
};

typedef struct {
    uint8_t ram[RAM_UNITS * FUT_UNIT_SIZE], rom[ROM_UNITS * FUT_UNIT_SIZE],
        disk[DISK_UNITS * FUT_UNIT_SIZE];
    uint8_t state[10000];
} Image;

static const uint64_t area_bytes[AREAS] = { RAM_UNITS * FUT_UNIT_SIZE, ROM_UNITS *FUT_UNIT_SIZE,
                                            DISK_BYTES };

static inline uint8_t *image_area(Image *image, unsigned area)
{
    return area == RAM ? image->ram : area == ROM ? image->rom : image->disk;
}

/* One unit gets content that depends on `tag` alone; 0 is zeroes. What would be behind the disk's end stays zero. */
static inline void image_set(Image *image, unsigned area, uint64_t unit, uint64_t tag)
{
    uint8_t *at = image_area(image, area) + unit * FUT_UNIT_SIZE;
    uint64_t length = MIN(FUT_UNIT_SIZE, area_bytes[area] - unit * FUT_UNIT_SIZE);

    memset(at, 0, length);
    for (uint64_t i = 0; tag && i + 8 <= length; i += 8) {
        uint64_t word = (tag * 0x9e3779b97f4a7c15ull) ^ (i / 64 * (tag % 3));
        memcpy(at + i, &word, 8);
    }
}

static inline FutSnapshotInfo *image_info(uint64_t parent, uint64_t time_us)
{
    FutSnapshotInfo *info = fut_snapshot_info_new();
    const char *command[] = { "qemu-system-x86_64", "-m", "5M", NULL };
    const char *lines[] = { "qemu=7.2", "machine=microvm", NULL };

    info->parent = parent;
    info->time_us = time_us;
    g_free(info->vm);
    info->vm = g_strdup("web");
    g_strfreev(info->command);
    info->command = g_strdupv((char **)command);
    g_strfreev(info->fingerprint);
    info->fingerprint = g_strdupv((char **)lines);
    fut_snapshot_info_add(info, FUT_AREA_MEMORY, "pc.ram", area_bytes[RAM]);
    fut_snapshot_info_add(info, FUT_AREA_MEMORY, "pc.rom", area_bytes[ROM]);
    fut_snapshot_info_add(info, FUT_AREA_DISK, "virtio0", area_bytes[DISK]);
    return info;
}

/* Units that differ from `was` (NULL: all). False: refused at some point, and aborted. */
static inline bool image_put(FutSnapshotWriter *writer, Image *image, Image *was, GError **error)
{
    for (unsigned area = 0; area < AREAS; area++) {
        for (uint64_t at = 0; at < area_bytes[area]; at += FUT_UNIT_SIZE) {
            uint64_t length = MIN(FUT_UNIT_SIZE, area_bytes[area] - at);
            if ((!was ||
                 memcmp(image_area(image, area) + at, image_area(was, area) + at, length)) &&
                !fut_snapshot_put(writer, area, at, image_area(image, area) + at, length, error)) {
                return false;
            }
        }
    }
    return fut_snapshot_put_state(writer, image->state, sizeof(image->state), error);
}

/* Takes a snapshot; 0 with an error if it was refused. */
static inline uint64_t image_take(FutStore *store, Image *image, Image *was, uint64_t parent,
                                  uint64_t time_us, GError **error)
{
    g_autoptr(FutSnapshotInfo) info = image_info(parent, time_us);
    FutSnapshotWriter *writer = fut_store_begin(store, info, 0, 0, error);

    if (!writer) {
        return 0;
    }
    uint64_t id = fut_snapshot_writer_id(writer);
    if (!image_put(writer, image, was, error)) {
        fut_snapshot_abort(writer);
        return 0;
    }
    return fut_snapshot_commit(writer, NULL, error) ? id : 0;
}

typedef struct {
    uint8_t *to;
    uint64_t first, count, called;
} FixtureSink;

static inline bool fixture_sink(void *opaque, uint64_t unit, const uint8_t *data, GError **error)
{
    FixtureSink *sink = (FixtureSink *)opaque;

    g_assert_cmpuint(unit, <, sink->count);
    memcpy(sink->to + unit * FUT_UNIT_SIZE, data, FUT_UNIT_SIZE);
    sink->called++;
    return true;
}

/* Everything of the snapshot, read unit by unit and in one go, into `ret`. False with an error. */
static inline bool image_read(FutStore *store, uint64_t id, Image *ret, GError **error)
{
    g_autoptr(FutSnapshot) snapshot = fut_snapshot_open(store, id, error);
    size_t length = 0;

    memset(ret, 0, sizeof(*ret));
    for (unsigned area = 0; snapshot && area < AREAS; area++) {
        uint64_t units = (area_bytes[area] + FUT_UNIT_SIZE - 1) / FUT_UNIT_SIZE;
        FixtureSink sink = { image_area(ret, area), 0, units, 0 };
        if (!fut_snapshot_each(snapshot, area, 0, units, fixture_sink, &sink, error)) {
            return false;
        }
        for (uint64_t i = 0; i < units; i += 1 + i % 7) {
            uint8_t unit[FUT_UNIT_SIZE];
            if (!fut_snapshot_read(snapshot, area, i, unit, NULL, error)) {
                return false;
            }
            g_assert_cmpmem(unit, FUT_UNIT_SIZE, sink.to + i * FUT_UNIT_SIZE, FUT_UNIT_SIZE);
        }
    }
    g_autofree uint8_t *state = snapshot ? fut_snapshot_state(snapshot, &length, error) : NULL;
    if (state) {
        g_assert_cmpuint(length, ==, sizeof(ret->state));
        memcpy(ret->state, state, length);
    }
    return state != NULL;
}

static inline void image_expect(FutStore *store, uint64_t id, const Image *wanted)
{
    g_autofree Image *is = g_new(Image, 1);
    GError *error = NULL;

    g_assert_true(image_read(store, id, is, &error));
    g_assert_no_error(error);
    g_assert_cmpint(memcmp(is, wanted, sizeof(*is)), ==, 0);
}

/* -- a store in a folder of its own -- */

typedef struct {
    char *folder;
    FutStore *store; /* may be closed and opened again by a test */
    Image *image;    /* what the VM has */
    Image *was;      /* and had when the last one was taken */
    uint64_t last;   /* snapshot; 0: none */
} StoreWorld;

static inline void store_world_init(StoreWorld *w)
{
    GError *error = NULL;

    w->folder = fut_test_tmp();
    w->store = fut_store_open(w->folder, FUT_STORE_CREATE, &error);
    g_assert_no_error(error);
    w->image = g_new0(Image, 1);
    w->was = g_new0(Image, 1);
    w->last = 0;
}

static inline void store_world_done(StoreWorld *w)
{
    fut_store_close(w->store);
    fut_test_tmp_remove(w->folder);
    g_free(w->folder);
    g_free(w->image);
    g_free(w->was);
}

/* The image as it is: the difference to `parent` (the last one), or all of it (0). */
static inline uint64_t store_world_take(StoreWorld *w, uint64_t parent, uint64_t time_us)
{
    GError *error = NULL;

    w->last = image_take(w->store, w->image, parent ? w->was : NULL, parent, time_us, &error);
    g_assert_no_error(error);
    memcpy(w->was, w->image, sizeof(Image));
    return w->last;
}

static inline void store_world_reopen(StoreWorld *w)
{
    GError *error = NULL;

    fut_store_close(w->store);
    w->store = fut_store_open(w->folder, FUT_STORE_WRITE, &error);
    g_assert_no_error(error);
}

/* Snapshot `n` of a series: some units are as only this one has them. */
static inline void store_world_next(StoreWorld *w, unsigned n, uint64_t time_us)
{
    for (unsigned i = 0; i < 30; i++) {
        image_set(w->image, RAM, (n * 41 + i * 7) % RAM_UNITS, 100000 + n * 100 + i);
        image_set(w->image, DISK, (n * 3 + i) % 60, 500000 + n * 100 + i);
    }
    store_world_take(w, w->last, time_us);
}

static inline FutPruneReport store_world_prune(StoreWorld *w, FutPrunePolicy policy)
{
    FutPruneReport report;
    GError *error = NULL;

    g_assert_true(fut_store_prune(w->store, &policy, false, 0, NULL, NULL, &report, &error));
    g_assert_no_error(error);
    return report;
}

static inline FutVerifyReport store_world_verify(StoreWorld *w, bool contents)
{
    FutVerifyReport report;
    GError *error = NULL;

    g_assert_true(fut_store_verify(w->store, contents, NULL, NULL, &report, &error));
    g_assert_no_error(error);
    return report;
}

static inline void store_world_expect_whole(StoreWorld *w)
{
    FutVerifyReport report = store_world_verify(w, true);

    for (guint i = 0; i < report.damages->len; i++) {
        g_test_message("%s", ((FutDamage *)report.damages->pdata[i])->what);
    }
    g_assert_cmpuint(report.damages->len, ==, 0);
    fut_verify_report_done(&report);
}

/* -- its files -- */

static inline gint fixture_by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names with that ending, sorted. */
static inline GPtrArray *fixture_files(const char *folder, const char *ending)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        if (g_str_has_suffix(name, ending)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_sort(names, fixture_by_text);
    return names;
}

typedef struct {
    char *bytes; /* owned */
    gsize length;
} Content;

static inline Content fixture_load(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    Content is = { 0 };

    g_assert_true(g_file_get_contents(path, &is.bytes, &is.length, NULL));
    return is;
}

/* In place: who has the file open reads it. */
static inline void fixture_save(const char *folder, const char *name, const char *bytes,
                                gsize length)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(bytes, 1, length, file), ==, length);
    g_assert_cmpint(fclose(file), ==, 0);
}

static inline void fixture_flip(const char *folder, const char *name, gsize at, unsigned bit)
{
    Content is = fixture_load(folder, name);

    g_assert_cmpuint(at, <, is.length);
    is.bytes[at] ^= (char)(1 << bit);
    fixture_save(folder, name, is.bytes, is.length);
    g_free(is.bytes);
}

static inline void fixture_remove(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);

    g_assert_cmpint(g_unlink(path), ==, 0);
}

static inline uint64_t fixture_bytes(const char *folder)
{
    g_autoptr(GPtrArray) names = fixture_files(folder, "");
    uint64_t sum = 0;

    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(folder, names->pdata[i], NULL);
        GStatBuf status;
        g_assert_cmpint(g_stat(path, &status), ==, 0);
        sum += (uint64_t)status.st_size;
    }
    return sum;
}

#endif
