/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queue of actions: a ring that grows, so that the hot path (ACK, APPLY, RELEASE) does not
 * allocate. */
#include "pair_impl.h"

static void queued_clear(FutQueued *q)
{
    g_clear_pointer(&q->body, g_free);
    g_clear_pointer(&q->text, g_free);
}

static void ring_grow(FutPair *pair)
{
    unsigned size = MAX(16, pair->ring_size * 2);
    FutQueued *ring = g_new0(FutQueued, size);

    for (unsigned i = 0; i < pair->queued; i++) {
        ring[i] = pair->ring[(pair->first + i) % pair->ring_size];
    }
    g_free(pair->ring);
    pair->ring = ring;
    pair->ring_size = size;
    pair->first = 0;
}

static FutQueued *push(FutPair *pair, FutActionKind kind)
{
    if (pair->queued == pair->ring_size) {
        ring_grow(pair);
    }
    FutQueued *q = &pair->ring[(pair->first + pair->queued++) % pair->ring_size];
    *q = (FutQueued){ .action = { .kind = kind } };
    return q;
}

void fut_act(FutPair *pair, FutActionKind kind)
{
    push(pair, kind);
}

void fut_act_number(FutPair *pair, FutActionKind kind, uint64_t number)
{
    push(pair, kind)->action.number = number;
}

void fut_act_text(FutPair *pair, FutActionKind kind, const char *id, const char *text)
{
    FutQueued *q = push(pair, kind);

    q->action.id = id;
    q->text = g_strdup(text);
}

void fut_act_send(FutPair *pair, FutMsgType type, uint16_t flags, const void *body, size_t length)
{
    FutQueued *q = push(pair, FUT_ACT_SEND);

    g_assert(length <= fut_wire_cap(type));
    q->action.type = type;
    q->action.flags = flags;
    q->action.length = (uint32_t)length;
    if (length <= sizeof(q->small)) {
        memcpy(q->small, length ? body : "", length);
    } else {
        q->body = g_memdup2(body, length);
    }
    pair->sent_ns = pair->now_ns;
}

void fut_act_send_epoch(FutPair *pair, FutMsgType type, uint64_t epoch)
{
    uint8_t body[8];

    fut_put_le64(body, epoch);
    fut_act_send(pair, type, 0, body, sizeof(body));
}

void fut_act_bye(FutPair *pair, FutByeCode code, const char *text)
{
    FutBuf body = { 0 };

    fut_bye_encode(&body, text);
    fut_act_send(pair, FUT_MSG_BYE, code, body.data, body.len);
    fut_buf_done(&body);
}

bool fut_pair_next_action(FutPair *pair, FutAction *ret)
{
    queued_clear(&pair->taken);
    if (pair->queued == 0) {
        return false;
    }
    pair->taken = pair->ring[pair->first];
    pair->first = (pair->first + 1) % pair->ring_size;
    pair->queued--;

    FutQueued *q = &pair->taken;
    if (q->action.kind == FUT_ACT_SEND) {
        q->action.body = q->body ? q->body : q->small;
    }
    q->action.text = q->text;
    *ret = q->action;
    return true;
}

void fut_actions_done(FutPair *pair)
{
    queued_clear(&pair->taken);
    for (unsigned i = 0; i < pair->queued; i++) {
        queued_clear(&pair->ring[(pair->first + i) % pair->ring_size]);
    }
    g_free(pair->ring);
}
