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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk-queue/order", test_order);
    g_test_add_func("/disk-queue/discard", test_discard);
    g_test_add_func("/disk-queue/batches", test_batches);
    g_test_add_func("/disk-queue/flushes", test_flushes);
    return g_test_run();
}
