/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A backup's queue of disk writes: nothing of an epoch before its commit, everything in order. */
#include "disk_queue.h"

static void add(FutDiskQueue *queue, uint64_t epoch, uint64_t offset, const char *data)
{
    FutDiskHead head = { .epoch = epoch,
                         .offset = offset,
                         .length = data ? strlen(data) : 512,
                         .kind = data ? FUT_DISK_WRITE : FUT_DISK_ZEROES };
    fut_disk_queue_add(queue, &head, (const uint8_t *)data);
}

/* Offsets of what is ready now, as text. */
static char *taken(FutDiskQueue *queue, uint64_t max_bytes)
{
    GString *text = g_string_new(NULL);
    FutDiskRecord *records = fut_disk_queue_take(queue, max_bytes);
    for (FutDiskRecord *r = records; r; r = r->next) {
        g_string_append_printf(text, "%" G_GUINT64_FORMAT " ", r->head.offset);
    }
    fut_disk_records_free(records);
    return g_string_free(text, FALSE);
}

#define assert_taken(queue, expected)                                                              \
    do {                                                                                           \
        g_autofree char *got = taken(queue, 1 << 20);                                              \
        g_assert_cmpstr(got, ==, expected);                                                        \
    } while (0)

static void test_order(void)
{
    FutDiskQueue queue = { 0 };
    add(&queue, 0, 1, "copy");
    add(&queue, 0, 2, NULL);
    add(&queue, 1, 3, "one");
    add(&queue, 2, 4, "two");
    add(&queue, 2, 5, NULL);
    assert_taken(&queue, "1 2 ");
    assert_taken(&queue, "");
    fut_disk_queue_commit(&queue, 1);
    assert_taken(&queue, "3 ");
    add(&queue, 3, 6, "three");
    fut_disk_queue_commit(&queue, 2);
    assert_taken(&queue, "4 5 ");
    g_assert_cmpuint(queue.ready.bytes, ==, 0);
    fut_disk_queue_clear(&queue);
    g_assert_cmpuint(queue.pending.bytes, ==, 0);
}

/* What a snapshot's instant parts does not come in one batch. */
static void test_line(void)
{
    FutDiskQueue queue = { 0 };
    add(&queue, 1, 1, "before");
    add(&queue, 1, 2, NULL);
    fut_disk_queue_commit(&queue, 1);
    queue.line = queue.readied;
    add(&queue, 2, 3, "after");
    fut_disk_queue_commit(&queue, 2);
    add(&queue, 0, 4, "after, too");
    g_assert_cmpuint(queue.line, ==, 2);
    assert_taken(&queue, "1 2 ");
    g_assert_cmpuint(queue.taken, ==, 2);
    assert_taken(&queue, "3 4 ");
    add(&queue, 0, 5, NULL);
    fut_disk_queue_clear(&queue);
    g_assert_cmpuint(queue.taken, ==, queue.readied);
    g_assert_cmpuint(queue.readied, ==, 5);
}

static void test_discard(void)
{
    FutDiskQueue queue = { 0 };
    add(&queue, 1, 1, "committed");
    add(&queue, 2, 2, "not");
    fut_disk_queue_commit(&queue, 1);
    fut_disk_queue_discard(&queue);
    fut_disk_queue_commit(&queue, 9);
    add(&queue, 0, 3, "next copy");
    assert_taken(&queue, "1 3 ");
    fut_disk_queue_clear(&queue);
}

static void test_flushes(void)
{
    FutDiskQueue queue = { 0 };
    FutDiskHead flush = { .epoch = 2, .kind = FUT_DISK_FLUSH };
    add(&queue, 1, 1, NULL);
    fut_disk_queue_add(&queue, &flush, NULL);
    add(&queue, 3, 3, NULL);
    g_assert_false(fut_disk_queue_flushes(&queue, 1));
    g_assert_true(fut_disk_queue_flushes(&queue, 2));
    fut_disk_queue_commit(&queue, 2);
    g_assert_false(fut_disk_queue_flushes(&queue, 3));
    fut_disk_queue_clear(&queue);
}

static void test_batches(void)
{
    FutDiskQueue queue = { 0 };
    add(&queue, 0, 1, "a long one, longer than a batch");
    add(&queue, 0, 2, "b");
    g_autofree char *first = taken(&queue, 1);
    g_assert_cmpstr(first, ==, "1 ");
    FutDiskRecord *records = fut_disk_queue_take(&queue, 1);
    g_assert_cmpmem(records->data, records->head.length, "b", 1);
    fut_disk_records_free(records);
    g_assert_null(fut_disk_queue_take(&queue, 1));
}

#define MODEL_BYTES 64

static void lay_over(uint8_t *bytes, uint64_t offset, FutDiskRecord *take_records)
{
    for (const FutDiskRecord *r = take_records; r; r = r->next) {
        uint8_t *at = bytes + (r->head.offset - offset);
        if (r->head.kind == FUT_DISK_WRITE) {
            memcpy(at, r->data, r->head.length);
        } else if (r->head.kind == FUT_DISK_ZEROES) {
            memset(at, 0, r->head.length);
        }
    }
    fut_disk_records_free(take_records);
}

static void write_somewhere(GRand *rand, FutDiskQueue *queue, uint64_t epoch, uint8_t *disk)
{
    uint8_t data[MODEL_BYTES];
    uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, MODEL_BYTES);
    FutDiskHead head = { .epoch = epoch,
                         .offset = offset,
                         .length =
                             (uint64_t)g_rand_int_range(rand, 1, MODEL_BYTES + 1 - (int)offset),
                         .disk = (uint32_t)g_rand_int_range(rand, 0, 2),
                         .kind = g_rand_boolean(rand) ? FUT_DISK_WRITE : FUT_DISK_ZEROES };
    memset(data, g_rand_int_range(rand, 1, 256), sizeof(data));
    fut_disk_queue_add(queue, &head, data);
    if (head.disk == 1) {
        head.kind == FUT_DISK_WRITE ? memcpy(disk + offset, data, head.length)
                                    : memset(disk + offset, 0, head.length);
    }
}

/* What is on its way laid over what the image has is what the guest wrote, whatever was stored so far. */
static void test_overlay(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    uint8_t disk[MODEL_BYTES] = { 0 }, image[MODEL_BYTES] = { 0 };
    FutDiskQueue queue = { 0 };
    uint64_t epoch = 1;
    for (int step = 0; step < 20000; step++) {
        unsigned count = 0;
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            fut_disk_queue_commit(&queue, epoch++);
            break;
        case 1: {
            FutDiskRecord *records = fut_disk_queue_copy(&queue, 200, &count);
            for (FutDiskRecord *r = records; r; r = r->next) {
                r->head.kind = r->head.disk == 1 ? r->head.kind : FUT_DISK_FLUSH;
            }
            lay_over(image, 0, records);
            g_assert_cmpuint(fut_disk_queue_drop(&queue, count), ==, 0);
            break;
        }
        default:
            write_somewhere(rand, &queue, epoch, disk);
        }
        uint8_t seen[MODEL_BYTES];
        uint64_t first = (uint64_t)g_rand_int_range(rand, 0, MODEL_BYTES);
        uint64_t length = MODEL_BYTES - first;
        memcpy(seen, image + first, length);
        lay_over(seen, first, fut_disk_queue_overlay(&queue, 1, first, length));
        g_assert_cmpmem(seen, length, disk + first, length);
    }
    fut_disk_queue_clear(&queue);
}

static void test_dropping(void)
{
    FutDiskQueue queue = { 0 };
    uint64_t epoch = 77;
    unsigned count;
    g_assert_false(fut_disk_queue_first_flush(&queue, &epoch));
    add(&queue, 1, 1, "a");
    fut_disk_queue_add(&queue, &(FutDiskHead){ .epoch = 2, .kind = FUT_DISK_FLUSH }, NULL);
    add(&queue, 3, 3, "c");
    fut_disk_queue_commit(&queue, 1);
    g_assert_true(fut_disk_queue_first_flush(&queue, &epoch));
    g_assert_cmpuint(epoch, ==, 2);
    fut_disk_queue_drop_epochs(&queue, 2);
    g_assert_null(fut_disk_queue_copy(&queue, 1 << 20, &count));
    fut_disk_queue_commit_all(&queue);
    g_assert_true(fut_disk_queue_first_flush(&queue, &epoch));
    g_assert_cmpuint(epoch, ==, 0);
    fut_disk_records_free(fut_disk_queue_copy(&queue, 1 << 20, &count));
    g_assert_cmpuint(count, ==, 2);
    g_assert_cmpuint(fut_disk_queue_drop(&queue, count), ==, 1);
    g_assert_true(fut_disk_queue_empty(&queue));
    g_assert_cmpuint(fut_disk_queue_bytes(&queue), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk-queue/order", test_order);
    g_test_add_func("/disk-queue/line", test_line);
    g_test_add_func("/disk-queue/discard", test_discard);
    g_test_add_func("/disk-queue/batches", test_batches);
    g_test_add_func("/disk-queue/flushes", test_flushes);
    g_test_add_func("/disk-queue/overlay", test_overlay);
    g_test_add_func("/disk-queue/dropping", test_dropping);
    return g_test_run();
}
