/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small VM whose memory and disk go into a store and come back. */
#ifndef FUT_TESTS_STORE_FIXTURE_H
#define FUT_TESTS_STORE_FIXTURE_H

#include <string.h>

#include "expect.h"
#include "store.h"
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

#endif
