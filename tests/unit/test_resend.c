/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Outputs inside a checkpoint: what goes in comes out; what a peer made up does not. */
#include <glib.h>
#include <sys/uio.h>

#include "byteorder.h"
#include "fut_error.h"
#include "outputs.h"
#include "resend.h"

static FutPacket *packet_of(uint32_t nic, uint32_t flags, uint8_t byte, size_t length)
{
    g_autofree uint8_t *bytes = g_malloc(length + 1);
    struct iovec iov = { bytes, length };

    memset(bytes, byte, length);
    return fut_packet_new(9, nic, flags, &iov, 1);
}

static void test_round_trip(void)
{
    FutBuf out = { 0 };
    FutPacket *a = packet_of(0, 7, 0x11, 60), *b = packet_of(3, 0x20000, 0x22, 0);

    g_assert_true(fut_resend_put(&out, 0, a));
    g_assert_true(fut_resend_put(&out, out.len, b));
    g_assert_true(fut_resend_check(out.data, out.len, NULL));
    FutPacket *list = fut_resend_packets(out.data, out.len);
    g_assert_cmpuint(list->nic, ==, 0);
    g_assert_cmpuint(list->flags, ==, 7);
    g_assert_cmpmem(list->data, list->length, a->data, a->length);
    g_assert_cmpuint(list->next->nic, ==, 3);
    g_assert_cmpuint(list->next->flags, ==, 0x20000);
    g_assert_cmpuint(list->next->length, ==, 0);
    g_assert_null(list->next->next);
    fut_packets_free(list);
    g_free(a);
    g_free(b);
    fut_buf_done(&out);
}

static void test_nothing(void)
{
    g_assert_true(fut_resend_check((const uint8_t *)"", 0, NULL));
    g_assert_null(fut_resend_packets((const uint8_t *)"", 0));
}

static void test_cap(void)
{
    FutBuf out = { 0 };
    FutPacket *large = packet_of(0, 0, 1, FUT_RESEND_MAX);
    FutPacket *fits = packet_of(0, 0, 1, FUT_RESEND_MAX - FUT_RESEND_HEAD);
    FutPacket *empty = packet_of(0, 0, 1, 0);

    g_assert_false(fut_resend_put(&out, 0, large));
    g_assert_cmpuint(out.len, ==, 0);
    g_assert_true(fut_resend_put(&out, 0, fits));
    g_assert_false(fut_resend_put(&out, out.len, empty));
    g_assert_cmpuint(out.len, ==, FUT_RESEND_MAX);
    g_assert_true(fut_resend_check(out.data, out.len, NULL));
    g_free(large);
    g_free(fits);
    g_free(empty);
    fut_buf_done(&out);
}

static void test_made_up(void)
{
    FutBuf out = { 0 };
    FutPacket *packet = packet_of(0, 0, 1, 20);

    g_assert_true(fut_resend_put(&out, 0, packet));
    for (size_t length = 1; length < out.len; length++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_resend_check(out.data, length, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_PEER);
        g_assert_nonnull(strstr(error->message, "bad outputs"));
    }
    fut_put_le32(out.data, UINT32_MAX);
    g_assert_false(fut_resend_check(out.data, out.len, NULL));
    fut_buf_extend(&out, FUT_RESEND_MAX);
    g_assert_false(fut_resend_check(out.data, out.len, NULL));
    g_free(packet);
    fut_buf_done(&out);
}

/* An epoch's outputs: one packet of that many bytes. */
static void keep(FutKept *kept, uint64_t epoch, size_t bytes)
{
    FutBuf out = { 0 };
    FutPacket *packet = packet_of(0, 0, (uint8_t)epoch, bytes);

    g_assert_true(fut_resend_put(&out, 0, packet));
    fut_kept_add(kept, epoch, out.data, out.len);
    g_free(packet);
    fut_buf_done(&out);
}

/* What is kept is of the epochs first..last, in order. */
static void check_kept(const FutKept *kept, uint64_t first, uint64_t last)
{
    FutPacket *list = fut_resend_packets(kept->records.data, kept->records.len);
    uint64_t epoch = first;

    for (const FutPacket *p = list; p; p = p->next) {
        g_assert_cmpuint(p->data[0], ==, epoch++);
    }
    g_assert_cmpuint(epoch, ==, last + 1);
    fut_packets_free(list);
}

static void test_kept(void)
{
    FutKept kept = { 0 };

    check_kept(&kept, 1, 0);
    fut_kept_drop(&kept, 5);
    keep(&kept, 1, 10);
    keep(&kept, 2, 30);
    fut_kept_add(&kept, 3, NULL, 0); /* an epoch without */
    check_kept(&kept, 1, 2);
    fut_kept_drop(&kept, 1);
    check_kept(&kept, 2, 2);
    fut_kept_drop(&kept, 1);
    check_kept(&kept, 2, 2);
    keep(&kept, 4, 5);
    fut_kept_drop(&kept, 3);
    check_kept(&kept, 4, 4);
    fut_kept_drop(&kept, UINT64_MAX);
    check_kept(&kept, 1, 0);
    keep(&kept, 7, 1);
    fut_kept_clear(&kept);
    check_kept(&kept, 1, 0);
    fut_kept_done(&kept);
}

/* A peer that never says what has left does not fill the memory. */
static void test_kept_cap(void)
{
    FutKept kept = { 0 };

    for (uint64_t epoch = 1; epoch <= 3 * FUT_KEPT_MAX; epoch++) {
        keep(&kept, epoch, FUT_RESEND_MAX - FUT_RESEND_HEAD);
    }
    g_assert_cmpuint(kept.records.len, ==, FUT_KEPT_MAX * FUT_RESEND_MAX);
    check_kept(&kept, 2 * FUT_KEPT_MAX + 1, 3 * FUT_KEPT_MAX);
    fut_kept_done(&kept);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resend/round-trip", test_round_trip);
    g_test_add_func("/resend/nothing", test_nothing);
    g_test_add_func("/resend/cap", test_cap);
    g_test_add_func("/resend/made-up", test_made_up);
    g_test_add_func("/resend/kept", test_kept);
    g_test_add_func("/resend/kept-cap", test_kept_cap);
    return g_test_run();
}
