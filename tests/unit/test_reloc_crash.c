/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A relocating disk that is killed, or whose host loses power, at any operation: what it says afterwards is compared with a model.
 * After a kill every finished write is there. After a power cut each place holds what the last flush covered or something written
 * later. Whatever was never written reads as at the source, always. */
#include "reloc_sim.h"

#define CELL 256 /* half a sector: some writes cut sectors in two */
#define CELLS 700
#define SIZE (CELLS * CELL - 100) /* neither blocks nor sectors come out even */
#define SEEDS 500
#define LIVES 6

typedef struct {
    uint32_t now;     /* what a read must return */
    uint32_t flushed; /* and what was there at the last flush */
    GArray *since;    /* uint32_t: written after it, or tried */
} Cell;

typedef struct {
    GRand *rand;
    SimIo io;
    SimSource source;
    uint8_t content[SIZE];
    Cell cell[CELLS];
    FutReloc *disk;
    uint32_t last_tag;
    uint8_t boot;
    bool fresh;
} World;

static uint32_t cell_length(uint32_t cell)
{
    return MIN(CELL, SIZE - cell * CELL);
}

static void fill(uint8_t *at, uint32_t tag, uint32_t length)
{
    for (uint32_t i = 0; i + 4 <= length; i += 4) {
        memcpy(at + i, &tag, 4);
    }
}

/* A cell's tag; all of it must be of the same. */
static uint32_t tag_of(const uint8_t *at, uint32_t length)
{
    uint32_t tag;

    memcpy(&tag, at, 4);
    for (uint32_t i = 4; i + 4 <= length; i += 4) {
        g_assert_true(memcmp(at, at + i, 4) == 0);
    }
    return tag;
}

static void add(Cell *cell, uint32_t tag)
{
    g_array_append_val(cell->since, tag);
}

static bool may_be(const Cell *cell, uint32_t tag)
{
    for (guint i = 0; i < cell->since->len; i++) {
        if (g_array_index(cell->since, uint32_t, i) == tag) {
            return true;
        }
    }
    return tag == cell->flushed;
}

static void open_disk(World *w)
{
    GError *error = NULL;
    FutRelocSetup setup = sim_setup(&w->io, &w->source, w->fresh);

    setup.boot_id[0] = w->boot;
    w->disk = fut_reloc_new(&setup, &error);
    g_assert_no_error(error);
    g_assert_nonnull(w->disk);
    w->fresh = false;
}

/* -- what can be done to a disk -- */

static void do_write(World *w)
{
    bool zero = g_rand_int_range(w->rand, 0, 5) == 0;
    uint32_t cells = (uint32_t)g_rand_int_range(w->rand, 1, g_rand_boolean(w->rand) ? 3 : 60);
    uint32_t first = (uint32_t)g_rand_int_range(w->rand, 0, (gint32)(CELLS - cells + 1));
    uint32_t length = MIN(cells * CELL, SIZE - first * CELL);
    uint32_t tag = zero ? 0 : ++w->last_tag;
    g_autofree uint8_t *data = g_malloc0(length);

    fill(data, tag, length);
    int error = zero ? fut_reloc_zero(w->disk, length, first * CELL, g_rand_boolean(w->rand))
                     : fut_reloc_write(w->disk, data, length, first * CELL);
    for (uint32_t i = first; i < first + cells; i++) {
        add(&w->cell[i], tag);
        if (error == 0) {
            w->cell[i].now = tag;
        }
    }
    if (error == 0 || w->io.die_after == 0) {
        return;
    }
    /* Refused: each place has what it had, or the new; which one stays. */
    int die_after = w->io.die_after;
    w->io.full_one_in = w->source.fails_one_in = 0;
    w->io.die_after = -1;
    g_assert_cmpint(fut_reloc_read(w->disk, data, length, first * CELL), ==, 0);
    w->io.die_after = die_after;
    for (uint32_t i = first; i < first + cells; i++) {
        uint32_t is = tag_of(data + (i - first) * CELL, cell_length(i));
        g_assert_true(is == tag || is == w->cell[i].now);
        w->cell[i].now = is;
    }
}

static void do_read(World *w)
{
    uint32_t cells = (uint32_t)g_rand_int_range(w->rand, 1, 80);
    uint32_t first = (uint32_t)g_rand_int_range(w->rand, 0, (gint32)(CELLS - cells + 1));
    uint32_t length = MIN(cells * CELL, SIZE - first * CELL);
    g_autofree uint8_t *data = g_malloc(length);

    if (fut_reloc_read(w->disk, data, length, first * CELL) == 0) {
        for (uint32_t i = 0; i < cells; i++) {
            g_assert_cmpuint(tag_of(data + i * CELL, cell_length(first + i)), ==,
                             w->cell[first + i].now);
        }
    }
}

/* What others write while the flush is under way may be covered by it or not. */
static void write_meanwhile(void *opaque)
{
    World *w = opaque;

    if (g_rand_int_range(w->rand, 0, 3) == 0) {
        do_write(w);
    }
}

static void do_flush(World *w)
{
    uint32_t was[CELLS];
    guint tried[CELLS];

    for (uint32_t i = 0; i < CELLS; i++) {
        was[i] = w->cell[i].now;
        tried[i] = w->cell[i].since->len;
    }
    w->io.before_sync = write_meanwhile;
    w->io.opaque = w;
    int error = fut_reloc_flush(w->disk);
    w->io.before_sync = NULL;
    for (uint32_t i = 0; i < CELLS && error == 0; i++) {
        w->cell[i].flushed = was[i];
        g_array_remove_range(w->cell[i].since, 0, tried[i]);
    }
}

/* A piece of the copy, with other things happening while it is on its way. */
static void do_copy(World *w)
{
    FutCopyPiece piece;
    uint64_t wait_ns;

    if (!fut_reloc_copy_next(w->disk, 1, &piece, &wait_ns)) {
        return;
    }
    g_autofree uint8_t *data = g_memdup2(w->content + piece.offset, piece.length);
    if (g_rand_boolean(w->rand)) {
        uint32_t first = (uint32_t)(piece.offset / CELL);
        uint32_t tag = ++w->last_tag;
        uint8_t bytes[2 * CELL];
        fill(bytes, tag, sizeof(bytes));
        uint32_t length = MIN(2 * CELL, (uint32_t)(SIZE - piece.offset));
        int error = fut_reloc_write(w->disk, bytes, length, piece.offset);
        for (uint32_t i = first; i < first + 2; i++) {
            add(&w->cell[i], tag);
            w->cell[i].now = error ? w->cell[i].now : tag;
        }
    }
    if (g_rand_int_range(w->rand, 0, 4) == 0) {
        fut_reloc_copy_drop(w->disk, &piece, 2);
    } else {
        fut_reloc_copy_store(w->disk, &piece, data, 1, 2);
    }
}

static void do_hole(World *w)
{
    uint64_t offset = 64 * CELL, length = 37 * CELL; /* where the source has zeroes */
    fut_reloc_hole(w->disk, length, offset);
}

static void live(World *w)
{
    for (int step = 0; step < 25 && w->io.die_after != 0; step++) {
        w->io.full_one_in = w->source.fails_one_in = g_rand_boolean(w->rand) ? 8 : 0;
        switch (g_rand_int_range(w->rand, 0, 8)) {
        case 0:
        case 1:
            do_read(w);
            break;
        case 2:
            do_flush(w);
            break;
        case 3:
            w->io.full_one_in =
                0; /* the model does not tell apart what the copy's write was refused */
            do_copy(w);
            break;
        case 4:
            do_hole(w);
            break;
        default:
            do_write(w);
        }
    }
    w->io.full_one_in = w->source.fails_one_in = 0;
}

/* The disk after it came back, against the model; what is found is what has to stay. */
static void check(World *w, bool power_cut)
{
    g_autofree uint8_t *data = g_malloc(SIZE);

    open_disk(w);
    g_assert_cmpint(fut_reloc_read(w->disk, data, SIZE, 0), ==, 0);
    for (uint32_t i = 0; i < CELLS; i++) {
        Cell *cell = &w->cell[i];
        uint32_t is = tag_of(data + i * CELL, cell_length(i));
        bool in_doubt = cell->since->len > 0 &&
                        is == g_array_index(cell->since, uint32_t, cell->since->len - 1);
        g_assert_true(power_cut ? may_be(cell, is) : is == cell->now || in_doubt);
        cell->now = is;
        if (power_cut) {
            cell->flushed = is;
            g_array_set_size(cell->since, 0);
        }
    }
    fut_reloc_free(w->disk);
}

static void build(World *w, guint32 seed)
{
    memset(w, 0, sizeof(*w));
    w->rand = g_rand_new_with_seed(seed);
    sim_init(&w->io, SIZE);
    w->io.rand = w->rand;
    w->source = (SimSource){ { &sim_source_ops }, w->content, SIZE, w->rand, 0, 0, 0, false };
    for (uint32_t i = 0; i < CELLS; i++) {
        bool hole = i >= 64 && i < 64 + 37;
        w->cell[i].now = w->cell[i].flushed = hole ? 0 : ++w->last_tag;
        w->cell[i].since = g_array_new(FALSE, FALSE, sizeof(uint32_t));
        fill(w->content + i * CELL, w->cell[i].now, cell_length(i));
    }
    w->fresh = true;
    w->boot = 1;
}

static void dismantle(World *w)
{
    for (uint32_t i = 0; i < CELLS; i++) {
        g_array_free(w->cell[i].since, TRUE);
    }
    sim_done(&w->io);
    g_rand_free(w->rand);
}

static void test_lives(void)
{
    World *w = g_new(World, 1);

    for (guint32 seed = 0; seed < SEEDS; seed++) {
        build(w, seed);
        for (int life = 0; life < LIVES; life++) {
            bool power_cut = g_rand_boolean(w->rand);
            open_disk(w);
            w->io.die_after = g_rand_int_range(w->rand, 1, 80);
            live(w);
            fut_reloc_free(w->disk);
            if (power_cut) {
                sim_power_cut(&w->io, w->rand);
                w->boot++;
            } else {
                sim_killed(&w->io);
            }
            check(w, power_cut);
        }
        dismantle(w);
    }
    g_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reloc-crash/lives", test_lives);
    return g_test_run();
}
