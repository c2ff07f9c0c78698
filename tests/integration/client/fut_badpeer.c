/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer that misbehaves: connects to a standby's replication port, sends something wrong, and tells what came back.
 *
 *   fut-badpeer ADDRESS PORT KIND [FILE]
 *
 * KIND is one of the table below; "file" sends the bytes of FILE. Prints one JSON object: was the connection closed on us
 * within WAIT_S, after how many ms, and the text of the BYE if one came. Exit status 0 when it was closed.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "client_util.h"
#include "frame.h"
#include "fut_clock.h"
#include "wire.h"

#define WAIT_S 15
#define FILE_MAX_BYTES (8u << 20)

typedef struct {
    const char *name;
    void (*send)(int fd, const char *argument);
    bool hang_up; /* closes its own sending side after it */
} Kind;

/* The other end may close while we still send: that is an answer as well. */
static void put(int fd, const void *data, size_t length)
{
    (void)fut_client_write(fd, data, length);
}

typedef struct {
    uint16_t type;
    uint32_t session;
    uint64_t sequence;
} Header;

static void put_frame(int fd, Header h, const void *body, uint32_t length)
{
    uint8_t at[FUT_FRAME_HEADER_SIZE];

    fut_frame_header_encode(at, h.type, 0, h.session, h.sequence, body, length);
    put(fd, at, sizeof(at));
    put(fd, body, length);
}

/* A hello as a stranger would say it: right in form, from a machine that is none of ours. */
static void stranger_hello(FutBuf *out, uint16_t version)
{
    char *machine[] = { (char *)"vmm=somebody else's", NULL };
    FutHello hello = { .version_min = version,
                       .version_max = version,
                       .nonce = 4711,
                       .generation = 1000,
                       .heartbeat_ms = 100,
                       .timeout_ms = 1000,
                       .vm = (char *)"vm",
                       .node = (char *)"stranger",
                       .machine = machine };

    fut_hello_encode(out, &hello);
}

static void put_hello(int fd, Header h, uint16_t version, int turned_bit_at)
{
    FutBuf body = { 0 };
    uint8_t at[FUT_FRAME_HEADER_SIZE];

    stranger_hello(&body, version);
    fut_frame_header_encode(at, h.type, 0, h.session, h.sequence, body.data, (uint32_t)body.len);
    if (turned_bit_at >= 0) {
        body.data[turned_bit_at] ^= 1;
    }
    put(fd, at, sizeof(at));
    put(fd, body.data, body.len);
    fut_buf_done(&body);
}

static void send_garbage(int fd, const char *argument)
{
    uint8_t bytes[65536];
    uint64_t state = 88172645463325252ull;

    for (size_t i = 0; i < sizeof(bytes); i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (uint8_t)state;
    }
    put(fd, bytes, sizeof(bytes));
}

static void send_nothing(int fd, const char *argument)
{
}

static void send_truncated(int fd, const char *argument)
{
    uint8_t at[FUT_FRAME_HEADER_SIZE];

    fut_frame_header_encode(at, FUT_MSG_HELLO, 0, 0, 0, "hello", 5);
    put(fd, at, sizeof(at) / 2);
}

static void send_half_body(int fd, const char *argument)
{
    uint8_t at[FUT_FRAME_HEADER_SIZE];
    char body[100] = { 0 };

    fut_frame_header_encode(at, FUT_MSG_HELLO, 0, 0, 0, body, sizeof(body));
    put(fd, at, sizeof(at));
    put(fd, body, sizeof(body) / 2);
}

/* Checksums are right; only the length is more than any hello may have. */
static void send_oversized(int fd, const char *argument)
{
    uint32_t length = fut_wire_cap(FUT_MSG_HELLO) + 1;
    uint8_t *body = calloc(1, length);

    put_frame(fd, (Header){ .type = FUT_MSG_HELLO }, body, length);
    free(body);
}

static void send_unknown_type(int fd, const char *argument)
{
    put_frame(fd, (Header){ .type = 999 }, "x", 1);
}

static void send_wrong_first(int fd, const char *argument)
{
    put_frame(fd, (Header){ .type = FUT_MSG_HEARTBEAT }, "", 0);
}

static void send_turned_bit(int fd, const char *argument)
{
    put_hello(fd, (Header){ .type = FUT_MSG_HELLO }, FUT_WIRE_VERSION, 9);
}

static void send_wrong_session(int fd, const char *argument)
{
    put_hello(fd, (Header){ .type = FUT_MSG_HELLO, .session = 77 }, FUT_WIRE_VERSION, -1);
}

static void send_wrong_sequence(int fd, const char *argument)
{
    put_hello(fd, (Header){ .type = FUT_MSG_HELLO, .sequence = 5 }, FUT_WIRE_VERSION, -1);
}

static void send_bad_hello(int fd, const char *argument)
{
    uint8_t body[200];

    memset(body, 0xee, sizeof(body));
    put_frame(fd, (Header){ .type = FUT_MSG_HELLO }, body, sizeof(body));
}

static void send_other_version(int fd, const char *argument)
{
    put_hello(fd, (Header){ .type = FUT_MSG_HELLO }, FUT_WIRE_VERSION + 1, -1);
}

static void send_stranger(int fd, const char *argument)
{
    put_hello(fd, (Header){ .type = FUT_MSG_HELLO }, FUT_WIRE_VERSION, -1);
}

static void send_file(int fd, const char *argument)
{
    FILE *file = argument ? fopen(argument, "rb") : NULL;

    if (!file) {
        fprintf(stderr, "fut-badpeer: %s: %s\n", argument ? argument : "file",
                argument ? strerror(errno) : "give its path");
        exit(2);
    }
    uint8_t *bytes = malloc(FILE_MAX_BYTES);
    size_t length = fread(bytes, 1, FILE_MAX_BYTES, file);
    fclose(file);
    put(fd, bytes, length);
    free(bytes);
}

static const Kind kinds[] = {
    { "garbage", send_garbage, false },
    { "silent", send_nothing, false },
    { "truncated", send_truncated, true },
    { "half-body", send_half_body, true },
    { "oversized", send_oversized, false },
    { "unknown-type", send_unknown_type, false },
    { "wrong-first", send_wrong_first, false },
    { "turned-bit", send_turned_bit, false },
    { "wrong-session", send_wrong_session, false },
    { "wrong-sequence", send_wrong_sequence, false },
    { "bad-hello", send_bad_hello, false },
    { "other-version", send_other_version, false },
    { "stranger", send_stranger, false },
    { "file", send_file, false },
};

static const Kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    fprintf(stderr, "fut-badpeer: unknown kind '%s'\n", name);
    exit(2);
}

/* Text of the BYE among what came, or NULL. */
static char *find_bye(FutFrameReader *reader)
{
    FutFrame frame;

    while (fut_frame_reader_next(reader, &frame, NULL) == 1) {
        if (frame.type == FUT_MSG_BYE) {
            return fut_bye_decode(frame.body, frame.length);
        }
    }
    return NULL;
}

/* Reads until the other end closes. False when it does not. */
static bool wait_closed(int fd, char **ret_bye)
{
    FutFrameReader *reader = fut_frame_reader_new(fut_wire_cap);
    uint64_t end_ns = fut_now_ns() + WAIT_S * FUT_NS_PER_S;
    bool closed = false;

    while (!closed && fut_now_ns() < end_ns) {
        struct pollfd poller = { fd, POLLIN, 0 };
        if (poll(&poller, 1, 100) <= 0) {
            continue;
        }
        size_t room;
        uint8_t *space = fut_frame_reader_space(reader, &room);
        ssize_t got = recv(fd, space, room, 0);
        closed = got <= 0;
        if (got > 0) {
            fut_frame_reader_filled(reader, (size_t)got);
            *ret_bye = *ret_bye ? *ret_bye : find_bye(reader);
        }
    }
    fut_frame_reader_free(reader);
    return closed;
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: fut-badpeer ADDRESS PORT KIND [FILE]\n");
        return 2;
    }
    const Kind *kind = find_kind(argv[3]);
    int fd = fut_client_connect(argv[1], argv[2]);
    uint64_t start_ns = fut_now_ns();
    g_autofree char *bye = NULL;
    kind->send(fd, argc == 5 ? argv[4] : NULL);
    if (kind->hang_up) {
        shutdown(fd, SHUT_WR);
    }
    bool closed = wait_closed(fd, &bye);
    json_t *result = json_pack("{s:b, s:I, s:s?}", "closed", closed, "ms",
                               (json_int_t)((fut_now_ns() - start_ns) / FUT_NS_PER_MS), "bye", bye);
    json_dumpf(result, stdout, 0);
    puts("");
    json_decref(result);
    close(fd);
    return closed ? EXIT_SUCCESS : EXIT_FAILURE;
}
