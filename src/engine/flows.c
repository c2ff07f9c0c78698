/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flows.h"

#include <string.h>
#include <sys/uio.h>

#include "byteorder.h"
#include "engine_internal.h"
#include "flow_list.h"
#include "fut_clock.h"
#include "outputs.h"
#include "resend.h"

void fut_flows_init(FutFlows *flows)
{
    g_mutex_init(&flows->lock);
    g_cond_init(&flows->changed);
    flows->table = fut_flow_table_new();
}

void fut_flows_done(FutFlows *flows)
{
    fut_flow_check_free(flows->check);
    fut_flow_table_free(flows->table);
    g_cond_clear(&flows->changed);
    g_mutex_clear(&flows->lock);
}

unsigned fut_flows_list(FutFlows *flows, FutFlow ret[FUT_FLOWS_MAX])
{
    g_mutex_lock(&flows->lock);
    unsigned count = fut_flow_table_list(flows->table, ret);
    g_mutex_unlock(&flows->lock);
    return count;
}

/* -- what passes -- */

/* The frame's beginning; *whole is its length. */
static void look(const struct iovec *iov, int count, size_t head, uint8_t ret[FUT_FLOW_LOOK],
                 size_t *whole)
{
    size_t have = 0;

    *whole = 0;
    for (int i = 0; i < count; i++) {
        size_t skip = MIN(head, iov[i].iov_len), length = iov[i].iov_len - skip;
        size_t more = MIN(length, FUT_FLOW_LOOK - have);
        head -= skip;
        if (more > 0) {
            memcpy(ret + have, (const uint8_t *)iov[i].iov_base + skip, more);
        }
        have += more;
        *whole += length;
    }
}

bool fut_engine_flow(FutEngine *engine, uint32_t nic, bool out, size_t head,
                     const struct iovec *iov, int count)
{
    FutFlows *flows = &engine->flows;
    FutEnd from = out ? FUT_END_GUEST : FUT_END_PEER;
    uint8_t frame[FUT_FLOW_LOOK];
    FutSegment segment;
    FutFlow flow;
    size_t whole;
    bool stop = false;

    look(iov, count, head, frame, &whole);
    if (!fut_flow_parse(frame, whole, (uint16_t)nic, from, &flow, &segment)) {
        return false;
    }
    g_mutex_lock(&flows->lock);
    if (G_UNLIKELY(flows->check)) {
        stop = fut_flow_check_see(flows->check, from, &flow, &segment, fut_engine_now(engine));
        g_cond_signal(&flows->changed);
    }
    if (!stop) {
        fut_flow_table_see(flows->table, from, &flow, &segment);
    }
    g_mutex_unlock(&flows->lock);
    return stop;
}

/* -- a pair -- */

void fut_flows_share(FutEngine *engine)
{
    g_autofree FutFlow *list = g_new(FutFlow, FUT_FLOWS_MAX);
    unsigned count = fut_flows_list(&engine->flows, list);
    FutBuf body = { 0 };

    fut_flow_list_encode(&body, list, count);
    g_assert(body.len <= FUT_WIRE_FLOWS_MAX);
    struct iovec iov = { body.data, body.len };
    engine->host->send(engine->opaque, FUT_MSG_FLOWS, 0, &iov, 1);
    fut_buf_done(&body);
}

bool fut_flows_check(const FutFrame *frame, GError **error)
{
    g_autofree FutFlow *list = g_new(FutFlow, FUT_FLOWS_MAX);
    unsigned count;

    return fut_flow_list_decode(frame->body, frame->length, list, &count, error);
}

/* Lock held. The one used last is the first of the list. */
static void add_all(FutFlows *flows, const FutFlow *list, unsigned count)
{
    for (unsigned i = count; i-- > 0;) {
        fut_flow_table_add(flows->table, &list[i]);
    }
}

void fut_flows_keep(FutEngine *engine, const FutFrame *frame)
{
    FutFlows *flows = &engine->flows;
    g_autofree FutFlow *list = g_new(FutFlow, FUT_FLOWS_MAX);
    unsigned count = 0;

    g_assert(fut_flow_list_decode(frame->body, frame->length, list, &count, NULL));
    g_mutex_lock(&flows->lock);
    fut_flow_table_free(flows->table);
    flows->table = fut_flow_table_new();
    add_all(flows, list, count);
    g_mutex_unlock(&flows->lock);
}

/* What stands before the frame the guest's driver has chosen, which a backup's devices do not know yet: the frame is where it can be read. */
void fut_flows_learn(FutEngine *engine, uint32_t nic, bool out, const uint8_t *packet,
                     size_t length)
{
    static const size_t heads[] = { 12, 10, 0 }; /* virtio's two, and none */
    FutEnd from = out ? FUT_END_GUEST : FUT_END_PEER;
    FutSegment segment;
    FutFlow flow;

    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) {
        if (length > heads[i] && fut_flow_parse(packet + heads[i], length - heads[i], (uint16_t)nic,
                                                from, &flow, &segment)) {
            g_mutex_lock(&engine->flows.lock);
            fut_flow_table_see(engine->flows.table, from, &flow, &segment);
            g_mutex_unlock(&engine->flows.lock);
            return;
        }
    }
}

void fut_flows_learn_outputs(FutEngine *engine, const uint8_t *records, size_t length)
{
    for (size_t at = 0; at < length; at += FUT_RESEND_HEAD + fut_get_le32(records + at)) {
        fut_flows_learn(engine, fut_get_le32(records + at + 4), true,
                        records + at + FUT_RESEND_HEAD, fut_get_le32(records + at));
    }
}

const FutIdentity *fut_engine_identity(const FutEngine *engine, uint32_t nic)
{
    const FutIdentities *identities = engine->config.identities;

    return identities && nic < identities->count ? &identities->nic[nic] : NULL;
}

/* -- after a restore -- */

bool fut_flows_begin(FutEngine *engine, GBytes *bytes, FutConnections what, GError **error)
{
    FutFlows *flows = &engine->flows;
    g_autofree FutFlow *list = g_new0(FutFlow, FUT_FLOWS_MAX);
    unsigned count = 0;
    gsize length = 0;
    const uint8_t *data = bytes ? g_bytes_get_data(bytes, &length) : NULL;

    if (!bytes) {
        return true;
    }
    if (!fut_flow_list_decode(data, length, list, &count, error)) {
        return false;
    }
    g_mutex_lock(&flows->lock);
    add_all(flows, list, count);
    if (count > 0 && what != FUT_CONNECTIONS_KEEP) {
        flows->check =
            fut_flow_check_new(list, count, what == FUT_CONNECTIONS_END, fut_engine_now(engine));
    }
    g_mutex_unlock(&flows->lock);
    return true;
}

/* The VMM wants `head` bytes before each packet; zeroes: there is nothing to be told of it. */
static void send_frame(FutVmm *vmm, const FutFlowFrame *frame)
{
    uint8_t zeroes[64] = { 0 };
    size_t head = vmm->ops->packet_head ? vmm->ops->packet_head(vmm, frame->nic) : 0;
    struct iovec iov[2] = { { zeroes, MIN(head, sizeof(zeroes)) },
                            { (void *)frame->bytes, frame->length } };
    g_autofree FutPacket *packet = fut_packet_new(0, frame->nic, 0, iov, 2);

    if (frame->to == FUT_END_GUEST) {
        vmm->ops->packet_in(vmm, packet);
    } else {
        vmm->ops->packets_out(vmm, packet);
    }
}

/* Lock held. What is over is no connection any more. */
static void note_judged(FutFlows *flows)
{
    FutFlowVerdict verdict;
    FutFlowKey key;

    while (fut_flow_check_judged(flows->check, &key, &verdict)) {
        if (verdict == FUT_FLOW_RESET || verdict == FUT_FLOW_SILENT) {
            fut_flow_table_remove(flows->table, &key);
        }
    }
}

/* Lock held. False: all is over. */
static bool wait(FutFlows *flows, uint64_t now_ns)
{
    uint64_t deadline_ns = fut_flow_check_deadline(flows->check);

    note_judged(flows);
    if (deadline_ns == UINT64_MAX) {
        return false;
    }
    if (deadline_ns > now_ns) {
        g_cond_wait_until(&flows->changed, &flows->lock,
                          g_get_monotonic_time() +
                              (gint64)((deadline_ns - now_ns) / FUT_NS_PER_US) + 1);
    }
    return true;
}

bool fut_flows_work(FutEngine *engine, FutFlowCounts *ret)
{
    FutFlows *flows = &engine->flows;
    FutFlowFrame frame;
    bool more = flows->check != NULL;

    if (!more) {
        return false;
    }
    g_mutex_lock(&flows->lock);
    while (more) {
        if (fut_flow_check_next(flows->check, fut_engine_now(engine), &frame)) {
            g_mutex_unlock(&flows->lock);
            send_frame(engine->vmm, &frame);
            g_mutex_lock(&flows->lock);
        } else {
            more = wait(flows, fut_engine_now(engine));
        }
    }
    for (unsigned i = 0; i < FUT_FLOW_VERDICTS; i++) {
        ret->count[i] = fut_flow_check_count(flows->check, (FutFlowVerdict)i);
    }
    g_clear_pointer(&flows->check, fut_flow_check_free);
    g_mutex_unlock(&flows->lock);
    return true;
}
