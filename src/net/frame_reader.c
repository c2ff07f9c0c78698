/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames: cutting them out of a byte stream. */
#include <string.h>

#include "byteorder.h"
#include "frame.h"
#include "frame_internal.h"
#include "fut_error.h"

#define ROOM_MIN 65536

struct FutFrameReader {
    FutFrameCap cap;
    uint8_t *data; /* owned; bytes start..end are received and not yet handed out */
    size_t size;
    size_t start;
    size_t end;
    size_t room; /* what the last space() gave */
    uint32_t session;
    uint64_t sequence; /* the next frame must carry it */
    bool have_head;    /* `head` is the checked header at start */
    FutFrame head;
    GError *failure; /* the stream is bad: for ever */
};

FutFrameReader *fut_frame_reader_new(FutFrameCap cap)
{
    FutFrameReader *reader = g_new0(FutFrameReader, 1);
    reader->cap = cap;
    return reader;
}

void fut_frame_reader_free(FutFrameReader *reader)
{
    if (reader) {
        g_clear_error(&reader->failure);
        g_free(reader->data);
        g_free(reader);
    }
}

void fut_frame_reader_set_session(FutFrameReader *reader, uint32_t session)
{
    reader->session = session;
}

/* Moves what is there to the front, then grows if `wanted` bytes after it still do not fit. */
static void make_room(FutFrameReader *reader, size_t wanted)
{
    size_t have = reader->end - reader->start;
    if (have > 0 && reader->start > 0) {
        memmove(reader->data, reader->data + reader->start, have);
    }
    reader->start = 0;
    reader->end = have;
    if (reader->size - have < wanted) {
        reader->size = have + wanted;
        reader->data = g_realloc(reader->data, reader->size);
    }
}

uint8_t *fut_frame_reader_space(FutFrameReader *reader, size_t *ret_length)
{
    size_t have = reader->end - reader->start;
    size_t whole = reader->have_head ? FUT_FRAME_HEADER_SIZE + (size_t)reader->head.length : 0;
    size_t lacking = whole > have ? whole - have : 0;
    if (have == 0) {
        reader->start = reader->end = 0;
    }
    /* Memory that is there already may be filled at once; new memory only to twice what came. */
    size_t allowed = MAX(have, reader->size - have);
    size_t room = MAX(MIN(lacking, allowed), ROOM_MIN);
    if (reader->size - reader->end < room) {
        make_room(reader, room);
    }
    reader->room = room;
    *ret_length = room;
    return reader->data + reader->end;
}

void fut_frame_reader_filled(FutFrameReader *reader, size_t bytes)
{
    g_assert(bytes <= reader->room);
    reader->end += bytes;
    reader->room = 0;
}

static int fail(FutFrameReader *reader, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static int fail(FutFrameReader *reader, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    reader->failure = g_error_new_valist(FUT_ERROR, FUT_ERR_PEER, format, args);
    va_end(args);
    g_propagate_error(error, g_error_copy(reader->failure));
    return -1;
}

/* A connection that starts with a record of TLS: its alert is shorter than our header, so that this
 * must not wait for a whole one. */
static bool starts_with_tls(const FutFrameReader *reader)
{
    const uint8_t *at = reader->data + reader->start;
    return reader->sequence == 0 && reader->end - reader->start >= 3 && at[0] >= 20 &&
           at[0] <= 23 && at[1] == 3 && at[2] <= 4;
}

/* Is it a header of ours, and intact? */
static int check_form(FutFrameReader *reader, const uint8_t *at, GError **error)
{
    uint32_t magic = fut_get_le32(at + FRAME_AT_MAGIC);
    if (magic != FUT_FRAME_MAGIC) {
        return fail(reader, error,
                    "no Futago frame (it starts with 0x%08x): is the peer another program?", magic);
    }
    if (fut_get_le32(at + FRAME_AT_HEAD_HASH) != fut_frame_head_hash(at)) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT
                    ": header damaged on the way (its hash does not match)",
                    reader->sequence);
    }
    uint32_t reserved = fut_get_le32(at + FRAME_AT_RESERVED);
    if (reserved != 0) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT
                    ": reserved field is 0x%x, not 0: is the peer newer?",
                    reader->sequence, reserved);
    }
    return 0;
}

/* Does it belong here? */
static int check_place(FutFrameReader *reader, const FutFrame *head, GError **error)
{
    if (head->session != reader->session) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT ": session 0x%08x, not this connection's 0x%08x",
                    reader->sequence, head->session, reader->session);
    }
    if (head->sequence != reader->sequence) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT " came where %" G_GUINT64_FORMAT
                    " was due: lost, doubled or replayed",
                    head->sequence, reader->sequence);
    }
    uint32_t cap = reader->cap(head->type);
    if (cap == 0) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT
                    ": unknown type %u: do both ends run the same version?",
                    head->sequence, head->type);
    }
    if (head->length > cap) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT ": type %u announces %u bytes, %u are allowed",
                    head->sequence, head->type, head->length, cap);
    }
    return 0;
}

static int read_head(FutFrameReader *reader, GError **error)
{
    const uint8_t *at = reader->data + reader->start;
    if (check_form(reader, at, error) < 0) {
        return -1;
    }
    FutFrame head = {
        .type = fut_get_le16(at + FRAME_AT_TYPE),
        .flags = fut_get_le16(at + FRAME_AT_FLAGS),
        .length = fut_get_le32(at + FRAME_AT_LENGTH),
        .session = fut_get_le32(at + FRAME_AT_SESSION),
        .sequence = fut_get_le64(at + FRAME_AT_SEQUENCE),
    };
    if (check_place(reader, &head, error) < 0) {
        return -1;
    }
    reader->head = head;
    reader->have_head = true;
    return 0;
}

/* All bytes of the frame at start are here. */
static int take_frame(FutFrameReader *reader, FutFrame *ret_frame, GError **error)
{
    const uint8_t *at = reader->data + reader->start;
    const uint8_t *body = at + FUT_FRAME_HEADER_SIZE;
    if (fut_get_le64(at + FRAME_AT_BODY_HASH) != fut_frame_body_hash(body, reader->head.length)) {
        return fail(reader, error,
                    "frame %" G_GUINT64_FORMAT
                    ": body of type %u damaged on the way (its hash does not "
                    "match)",
                    reader->sequence, reader->head.type);
    }
    *ret_frame = reader->head;
    ret_frame->body = body;
    reader->start += FUT_FRAME_HEADER_SIZE + (size_t)reader->head.length;
    reader->have_head = false;
    reader->sequence++;
    return 1;
}

int fut_frame_reader_next(FutFrameReader *reader, FutFrame *ret_frame, GError **error)
{
    if (reader->failure) {
        g_propagate_error(error, g_error_copy(reader->failure));
        return -1;
    }
    size_t have = reader->end - reader->start;
    if (!reader->have_head) {
        if (starts_with_tls(reader)) {
            return fail(reader, error, "the peer speaks TLS: give the same tls on both hosts");
        }
        if (have < FUT_FRAME_HEADER_SIZE) {
            return 0;
        }
        if (read_head(reader, error) < 0) {
            return -1;
        }
    }
    if (have - FUT_FRAME_HEADER_SIZE < reader->head.length) {
        return 0;
    }
    return take_frame(reader, ret_frame, error);
}

void fut_frame_reader_trim(FutFrameReader *reader, size_t keep)
{
    if (reader->end > reader->start || reader->size <= keep) {
        return;
    }
    reader->data = g_realloc(reader->data, keep); /* frees when keep is 0 */
    reader->size = keep;
    reader->start = reader->end = 0;
    reader->room = 0;
}
