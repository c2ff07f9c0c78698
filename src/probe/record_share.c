/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared ring: a sealed memfd. */
#include "record_share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fut_error.h"

#define HEAD_BYTES 4096u
#define SLOT_BYTES 2048u
#define ALL_BYTES (HEAD_BYTES + (size_t)FUT_RECORDS_KEPT * SLOT_BYTES)

G_STATIC_ASSERT(sizeof(struct futago_records_head) == 64);
G_STATIC_ASSERT(sizeof(struct futago_record_field) == 112);
G_STATIC_ASSERT(sizeof(struct futago_record) == 1896 && sizeof(struct futago_record) <= SLOT_BYTES);
G_STATIC_ASSERT(offsetof(struct futago_record, fields) == 96);
G_STATIC_ASSERT(FUTAGO_RECORD_FIELDS == FUT_PROBE_FIELDS_MAX);
G_STATIC_ASSERT((int)FUTAGO_FIELD_TEXT == (int)FUT_VALUE_TEXT &&
                (int)FUTAGO_FIELD_SIGNED == (int)FUT_VALUE_SIGNED);

struct FutRecordShare {
    int fd;
    struct futago_records_head *head;
};

/* F_SEAL_FUTURE_WRITE: our mapping stays, others get none that can be written. */
static bool make(int fd, void **ret_memory)
{
    if (ftruncate(fd, (off_t)ALL_BYTES) < 0) {
        return false;
    }
    *ret_memory = mmap(NULL, ALL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*ret_memory == MAP_FAILED) {
        return false;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) <
        0) {
        int code = errno;
        munmap(*ret_memory, ALL_BYTES);
        errno = code;
        return false;
    }
    return true;
}

FutRecordShare *fut_record_share_new(GError **error)
{
    int fd = memfd_create("futago-records", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *memory;

    if (fd < 0 || !make(fd, &memory)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "no memory for probe records to share: %s",
                    g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    FutRecordShare *share = g_new0(FutRecordShare, 1);
    share->fd = fd;
    share->head = memory;
    *share->head = (struct futago_records_head){
        .magic = FUTAGO_RECORDS_MAGIC,
        .version = FUTAGO_RECORDS_VERSION,
        .head_bytes = HEAD_BYTES,
        .slot_bytes = SLOT_BYTES,
        .slots = FUT_RECORDS_KEPT,
    };
    return share;
}

void fut_record_share_free(FutRecordShare *share)
{
    if (share) {
        munmap(share->head, ALL_BYTES);
        close(share->fd);
        g_free(share);
    }
}

int fut_record_share_fd(const FutRecordShare *share)
{
    return share->fd;
}

static void fill(struct futago_record *slot, const FutProbeRecord *record)
{
    const FutProbe *probe = record->probe;

    slot->host_time_us = record->host_time_us;
    slot->guest_time_ns = record->guest_time_ns;
    slot->vcpu = record->vcpu;
    slot->field_count = probe->field_count;
    slot->skipped = record->skipped;
    g_strlcpy(slot->probe, probe->name ? probe->name : "", sizeof(slot->probe));
    for (unsigned i = 0; i < probe->field_count; i++) {
        const FutProbeValue *value = &record->values[i];
        struct futago_record_field *field = &slot->fields[i];
        const char *label = probe->labels[i] ? probe->labels[i] : "";
        bool is_text = value->kind == FUT_VALUE_TEXT;
        g_strlcpy(field->label, label, sizeof(field->label));
        field->kind = (uint32_t)value->kind;
        field->number = is_text ? 0 : value->number;
        g_strlcpy(field->text, is_text ? value->text : "", sizeof(field->text));
    }
}

void fut_record_share_put(FutRecordShare *share, const FutProbeRecord *record)
{
    struct futago_records_head *head = share->head;
    struct futago_record *slot =
        (struct futago_record *)((char *)head + HEAD_BYTES +
                                 record->sequence % FUT_RECORDS_KEPT * SLOT_BYTES);
    uint64_t next = record->sequence + 1;

    __atomic_store_n(&slot->sequence, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    fill(slot, record);
    __atomic_store_n(&slot->sequence, next, __ATOMIC_RELEASE);
    __atomic_store_n(&head->count, next, __ATOMIC_RELEASE);
    __atomic_store_n(&head->wake, (uint32_t)next, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &head->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
