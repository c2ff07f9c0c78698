/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine asks of its host. Every effect on the world passes a gate (sim_threads.c), where the host may die, freeze or be
 * kept waiting first. */
#include "sim.h"

#include <sys/uio.h>

#include "byteorder.h"
#include "wire.h"

#define COPY_DELAY_MAX_NS (200 * FUT_NS_PER_US)

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
    host->sim->count->aside += host->in_copy && type == FUT_MSG_CHECKPOINT;
    if (type == FUT_MSG_DISK_KEPT) {
        host->sim->count->disk_kept += fut_get_le64(body) != 0;
    }
    if (type == FUT_MSG_ACK) {
        sim_check_flushed(host, fut_get_le64(body));
    }
    fut_frame_header_encode(head, type, flags, host->session, host->sequence++, body,
                            (uint32_t)length);
    sim_link_send(host->sim, host->link, host->end, head, sizeof(head), body, length);
    return true;
}

/* -- the VMM's effects -- */

/* A twin that takes over sends again what its primary may have let go already. */
bool sim_resends(const SimHost *host)
{
    return sim_sight(host).pair.state == FUT_STATE_TAKING;
}

void sim_host_packets(SimHost *host, const FutPacket *list)
{
    for (; list; list = list->next) {
        SimPacket packet;

        g_assert(list->length == sizeof(packet));
        memcpy(&packet, list->data, sizeof(packet));
        g_assert(list->flags == packet.flags);
        if (sim_gate(host)) {
            if (sim_resends(host)) {
                host->sim->count->resent++;
                g_hash_table_add(host->sim->world.resent, GUINT_TO_POINTER((guint)packet.output));
            } else {
                sim_check_release(host, &packet);
            }
            sim_world_sees(host, &packet);
        }
    }
}

void sim_host_passes(SimHost *host, const SimPacket *packet)
{
    if (sim_gate(host)) {
        sim_check_pass(host, packet);
        sim_world_sees(host, packet);
    }
}

void sim_host_announce(SimHost *host)
{
    if (sim_gate(host)) {
        host->sim->world.where = host->index;
    }
}

/* -- FutEngineHost -- */

static bool ops_send(void *opaque, uint16_t type, uint16_t flags, const struct iovec *iov,
                     int count)
{
    SimHost *host = opaque;
    FutBuf body = { 0 };
    bool sent;

    for (int i = 0; i < count; i++) {
        fut_buf_append(&body, iov[i].iov_base, iov[i].iov_len);
    }
    sent = sim_gate(host) && send_now(host, type, flags, body.data, body.len);
    fut_buf_done(&body);
    return sent;
}

static void ops_session(void *opaque, uint32_t session)
{
    ((SimHost *)opaque)->session = session;
}

static void ops_connect(void *opaque)
{
    SimHost *host = opaque;

    if (sim_gate(host)) {
        sim_push_host(host, sim_below(&host->sim->random, 20 * FUT_NS_PER_US), SIM_EVENT_CONNECT);
    }
}

static void ops_close(void *opaque, const char *why)
{
    SimHost *host = opaque;

    SIM_TRACE(host->sim, "%s: closes: %s", host->node, why);
    if (sim_gate(host)) {
        sim_host_detach(host);
    }
}

static void ops_ask(void *opaque, uint64_t generation)
{
    if (sim_gate(opaque)) {
        sim_arbiter_ask(opaque, generation);
    }
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

static void ops_disk(void *opaque)
{
    sim_disk_poke(opaque);
}

static size_t ops_pending(void *opaque)
{
    const SimHost *host = opaque;
    return host->link ? host->link->pipe[host->end].waiting : 0;
}

static bool ops_wait(void *opaque, GCond *changed, GMutex *lock)
{
    g_mutex_unlock(lock);
    bool up = sim_wait(opaque);
    g_mutex_lock(lock);
    return up;
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
    if (g_str_equal(id, "FUT-127")) {
        sim_check_taken(host);
    }
    if (g_str_equal(id, "FUT-190")) {
        sim_violation(host->sim, "image", "%s: the engine itself says: %s", host->node, text);
    }
    if (g_str_equal(id, "FUT-191") &&
        (!host->protection->given_up || ++host->protection->given_up_said > 3)) {
        sim_violation(host->sim, "liveness", "%s: %s (%u times)", host->node, text,
                      host->protection->given_up_said);
    }
}

static uint64_t ops_now_ns(void *opaque)
{
    sim_gate(opaque);
    return sim_host_now(opaque);
}

static void ops_series(void *opaque)
{
    sim_series_wake(opaque, sim_below(&((SimHost *)opaque)->series.random, 50 * FUT_NS_PER_US));
}

static bool ops_guard_open(void *opaque, const FutMemory *memory)
{
    return sim_series_guard_open(opaque);
}

static void ops_guard_close(void *opaque)
{
    SimVm *vm = &((SimHost *)opaque)->vm;
    memset(vm->guarded, 0, vm->pages);
}

static bool ops_guard(void *opaque, uint8_t *at, size_t length, bool on)
{
    sim_series_guard(opaque, at, length, on);
    return true;
}

static void ops_resident(void *opaque, const uint8_t *at, uint64_t pages, uint64_t *bits)
{
    sim_series_resident(opaque, at, pages, bits);
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
    .pending = ops_pending,
    .disk = ops_disk,
    .wait = ops_wait,
    .series = ops_series,
    .guard_open = ops_guard_open,
    .guard_close = ops_guard_close,
    .guard = ops_guard,
    .resident = ops_resident,
};
