/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared ring, read as another program would: with its public header alone. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "record_share.h"

#define WRITES 200000u

/* -- the reader: an example of how it is done -- */

typedef struct {
    const struct futago_records_head *head;
    uint64_t place, lost;
} Reader;

static void reader_open(Reader *reader, const char *path)
{
    struct futago_records_head head;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &head, sizeof(head), 0), ==, sizeof(head));
    g_assert_cmpstr(head.magic, ==, FUTAGO_RECORDS_MAGIC);
    g_assert_cmpuint(head.version, ==, FUTAGO_RECORDS_VERSION);
    size_t bytes = head.head_bytes + (size_t)head.slots * head.slot_bytes;
    *reader = (Reader){ .head = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) };
    g_assert_true(reader->head != MAP_FAILED);
    close(fd);
}

static void reader_close(Reader *reader)
{
    munmap((void *)reader->head,
           reader->head->head_bytes + (size_t)reader->head->slots * reader->head->slot_bytes);
}

/* False: none yet. */
static bool reader_next(Reader *reader, struct futago_record *ret)
{
    const struct futago_records_head *head = reader->head;

    while (reader->place < __atomic_load_n(&head->count, __ATOMIC_ACQUIRE)) {
        uint64_t wanted = reader->place++ + 1;
        const struct futago_record *slot =
            (const void *)((const char *)head + head->head_bytes +
                           (wanted - 1) % head->slots * head->slot_bytes);
        if (__atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE) == wanted) {
            memcpy(ret, slot, sizeof(*ret));
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (__atomic_load_n(&slot->sequence, __ATOMIC_RELAXED) == wanted) {
                return true;
            }
        }
        reader->lost++;
    }
    return false;
}

static void reader_wait(const Reader *reader)
{
    syscall(SYS_futex, &reader->head->wake, FUTEX_WAIT, (uint32_t)reader->place, NULL, NULL, 0);
}

/* -- tests -- */

static FutRecordShare *open_share(Reader *reader)
{
    GError *error = NULL;
    FutRecordShare *share = fut_record_share_new(&error);

    g_assert_no_error(error);
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", getpid(), fut_record_share_fd(share));
    reader_open(reader, path);
    return share;
}

static void put(FutRecordShare *share, uint64_t sequence)
{
    FutProbe probe = { .name = (char *)"web",
                       .field_count = 2,
                       .labels = { (char *)"number",
                                   (char *)"a label that is longer than thirty-one characters" } };
    FutProbeRecord record = { .probe = &probe,
                              .sequence = sequence,
                              .host_time_us = (int64_t)sequence * 3,
                              .guest_time_ns = 5,
                              .vcpu = 2,
                              .skipped = 9,
                              .values = { { FUT_VALUE_SIGNED, ~sequence, "" },
                                          { FUT_VALUE_TEXT, 0, "nginx" } } };

    fut_record_share_put(share, &record);
}

static void test_layout(void)
{
    Reader reader;
    g_autoptr(FutRecordShare) share = open_share(&reader);
    struct futago_record record;

    g_assert_false(reader_next(&reader, &record));
    put(share, 0);
    g_assert_true(reader_next(&reader, &record));
    g_assert_false(reader_next(&reader, &record));
    g_assert_cmpstr(record.probe, ==, "web");
    g_assert_cmpint(record.host_time_us, ==, 0);
    g_assert_cmpuint(record.guest_time_ns, ==, 5);
    g_assert_cmpuint(record.vcpu, ==, 2);
    g_assert_cmpuint(record.skipped, ==, 9);
    g_assert_cmpuint(record.field_count, ==, 2);
    g_assert_cmpstr(record.fields[0].label, ==, "number");
    g_assert_cmpuint(record.fields[0].kind, ==, FUTAGO_FIELD_SIGNED);
    g_assert_cmpint((int64_t)record.fields[0].number, ==, -1);
    g_assert_cmpstr(record.fields[1].label, ==, "a label that is longer than thi");
    g_assert_cmpstr(record.fields[1].text, ==, "nginx");
    reader_close(&reader);
}

static void test_loss(void)
{
    Reader reader;
    g_autoptr(FutRecordShare) share = open_share(&reader);
    struct futago_record record;

    for (uint64_t i = 0; i < FUT_RECORDS_KEPT + 7; i++) {
        put(share, i);
    }
    g_assert_true(reader_next(&reader, &record));
    g_assert_cmpuint(reader.lost, ==, 7);
    g_assert_cmpuint(record.sequence, ==, 8);
    reader_close(&reader);
}

/* Who maps it can neither write it nor cut it off under QEMU. */
static void test_sealed(void)
{
    Reader reader;
    g_autoptr(FutRecordShare) share = open_share(&reader);
    int fd = fut_record_share_fd(share);

    g_assert_cmpint(ftruncate(fd, 0), <, 0);
    g_assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    g_assert_cmpint(pwrite(fd, "x", 1, 0), <, 0);
    g_assert_cmpint(errno, ==, EPERM);
    reader_close(&reader);
}

static gpointer write_all(gpointer data)
{
    for (uint64_t i = 0; i < WRITES; i++) {
        put(data, i);
    }
    return NULL;
}

/* A reader beside the writer gets whole records only, in sequence, and what it lost adds up. */
static void test_race(void)
{
    Reader reader;
    g_autoptr(FutRecordShare) share = open_share(&reader);
    struct futago_record record;
    uint64_t got = 0;
    GThread *writer = g_thread_new("writer", write_all, share);

    while (reader.place < WRITES) {
        if (!reader_next(&reader, &record)) {
            reader_wait(&reader);
            continue;
        }
        got++;
        g_assert_cmpuint(record.sequence, ==, reader.place);
        g_assert_cmpint(record.host_time_us, ==, (int64_t)(record.sequence - 1) * 3);
        g_assert_cmpuint(record.fields[0].number, ==, ~(record.sequence - 1));
    }
    g_thread_join(writer);
    g_assert_cmpuint(got + reader.lost, ==, WRITES);
    reader_close(&reader);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record-share/layout", test_layout);
    g_test_add_func("/record-share/loss", test_loss);
    g_test_add_func("/record-share/sealed", test_sealed);
    g_test_add_func("/record-share/race", test_race);
    return g_test_run();
}
