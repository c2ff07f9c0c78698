/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fixed-size message bodies, the table of message types, and texts. HELLO and WELCOME are in
 * wire_hello.c. */
#include "wire.h"
#include "wire_disk.h"

#include "byteorder.h"
#include "fut_error.h"

static const struct {
    uint16_t type;
    bool empty;
    uint32_t cap;
    const char *name;
} messages[] = {
    { FUT_MSG_HELLO, false, FUT_WIRE_HELLO_MAX, "HELLO" },
    { FUT_MSG_PAGES, false, FUT_WIRE_PART_MAX, "PAGES" },
    { FUT_MSG_BARRIER, true, 1, "BARRIER" },
    { FUT_MSG_EPOCH_PART, false, 8 + FUT_WIRE_PART_MAX, "EPOCH_PART" },
    { FUT_MSG_CHECKPOINT, false, FUT_CHECKPOINT_SIZE + FUT_WIRE_PART_MAX, "CHECKPOINT" },
    { FUT_MSG_INBOUND, false, FUT_INBOUND_SIZE + FUT_WIRE_PACKET_MAX, "INBOUND" },
    { FUT_MSG_DISK, false, FUT_DISK_HEAD_SIZE + FUT_WIRE_DISK_MAX, "DISK" },
    { FUT_MSG_DISK_BASE, false, FUT_DISK_BASE_SIZE, "DISK_BASE" },
    { FUT_MSG_PROBES, false, FUT_WIRE_PROBES_MAX, "PROBES" },
    { FUT_MSG_FLOWS, false, FUT_WIRE_FLOWS_MAX, "FLOWS" },
    { FUT_MSG_WELCOME, false, 24 + 2 + FUT_WIRE_NAME_MAX, "WELCOME" },
    { FUT_MSG_BARRIER_DONE, true, 1, "BARRIER_DONE" },
    { FUT_MSG_ACK, false, 8, "ACK" },
    { FUT_MSG_HANDOVER, true, 1, "HANDOVER" },
    { FUT_MSG_DISK_KEPT, false, FUT_DISK_KEPT_SIZE, "DISK_KEPT" },
    { FUT_MSG_DISK_SAFE, false, 8, "DISK_SAFE" },
    { FUT_MSG_HEARTBEAT, true, 1, "HEARTBEAT" },
    { FUT_MSG_PACKED, false, FUT_CHECKPOINT_SIZE + FUT_WIRE_PART_MAX, "PACKED" },
    { FUT_MSG_BYE, false, FUT_WIRE_TEXT_MAX, "BYE" },
};

uint32_t fut_wire_cap(uint16_t type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(messages); i++) {
        if (messages[i].type == type) {
            return messages[i].cap;
        }
    }
    return 0;
}

bool fut_wire_is_empty(uint16_t type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(messages); i++) {
        if (messages[i].type == type) {
            return messages[i].empty;
        }
    }
    return false;
}

const char *fut_wire_type_name(uint16_t type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(messages); i++) {
        if (messages[i].type == type) {
            return messages[i].name;
        }
    }
    return "unknown";
}

static bool bad_body(uint16_t type, const char *what, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "bad %s from the peer: %s",
                fut_wire_type_name(type), what);
    return false;
}

void fut_checkpoint_encode(uint8_t at[FUT_CHECKPOINT_SIZE], const FutCheckpoint *checkpoint)
{
    fut_put_le64(at, checkpoint->epoch);
    fut_put_le64(at + 8, checkpoint->memory_hash);
    fut_put_le64(at + 16, checkpoint->stream_length);
    fut_put_le32(at + 24, checkpoint->state_length);
    fut_put_le32(at + 28, checkpoint->flags);
    fut_put_le32(at + 32, checkpoint->parts);
    fut_put_le32(at + 36, checkpoint->outputs_length);
    fut_put_le64(at + 40, checkpoint->released);
}

static const char *checkpoint_fault(const FutCheckpoint *c)
{
    if (c->epoch == 0) {
        return "epoch 0";
    }
    if (c->flags & ~(FUT_CHECKPOINT_FINAL | FUT_CHECKPOINT_HASHED)) {
        return "unknown flags";
    }
    if (!(c->flags & FUT_CHECKPOINT_HASHED) && c->memory_hash != 0) {
        return "a hash without the flag for it";
    }
    if (c->state_length > FUT_WIRE_STATE_MAX) {
        return "device state too large";
    }
    if (c->released >= c->epoch) {
        return "outputs released that were not sent";
    }
    return NULL;
}

bool fut_checkpoint_decode(const uint8_t *body, size_t length, FutCheckpoint *ret, GError **error)
{
    if (length < FUT_CHECKPOINT_SIZE) {
        return bad_body(FUT_MSG_CHECKPOINT, "too short", error);
    }
    FutCheckpoint c = {
        .epoch = fut_get_le64(body),
        .memory_hash = fut_get_le64(body + 8),
        .stream_length = fut_get_le64(body + 16),
        .state_length = fut_get_le32(body + 24),
        .flags = fut_get_le32(body + 28),
        .parts = fut_get_le32(body + 32),
        .outputs_length = fut_get_le32(body + 36),
        .released = fut_get_le64(body + 40),
    };
    const char *fault = checkpoint_fault(&c);
    if (!fault && c.outputs_length > length - FUT_CHECKPOINT_SIZE) {
        fault = "more outputs than bytes";
    }
    if (fault) {
        return bad_body(FUT_MSG_CHECKPOINT, fault, error);
    }
    *ret = c;
    return true;
}

void fut_inbound_encode(uint8_t at[FUT_INBOUND_SIZE], const FutInbound *inbound)
{
    fut_put_le64(at, inbound->epoch);
    fut_put_le32(at + 8, inbound->nic);
    fut_put_le32(at + 12, inbound->flags);
    fut_put_le64(at + 16, 0);
}

bool fut_inbound_decode(const uint8_t *body, size_t length, FutInbound *ret, GError **error)
{
    if (length <= FUT_INBOUND_SIZE) {
        return bad_body(FUT_MSG_INBOUND, "too short", error);
    }
    if (fut_get_le64(body) == 0) {
        return bad_body(FUT_MSG_INBOUND, "epoch 0", error);
    }
    if (fut_get_le64(body + 16) != 0) {
        return bad_body(FUT_MSG_INBOUND, "reserved fields are not zero", error);
    }
    *ret = (FutInbound){
        .epoch = fut_get_le64(body),
        .nic = fut_get_le32(body + 8),
        .flags = fut_get_le32(body + 12),
    };
    return true;
}

void fut_bye_encode(FutBuf *out, const char *text)
{
    size_t length = strlen(text);

    if (length > FUT_WIRE_TEXT_MAX) {
        length = FUT_WIRE_TEXT_MAX;
        while (length > 0 && ((uint8_t)text[length] & 0xc0) == 0x80) {
            length--;
        }
    }
    fut_buf_append(out, text, length);
}

char *fut_bye_decode(const uint8_t *body, size_t length)
{
    GString *text = g_string_new(NULL);
    const char *at = (const char *)body;
    size_t left = MIN(length, FUT_WIRE_TEXT_MAX);

    while (left > 0) {
        gunichar c = g_utf8_get_char_validated(at, (gssize)left);
        bool good = c < 0x110000 && g_unichar_isprint(c);
        size_t step = good ? (size_t)g_utf8_skip[(uint8_t)*at] : 1;

        if (good) {
            g_string_append_len(text, at, (gssize)step);
        } else {
            g_string_append_c(text, '?');
        }
        at += step;
        left -= step;
    }
    return g_string_free(text, FALSE);
}
