/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring of records: order, loss, rate, several writers. */
#include <glib.h>
#include <string.h>

#include "fut_clock.h"
#include "record_ring.h"

#define THREADS 4
#define PUTS 20000

static FutProbe *new_probe(unsigned burst)
{
    FutProbe *probe = g_atomic_rc_box_new0(FutProbe);

    probe->field_count = 1;
    probe->rate = (FutRate)FUT_RATE_INIT(burst, FUT_NS_PER_MS);
    return probe;
}

static bool put(FutRecordRing *ring, FutProbe *probe, uint64_t number, uint64_t now_ns)
{
    FutProbeHit hit = { .vcpu = 3, .guest_time_ns = 5 };
    FutProbeValue value = { FUT_VALUE_UNSIGNED, number, "" };

    return fut_record_ring_put(ring, probe, &hit, &value, now_ns);
}

static bool next(FutRecordRing *ring, uint64_t *place, FutProbeRecord *ret, uint64_t *ret_lost)
{
    bool found = fut_record_ring_next(ring, place, ret, ret_lost);

    if (found) {
        fut_probe_unref(ret->probe);
    }
    return found;
}

static void test_order_and_loss(void)
{
    g_autoptr(FutRecordRing) ring = fut_record_ring_new();
    FutProbe *probe = new_probe(G_MAXUINT);
    FutProbeRecord record;
    uint64_t place = 0, lost;

    g_assert_false(next(ring, &place, &record, &lost));
    g_assert_true(put(ring, probe, 70, 1));
    g_assert_true(put(ring, probe, 71, 1));
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(next(ring, &place, &record, &lost));
        g_assert_cmpuint(record.sequence, ==, i);
        g_assert_cmpuint(record.values[0].number, ==, 70 + i);
        g_assert_cmpuint(record.vcpu, ==, 3);
        g_assert_cmpuint(record.guest_time_ns, ==, 5);
        g_assert_cmpuint(lost, ==, 0);
    }
    g_assert_false(next(ring, &place, &record, &lost));
    for (unsigned i = 2; i < FUT_RECORDS_KEPT + 12; i++) {
        g_assert_true(put(ring, probe, 70 + i, 1));
    }
    g_assert_true(next(ring, &place, &record, &lost));
    g_assert_cmpuint(lost, ==, 10);
    g_assert_cmpuint(record.sequence, ==, 12);
    g_assert_true(next(ring, &place, &record, &lost));
    g_assert_cmpuint(lost, ==, 0);
    /* A probe that was taken out lives as long as a record names it. */
    fut_probe_unref(probe);
    g_assert_true(next(ring, &place, &record, &lost));
}

static void test_rate(void)
{
    g_autoptr(FutRecordRing) ring = fut_record_ring_new();
    FutProbe *probe = new_probe(2), *other = new_probe(2);

    g_assert_true(put(ring, probe, 0, FUT_NS_PER_S));
    g_assert_true(put(ring, probe, 0, FUT_NS_PER_S));
    g_assert_false(put(ring, probe, 0, FUT_NS_PER_S));
    g_assert_true(put(ring, other, 0, FUT_NS_PER_S));
    g_assert_true(put(ring, probe, 0, FUT_NS_PER_S + FUT_NS_PER_MS));
    g_assert_cmpuint(probe->records, ==, 3);
    g_assert_cmpuint(probe->skipped, ==, 1);
    fut_probe_unref(probe);
    fut_probe_unref(other);
}

/* Who reads learns of every hit that left no record, with the next one of that probe. */
static void test_skipped(void)
{
    g_autoptr(FutRecordRing) ring = fut_record_ring_new();
    FutProbe *probe = new_probe(3), *other = new_probe(G_MAXUINT);
    FutProbeRecord record;
    uint64_t place = 0, lost, told = 0, records = 0, now_ns = FUT_NS_PER_S;

    for (unsigned i = 0; i < 1000; i++, now_ns += FUT_NS_PER_MS / 7) {
        put(ring, probe, i, now_ns);
        g_assert_true(put(ring, other, i, now_ns));
        if (i % 10 == 0) {
            atomic_fetch_add(&probe->skipped, 2); /* as fut_probe_is_too_hot() does */
        }
        while (next(ring, &place, &record, &lost)) {
            g_assert_cmpuint(lost, ==, 0);
            g_assert_true(record.probe == probe || record.skipped == 0);
            told += record.skipped;
            records += record.probe == probe;
        }
    }
    now_ns += FUT_NS_PER_S;
    g_assert_true(put(ring, probe, 0, now_ns));
    g_assert_true(next(ring, &place, &record, &lost));
    told += record.skipped;
    records++;
    g_assert_cmpuint(told, ==, probe->skipped);
    g_assert_cmpuint(records, ==, probe->records);
    g_assert_cmpuint(told + records, ==, 1001 + 2 * 100);
    fut_probe_unref(probe);
    fut_probe_unref(other);
}

typedef struct {
    FutRecordRing *ring;
    FutProbe *probe;
    unsigned number;
} Writer;

static void *write_many(void *data)
{
    Writer *writer = data;

    for (uint64_t i = 0; i < PUTS; i++) {
        g_assert_true(put(writer->ring, writer->probe, (uint64_t)writer->number << 32 | i, 1));
    }
    return NULL;
}

/* Each record is whole, each writer's come in order, and what was read or lost is all there was. */
static void test_writers(void)
{
    g_autoptr(FutRecordRing) ring = fut_record_ring_new();
    FutProbe *probe = new_probe(G_MAXUINT);
    Writer writers[THREADS];
    GThread *threads[THREADS];
    int64_t last[THREADS];
    FutProbeRecord record;
    uint64_t place = 0, lost, seen = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (Writer){ ring, probe, i };
        last[i] = -1;
        threads[i] = g_thread_new("writer", write_many, &writers[i]);
    }
    while (place < THREADS * PUTS) {
        if (!next(ring, &place, &record, &lost)) {
            g_thread_yield();
            continue;
        }
        unsigned writer = (unsigned)(record.values[0].number >> 32);
        int64_t number = (int64_t)(record.values[0].number & UINT32_MAX);
        g_assert_cmpint(number, >, last[writer]);
        last[writer] = number;
        seen += lost + 1;
        g_assert_cmpuint(record.sequence + 1, ==, seen);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpuint(probe->records, ==, THREADS * PUTS);
    fut_probe_unref(probe);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record-ring/order-and-loss", test_order_and_loss);
    g_test_add_func("/record-ring/rate", test_rate);
    g_test_add_func("/record-ring/skipped", test_skipped);
    g_test_add_func("/record-ring/writers", test_writers);
    return g_test_run();
}
