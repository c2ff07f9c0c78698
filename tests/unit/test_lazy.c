/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory comes out of a snapshot when it is touched: always right, never made up. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lazy.h"
#include "resident.h"
#include "store_fixture.h"
#include "userfault.h"

#define RAM_BYTES ((size_t)RAM_UNITS * FUT_UNIT_SIZE)
#define ROM_BYTES ((size_t)ROM_UNITS * FUT_UNIT_SIZE)

typedef struct {
    char *folder;
    Image *image;
    FutMemory memory;
    FutStore *store;
    FutSnapshot *snapshot;
    FutHotPages *hot; /* NULL: none */
    FutLazyHost host;
    int troubles, losses; /* atomic */
} World;

static void trouble(void *opaque, const char *why, bool ends)
{
    World *w = opaque;

    g_assert_nonnull(strstr(why, "00000001-00000001.pack is damaged"));
    g_atomic_int_inc(&w->troubles);
}

static void lost(void *opaque, const char *why)
{
    World *w = opaque;

    g_assert_nonnull(strstr(why, "00000001-00000001.pack is damaged"));
    g_atomic_int_inc(&w->losses);
    for (;;) {
        pause();
    }
}

static uint8_t *map(size_t bytes, int flags)
{
    uint8_t *at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert_true(at != MAP_FAILED);
    memset(at, 0xee, bytes); /* what a machine's start leaves there */
    return at;
}

/* `data`: MAP_PRIVATE or MAP_SHARED. */
static void set_up(World *w, gconstpointer data)
{
    GError *error = NULL;

    w->folder = fut_test_tmp();
    w->image = g_new0(Image, 1);
    w->host = (FutLazyHost){ trouble, lost, 100 * 1000 * 1000 };
    w->memory.count = 2;
    w->memory.block[0].base = map(RAM_BYTES, GPOINTER_TO_INT(data));
    w->memory.block[0].length = RAM_BYTES;
    w->memory.block[1].base = map(ROM_BYTES, GPOINTER_TO_INT(data));
    w->memory.block[1].length = ROM_BYTES;
    /* Every third page, and a hundred pages of zeroes. */
    for (unsigned i = 0; i < RAM_UNITS; i += i == 600 ? 102 : 3) {
        image_set(w->image, RAM, i, i + 1);
    }
    image_set(w->image, ROM, 0, 5);
    w->store = fut_store_open(w->folder, FUT_STORE_CREATE, &error);
    g_assert_no_error(error);
    image_take(w->store, w->image, NULL, 0, 1000, &error);
    g_assert_no_error(error);
    w->snapshot = fut_snapshot_open(w->store, 1, &error);
    g_assert_no_error(error);
}

static void tear_down(World *w, gconstpointer data)
{
    fut_hot_pages_free(w->hot);
    fut_snapshot_close(w->snapshot);
    fut_store_close(w->store);
    munmap(w->memory.block[0].base, RAM_BYTES);
    munmap(w->memory.block[1].base, ROM_BYTES);
    fut_test_tmp_remove(w->folder);
    g_free(w->folder);
    g_free(w->image);
}

static bool can(void)
{
    int fd = fut_userfault_open(0);

    if (fd < 0) {
        g_test_skip("no right to userfaultfd");
        return false;
    }
    close(fd);
    return true;
}

static FutLazy *begin(World *w)
{
    GError *error = NULL;
    FutLazy *lazy = fut_lazy_new(w->snapshot, &w->memory, w->hot, &w->host, w, &error);

    g_assert_no_error(error);
    return lazy;
}

/* Every fifth page from 500 on, those before the end, and the ROM. */
static void make_hot(World *w)
{
    g_autofree uint64_t *keys = g_new(uint64_t, RAM_UNITS);
    FutSnapshotInfo *info = (FutSnapshotInfo *)fut_snapshot_info(w->snapshot);
    FutBuf buf = { 0 };
    size_t count = 0;

    for (unsigned i = RAM_UNITS; i-- > 500;) {
        if (i % 5 == 0 || i > RAM_UNITS - 10) {
            keys[count++] = fut_key(0, i);
        }
    }
    keys[count++] = fut_key(1, 0);
    fut_hot_list_encode(&buf, keys, count);
    info->hot = g_bytes_new(buf.data, buf.len);
    fut_buf_done(&buf);
    w->hot = fut_hot_pages_new(w->snapshot);
    g_assert_nonnull(w->hot);
}

static void set_up_hot(World *w, gconstpointer data)
{
    set_up(w, data);
    make_hot(w);
}

static void expect_page(const World *w, unsigned page)
{
    size_t at = (size_t)page * FUT_PAGE_SIZE;

    g_assert_cmpint(memcmp(w->memory.block[0].base + at, w->image->ram + at, FUT_PAGE_SIZE), ==, 0);
}

/* From the end on, against the background, which begins at the beginning. */
static void *read_all(void *opaque)
{
    const World *w = opaque;

    for (unsigned page = RAM_UNITS; page-- > 0;) {
        expect_page(w, page);
    }
    return NULL;
}

static void test_whole(World *w, gconstpointer data)
{
    if (!can()) {
        return;
    }
    GThread *threads[3];
    g_autoptr(FutLazy) lazy = begin(w);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        threads[i] = g_thread_new("reader", read_all, w);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
    }
    fut_lazy_wait(lazy);
    g_assert_cmpuint(fut_lazy_permille(lazy), ==, 1000);
    read_all(w);
    g_assert_cmpint(memcmp(w->memory.block[1].base, w->image->rom, ROM_BYTES), ==, 0);
    g_assert_cmpint(w->troubles + w->losses, ==, 0);
}

/* What the guest has written stays; a system call waits for a page as a program does; what was given back is zeroes, not what it was. */
static void test_written(World *w, gconstpointer data)
{
    static const uint8_t zeroes[FUT_PAGE_SIZE];
    uint8_t *ram = w->memory.block[0].base;
    int ends[2];

    if (!can()) {
        return;
    }
    g_assert_cmpint(pipe(ends), ==, 0);
    g_autoptr(FutLazy) lazy = begin(w);
    memset(ram + 1299 * FUT_PAGE_SIZE + 100, 7, 10);
    memset(w->image->ram + 1299 * FUT_PAGE_SIZE + 100, 7, 10);
    g_assert_cmpint(write(ends[1], ram + 900 * FUT_PAGE_SIZE, 4096), ==, 4096);
    g_assert_cmpint(read(ends[0], w->image->state, 4096), ==, 4096);
    g_assert_cmpint(memcmp(w->image->state, w->image->ram + 900 * FUT_PAGE_SIZE, 4096), ==, 0);
    g_assert_cmpint(madvise(ram + 900 * FUT_PAGE_SIZE, FUT_PAGE_SIZE,
                            data == GINT_TO_POINTER(MAP_SHARED) ? MADV_REMOVE : MADV_DONTNEED),
                    ==, 0);
    g_assert_cmpint(memcmp(ram + 900 * FUT_PAGE_SIZE, zeroes, FUT_PAGE_SIZE), ==, 0);
    fut_lazy_wait(lazy);
    image_set(w->image, RAM, 900, 0);
    read_all(w);
    close(ends[0]);
    close(ends[1]);
}

/* A guest that never runs. */
static void test_given_up(World *w, gconstpointer data)
{
    if (can()) {
        fut_lazy_free(begin(w));
    }
}

/* -- a store that cannot be read -- */

/* One bit of the first frame, which the background reads before all else; the other way round a second time. */
static void flip(const World *w)
{
    g_autofree char *path = g_build_filename(w->folder, "00000001-00000001.pack", NULL);
    FILE *file = fopen(path, "r+");

    g_assert_cmpint(fseek(file, 100, SEEK_SET), ==, 0);
    int byte = fgetc(file);
    g_assert_cmpint(fseek(file, 100, SEEK_SET), ==, 0);
    g_assert_cmpint(fputc(byte ^ 1, file), ==, byte ^ 1);
    g_assert_cmpint(fclose(file), ==, 0);
}

/* While the background does not get on, all comes on demand. */
static void test_on_demand(World *w, gconstpointer data)
{
    if (!can()) {
        return;
    }
    flip(w);
    g_autoptr(FutLazy) lazy = begin(w);
    /* Zeroes; what their group has besides is in the damaged frame. */
    expect_page(w, 46);
    expect_page(w, 47);
    for (unsigned page = RAM_UNITS; page-- > 64;) {
        expect_page(w, page);
    }
    g_assert_cmpuint(fut_lazy_faults(lazy), >, 0);
    g_assert_cmpuint(fut_lazy_permille(lazy), ==, 0);
    flip(w);
    fut_lazy_wait(lazy);
    read_all(w);
    g_assert_cmpint(g_atomic_int_get(&w->losses), ==, 0);
}

/* Though the background does not get on, these come before anybody asks. */
static void test_hot(World *w, gconstpointer data)
{
    uint64_t there = 0;

    if (!can()) {
        return;
    }
    flip(w);
    make_hot(w);
    g_autoptr(FutLazy) lazy = begin(w);
    while (there == 0) {
        g_usleep(1000);
        /* The last page of the last group. */
        fut_resident_look_at(w->memory.block[0].base + 510 * FUT_PAGE_SIZE, 1, &there);
    }
    for (unsigned page = 500; page < RAM_UNITS; page += 5) {
        expect_page(w, page);
    }
    g_assert_cmpuint(fut_lazy_faults(lazy), ==, 0);
    for (unsigned page = RAM_UNITS; page-- > 64;) {
        expect_page(w, page);
    }
    flip(w);
    fut_lazy_wait(lazy);
    g_assert_cmpuint(fut_lazy_hot(lazy), >=, 160);
    read_all(w);
}

/* Hot pages come, then nothing but what is touched, until it is to go on. */
static void test_held(World *w, gconstpointer data)
{
    GError *error = NULL;
    uint64_t there = 0;

    if (!can()) {
        return;
    }
    g_autoptr(FutLazy) lazy =
        fut_lazy_new_held(w->snapshot, &w->memory, w->hot, &w->host, w, &error);
    g_assert_no_error(error);
    fut_lazy_wait_hot(lazy);
    bool any_hot = w->hot != NULL;
    g_clear_pointer(&w->hot, fut_hot_pages_free);
    fut_resident_look_at(w->memory.block[0].base + 510 * FUT_PAGE_SIZE, 1, &there);
    g_assert_cmpint(there != 0, ==, any_hot);
    expect_page(w, 510);
    g_assert_cmpuint(fut_lazy_faults(lazy), ==, any_hot ? 0 : 1);
    expect_page(w, 3);
    g_assert_cmpuint(fut_lazy_faults(lazy), ==, any_hot ? 1 : 2);
    g_usleep(20000); /* in which all of it would come */
    g_assert_cmpuint(fut_lazy_permille(lazy), ==, 0);
    there = 0;
    fut_resident_look_at(w->memory.block[0].base + 300 * FUT_PAGE_SIZE, 1, &there);
    g_assert_cmpuint(there, ==, 0);
    fut_lazy_go(lazy);
    fut_lazy_wait(lazy);
    g_assert_cmpuint(fut_lazy_permille(lazy), ==, 1000);
    read_all(w);
}

static void test_held_given_up(World *w, gconstpointer data)
{
    GError *error = NULL;

    if (can()) {
        FutLazy *lazy = fut_lazy_new_held(w->snapshot, &w->memory, w->hot, &w->host, w, &error);
        g_assert_no_error(error);
        fut_lazy_wait_hot(lazy);
        fut_lazy_free(lazy);
    }
}

static void damage(const World *w)
{
    g_autofree char *path = g_build_filename(w->folder, "00000001-00000001.pack", NULL);
    g_autofree char *text = NULL;
    gsize length;
    FILE *file;

    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    file = fopen(path, "r+");
    memset(text + 4096, 0xee, length - 4096);
    g_assert_cmpuint(fwrite(text, 1, length, file), ==, length);
    g_assert_cmpint(fclose(file), ==, 0);
}

static void *touch(void *opaque)
{
    World *w = opaque;
    volatile uint8_t *page = w->memory.block[0].base + 1200 * FUT_PAGE_SIZE;

    g_assert_cmpint(page[0], ==, w->image->ram[1200 * FUT_PAGE_SIZE]); /* never comes so far */
    g_assert_not_reached();
}

/* Nobody is given a page that was not read; the background alone only says so. */
static void test_unreadable(void)
{
    World w = { 0 };

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 20 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    if (!can()) {
        return;
    }
    set_up(&w, GINT_TO_POINTER(MAP_PRIVATE));
    damage(&w);
    begin(&w);
    while (g_atomic_int_get(&w.troubles) == 0) {
        g_usleep(1000);
    }
    g_usleep(300 * 1000);
    g_assert_cmpint(g_atomic_int_get(&w.losses), ==, 0);
    g_thread_unref(g_thread_new("guest", touch, &w));
    while (g_atomic_int_get(&w.losses) == 0) {
        g_usleep(1000);
    }
    fut_test_tmp_remove(w.folder);
    _exit(0); /* with a thread that waits for ever */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    gconstpointer private = GINT_TO_POINTER(MAP_PRIVATE), shared = GINT_TO_POINTER(MAP_SHARED);
    g_test_add("/lazy/whole", World, private, set_up, test_whole, tear_down);
    g_test_add("/lazy/whole-shared", World, shared, set_up, test_whole, tear_down);
    g_test_add("/lazy/written", World, private, set_up, test_written, tear_down);
    g_test_add("/lazy/written-shared", World, shared, set_up, test_written, tear_down);
    g_test_add("/lazy/on-demand", World, private, set_up, test_on_demand, tear_down);
    g_test_add("/lazy/on-demand-shared", World, shared, set_up, test_on_demand, tear_down);
    g_test_add("/lazy/hot", World, private, set_up, test_hot, tear_down);
    g_test_add("/lazy/hot-whole", World, private, set_up_hot, test_whole, tear_down);
    g_test_add("/lazy/hot-whole-shared", World, shared, set_up_hot, test_whole, tear_down);
    g_test_add("/lazy/hot-written", World, private, set_up_hot, test_written, tear_down);
    g_test_add("/lazy/hot-written-shared", World, shared, set_up_hot, test_written, tear_down);
    g_test_add("/lazy/hot-given-up", World, private, set_up_hot, test_given_up, tear_down);
    g_test_add("/lazy/given-up", World, private, set_up, test_given_up, tear_down);
    g_test_add("/lazy/held", World, private, set_up, test_held, tear_down);
    g_test_add("/lazy/held-hot", World, private, set_up_hot, test_held, tear_down);
    g_test_add("/lazy/held-given-up", World, private, set_up_hot, test_held_given_up, tear_down);
    g_test_add_func("/lazy/unreadable", test_unreadable);
    return g_test_run();
}
