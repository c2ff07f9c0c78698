/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first byte chooses: a frame from the guest, one from outside, a snapshot's list of connections, or a clone's frame. What is accepted of a list encodes to the very
 * same bytes again; a segment goes through the table and a check. */
#include <glib.h>
#include <string.h>

#include "flow_check.h"
#include "flow_list.h"
#include "fuzz.h"
#include "identity.h"

static void fuzz_list(const uint8_t *bytes, size_t length)
{
    static FutFlow flows[FUT_FLOWS_MAX];
    g_autoptr(GError) error = NULL;
    unsigned count = 0;
    FutBuf again = { 0 };

    if (!fut_flow_list_decode(bytes, length, flows, &count, &error)) {
        g_assert_nonnull(error);
        return;
    }
    fut_flow_list_encode(&again, flows, count);
    g_assert_cmpmem(again.data, again.len, bytes, length);
    fut_buf_done(&again);
}

static void fuzz_frame(FutEnd from, const uint8_t *frame, size_t whole)
{
    FutFlow flow, got;
    FutSegment segment, read;
    FutFlowFrame out;
    uint8_t built[FUT_FLOW_FRAME_MAX];

    if (!fut_flow_parse(frame, whole, 1, from, &flow, &segment)) {
        return;
    }
    g_assert_cmpuint(segment.length, <, whole);
    size_t length = fut_flow_build(&flow, from, &segment, built);
    g_assert_true(fut_flow_parse(built, length, 1, from, &got, &read));
    g_assert_cmpmem(&got, sizeof(got), &flow, sizeof(flow));
    FutFlowTable *table = fut_flow_table_new();
    fut_flow_table_add(table, &flow);
    fut_flow_table_see(table, from, &flow, &segment);
    fut_flow_table_free(table);
    FutFlowCheck *check = fut_flow_check_new(&flow, 1, false, 1);
    while (fut_flow_check_next(check, 1, &out)) {
    }
    g_assert_true(fut_flow_check_see(check, from, &flow, &segment, 1));
    fut_flow_check_free(check);
}

/* Nothing beyond the frame is touched. */
static void fuzz_identity(FutEnd from, const uint8_t *bytes, size_t length)
{
    FutIdentity identity = { .mac = { { 2, 0, 0, 0, 0, 2 }, { 2, 0, 0, 0, 0, 3 } },
                             .count = 1,
                             .address = { { { 10, 0, 0, 1 }, { 10, 0, 0, 77 } } } };
    g_autofree uint8_t *frame = g_memdup2(bytes, length);

    for (unsigned partial = 0; partial < 2; partial++) {
        fut_identity_change(&identity, from, frame, length, partial);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (data[0] & 2) {
        fuzz_list(data + 1, size - 1);
    } else if (data[0] & 4) {
        fuzz_identity(data[0] & 1 ? FUT_END_PEER : FUT_END_GUEST, data + 1, size - 1);
    } else {
        fuzz_frame(data[0] & 1 ? FUT_END_PEER : FUT_END_GUEST, data + 1, size - 1);
    }
    return 0;
}
