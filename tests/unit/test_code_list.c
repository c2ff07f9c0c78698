/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of pieces of code that were translated for a guest, in a snapshot, and read from there. */
#include "code_list.h"

#include <zstd.h>

#include "byteorder.h"
#include "pageset.h"
#include "store_fixture.h"

#define HEAD 32

static GArray *decode(const void *bytes, size_t length)
{
    g_autoptr(FutSnapshotInfo) info = image_info(0, 1); /* blocks of 1300 pages and of one */

    info->code = g_bytes_new(bytes, length);
    return fut_code_list_decode(info);
}

static GArray *decode_plain(const uint8_t *bytes, size_t length)
{
    size_t room = ZSTD_compressBound(length);
    g_autofree uint8_t *packed = g_malloc(room);

    return decode(packed, ZSTD_compress(packed, room, bytes, length, 1));
}

static bool is_same(const FutCode *a, const FutCode *b)
{
    return a->page == b->page && a->next == b->next && a->address == b->address &&
           a->flags == b->flags;
}

static void expect(GArray *list, guint number, FutCode code)
{
    g_assert_cmpuint(number, <, list->len);
    g_assert_true(is_same(&g_array_index(list, FutCode, number), &code));
}

static void test_round(void)
{
    const uint64_t high = 0xffffffff81234000;
    const FutCode codes[] = {
        { 7, FUT_CODE_NONE, high + 0xabc, 5 },
        { fut_key(1, 0), 1299, 0x123, 5 }, /* another page */
        { 7, FUT_CODE_NONE, high, 5 },
        { 7, 8, high + 0xfff, 5 },                 /* goes on in another */
        { 7, FUT_CODE_NONE, high + 4, 6 },         /* another mode */
        { 7, FUT_CODE_NONE, high + 0x1000 + 4, 5 } /* at another address, too */
    };
    static const unsigned order[] = { 0, 2, 1, 3, 4, 5 };
    FutBuf buf = { 0 };

    fut_buf_append(&buf, "what was there before", 5);
    fut_code_list_encode(&buf, codes, G_N_ELEMENTS(codes));
    g_autoptr(GArray) list = decode(buf.data, buf.len);
    g_assert_cmpuint(list->len, ==, G_N_ELEMENTS(codes));
    for (guint i = 0; i < list->len; i++) {
        expect(list, i, codes[order[i]]);
    }
    fut_code_list_encode(&buf, codes, 0);
    g_assert_cmpuint(buf.len, ==, 0);
    fut_buf_done(&buf);
}

/* One head with one piece. */
static void make(uint8_t bytes[HEAD + 2])
{
    memset(bytes, 0, HEAD + 2);
    fut_put_le64(bytes, 1299);
    fut_put_le64(bytes + 8, UINT64_MAX);
    fut_put_le64(bytes + 16, 0x5000);
    fut_put_le32(bytes + 24, 77);
    fut_put_le16(bytes + 28, 1);
    fut_put_le16(bytes + HEAD, 0x123);
}

static void test_golden(void)
{
    uint8_t bytes[HEAD + 2];

    make(bytes);
    g_autoptr(GArray) list = decode_plain(bytes, sizeof(bytes));
    g_assert_cmpuint(list->len, ==, 1);
    expect(list, 0, (FutCode){ 1299, FUT_CODE_NONE, 0x5123, 77 });
}

static void test_wrong(void)
{
    static const struct {
        unsigned at, length;
        uint8_t value;
    } cases[] = {
        { 0, HEAD + 2, 0x14 },        /* page 1300 of 1300 */
        { 6, HEAD + 2, 2 },           /* a disk's number */
        { 8, HEAD + 2, 0 },           /* goes on nowhere */
        { 16, HEAD + 2, 1 },          /* not a page's address */
        { 28, HEAD + 2, 0 },          /* none */
        { 28, HEAD + 2, 2 },          /* more than there are */
        { 30, HEAD + 2, 1 },          /* reserved */
        { HEAD + 1, HEAD + 2, 0x10 }, /* beyond its page */
        { 24, HEAD + 1, 77 },         /* cut off */
        { 24, HEAD, 77 },
        { 24, HEAD - 1, 77 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint8_t bytes[HEAD + 2];
        make(bytes);
        bytes[cases[i].at] = cases[i].value;
        g_autoptr(GArray) list = decode_plain(bytes, cases[i].length);
        g_assert_cmpuint(list->len, ==, 0);
    }
}

/* What cannot be unpacked, or would be too much. */
static void test_packing(void)
{
    g_autofree uint8_t *much = g_malloc0(300 << 10);
    uint8_t bytes[HEAD + 2], packed[200];

    make(bytes);
    size_t length = ZSTD_compress(packed, sizeof(packed), bytes, sizeof(bytes), 1);
    for (size_t cut = 0; cut <= length; cut++) {
        g_autoptr(GArray) list = decode(packed, length - cut);
        g_assert_cmpuint(list->len, ==, cut == 0);
    }
    g_autoptr(GArray) none = decode("not compressed", 14);
    g_assert_cmpuint(none->len, ==, 0);
    for (size_t at = 0; at < 300 << 10; at += HEAD + 2) {
        memcpy(much + at, bytes, MIN(HEAD + 2, (300 << 10) - at));
    }
    g_autoptr(GArray) bomb = decode_plain(much, 300 << 10);
    g_assert_cmpuint(bomb->len, ==, 0);
    g_autoptr(FutSnapshotInfo) without = image_info(0, 1);
    g_autoptr(GArray) empty = fut_code_list_decode(without);
    g_assert_cmpuint(empty->len, ==, 0);
}

/* As many as there can be, each with a head of its own: what has no room is left out, from the end. */
static void test_room(void)
{
    g_autofree FutCode *codes = g_new(FutCode, FUT_CODES_NOTED);
    FutBuf buf = { 0 };

    for (uint64_t i = 0; i < FUT_CODES_NOTED; i++) {
        codes[i] = (FutCode){ i % 1300, FUT_CODE_NONE, (i * 4097) & 0xffffffff, (uint32_t)i };
    }
    fut_code_list_encode(&buf, codes, FUT_CODES_NOTED);
    g_assert_cmpuint(buf.len, <=, FUT_STORE_CODE_MAX);
    g_autoptr(GArray) list = decode(buf.data, buf.len);
    g_assert_cmpuint(list->len, ==, (256 << 10) / (HEAD + 2));
    for (guint i = 0; i < list->len; i++) {
        expect(list, i, codes[i]);
    }
    fut_buf_done(&buf);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/code-list/round", test_round);
    g_test_add_func("/code-list/golden", test_golden);
    g_test_add_func("/code-list/wrong", test_wrong);
    g_test_add_func("/code-list/packing", test_packing);
    g_test_add_func("/code-list/room", test_room);
    return g_test_run();
}
