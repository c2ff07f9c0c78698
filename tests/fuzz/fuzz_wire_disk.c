/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages about disks: the first byte chooses the decoder. What is accepted encodes to the very same bytes again, and its range
 * does not wrap. */
#include <glib.h>

#include "fuzz.h"
#include "wire_disk.h"

static void fuzz_head(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    uint8_t again[FUT_DISK_HEAD_SIZE];
    FutDiskHead head;

    if (!fut_disk_head_decode(body, length, &head, &error)) {
        g_assert_nonnull(error);
        return;
    }
    fut_disk_head_encode(again, &head);
    g_assert_cmpmem(again, sizeof(again), body, FUT_DISK_HEAD_SIZE);
    g_assert_cmpuint(head.offset + head.length, >=, head.offset);
    g_assert_cmpuint(length - FUT_DISK_HEAD_SIZE, ==,
                     head.kind == FUT_DISK_WRITE ? head.length : 0);
}

static void fuzz_base(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    uint8_t again[FUT_DISK_BASE_SIZE];
    FutDiskBase base;

    if (fut_disk_base_decode(body, length, &base, &error)) {
        fut_disk_base_encode(again, &base);
        g_assert_cmpmem(again, sizeof(again), body, length);
    } else {
        g_assert_nonnull(error);
    }
}

static void fuzz_kept(const uint8_t *body, size_t length)
{
    g_autoptr(GError) error = NULL;
    uint8_t again[FUT_DISK_KEPT_SIZE];
    FutDiskKept kept;

    if (fut_disk_kept_decode(body, length, &kept, &error)) {
        fut_disk_kept_encode(again, &kept);
        g_assert_cmpmem(again, sizeof(again), body, length);
    } else {
        g_assert_nonnull(error);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        (data[0] & 2 ? fuzz_kept : data[0] & 1 ? fuzz_base : fuzz_head)(data + 1, size - 1);
    }
    return 0;
}
