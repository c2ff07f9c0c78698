/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_list.h"

#include <string.h>

#include "byteorder.h"
#include "fut_error.h"

#define VERSION 1u
#define HEAD 8
#define RECORD 22 /* without the addresses */

static size_t width_of(const FutFlow *flow)
{
    return flow->key.family == 4 ? 4 : 16;
}

static void put_flow(FutBuf *buf, const FutFlow *flow)
{
    uint8_t *at = fut_buf_extend(buf, RECORD);

    fut_put_le16(at, flow->key.nic);
    fut_put_le16(at + 2, flow->key.tag);
    at[4] = flow->key.family;
    at[5] = 0;
    memcpy(at + 6, flow->mac, 12);
    fut_put_le16(at + 18, flow->key.port[FUT_END_GUEST]);
    fut_put_le16(at + 20, flow->key.port[FUT_END_PEER]);
    fut_buf_append(buf, flow->key.address[FUT_END_GUEST], width_of(flow));
    fut_buf_append(buf, flow->key.address[FUT_END_PEER], width_of(flow));
}

void fut_flow_list_encode(FutBuf *buf, const FutFlow *flows, unsigned count)
{
    uint8_t *head = fut_buf_extend(buf, HEAD);

    fut_put_le32(head, VERSION);
    fut_put_le32(head + 4, count);
    for (unsigned i = 0; i < count; i++) {
        put_flow(buf, &flows[i]);
    }
}

/* Its length; 0: it does not hold. */
static size_t take_flow(const uint8_t *at, size_t left, FutFlow *flow)
{
    *flow = (FutFlow){ 0 };
    if (left < RECORD || (at[4] != 4 && at[4] != 6) || at[5] != 0) {
        return 0;
    }
    flow->key.nic = fut_get_le16(at);
    flow->key.tag = fut_get_le16(at + 2);
    flow->key.family = at[4];
    size_t width = width_of(flow);
    if (left < RECORD + 2 * width || (flow->key.tag != FUT_FLOW_UNTAGGED && flow->key.tag > 4095)) {
        return 0;
    }
    memcpy(flow->mac, at + 6, 12);
    flow->key.port[FUT_END_GUEST] = fut_get_le16(at + 18);
    flow->key.port[FUT_END_PEER] = fut_get_le16(at + 20);
    memcpy(flow->key.address[FUT_END_GUEST], at + RECORD, width);
    memcpy(flow->key.address[FUT_END_PEER], at + RECORD + width, width);
    return RECORD + 2 * width;
}

static bool fail(GError **error)
{
    g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "its list of connections does not hold");
    return false;
}

bool fut_flow_list_decode(const uint8_t *bytes, size_t length, FutFlow ret[FUT_FLOWS_MAX],
                          unsigned *ret_count, GError **error)
{
    if (length >= 4 && fut_get_le32(bytes) > VERSION) {
        g_set_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                    "its list of connections has version %u: this Futago knows version %u",
                    fut_get_le32(bytes), VERSION);
        return false;
    }
    if (length < HEAD || fut_get_le32(bytes) != VERSION ||
        fut_get_le32(bytes + 4) > FUT_FLOWS_MAX) {
        return fail(error);
    }
    unsigned count = fut_get_le32(bytes + 4);
    size_t at = HEAD;
    for (unsigned i = 0; i < count; i++) {
        size_t taken = take_flow(bytes + at, length - at, &ret[i]);
        if (taken == 0) {
            return fail(error);
        }
        at += taken;
    }
    if (at != length) {
        return fail(error);
    }
    *ret_count = count;
    return true;
}
