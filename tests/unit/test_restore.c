/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM becomes what a snapshot says, or is refused with the reason. The VM is a structure. */
#include <glib/gstdio.h>

#include "disk_queue.h"
#include "memhash.h"
#include "restore.h"
#include "store_fixture.h"

typedef struct {
    FutVmm vmm;
    char *folder;
    FutMemory memory;
    FutDiskInfo disk;
    Image *image; /* what the snapshot has */
    Image *guest; /* what the VM has */
    GByteArray *state;
    bool settled, runs, announced, flushed;
    bool claims;         /* the VM can take hold of its disks' images, and leave them */
    bool claimed, taken; /* it has them; somebody else has */
    unsigned disk_writes;
} World;

static World *world_of(FutVmm *vmm)
{
    return (World *)vmm;
}

static const FutMemory *get_memory(FutVmm *vmm)
{
    return &world_of(vmm)->memory;
}

static const FutDiskInfo *get_disks(FutVmm *vmm, unsigned *ret_count)
{
    *ret_count = 1;
    return &world_of(vmm)->disk;
}

static bool disk_read(FutVmm *vmm, unsigned disk, uint64_t offset, uint64_t *length,
                      uint8_t *buffer, bool *ret_zero, GError **error)
{
    *length = MIN(*length, 1u << 20);
    memcpy(buffer, world_of(vmm)->guest->disk + offset, *length);
    *ret_zero = false;
    return true;
}

static bool disk_write(FutVmm *vmm, FutDiskRecord *take_list, GError **error)
{
    World *w = world_of(vmm);
    const FutDiskHead *head = &take_list->head;

    g_assert_true(w->settled && !w->runs && w->claimed == w->claims);
    if (head->kind == FUT_DISK_WRITE) {
        memcpy(w->guest->disk + head->offset, take_list->data, head->length);
        w->disk_writes++;
    } else if (head->kind == FUT_DISK_ZEROES) {
        memset(w->guest->disk + head->offset, 0, head->length);
        w->disk_writes++;
    }
    w->flushed = head->kind == FUT_DISK_FLUSH;
    fut_disk_records_free(take_list);
    return true;
}

static bool disks_claim(FutVmm *vmm, GError **error)
{
    World *w = world_of(vmm);

    if (w->taken) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "somebody has it");
        return false;
    }
    w->claimed = w->claims;
    return true;
}

static void disks_yield(FutVmm *vmm)
{
    world_of(vmm)->claimed = false;
}

static bool state_load(FutVmm *vmm, const uint8_t *state, size_t length, GError **error)
{
    World *w = world_of(vmm);

    g_assert_cmpint(memcmp(w->guest->ram, w->image->ram, sizeof(w->image->ram)), ==, 0);
    g_byte_array_append(w->state, state, (guint)length);
    return true;
}

static bool run(FutVmm *vmm, GError **error)
{
    world_of(vmm)->runs = true;
    return true;
}

static void announce(FutVmm *vmm)
{
    world_of(vmm)->announced = world_of(vmm)->runs;
}

static void settle(FutVmm *vmm)
{
    world_of(vmm)->settled = true;
}

static const FutVmmOps ops = {
    .memory = get_memory,
    .disks = get_disks,
    .disk_read = disk_read,
    .disk_write = disk_write,
    .disks_claim = disks_claim,
    .disks_yield = disks_yield,
    .state_load = state_load,
    .run = run,
    .announce = announce,
    .settle = settle,
};

static void set_up(World *w, gconstpointer data)
{
    GError *error = NULL;

    w->vmm.ops = &ops;
    w->folder = fut_test_tmp();
    w->image = g_new0(Image, 1);
    w->guest = g_new0(Image, 1);
    w->state = g_byte_array_new();
    w->memory = (FutMemory){ .count = 2 };
    w->memory.block[0].base = w->guest->ram;
    w->memory.block[0].length = area_bytes[RAM];
    w->memory.block[1].base = w->guest->rom;
    w->memory.block[1].length = area_bytes[ROM];
    w->disk = (FutDiskInfo){ (char *)"virtio0", DISK_BYTES, false };
    for (unsigned i = 0; i < RAM_UNITS; i += 3) {
        image_set(w->image, RAM, i, i + 1);
    }
    for (unsigned i = 0; i < 40; i++) {
        image_set(w->image, DISK, i, i + 1);
    }
    image_set(w->image, DISK, DISK_UNITS - 1, 5);
    memset(w->image->state, 7, sizeof(w->image->state));
    g_autoptr(FutStore) store = fut_store_open(w->folder, FUT_STORE_CREATE, &error);
    image_take(store, w->image, NULL, 0, 1000, &error);
    g_assert_no_error(error);
    /* What a start leaves in memory, where the snapshot has zeroes and elsewhere. */
    image_set(w->guest, RAM, 1, 99);
    image_set(w->guest, ROM, 0, 98);
    image_set(w->guest, RAM, 3, 97);
}

static void tear_down(World *w, gconstpointer data)
{
    fut_test_tmp_remove(w->folder);
    g_free(w->folder);
    g_free(w->image);
    g_free(w->guest);
    g_byte_array_unref(w->state);
}

static FutRestore *begin(World *w, const char *id, bool force, GError **error)
{
    char *machine[] = { (char *)"qemu=7.2", (char *)"machine=microvm", NULL };
    g_autofree char *from = g_strdup_printf("%s@%s", w->folder, id);

    return fut_restore_new(&w->vmm, machine, fut_restore_early_new(from, true), force, error);
}

static void expect_restored(World *w, bool force)
{
    GError *error = NULL;
    FutRestoreTimes times;
    g_autoptr(FutRestore) restore = begin(w, "1", force, &error);

    g_assert_no_error(error);
    g_assert_true(fut_restore_do(restore, &times, &error));
    g_assert_no_error(error);
    g_assert_true(w->runs && w->announced && w->flushed);
    g_assert_cmpmem(w->state->data, w->state->len, w->image->state, sizeof(w->image->state));
    memcpy(w->guest->state, w->image->state, sizeof(w->image->state));
    g_assert_cmpint(memcmp(w->guest, w->image, sizeof(Image)), ==, 0);
    g_assert_cmpuint(times.pages, ==, (RAM_UNITS + 2) / 3);
}

static void test_whole(World *w, gconstpointer data)
{
    expect_restored(w, false);
    g_assert_cmpuint(w->disk_writes, ==, 2); /* the chunks that have something */
}

/* An image that has content is not touched, nor is anything else. */
static void test_used_disk(World *w, gconstpointer data)
{
    GError *error = NULL;
    FutRestoreTimes times;

    image_set(w->guest, DISK, 700, 1);
    g_autoptr(FutRestore) restore = begin(w, "1", false, &error);
    g_assert_false(fut_restore_do(restore, &times, &error));
    g_assert_cmpint(error->code, ==, FUT_ERR_REFUSED);
    g_assert_nonnull(
        strstr(error->message,
               "disk 'virtio0': its image has content, which a restore would overwrite"));
    g_clear_error(&error);
    g_assert_cmpuint(w->disk_writes, ==, 0);
    g_assert_false(w->runs);
    expect_restored(w, true);
}

/* -- the hash of memory -- */

static void take_hashed(World *w, uint64_t hash)
{
    GError *error = NULL;
    g_autoptr(FutSnapshotInfo) info = image_info(0, 1000);
    g_autoptr(FutStore) store = fut_store_open(w->folder, FUT_STORE_WRITE, &error);
    FutSnapshotWriter *writer = fut_store_begin(store, info, 0, 0, &error);

    g_assert_no_error(error);
    g_assert_true(image_put(writer, w->image, NULL, &error));
    fut_snapshot_note_times(writer, 1000, 0, 0, hash);
    g_assert_true(fut_snapshot_commit(writer, NULL, &error));
}

static uint64_t hash_of(const Image *image)
{
    FutMemory memory = { .count = 2 };

    memory.block[0].base = (uint8_t *)image->ram;
    memory.block[0].length = area_bytes[RAM];
    memory.block[1].base = (uint8_t *)image->rom;
    memory.block[1].length = area_bytes[ROM];
    return fut_memory_hash(&memory);
}

static void expect_check(World *w, const char *id, const char *reason)
{
    GError *error = NULL;
    FutRestoreTimes times = { 0 };
    g_autoptr(FutRestore) restore = begin(w, id, true, &error);

    g_assert_no_error(error);
    fut_restore_set_check(restore);
    g_assert_cmpint(fut_restore_do(restore, &times, &error), ==, reason == NULL);
    g_assert_cmpint(w->runs, ==, reason == NULL);
    g_assert_cmpint(times.checked, ==, reason == NULL);
    g_assert_true(!reason || strstr(error->message, reason));
    g_clear_error(&error);
}

static void test_hash(World *w, gconstpointer data)
{
    take_hashed(w, hash_of(w->image) ^ 1);
    take_hashed(w, hash_of(w->image));
    expect_check(w, "1", "snapshot 1 has no hash of its memory");
    expect_check(w, "2", "snapshot 2: memory has the hash");
    expect_check(w, "3", NULL);
}

/* -- one that waits -- */

static FutRestore *make_ready(World *w, const char *id, bool force)
{
    GError *error = NULL;
    FutRestore *restore = begin(w, id, force, &error);

    g_assert_no_error(error);
    w->claims = true;
    g_assert_true(fut_restore_prepare(restore, &error));
    g_assert_cmpuint(fut_restore_permille(restore), ==, 1000);
    g_assert_cmpint(memcmp(w->guest->ram, w->image->ram, sizeof(w->image->ram)), ==, 0);
    g_assert_true(!w->claimed && !w->runs && w->disk_writes == 0 && w->state->len == 0);
    return restore;
}

/* Refused as long as somebody has the disk, or it has content; then it goes, though its store be gone. */
static void test_ready(World *w, gconstpointer data)
{
    GError *error = NULL;
    FutRestoreTimes times;
    g_autoptr(FutRestore) restore = make_ready(w, "1", false);

    g_assert_cmpuint(fut_restore_id(restore), ==, 1);
    w->taken = true;
    g_assert_false(fut_restore_claim(restore, &error));
    expect_error(error, FUT_ERR_IO, "somebody has it");
    w->taken = false;
    image_set(w->guest, DISK, 700, 1);
    g_assert_false(fut_restore_claim(restore, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_REFUSED);
    g_clear_error(&error);
    g_assert_false(w->claimed);
    image_set(w->guest, DISK, 700, 0);
    fut_test_tmp_remove(w->folder);
    g_assert_cmpint(g_mkdir(w->folder, 0700), ==, 0);
    g_assert_true(fut_restore_claim(restore, &error));
    g_assert_true(w->claimed && w->disk_writes == 0);
    fut_restore_yield(restore);
    g_assert_false(w->claimed);
    g_assert_true(fut_restore_claim(restore, &error));
    g_assert_true(fut_restore_go(restore, 1, &times, &error));
    g_assert_no_error(error);
    g_assert_true(w->runs && w->announced && w->flushed && times.ready);
    g_assert_cmpmem(w->state->data, w->state->len, w->image->state, sizeof(w->image->state));
    memcpy(w->guest->state, w->image->state, sizeof(w->image->state));
    g_assert_cmpint(memcmp(w->guest, w->image, sizeof(Image)), ==, 0);
}

static void test_ready_hash(World *w, gconstpointer data)
{
    GError *error = NULL;

    take_hashed(w, hash_of(w->image) ^ 1);
    g_autoptr(FutRestore) restore = begin(w, "2", true, &error);
    g_assert_no_error(error);
    fut_restore_set_check(restore);
    g_assert_false(fut_restore_prepare(restore, &error));
    g_assert_nonnull(strstr(error->message, "snapshot 2: memory has the hash"));
    g_clear_error(&error);
}

static void test_damaged(World *w, gconstpointer data)
{
    g_autofree char *path = g_build_filename(w->folder, "00000001-00000001.pack", NULL);
    GError *error = NULL;
    FutRestoreTimes times;
    FILE *file = fopen(path, "r+");

    g_assert_cmpint(fseek(file, 5000, SEEK_SET), ==, 0);
    g_assert_cmpint(fputc(0xee, file), ==, 0xee);
    g_assert_cmpint(fclose(file), ==, 0);
    g_autoptr(FutRestore) restore = begin(w, "1", false, &error);
    g_assert_false(fut_restore_do(restore, &times, &error));
    g_assert_nonnull(strstr(error->message, "00000001-00000001.pack is damaged"));
    g_clear_error(&error);
    g_assert_false(w->runs);
}

static void test_refusals(World *w, gconstpointer data)
{
    GError *error = NULL;

    g_assert_null(begin(w, "2", false, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_STATE);
    g_clear_error(&error);
    g_assert_null(begin(w, "x", false, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_ARG);
    g_clear_error(&error);
    w->disk.length = 512;
    g_assert_null(begin(w, "1", false, &error));
    expect_error(error, FUT_ERR_MISMATCH,
                 "snapshot 1 is of another VM: its memory or disks are not those of this one");
}

static void expect_difference(const char *snapshot, const char *machine, const char *wanted)
{
    g_auto(GStrv) a = g_strsplit(snapshot, " ", -1);
    g_auto(GStrv) b = g_strsplit(machine, " ", -1);
    g_autofree char *is = fut_restore_difference(a, b);

    g_assert_cmpstr(is, ==, wanted);
}

static void test_difference(void)
{
    expect_difference("qemu=7.2 cpu=a ram:x=y=5", "cpu=a qemu=7.2 ram:x=y=5", NULL);
    expect_difference("qemu=7.2 cpu=a", "qemu=10.0 cpu=a",
                      "qemu is 7.2 in the snapshot, and 10.0 here");
    expect_difference("ram:x=y=5", "ram:x=y=6", "ram:x=y is 5 in the snapshot, and 6 here");
    expect_difference("qemu=7.2 disk:d=9", "qemu=7.2",
                      "the snapshot has disk:d=9, which this VM has not");
    expect_difference("qemu=7.2", "qemu=7.2 disk:d=9",
                      "this VM has disk:d=9, which the snapshot has not");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/restore/whole", World, NULL, set_up, test_whole, tear_down);
    g_test_add("/restore/used-disk", World, NULL, set_up, test_used_disk, tear_down);
    g_test_add("/restore/hash", World, NULL, set_up, test_hash, tear_down);
    g_test_add("/restore/ready", World, NULL, set_up, test_ready, tear_down);
    g_test_add("/restore/ready-hash", World, NULL, set_up, test_ready_hash, tear_down);
    g_test_add("/restore/damaged", World, NULL, set_up, test_damaged, tear_down);
    g_test_add("/restore/refusals", World, NULL, set_up, test_refusals, tear_down);
    g_test_add_func("/restore/difference", test_difference);
    return g_test_run();
}
