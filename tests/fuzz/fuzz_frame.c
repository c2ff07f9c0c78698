/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the frame reader, fed in pieces. First byte of the input: bit 0 = put right the
 * hashes of what looks like frames, so that what stands behind them is reached; bits 1..3 = how small
 * the pieces are; bits 4..7 = which session is expected from the second frame on. The rest is the
 * stream. */
#include <string.h>

#include "byteorder.h"
#include "frame.h"
#include "frame_internal.h"
#include "fuzz.h"

#define PIECES_MAX 512

static uint32_t cap(uint16_t type)
{
    return type < 4 ? 16u << (type * 6) : 0; /* 16, 1 Ki, 64 Ki, 4 Mi */
}

static void repair(uint8_t *stream, size_t size)
{
    size_t at = 0;
    while (size - at >= FUT_FRAME_HEADER_SIZE) {
        uint8_t *head = stream + at, *body = head + FUT_FRAME_HEADER_SIZE;
        size_t left = size - at - FUT_FRAME_HEADER_SIZE;
        uint32_t length = fut_get_le32(head + FRAME_AT_LENGTH);
        if (length <= left) {
            fut_put_le64(head + FRAME_AT_BODY_HASH, fut_frame_body_hash(body, length));
        }
        fut_put_le32(head + FRAME_AT_MAGIC, FUT_FRAME_MAGIC);
        fut_put_le32(head + FRAME_AT_HEAD_HASH, fut_frame_head_hash(head));
        at += FUT_FRAME_HEADER_SIZE + MIN(length, left);
    }
}

typedef struct {
    FutFrameReader *reader;
    uint32_t session;
    uint64_t frames;
    size_t consumed; /* bytes of frames handed out */
    size_t fed;
    bool failed;
} Run;

static void check_frame(Run *run, const FutFrame *frame)
{
    g_assert(!run->failed);
    g_assert(frame->sequence == run->frames++);
    g_assert(frame->length <= cap(frame->type));
    run->consumed += FUT_FRAME_HEADER_SIZE + frame->length;
    g_assert(run->consumed <= run->fed);
    volatile uint8_t sum = 0;
    for (uint32_t i = 0; i < frame->length; i++) {
        sum += frame->body[i]; /* all of it is there to read */
    }
}

static void drain(Run *run)
{
    FutFrame frame;
    g_autoptr(GError) error = NULL;
    int status;
    while ((status = fut_frame_reader_next(run->reader, &frame, &error)) == 1) {
        check_frame(run, &frame);
        fut_frame_reader_set_session(run->reader, run->session);
    }
    g_assert(status == (error ? -1 : 0));
    g_assert(!run->failed || status == -1); /* once bad, always bad */
    run->failed = status == -1;
}

/* Feeds the stream in pieces of `step` bytes. */
static Run run_stream(const uint8_t *stream, size_t size, size_t step, uint32_t session)
{
    Run run = { .reader = fut_frame_reader_new(cap), .session = session };
    while (run.fed < size) {
        size_t room = 0;
        uint8_t *to = fut_frame_reader_space(run.reader, &room);
        g_assert(room >= 65536 && room <= MAX(65536, 2 * run.fed));
        size_t now = MIN(MIN(step, room), size - run.fed);
        memcpy(to, stream + run.fed, now);
        fut_frame_reader_filled(run.reader, now);
        run.fed += now;
        drain(&run);
        fut_frame_reader_trim(run.reader, 4096);
    }
    fut_frame_reader_free(run.reader);
    return run;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    g_autofree uint8_t *stream = g_memdup2(data + 1, size - 1);
    size_t step = (size_t)1 << (data[0] >> 1 & 7) * 2; /* 1 to 16384, and not too many */
    if (data[0] & 1) {
        repair(stream, size - 1);
    }
    Run pieces = run_stream(stream, size - 1, MAX(step, size / PIECES_MAX), data[0] >> 4);
    Run whole = run_stream(stream, size - 1, size, data[0] >> 4);
    g_assert(pieces.frames == whole.frames && pieces.failed == whole.failed);
    return 0;
}
