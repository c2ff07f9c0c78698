/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames: golden bytes, any cutting of the stream, each kind of bad stream, memory. */
#include "frame.h"

#include <string.h>

#include "byteorder.h"
#include "expect.h"
#include "frame_internal.h"

#define TYPE_SMALL 1 /* up to 100 bytes */
#define TYPE_LARGE 2 /* up to 1 GiB */
#define ROOM_MIN 65536

static uint32_t cap(uint16_t type)
{
    return type == TYPE_SMALL ? 100 : type == TYPE_LARGE ? 1u << 30 : 0;
}

static void put_frame(FutBuf *stream, uint16_t type, uint32_t session, uint64_t sequence,
                      const void *body, uint32_t length)
{
    fut_frame_header_encode(fut_buf_extend(stream, FUT_FRAME_HEADER_SIZE), type, 0x8001, session,
                            sequence, body, length);
    fut_buf_append(stream, body, length);
}

/* Feeds bytes, however little room the reader gives. */
static void feed(FutFrameReader *reader, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t room = 0;
        uint8_t *at = fut_frame_reader_space(reader, &room);
        g_assert_cmpuint(room, >=, ROOM_MIN);
        size_t now = MIN(room, length);
        memcpy(at, bytes, now);
        fut_frame_reader_filled(reader, now);
        bytes += now;
        length -= now;
    }
}

static void expect_frame(FutFrameReader *reader, uint16_t type, uint64_t sequence, const void *body,
                         uint32_t length)
{
    FutFrame frame;
    g_autoptr(GError) error = NULL;
    int status = fut_frame_reader_next(reader, &frame, &error);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 1);
    g_assert_cmpuint(frame.type, ==, type);
    g_assert_cmphex(frame.flags, ==, 0x8001);
    g_assert_cmpuint(frame.sequence, ==, sequence);
    g_assert_cmpuint(frame.length, ==, length);
    g_assert_true(length == 0 || memcmp(frame.body, body, length) == 0);
}

static void expect_nothing(FutFrameReader *reader)
{
    FutFrame frame;
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(fut_frame_reader_next(reader, &frame, &error), ==, 0);
    g_assert_no_error(error);
}

static void test_golden(void)
{
    const uint8_t wanted[] = {
        0x46, 0x55, 0x54, 0x32,                         /* magic */
        0x02, 0x01, 0x04, 0x03,                         /* type, flags */
        0x03, 0x00, 0x00, 0x00,                         /* length */
        0x0d, 0x0c, 0x0b, 0x0a,                         /* session */
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* sequence */
        0x50, 0x39, 0x2f, 0x89, 0x94, 0x5f, 0xaf, 0x78, /* body hash */
        0x00, 0x00, 0x00, 0x00,                         /* reserved */
        0x33, 0x38, 0x6d, 0x4d,                         /* head hash */
    };
    uint8_t at[FUT_FRAME_HEADER_SIZE];
    fut_frame_header_encode(at, 0x0102, 0x0304, 0x0a0b0c0d, 0x1112131415161718ull, "abc", 3);
    g_assert_cmpmem(at, sizeof(at), wanted, sizeof(wanted));
}

/* An empty body has a hash as well: that of no bytes. */
static void test_golden_empty(void)
{
    uint8_t at[FUT_FRAME_HEADER_SIZE];
    fut_frame_header_encode(at, TYPE_SMALL, 0, 0, 0, NULL, 0);
    g_assert_cmphex(fut_get_le64(at + 24), ==, 0x2d06800538d394c2ull);
}

static void three_frames(FutBuf *stream)
{
    put_frame(stream, TYPE_SMALL, 0, 0, "first", 5);
    put_frame(stream, TYPE_SMALL, 0, 1, NULL, 0);
    put_frame(stream, TYPE_LARGE, 0, 2, "the third one", 13);
}

static void expect_three(FutFrameReader *reader, unsigned *done)
{
    static const struct {
        uint16_t type;
        const char *body;
    } wanted[] = { { TYPE_SMALL, "first" }, { TYPE_SMALL, "" }, { TYPE_LARGE, "the third one" } };
    FutFrame frame;
    int status;
    while ((status = fut_frame_reader_next(reader, &frame, NULL)) == 1) {
        g_assert_cmpuint(*done, <, 3);
        g_assert_cmpuint(frame.type, ==, wanted[*done].type);
        g_assert_cmpuint(frame.sequence, ==, *done);
        g_assert_cmpmem(frame.body, frame.length, wanted[*done].body, strlen(wanted[*done].body));
        ++*done;
    }
    g_assert_cmpint(status, ==, 0);
}

static void test_cut_anywhere(void)
{
    FutBuf stream = { 0 };
    three_frames(&stream);
    for (size_t cut = 0; cut <= stream.len; cut++) {
        g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
        unsigned done = 0;
        feed(reader, stream.data, cut);
        expect_three(reader, &done);
        g_assert_cmpuint(done, ==, cut >= stream.len ? 3 : cut >= 85 ? 2 : cut >= 45 ? 1 : 0);
        feed(reader, stream.data + cut, stream.len - cut);
        expect_three(reader, &done);
        g_assert_cmpuint(done, ==, 3);
    }
    fut_buf_done(&stream);
}

static void test_byte_by_byte(void)
{
    FutBuf stream = { 0 };
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    unsigned done = 0;
    three_frames(&stream);
    for (size_t i = 0; i < stream.len; i++) {
        feed(reader, stream.data + i, 1);
        expect_three(reader, &done);
    }
    g_assert_cmpuint(done, ==, 3);
    fut_buf_done(&stream);
}

/* Streams of random frames in random pieces. */
static void test_random_pieces(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    g_autofree uint8_t *body = g_malloc(300000);
    FutBuf stream = { 0 };
    for (unsigned i = 0; i < 300000; i++) {
        body[i] = (uint8_t)g_rand_int(rand);
    }
    uint32_t lengths[200];
    for (unsigned i = 0; i < 200; i++) {
        lengths[i] =
            (uint32_t)g_rand_int_range(rand, 0, 1 << g_rand_int_range(rand, 1, 19)) % 300000;
        put_frame(&stream, TYPE_LARGE, 0, i, body, lengths[i]);
    }
    unsigned done = 0;
    FutFrame frame;
    for (size_t at = 0; at < stream.len;) {
        size_t room;
        uint8_t *to = fut_frame_reader_space(reader, &room);
        size_t wish = (size_t)g_rand_int_range(rand, 0, 1 << g_rand_int_range(rand, 1, 20));
        size_t now = MIN(MIN(wish, room), stream.len - at);
        memcpy(to, stream.data + at, now);
        fut_frame_reader_filled(reader, now);
        at += now;
        while (fut_frame_reader_next(reader, &frame, NULL) == 1) {
            g_assert_cmpuint(frame.sequence, ==, done);
            g_assert_true(frame.length == lengths[done]);
            g_assert_true(memcmp(frame.body, body, frame.length) == 0);
            done++;
        }
    }
    g_assert_cmpuint(done, ==, 200);
    fut_buf_done(&stream);
}

static void test_session(void)
{
    FutBuf stream = { 0 };
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    put_frame(&stream, TYPE_SMALL, 0, 0, "hello", 5);
    put_frame(&stream, TYPE_SMALL, 0xabc, 1, "go", 2);
    feed(reader, stream.data, stream.len);
    expect_frame(reader, TYPE_SMALL, 0, "hello", 5);
    fut_frame_reader_set_session(reader, 0xabc);
    expect_frame(reader, TYPE_SMALL, 1, "go", 2);
    expect_nothing(reader);
    fut_buf_done(&stream);
}

/* The reader refuses `stream` with these words, and goes on refusing with the same. */
static void refuse(const FutBuf *stream, const char *text)
{
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    FutFrame frame = { .type = 4711 };
    g_autoptr(GError) error = NULL;
    feed(reader, stream->data, stream->len);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(fut_frame_reader_next(reader, &frame, &error), ==, -1);
        expect_error(error, FUT_ERR_PEER, text);
        feed(reader, stream->data, stream->len);
    }
    g_assert_cmpint(fut_frame_reader_next(reader, &frame, NULL), ==, -1);
    g_assert_cmpuint(frame.type, ==, 4711);
}

static void refuse_done(FutBuf *stream, const char *text)
{
    refuse(stream, text);
    fut_buf_done(stream);
}

static void test_bad_magic(void)
{
    FutBuf stream = { 0 };
    fut_buf_append(&stream, "GET / HTTP/1.1\r\nHost: example.invalid\r\n\r\n", 41);
    refuse_done(&stream,
                "no Futago frame (it starts with 0x20544547): is the peer another program?");
}

/* The peer's alert is all that ever comes. */
static void test_tls(void)
{
    static const uint8_t alert[] = { 21, 3, 3, 0, 2, 2, 10 };
    static const uint8_t hello[] = { 22, 3, 1 };
    FutBuf stream = { 0 }, after = { 0 };
    fut_buf_append(&stream, alert, sizeof(alert));
    refuse_done(&stream, "the peer speaks TLS: give the same tls on both hosts");
    fut_buf_append(&after, hello, sizeof(hello));
    refuse_done(&after, "the peer speaks TLS: give the same tls on both hosts");
}

static void test_bad_head(void)
{
    for (unsigned i = 4; i < FUT_FRAME_HEADER_SIZE; i++) {
        FutBuf stream = { 0 };
        put_frame(&stream, TYPE_SMALL, 0, 0, "body", 4);
        stream.data[i] ^= 0x10;
        refuse_done(&stream, "frame 0: header damaged on the way (its hash does not match)");
    }
}

static void test_reserved(void)
{
    FutBuf stream = { 0 };
    put_frame(&stream, TYPE_SMALL, 0, 0, "body", 4);
    fut_put_le32(stream.data + FRAME_AT_RESERVED, 0x20);
    fut_put_le32(stream.data + FRAME_AT_HEAD_HASH, fut_frame_head_hash(stream.data));
    refuse_done(&stream, "frame 0: reserved field is 0x20, not 0: is the peer newer?");
}

static void test_bad_session(void)
{
    FutBuf stream = { 0 };
    put_frame(&stream, TYPE_SMALL, 0x77, 0, "body", 4);
    refuse_done(&stream, "frame 0: session 0x00000077, not this connection's 0x00000000");
}

static void test_bad_sequence(void)
{
    FutBuf stream = { 0 };
    put_frame(&stream, TYPE_SMALL, 0, 1, "body", 4);
    refuse_done(&stream, "frame 1 came where 0 was due: lost, doubled or replayed");
}

static void test_repeated_frame(void)
{
    FutBuf stream = { 0 };
    FutFrame frame;
    g_autoptr(GError) error = NULL;
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    put_frame(&stream, TYPE_SMALL, 0, 0, "body", 4);
    feed(reader, stream.data, stream.len);
    feed(reader, stream.data, stream.len);
    expect_frame(reader, TYPE_SMALL, 0, "body", 4);
    g_assert_cmpint(fut_frame_reader_next(reader, &frame, &error), ==, -1);
    expect_error(error, FUT_ERR_PEER, "frame 0 came where 1 was due: lost, doubled or replayed");
    fut_buf_done(&stream);
}

static void test_unknown_type(void)
{
    FutBuf stream = { 0 };
    put_frame(&stream, 9, 0, 0, NULL, 0);
    refuse_done(&stream, "frame 0: unknown type 9: do both ends run the same version?");
}

static void test_too_long(void)
{
    FutBuf stream = { 0 };
    g_autofree char *body = g_strnfill(101, 'x');
    put_frame(&stream, TYPE_SMALL, 0, 0, body, 101);
    stream.len = FUT_FRAME_HEADER_SIZE; /* the header alone is enough to refuse */
    refuse_done(&stream, "frame 0: type 1 announces 101 bytes, 100 are allowed");
}

static void test_longest(void)
{
    FutBuf stream = { 0 };
    g_autofree char *body = g_strnfill(100, 'x');
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    put_frame(&stream, TYPE_SMALL, 0, 0, body, 100);
    feed(reader, stream.data, stream.len);
    expect_frame(reader, TYPE_SMALL, 0, body, 100);
    fut_buf_done(&stream);
}

static void test_bad_body(void)
{
    for (unsigned i = 0; i < 4; i++) {
        FutBuf stream = { 0 };
        put_frame(&stream, TYPE_SMALL, 0, 0, "body", 4);
        stream.data[FUT_FRAME_HEADER_SIZE + i] ^= 1;
        refuse_done(&stream,
                    "frame 0: body of type 1 damaged on the way (its hash does not match)");
    }
}

/* A header that announces 1 GiB gets room only for what really comes. */
static void test_announcement_does_not_allocate(void)
{
    uint8_t head[FUT_FRAME_HEADER_SIZE];
    FutFrame frame;
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    fut_frame_header_encode(head, TYPE_LARGE, 0, 0, 0, NULL, 0);
    fut_put_le32(head + FRAME_AT_LENGTH, 1u << 30);
    fut_put_le32(head + FRAME_AT_HEAD_HASH, fut_frame_head_hash(head));
    feed(reader, head, sizeof(head));
    size_t received = sizeof(head);
    while (received < 8u << 20) {
        size_t room;
        g_assert_cmpint(fut_frame_reader_next(reader, &frame, NULL), ==, 0);
        uint8_t *at = fut_frame_reader_space(reader, &room);
        g_assert_cmpuint(room, >=, ROOM_MIN);
        g_assert_cmpuint(room, <=, MAX(received * 2, 2 * ROOM_MIN));
        memset(at, 0, room);
        fut_frame_reader_filled(reader, room);
        received += room;
    }
}

/* The room offered for a large body ends with it, so that nothing behind it has to be moved. */
static void test_large_body(void)
{
    FutBuf stream = { 0 };
    uint32_t length = 5u << 20;
    g_autofree uint8_t *body = g_malloc(length);
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    FutFrame frame;
    for (uint32_t i = 0; i < length; i++) {
        body[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    put_frame(&stream, TYPE_LARGE, 0, 0, body, length);
    size_t at = 0, calls = 0;
    while (at < stream.len) {
        size_t room;
        g_assert_cmpint(fut_frame_reader_next(reader, &frame, NULL), ==, 0);
        uint8_t *to = fut_frame_reader_space(reader, &room);
        size_t now = MIN(room, stream.len - at);
        g_assert_true(room <= ROOM_MIN || at + room <= stream.len);
        memcpy(to, stream.data + at, now);
        fut_frame_reader_filled(reader, now);
        at += now;
        calls++;
    }
    expect_frame(reader, TYPE_LARGE, 0, body, length);
    g_assert_cmpuint(calls, <=, 10);
    fut_buf_done(&stream);
}

static void test_trim(void)
{
    FutBuf stream = { 0 };
    g_autofree uint8_t *body = g_malloc0(1 << 20);
    g_autoptr(FutFrameReader) reader = fut_frame_reader_new(cap);
    put_frame(&stream, TYPE_LARGE, 0, 0, body, 1 << 20);
    put_frame(&stream, TYPE_SMALL, 0, 1, "next", 4);
    size_t first = stream.len - 44;
    feed(reader, stream.data, first + 20);
    expect_frame(reader, TYPE_LARGE, 0, body, 1 << 20);
    fut_frame_reader_trim(reader, 0); /* half a frame is there: must not be lost */
    feed(reader, stream.data + first + 20, 24);
    expect_frame(reader, TYPE_SMALL, 1, "next", 4);
    fut_frame_reader_trim(reader, 100);
    fut_frame_reader_trim(reader, 0);
    stream.len = 0;
    put_frame(&stream, TYPE_SMALL, 0, 2, "more", 4);
    feed(reader, stream.data, stream.len);
    expect_frame(reader, TYPE_SMALL, 2, "more", 4);
    expect_nothing(reader);
    fut_buf_done(&stream);
}

static void test_free_null(void)
{
    FutFrameReader *reader = NULL;
    fut_frame_reader_free(reader);
    reader = fut_frame_reader_new(cap);
    expect_nothing(reader);
    fut_frame_reader_free(reader);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/frame/golden", test_golden);
    g_test_add_func("/frame/golden-empty", test_golden_empty);
    g_test_add_func("/frame/cut-anywhere", test_cut_anywhere);
    g_test_add_func("/frame/byte-by-byte", test_byte_by_byte);
    g_test_add_func("/frame/random-pieces", test_random_pieces);
    g_test_add_func("/frame/session", test_session);
    g_test_add_func("/frame/bad-magic", test_bad_magic);
    g_test_add_func("/frame/tls", test_tls);
    g_test_add_func("/frame/bad-head", test_bad_head);
    g_test_add_func("/frame/reserved", test_reserved);
    g_test_add_func("/frame/bad-session", test_bad_session);
    g_test_add_func("/frame/bad-sequence", test_bad_sequence);
    g_test_add_func("/frame/repeated-frame", test_repeated_frame);
    g_test_add_func("/frame/unknown-type", test_unknown_type);
    g_test_add_func("/frame/too-long", test_too_long);
    g_test_add_func("/frame/longest", test_longest);
    g_test_add_func("/frame/bad-body", test_bad_body);
    g_test_add_func("/frame/announcement-does-not-allocate", test_announcement_does_not_allocate);
    g_test_add_func("/frame/large-body", test_large_body);
    g_test_add_func("/frame/trim", test_trim);
    g_test_add_func("/frame/free-null", test_free_null);
    return g_test_run();
}
