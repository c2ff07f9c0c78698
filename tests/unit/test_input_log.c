/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inbound packets that wait to be told of: whole, in order, never more than there is room for. */
#include "input_log.h"

#include <glib.h>
#include <string.h>
#include <sys/uio.h>

static bool put(FutInputLog *log, uint64_t epoch, const char *text)
{
    size_t length = strlen(text);
    struct iovec iov[3] = { { (void *)text, length / 2 },
                            { NULL, 0 },
                            { (void *)(text + length / 2), length - length / 2 } };

    return fut_input_log_put(log, 1000 * epoch, &(FutInbound){ .epoch = epoch, .nic = 3 }, iov, 3,
                             length);
}

static uint64_t check(const FutInputLog *log, uint64_t place, uint64_t epoch, const char *text)
{
    FutInputRecord record;
    FutInbound inbound;

    g_assert_true(fut_input_log_get(log, place, &record));
    g_assert_true(fut_inbound_decode(record.body, record.length, &inbound, NULL));
    g_assert_cmpuint(inbound.epoch, ==, epoch);
    g_assert_cmpuint(inbound.nic, ==, 3);
    g_assert_cmpuint(record.at_ns, ==, 1000 * epoch);
    g_assert_cmpmem(record.body + FUT_INBOUND_SIZE, record.length - FUT_INBOUND_SIZE, text,
                    strlen(text));
    return record.next;
}

static void test_order(void)
{
    FutInputLog log;
    FutInputRecord record;

    fut_input_log_init(&log);
    g_assert_true(fut_input_log_empty(&log));
    g_assert_false(fut_input_log_get(&log, 0, &record));
    g_assert_true(put(&log, 7, "first"));
    g_assert_true(put(&log, 8, "2"));
    g_assert_true(put(&log, 9, "the third"));
    uint64_t second = check(&log, 0, 7, "first");
    uint64_t third = check(&log, second, 8, "2");
    g_assert_false(fut_input_log_get(&log, check(&log, third, 9, "the third"), &record));
    fut_input_log_drop(&log, third);
    check(&log, 0, 9, "the third");
    fut_input_log_drop(&log, second); /* gone already */
    check(&log, 0, 9, "the third");
    fut_input_log_drop(&log, UINT64_MAX);
    g_assert_true(fut_input_log_empty(&log));
    g_assert_false(fut_input_log_get(&log, 0, &record));
    fut_input_log_done(&log);
}

/* Puts until there is no room; returns how many. */
static unsigned fill(FutInputLog *log, const char *text)
{
    unsigned count = 0;

    while (put(log, 1, text)) {
        g_assert_cmpuint(++count, <, FUT_INPUT_LOG_SIZE);
    }
    return count;
}

static void test_room(void)
{
    FutInputLog log;
    FutInputRecord record;
    g_autofree char *large = g_strnfill(FUT_INPUT_LOG_SIZE, 'x');

    fut_input_log_init(&log);
    g_assert_false(put(&log, 1, large));
    unsigned count = fill(&log, "a packet");
    g_assert_cmpuint(count, >, 1000);
    check(&log, 0, 1, "a packet");
    g_assert_true(fut_input_log_get(&log, 0, &record));
    fut_input_log_drop(&log, record.next);
    g_assert_false(put(&log, 2, "a packet")); /* the room comes back when all have gone */
    fut_input_log_drop(&log, UINT64_MAX);
    g_assert_cmpuint(fill(&log, "a packet"), ==, count);
    fut_input_log_done(&log);
}

/* Who sends a record need not hurry: what comes meanwhile is not put in its place. */
static void test_read_while_dropped(void)
{
    FutInputLog log;
    FutInputRecord record;

    fut_input_log_init(&log);
    g_assert_true(put(&log, 5, "being sent"));
    g_assert_true(fut_input_log_get(&log, 0, &record));
    log.reading = true;
    fut_input_log_drop(&log, log.end); /* a checkpoint covers it */
    g_assert_true(put(&log, 6, "came later"));
    g_assert_cmpmem(record.body + FUT_INBOUND_SIZE, record.length - FUT_INBOUND_SIZE, "being sent",
                    10);
    log.reading = false;
    check(&log, record.next, 6, "came later");
    fut_input_log_done(&log);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/input-log/order", test_order);
    g_test_add_func("/input-log/room", test_room);
    g_test_add_func("/input-log/read-while-dropped", test_read_while_dropped);
    return g_test_run();
}
