/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two files that can lose what was not synced, and a source that can fail: what a relocating disk stands on, for tests. */
#ifndef FUT_TESTS_RELOC_SIM_H
#define FUT_TESTS_RELOC_SIM_H

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "reloc.h"

#define SIM_FILES 2

/* A write that is not durable yet. */
typedef struct {
    uint64_t offset, length;
    uint8_t *data;
} SimWrite;

typedef struct {
    FutRelocIo io;
    GMutex lock;
    uint64_t size[SIM_FILES];
    uint8_t *now[SIM_FILES], *durable[SIM_FILES];
    GArray *pending[SIM_FILES]; /* SimWrite, since the file's last sync */
    GRand *rand;                /* for faults; NULL: none */
    int full_one_in;            /* writes and zeroes of the cache that find no room */
    int die_after;              /* operations until the process is dead; -1: lives */
    bool sync_fails;
    void (*before_sync)(void *opaque); /* what others do while a flush is under way; may be NULL */
    void *opaque;
} SimIo;

static inline bool sim_dead(SimIo *sim)
{
    if (sim->die_after > 0) {
        sim->die_after--;
    }
    return sim->die_after == 0;
}

static inline int sim_read(FutRelocIo *io, FutRelocFile file, void *buf, size_t length,
                           uint64_t offset)
{
    SimIo *sim = (SimIo *)io;
    g_mutex_lock(&sim->lock);
    g_assert_cmpuint(offset + length, <=, sim->size[file]);
    int error = sim->die_after == 0 ? EIO : 0;
    memcpy(buf, sim->now[file] + offset, error ? 0 : length);
    g_mutex_unlock(&sim->lock);
    return error;
}

/* data NULL: zeroes. */
static inline int sim_put(SimIo *sim, FutRelocFile file, const void *data, uint64_t length,
                          uint64_t offset)
{
    g_mutex_lock(&sim->lock);
    g_assert_cmpuint(offset + length, <=, sim->size[file]);
    int error = sim_dead(sim) ? EIO : 0;
    if (error == 0 && file == FUT_RELOC_CACHE && sim->rand && sim->full_one_in &&
        g_rand_int_range(sim->rand, 0, sim->full_one_in) == 0) {
        error = ENOSPC;
    }
    if (error == 0) {
        SimWrite write = { offset, length, g_malloc0(length) };
        if (data) {
            memcpy(write.data, data, length);
        }
        memcpy(sim->now[file] + offset, write.data, length);
        g_array_append_val(sim->pending[file], write);
    }
    g_mutex_unlock(&sim->lock);
    return error;
}

static inline int sim_write(FutRelocIo *io, FutRelocFile file, const void *buf, size_t length,
                            uint64_t offset)
{
    return sim_put((SimIo *)io, file, buf, length, offset);
}

static inline int sim_zero(FutRelocIo *io, uint64_t offset, uint64_t length, bool trim)
{
    return sim_put((SimIo *)io, FUT_RELOC_CACHE, NULL, length, offset);
}

static inline void sim_drop_pending(SimIo *sim, FutRelocFile file)
{
    for (guint i = 0; i < sim->pending[file]->len; i++) {
        g_free(g_array_index(sim->pending[file], SimWrite, i).data);
    }
    g_array_set_size(sim->pending[file], 0);
}

static inline int sim_sync(FutRelocIo *io, FutRelocFile file)
{
    SimIo *sim = (SimIo *)io;
    if (sim->before_sync) {
        sim->before_sync(sim->opaque);
    }
    g_mutex_lock(&sim->lock);
    int error = sim_dead(sim) || sim->sync_fails ? EIO : 0;
    if (error == 0) {
        memcpy(sim->durable[file], sim->now[file], sim->size[file]);
        sim_drop_pending(sim, file);
    }
    g_mutex_unlock(&sim->lock);
    return error;
}

static inline int sim_extent(FutRelocIo *io, uint64_t offset, uint64_t length, uint64_t *ret_length,
                             bool *ret_hole)
{
    *ret_length = length;
    *ret_hole = false;
    return 0;
}

static const FutRelocIoOps sim_io_ops = { sim_read, sim_write, sim_zero, sim_sync, sim_extent };

/* A cache full of rubbish (none for a test that needs none), and an empty bitmap. */
static inline void sim_init_sizes(SimIo *sim, uint64_t disk_size, uint64_t cache_size)
{
    memset(sim, 0, sizeof(*sim));
    sim->io.ops = &sim_io_ops;
    g_mutex_init(&sim->lock);
    sim->die_after = -1;
    sim->size[FUT_RELOC_CACHE] = cache_size;
    sim->size[FUT_RELOC_BITMAP] = fut_bitmap_file_length(disk_size);
    for (int file = 0; file < SIM_FILES; file++) {
        sim->now[file] = g_malloc0(sim->size[file]);
        sim->durable[file] = g_malloc0(sim->size[file]);
        sim->pending[file] = g_array_new(FALSE, FALSE, sizeof(SimWrite));
    }
    memset(sim->now[FUT_RELOC_CACHE], 0xee, cache_size);
    memset(sim->durable[FUT_RELOC_CACHE], 0xee, cache_size);
}

static inline void sim_init(SimIo *sim, uint64_t disk_size)
{
    sim_init_sizes(sim, disk_size, disk_size);
}

static inline void sim_done(SimIo *sim)
{
    for (int file = 0; file < SIM_FILES; file++) {
        sim_drop_pending(sim, (FutRelocFile)file);
        g_array_free(sim->pending[file], TRUE);
        g_free(sim->now[file]);
        g_free(sim->durable[file]);
    }
    g_mutex_clear(&sim->lock);
}

/* The host went down: of what was not durable, the disk has any sectors, in the order in which they were written. */
static inline void sim_power_cut(SimIo *sim, GRand *rand)
{
    for (int file = 0; file < SIM_FILES; file++) {
        int one_in = g_rand_int_range(rand, 1, 5);
        for (guint i = 0; i < sim->pending[file]->len; i++) {
            SimWrite *write = &g_array_index(sim->pending[file], SimWrite, i);
            for (uint64_t at = 0; at < write->length;) {
                uint64_t piece = MIN(write->length - at, 512 - (write->offset + at) % 512);
                if (g_rand_int_range(rand, 0, one_in) == 0) {
                    memcpy(sim->durable[file] + write->offset + at, write->data + at, piece);
                }
                at += piece;
            }
        }
        memcpy(sim->now[file], sim->durable[file], sim->size[file]);
        sim_drop_pending(sim, (FutRelocFile)file);
    }
    sim->die_after = -1;
}

/* The process was killed, the host lives: nothing is lost. */
static inline void sim_killed(SimIo *sim)
{
    sim->die_after = -1;
}

/* -- source -- */

typedef struct {
    FutRelocSource source;
    const uint8_t *content;
    uint64_t size;
    GRand *rand; /* for faults; NULL: none */
    int fails_one_in;
    unsigned sleep_us;
    unsigned reads; /* atomic */
    bool cancelled;
} SimSource;

static inline int sim_source_read(FutRelocSource *source, void *buf, uint32_t length,
                                  uint64_t offset)
{
    SimSource *sim = (SimSource *)source;
    g_assert_cmpuint(offset + length, <=, sim->size);
    __atomic_fetch_add(&sim->reads, 1, __ATOMIC_RELAXED);
    if (sim->sleep_us > 0) {
        g_usleep(sim->sleep_us);
    }
    if (sim->rand && sim->fails_one_in && g_rand_int_range(sim->rand, 0, sim->fails_one_in) == 0) {
        return EIO;
    }
    memcpy(buf, sim->content + offset, length);
    return 0;
}

static inline bool sim_source_cancelled(FutRelocSource *source)
{
    return ((SimSource *)source)->cancelled;
}

static const FutRelocSourceOps sim_source_ops = { sim_source_read, sim_source_cancelled };

static inline FutRelocSetup sim_setup(SimIo *sim, SimSource *source, bool fresh)
{
    FutRelocSetup setup = { .io = &sim->io,
                            .source = source ? &source->source : NULL,
                            .fresh = fresh,
                            .policy = FUT_COPY_HOT_FIRST,
                            .adaptive = true };
    setup.identity.size = sim->size[FUT_RELOC_CACHE];
    setup.identity.cache_id[0] = 1;
    setup.identity.cache_id[1] = 4711;
    g_strlcpy(setup.identity.source, "nbd://there/disk", FUT_BITMAP_URI_MAX);
    setup.boot_id[0] = 1;
    return setup;
}

#endif
