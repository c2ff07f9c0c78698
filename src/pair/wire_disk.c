/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DISK and DISK_BASE. */
#include "wire_disk.h"

#include "byteorder.h"
#include "fut_error.h"

static bool bad(const char *type, const char *what, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "bad %s from the peer: %s", type, what);
    return false;
}

static const char *range_fault(const FutDiskHead *head)
{
    if (head->kind == FUT_DISK_FLUSH) {
        return head->offset || head->length ? "a flush with a range" : NULL;
    }
    if (head->kind == FUT_DISK_STORED) {
        return head->offset || head->length || head->disk || head->epoch == 0
                   ? "an epoch stored with a range, a disk, or none"
                   : NULL;
    }
    if (head->kind == FUT_DISK_MARK) {
        return head->offset == 0 || head->length || head->disk ? "a mark without a number" : NULL;
    }
    if (head->length == 0) {
        return "an empty range";
    }
    return head->offset > (uint64_t)INT64_MAX - MIN(head->length, (uint64_t)INT64_MAX) ||
                   head->length > (uint64_t)INT64_MAX
               ? "a range beyond all disks"
               : NULL;
}

/* data: bytes after the head. */
static const char *head_fault(const FutDiskHead *head, size_t data)
{
    if (head->kind < FUT_DISK_WRITE || head->kind > FUT_DISK_MARK) {
        return "unknown kind";
    }
    const char *fault = range_fault(head);
    if (fault) {
        return fault;
    }
    if (head->kind != FUT_DISK_WRITE) {
        return data > 0 ? "data with a message that has none" : NULL;
    }
    return head->length > FUT_WIRE_DISK_MAX || head->length != data ? "wrong length" : NULL;
}

void fut_disk_head_encode(uint8_t at[FUT_DISK_HEAD_SIZE], const FutDiskHead *head)
{
    g_assert(!head_fault(head, head->kind == FUT_DISK_WRITE ? head->length : 0));
    fut_put_le64(at, head->epoch);
    fut_put_le64(at + 8, head->offset);
    fut_put_le64(at + 16, head->length);
    fut_put_le32(at + 24, head->disk);
    fut_put_le32(at + 28, head->kind);
    fut_put_le64(at + 32, 0);
}

bool fut_disk_head_decode(const uint8_t *body, size_t length, FutDiskHead *ret, GError **error)
{
    if (length < FUT_DISK_HEAD_SIZE) {
        return bad("DISK", "too short", error);
    }
    FutDiskHead head = {
        .epoch = fut_get_le64(body),
        .offset = fut_get_le64(body + 8),
        .length = fut_get_le64(body + 16),
        .disk = fut_get_le32(body + 24),
        .kind = fut_get_le32(body + 28),
    };
    const char *fault = head_fault(&head, length - FUT_DISK_HEAD_SIZE);

    if (!fault && fut_get_le64(body + 32) != 0) {
        fault = "reserved fields are not zero";
    }
    if (fault) {
        return bad("DISK", fault, error);
    }
    *ret = head;
    return true;
}

void fut_disk_base_encode(uint8_t at[FUT_DISK_BASE_SIZE], const FutDiskBase *base)
{
    g_assert(base->next != 0);
    fut_put_le64(at, base->base);
    fut_put_le64(at + 8, base->next);
    fut_put_le64(at + 16, base->mark);
}

bool fut_disk_base_decode(const uint8_t *body, size_t length, FutDiskBase *ret, GError **error)
{
    if (length != FUT_DISK_BASE_SIZE) {
        return bad("DISK_BASE", "wrong length", error);
    }
    if (fut_get_le64(body + 8) == 0) {
        return bad("DISK_BASE", "an image without a name", error);
    }
    *ret = (FutDiskBase){ .base = fut_get_le64(body),
                          .next = fut_get_le64(body + 8),
                          .mark = fut_get_le64(body + 16) };
    return true;
}

void fut_disk_kept_encode(uint8_t at[FUT_DISK_KEPT_SIZE], const FutDiskKept *kept)
{
    fut_put_le64(at, kept->base);
    fut_put_le64(at + 8, kept->mark);
    fut_put_le64(at + 16, kept->life);
}

bool fut_disk_kept_decode(const uint8_t *body, size_t length, FutDiskKept *ret, GError **error)
{
    if (length != FUT_DISK_KEPT_SIZE) {
        return bad("DISK_KEPT", "wrong length", error);
    }
    if (fut_get_le64(body + 16) == 0) {
        return bad("DISK_KEPT", "a process without a name", error);
    }
    *ret = (FutDiskKept){ .base = fut_get_le64(body),
                          .mark = fut_get_le64(body + 8),
                          .life = fut_get_le64(body + 16) };
    return true;
}
