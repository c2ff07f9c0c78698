/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The note beside a disk's image: its bytes, what is not taken for one, and the marks that let chunks go from it. */
#include "disk_note.h"

#define CHUNKS 20

/* clang-format off */
static const uint8_t golden[FUT_DISK_NOTE_HEAD] = {
    0x74, 0x75, 0x46, 0x6f, 0x4e, 0x6e, 0x64, 0x31, /* magic */
    0, 0, 0x40, 1, 0, 0, 0, 0,                      /* length */
    20, 0, 0, 0,  2, 0, 0, 0,                       /* shift, disk */
    2, 0, 0, 0,  0, 0, 0, 0,                        /* role + 1, reserved */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* image */
    3, 1, 0, 0, 0, 0, 0, 0,                         /* mark */
};
/* clang-format on */

static const FutDiskNote note = { .length = CHUNKS << FUT_CHUNK_SHIFT,
                                  .shift = FUT_CHUNK_SHIFT,
                                  .disk = 2,
                                  .role = FUT_ROLE_BACKUP,
                                  .image = 0x1122334455667788,
                                  .mark = 0x103 };

static void test_head(void)
{
    uint8_t at[FUT_DISK_NOTE_HEAD];
    FutDiskNote back;

    fut_disk_note_put(at, &note);
    g_assert_cmpmem(at, 48, golden, 48);
    g_assert_true(fut_disk_note_get(at, &back));
    g_assert_cmpuint(back.length, ==, note.length);
    g_assert_cmpuint(back.disk, ==, note.disk);
    g_assert_cmpuint(back.role, ==, note.role);
    g_assert_cmpuint(back.image, ==, note.image);
    g_assert_cmpuint(back.mark, ==, note.mark);
    for (unsigned i = 0; i < 56; i++) {
        at[i] ^= 0x10;
        g_assert_false(fut_disk_note_get(at, &back));
        at[i] ^= 0x10;
    }
    memset(at, 0, sizeof(at));
    g_assert_false(fut_disk_note_get(at, &back));
}

static bool differs(void *opaque, uint64_t chunk)
{
    return fut_disk_note_differs(opaque, chunk);
}

static void clean(void *opaque, uint64_t chunk)
{
    fut_disk_note_set(opaque, chunk, false);
}

static void write_to(FutDiskMap *map, uint64_t chunk, bool send)
{
    FutDiskWrite write = { .offset = chunk << FUT_CHUNK_SHIFT, .length = 512 };

    g_assert_true(fut_disk_map_begin(map, &write));
    if (send) {
        fut_disk_map_sent(map, 1, write.offset, write.length);
    }
    fut_disk_map_end(map, &write);
}

/* A chunk leaves the note when a mark after its last change was answered, and not before. */
static void test_marks(void)
{
    FutDiskMap map;
    uint8_t at[FUT_DISK_NOTE_HEAD + (CHUNKS + 7) / 8] = { 0 };

    fut_disk_map_init(&map, note.length, FUT_CHUNK_SHIFT);
    g_assert_cmpuint(fut_disk_note_size(&map), ==, sizeof(at));
    fut_disk_map_load(&map, differs, at);
    g_assert_cmpuint(map.synced, ==, CHUNKS);

    g_assert_false(fut_disk_map_noted(&map, 3 << FUT_CHUNK_SHIFT, 2 << FUT_CHUNK_SHIFT));
    g_assert_cmpuint(map.unnoted->len, ==, 2);
    for (uint64_t i = 3; i <= 5; i++) {
        fut_disk_note_set(at, i, true);
        map.flags[i] |= FUT_CHUNK_NOTED;
    }
    g_assert_true(fut_disk_map_noted(&map, 3 << FUT_CHUNK_SHIFT, 2 << FUT_CHUNK_SHIFT));
    write_to(&map, 3, true);
    write_to(&map, 4, true);
    fut_disk_map_mark(&map);
    write_to(&map, 4, true);
    write_to(&map, 5, true);
    fut_disk_map_safe(&map);
    fut_disk_map_clean(&map, clean, at);
    g_assert_false(fut_disk_note_differs(at, 3));
    g_assert_true(fut_disk_note_differs(at, 4) && fut_disk_note_differs(at, 5));
    g_assert_false(fut_disk_map_noted(&map, 3 << FUT_CHUNK_SHIFT, 1));

    fut_disk_map_unsafe(&map); /* another process of the twin's */
    g_assert_cmpuint(map.synced, ==, CHUNKS - 2);
    fut_disk_map_done(&map);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk-note/head", test_head);
    g_test_add_func("/disk-note/marks", test_marks);
    return g_test_run();
}
