/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PACKED messages: there and back, golden head, and what is refused. */
#include "wire_packed.h"

#include <string.h>

#include "byteorder.h"
#include "expect.h"
#include "wire.h"

static const FutPackKind kinds[] = { FUT_PACK_LZ4, FUT_PACK_ZSTD };

static uint8_t *half_random(GRand *rand, size_t length)
{
    uint8_t *body = g_malloc(length);
    for (size_t i = 0; i < length; i++) {
        body[i] = (uint8_t)(i % 64 < 32 ? g_rand_int(rand) : i / 4096);
    }
    return body;
}

static FutFrame frame_of(const FutBuf *packed)
{
    return (FutFrame){ .type = FUT_MSG_PACKED,
                       .length = (uint32_t)packed->len,
                       .session = 5,
                       .sequence = 9,
                       .body = packed->data };
}

static void test_there_and_back(void)
{
    static const size_t lengths[] = { 1000, 5000, FUT_PACK_MIN, 1000000, FUT_WIRE_PART_MAX };
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    FutBuf packed = { 0 }, out = { 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(lengths) * G_N_ELEMENTS(kinds); i++) {
        size_t length = lengths[i / 2];
        g_autofree uint8_t *body = half_random(rand, length);
        fut_buf_clear(&packed);
        g_assert_true(fut_pack(&packed, kinds[i % 2], FUT_MSG_PAGES, 3, body, length));
        g_assert_cmpuint(packed.len, <, length - length / 8);
        FutFrame frame = frame_of(&packed);
        g_autoptr(GError) error = NULL;
        g_assert_true(fut_unpack(&out, &frame, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(frame.type, ==, FUT_MSG_PAGES);
        g_assert_cmpuint(frame.flags, ==, 3);
        g_assert_cmpuint(frame.sequence, ==, 9);
        g_assert_cmpmem(frame.body, frame.length, body, length);
    }
    fut_buf_done(&packed);
    fut_buf_done(&out);
}

static void test_golden_head(void)
{
    static const uint8_t wanted[FUT_PACKED_HEAD_SIZE] = { 4, 0, 2, 1, 0, 0x40, 0, 0,
                                                          1, 0, 0, 0, 0, 0,    0, 0 };
    g_autofree uint8_t *body = g_malloc0(0x4000);
    FutBuf packed = { 0 };

    g_assert_true(fut_pack(&packed, FUT_PACK_LZ4, FUT_MSG_EPOCH_PART, 0x102, body, 0x4000));
    g_assert_cmpmem(packed.data, FUT_PACKED_HEAD_SIZE, wanted, sizeof(wanted));
    fut_buf_done(&packed);
}

static void test_what_does_not_shrink(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autofree uint8_t *body = g_malloc(100000);
    FutBuf packed = { 0 };

    for (size_t i = 0; i < 100000; i++) {
        body[i] = (uint8_t)g_rand_int(rand);
    }
    fut_buf_append(&packed, "head", 4);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_assert_false(fut_pack(&packed, kinds[i], FUT_MSG_DISK, 0, body, 100000));
        g_assert_false(fut_pack(&packed, kinds[i], FUT_MSG_DISK, 0, body, 10));
        g_assert_cmpuint(packed.len, ==, 4);
    }
    fut_buf_done(&packed);
}

static void refuse(const FutBuf *packed, const char *why)
{
    FutFrame frame = frame_of(packed), before = frame;
    FutBuf out = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *wanted = g_strdup_printf("packed message from the peer %s", why);

    g_assert_false(fut_unpack(&out, &frame, &error));
    expect_error(error, FUT_ERR_PEER, wanted);
    g_assert_true(memcmp(&frame, &before, sizeof(frame)) == 0);
    g_assert_cmpuint(out.cap, <=, 2 * FUT_WIRE_PART_MAX);
    fut_buf_done(&out);
}

/* A sound message with one field of its head changed. */
static void refuse_head(FutPackKind kind, size_t at, uint32_t value, const char *why)
{
    g_autofree uint8_t *body = g_malloc0(20000);
    FutBuf packed = { 0 };

    g_assert_true(fut_pack(&packed, kind, FUT_MSG_DISK, 0, body, 20000));
    fut_put_le32(packed.data + at, value);
    refuse(&packed, why);
    fut_buf_done(&packed);
}

static void test_refused(void)
{
    const char *other = "does not unpack to the length it announces";

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        refuse_head(kinds[i], 0, FUT_MSG_HELLO, "holds a message that must not be packed");
        refuse_head(kinds[i], 0, FUT_MSG_PACKED, "holds a message that must not be packed");
        refuse_head(kinds[i], 0, 999, "holds a message that must not be packed");
        refuse_head(kinds[i], 4, 19999, other); /* a bomb: more comes out than was announced */
        refuse_head(kinds[i], 4, 20001, other);
        refuse_head(kinds[i], 4, 1 << 20, other);
        refuse_head(kinds[i], 4, 3u << 20, "announces more than such a message may have");
        refuse_head(kinds[i], 4, UINT32_MAX, "announces more than such a message may have");
        refuse_head(kinds[i], 4, 0, "is not shorter than what it holds");
        refuse_head(kinds[i], 4, 5, "is not shorter than what it holds");
        refuse_head(kinds[i], 8, kinds[1 - i], other);
        refuse_head(kinds[i], 8, 0, "is of unknown kind");
        refuse_head(kinds[i], 8, 3, "is of unknown kind");
        refuse_head(kinds[i], 12, 1, "has a reserved field that is not 0");
    }
}

static void test_cut_anywhere(void)
{
    g_autofree uint8_t *body = g_malloc0(20000);

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        FutBuf packed = { 0 };
        g_assert_true(fut_pack(&packed, kinds[i], FUT_MSG_DISK, 0, body, 20000));
        while (packed.len-- > 0) {
            refuse(&packed, packed.len < FUT_PACKED_HEAD_SIZE ? "is cut off"
                            : packed.len == FUT_PACKED_HEAD_SIZE
                                ? "is not shorter than what it holds"
                                : "does not unpack to the length it announces");
            if (packed.len == 0) {
                break;
            }
        }
        fut_buf_done(&packed);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/packed/there-and-back", test_there_and_back);
    g_test_add_func("/packed/golden-head", test_golden_head);
    g_test_add_func("/packed/what-does-not-shrink", test_what_does_not_shrink);
    g_test_add_func("/packed/refused", test_refused);
    g_test_add_func("/packed/cut-anywhere", test_cut_anywhere);
    return g_test_run();
}
