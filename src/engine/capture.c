/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capture: turns a stopped guest into the frames of one epoch. */
#include "capture.h"

#include <errno.h>
#include <sys/mman.h>

#include "byteorder.h"
#include "fut_error.h"
#include "memhash.h"
#include "resend.h"

/* Keys encoded into one frame at most: their longest records fit the wire's cap. */
#define PART_KEYS ((FUT_WIRE_PART_MAX - FUT_RESEND_MAX) / FUT_DELTA_RECORD_MAX - 1)
/* Memory of the stream buffer kept between epochs. */
#define STREAM_KEEP (8u << 20)
/* An EPOCH_PART body starts with the epoch number in the last bytes of the room kept for a checkpoint's head. */
#define PART_HEAD 8
/* Shorter runs of pages are read rather than looked up. */
#define RUN_MIN 8

void fut_capture_init(FutCapture *capture, const FutMemory *guest, size_t part_pages_max)
{
    g_assert(guest->count < FUT_BLOCKS_MAX);
    *capture = (FutCapture){ .live = *guest, .live_resident.fd = -1, .shadow_resident.fd = -1 };
    capture->live.count++;
    capture->part_keys = part_pages_max > 0 ? MIN(part_pages_max, PART_KEYS) : PART_KEYS;
    capture->parts = g_array_new(FALSE, FALSE, sizeof(FutCapturePart));
}

void fut_capture_done(FutCapture *capture)
{
    fut_capture_close(capture);
    fut_buf_done(&capture->stream);
    fut_pageset_done(&capture->dirty);
    g_array_unref(capture->parts);
}

bool fut_capture_open(FutCapture *capture, GError **error)
{
    g_assert(capture->shadow.count == 0);
    unsigned state_block = capture->live.count - 1;
    for (unsigned i = 0; i < capture->live.count; i++) {
        uint64_t length = i == state_block ? FUT_WIRE_STATE_MAX : capture->live.block[i].length;
        void *base = mmap(NULL, length, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
            g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                        "no memory for the shadow copy (%" G_GUINT64_FORMAT " bytes): %s", length,
                        g_strerror(errno));
            fut_capture_close(capture);
            return false;
        }
        capture->shadow.block[i].base = base;
        capture->shadow.block[i].length = length;
        capture->shadow.count = i + 1;
    }
    capture->live.block[state_block].length = FUT_WIRE_STATE_MAX;
    fut_resident_init(&capture->live_resident, &capture->live);
    fut_resident_init(&capture->shadow_resident, &capture->shadow);
    fut_pageset_clear(&capture->dirty);
    capture->state_encoded = false;
    return true;
}

void fut_capture_close(FutCapture *capture)
{
    for (unsigned i = 0; i < capture->shadow.count; i++) {
        munmap(capture->shadow.block[i].base, capture->shadow.block[i].length);
    }
    capture->shadow.count = 0;
    fut_resident_done(&capture->live_resident);
    fut_resident_done(&capture->shadow_resident);
    fut_buf_trim(&capture->stream, 0);
}

bool fut_capture_state(FutCapture *capture, FutVmm *vmm, GError **error)
{
    capture->state_whole = !capture->state_encoded;
    capture->state_encoded = false;
    if (!vmm->ops->state_save(vmm, FUT_FOR_PAIR, &capture->state, error)) {
        return false;
    }
    size_t length = capture->state.length;
    if (length == 0 || length > FUT_WIRE_STATE_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "device state of %zu bytes: at most %u can be protected", length,
                    FUT_WIRE_STATE_MAX);
        return false;
    }
    capture->head.state_length = (uint32_t)length;
    capture->live.block[capture->live.count - 1].base = capture->state.data;
    return true;
}

static void add_state_pages(FutCapture *capture)
{
    const uint64_t *changed = capture->state_whole ? NULL : capture->state.changed;
    size_t pages = (capture->state.length + FUT_PAGE_SIZE - 1) >> FUT_PAGE_SHIFT;
    unsigned block = capture->live.count - 1;

    for (size_t page = 0; page < pages; page++) {
        if (!changed || changed[page / 64] >> (page % 64) & 1) {
            fut_pageset_add(&capture->dirty, fut_key(block, page));
        }
    }
}

/* A page of the device state that changed and was not said to would be silent corruption. */
static void check_state(const FutCapture *capture)
{
    unsigned block = capture->live.count - 1;

    g_assert(
        memcmp(capture->shadow.block[block].base, capture->state.data, capture->state.length) == 0);
}

/* Encodes keys first..first+count as one body, leaving room for a checkpoint's head before the records. */
static void encode_part(FutCapture *capture, size_t first, size_t count)
{
    fut_buf_extend(&capture->stream, FUT_CHECKPOINT_SIZE);
    size_t records = capture->stream.len;
    fut_delta_encode(&capture->stream, &capture->live, &capture->shadow,
                     capture->dirty.keys + first, count, &capture->stats);
    size_t length = capture->stream.len - records;
    capture->head.stream_length += length;
    FutCapturePart part = { records - PART_HEAD, (uint32_t)(PART_HEAD + length),
                            FUT_MSG_EPOCH_PART };
    g_array_append_val(capture->parts, part);
}

bool fut_capture_output(FutCapture *capture, const FutPacket *packet)
{
    FutCapturePart *last = &g_array_index(capture->parts, FutCapturePart, capture->parts->len - 1);
    size_t before = capture->stream.len;
    if (!fut_resend_put(&capture->stream, capture->head.outputs_length, packet)) {
        return false;
    }
    uint32_t length = (uint32_t)(capture->stream.len - before);
    last->length += length;
    capture->head.outputs_length += length;
    capture->head.stream_length += length;
    return true;
}

void fut_capture_finish(FutCapture *capture)
{
    for (guint i = 0; i < capture->parts->len; i++) {
        FutCapturePart *part = &g_array_index(capture->parts, FutCapturePart, i);
        fut_put_le64(capture->stream.data + part->offset, capture->head.epoch);
    }
    FutCapturePart *last = &g_array_index(capture->parts, FutCapturePart, capture->parts->len - 1);
    last->offset -= FUT_CHECKPOINT_SIZE - PART_HEAD;
    last->length += FUT_CHECKPOINT_SIZE - PART_HEAD;
    last->type = FUT_MSG_CHECKPOINT;
    capture->head.parts = capture->parts->len - 1;
    fut_checkpoint_encode(capture->stream.data + last->offset, &capture->head);
}

void fut_capture_epoch(FutCapture *capture, uint64_t epoch, uint32_t flags)
{
    if (capture->stream.cap > STREAM_KEEP) {
        fut_buf_trim(&capture->stream, 0);
    }
    fut_buf_clear(&capture->stream);
    g_array_set_size(capture->parts, 0);
    capture->stats = (FutDeltaStats){ 0 };
    capture->head = (FutCheckpoint){ .epoch = epoch,
                                     .flags = flags,
                                     .state_length = capture->head.state_length };
    if (flags & FUT_CHECKPOINT_HASHED) {
        FutMemory guest = capture->live;
        guest.count--;
        capture->head.memory_hash = fut_memory_hash(&guest);
    }
    add_state_pages(capture);
    size_t first = 0;
    do {
        /* An epoch in which nothing changed is one empty part. */
        encode_part(capture, first, MIN(capture->part_keys, capture->dirty.count - first));
        first += capture->part_keys;
    } while (first < capture->dirty.count);
    fut_pageset_clear(&capture->dirty);
    capture->state_encoded = true;
    if (flags & FUT_CHECKPOINT_HASHED) {
        check_state(capture);
    }
}

/* Whether each page is touched, in the guest's memory or in the shadow, a bit for each key. A guest that touches one now has it in the
 * dirty set, for the next pass. */
static void find_touched(const FutCapture *capture, const uint64_t *keys, size_t count,
                         uint64_t *touched)
{
    for (size_t at = 0, length; at < count; at += length) {
        uint64_t bits[FUT_CAPTURE_PAGES_MAX / 64] = { 0 };
        length = 1;
        while (at + length < count && keys[at + length] == keys[at] + length) {
            length++;
        }
        if (length < RUN_MIN) {
            bits[0] = ~0ull;
        } else {
            fut_resident_look(&capture->live_resident, &capture->live, keys[at], length, bits);
            fut_resident_look(&capture->shadow_resident, &capture->shadow, keys[at], length, bits);
        }
        for (size_t i = 0; i < length; i++) {
            touched[(at + i) / 64] |= (bits[i / 64] >> (i % 64) & 1) << ((at + i) % 64);
        }
    }
}

void fut_capture_pages(FutCapture *capture, const uint64_t *keys, size_t count)
{
    uint64_t touched[FUT_CAPTURE_PAGES_MAX / 64] = { 0 };

    g_assert(count <= FUT_CAPTURE_PAGES_MAX);
    find_touched(capture, keys, count, touched);
    fut_buf_clear(&capture->stream);
    fut_delta_encode_full(&capture->stream, &capture->live, &capture->shadow, keys, count, touched,
                          NULL);
}
