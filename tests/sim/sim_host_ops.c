/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine asks of its host. Every effect on the world passes one gate here, where a host can die or freeze: also in the
 * middle of what it does, between any two effects. What a frozen host was about to do happens when it wakes. */
#include "sim.h"

#include <sys/uio.h>

#include "byteorder.h"
#include "wire.h"

#define COPY_DELAY_MAX_NS (200 * FUT_NS_PER_US)

typedef enum {
    EFFECT_SEND,
    EFFECT_SESSION,
    EFFECT_CONNECT,
    EFFECT_CLOSE,
    EFFECT_ASK,
    EFFECT_RELEASE,
    EFFECT_PASS,
    EFFECT_ANNOUNCE,
} EffectKind;

typedef struct {
    EffectKind kind;
    uint16_t type, flags;
    uint64_t number;
    uint8_t *bytes; /* owned */
    size_t length;
} SimEffect;

/* -- carrying out -- */

static void note_protection(SimHost *host, uint16_t type, const uint8_t *body)
{
    if (type == FUT_MSG_PAGES || type == FUT_MSG_CHECKPOINT) {
        host->link->protection = host->protection;
    }
    if (type == FUT_MSG_CHECKPOINT && fut_get_le64(body) != host->protection->cuts) {
        sim_violation(host->sim, "epoch", "%s: sends checkpoint %" PRIu64 ", has cut %" PRIu64,
                      host->node, fut_get_le64(body), host->protection->cuts);
    }
}

static bool send_now(SimHost *host, uint16_t type, uint16_t flags, const uint8_t *body,
                     size_t length)
{
    uint8_t head[FUT_FRAME_HEADER_SIZE];

    if (!host->link) {
        return false;
    }
    SIM_TRACE(host->sim, "%s: link %u: sends %s flags %u, %zu bytes", host->node,
              host->link->number, fut_wire_type_name(type), flags, length);
    note_protection(host, type, body);
    fut_frame_header_encode(head, type, flags, host->session, host->sequence++, body,
                            (uint32_t)length);
    sim_link_send(host->sim, host->link, host->end, head, sizeof(head), body, length);
    return true;
}

static void carry_out(SimHost *host, const SimEffect *effect)
{
    switch (effect->kind) {
    case EFFECT_SEND:
        send_now(host, effect->type, effect->flags, effect->bytes, effect->length);
        break;
    case EFFECT_SESSION:
        host->session = (uint32_t)effect->number;
        break;
    case EFFECT_CONNECT:
        sim_push_host(host, sim_below(&host->sim->random, 20 * FUT_NS_PER_US), SIM_EVENT_CONNECT);
        break;
    case EFFECT_CLOSE:
        sim_host_detach(host);
        break;
    case EFFECT_ASK:
        sim_arbiter_ask(host, effect->number);
        break;
    case EFFECT_RELEASE:
        sim_check_release(host, (const SimPacket *)effect->bytes);
        sim_world_sees(host, (const SimPacket *)effect->bytes);
        break;
    case EFFECT_PASS:
        sim_check_pass(host, (const SimPacket *)effect->bytes);
        sim_world_sees(host, (const SimPacket *)effect->bytes);
        break;
    case EFFECT_ANNOUNCE:
        host->sim->world.where = host->index;
        break;
    }
}

/* -- the gate -- */

static void spring_trip(SimHost *host)
{
    SIM_TRACE(host->sim, "%s: %s in the middle", host->node,
              host->trip == SIM_TRIP_DIE ? "dies" : "freezes");
    if (host->trip == SIM_TRIP_DIE) {
        host->dying = true;
    } else {
        sim_host_freeze(host);
    }
    host->trip = SIM_TRIP_NONE;
}

static void effect(SimHost *host, const SimEffect *what)
{
    if (host->trip != SIM_TRIP_NONE && host->trip_ops-- == 0) {
        spring_trip(host);
    }
    if (host->dying) {
        return;
    }
    if (host->living == SIM_FROZEN) {
        SimEffect *kept = g_memdup2(what, sizeof(*what));
        kept->bytes = g_memdup2(what->bytes, what->length);
        g_queue_push_tail(&host->limbo, kept);
    } else {
        carry_out(host, what);
    }
}

static void effect_free(gpointer data)
{
    SimEffect *kept = data;

    g_free(kept->bytes);
    g_free(kept);
}

void sim_host_leave_limbo(SimHost *host)
{
    SimEffect *kept;

    while ((kept = g_queue_pop_head(&host->limbo))) {
        carry_out(host, kept);
        effect_free(kept);
    }
}

void sim_host_forget_limbo(SimHost *host)
{
    g_queue_clear_full(&host->limbo, effect_free);
}

/* -- the VMM's effects -- */

void sim_host_packets(SimHost *host, const FutPacket *list)
{
    for (; list; list = list->next) {
        const SimPacket *packet = (const SimPacket *)list->data;
        g_assert(list->length == sizeof(*packet) && list->flags == packet->flags);
        effect(host, &(SimEffect){ .kind = EFFECT_RELEASE,
                                   .bytes = (uint8_t *)packet,
                                   .length = sizeof(*packet) });
    }
}

void sim_host_passes(SimHost *host, const SimPacket *packet)
{
    effect(host, &(SimEffect){
                     .kind = EFFECT_PASS, .bytes = (uint8_t *)packet, .length = sizeof(*packet) });
}

void sim_host_announce(SimHost *host)
{
    effect(host, &(SimEffect){ .kind = EFFECT_ANNOUNCE });
}

/* -- FutEngineHost -- */

static bool ops_send(void *opaque, uint16_t type, uint16_t flags, const struct iovec *iov,
                     int count)
{
    SimHost *host = opaque;
    FutBuf body = { 0 };
    bool broken = host->living == SIM_LIVE && !host->link;

    for (int i = 0; i < count; i++) {
        fut_buf_append(&body, iov[i].iov_base, iov[i].iov_len);
    }
    effect(host, &(SimEffect){ .kind = EFFECT_SEND,
                               .type = type,
                               .flags = flags,
                               .bytes = body.data,
                               .length = body.len });
    fut_buf_done(&body);
    return !broken;
}

static void ops_session(void *opaque, uint32_t session)
{
    effect(opaque, &(SimEffect){ .kind = EFFECT_SESSION, .number = session });
}

static void ops_connect(void *opaque)
{
    effect(opaque, &(SimEffect){ .kind = EFFECT_CONNECT });
}

static void ops_close(void *opaque, const char *why)
{
    SimHost *host = opaque;

    SIM_TRACE(host->sim, "%s: closes: %s", host->node, why);
    effect(host, &(SimEffect){ .kind = EFFECT_CLOSE });
}

static void ops_ask(void *opaque, uint64_t generation)
{
    effect(opaque, &(SimEffect){ .kind = EFFECT_ASK, .number = generation });
}

static void ops_copy(void *opaque, bool on)
{
    SimHost *host = opaque;

    host->copy_on = on;
    if (on && !host->copy_scheduled) {
        host->copy_scheduled = true;
        sim_push_host(host, sim_below(&host->sim->random, COPY_DELAY_MAX_NS), SIM_EVENT_COPY);
    }
}

static void ops_wake(void *opaque)
{
    sim_host_look(opaque);
}

static void count_report(SimCount *count, const char *id)
{
    count->takeovers += g_str_equal(id, "FUT-127");
    count->handovers += g_str_equal(id, "FUT-110");
    count->fenced += g_str_equal(id, "FUT-108");
    count->protected += g_str_equal(id, "FUT-102");
}

static void ops_report(void *opaque, const char *id, const char *text)
{
    SimHost *host = opaque;

    SIM_TRACE(host->sim, "%s: %s %s", host->node, id, text);
    count_report(host->sim->count, id);
    if (g_str_equal(id, "FUT-190")) {
        sim_violation(host->sim, "image", "%s: the engine itself says: %s", host->node, text);
    }
    if (g_str_equal(id, "FUT-191") && !host->protection->given_up) {
        sim_violation(host->sim, "liveness", "%s: gives up without a reason: %s", host->node, text);
    }
}

static uint64_t ops_now_ns(void *opaque)
{
    return sim_host_now(opaque);
}

const FutEngineHost sim_host_ops = {
    .send = ops_send,
    .session = ops_session,
    .connect = ops_connect,
    .close = ops_close,
    .ask = ops_ask,
    .copy = ops_copy,
    .wake = ops_wake,
    .report = ops_report,
    .now_ns = ops_now_ns,
};
