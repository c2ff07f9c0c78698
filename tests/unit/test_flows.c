/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections in frames: what is read is what was built, the table keeps those used last, and a list comes back as it was. */
#include <glib.h>
#include <string.h>

#include "expect.h"
#include "flow_list.h"
#include "fut_clock.h"
#include "fut_error.h"

static FutFlow flow_of(unsigned number, uint8_t family)
{
    FutFlow flow = { .key = { .port = { 80, 0 }, .tag = FUT_FLOW_UNTAGGED, .family = family },
                     .mac = { { 2, 0, 0, 0, 0, 1 }, { 2, 0, 0, 0, 0, 2 } } };

    flow.key.port[FUT_END_PEER] = (uint16_t)(1024 + number);
    for (size_t i = 0; i < (family == 4 ? 4 : 16); i++) {
        flow.key.address[FUT_END_GUEST][i] = (uint8_t)(10 + i);
        flow.key.address[FUT_END_PEER][i] = (uint8_t)(90 + i);
    }
    return flow;
}

/* -- frames -- */

static uint32_t sum_of(const uint8_t *bytes, size_t length, uint32_t sum)
{
    for (size_t i = 0; i < length; i += 2) {
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    }
    return sum;
}

static uint32_t fold(uint32_t sum)
{
    return (sum >> 16) + (sum & 0xffff);
}

static void check_sums(const uint8_t *ip, uint8_t family)
{
    size_t head = family == 4 ? 20 : 40, width = family == 4 ? 8 : 32;

    if (family == 4) {
        g_assert_cmphex(fold(fold(sum_of(ip, head, 0))), ==, 0xffff);
    }
    uint32_t pseudo = sum_of(ip + head - width, width, 6 + 20);
    g_assert_cmphex(fold(fold(sum_of(ip + head, 20, pseudo))), ==, 0xffff);
}

static void test_frames(void)
{
    const FutSegment segment = { .seq = 0xfffffff0, .ack = 0x01020304, .flags = FUT_TCP_RST };
    const uint16_t tags[] = { FUT_FLOW_UNTAGGED, 0, 77 };

    for (unsigned i = 0; i < 12; i++) {
        FutFlow flow = flow_of(i, i % 2 ? 4 : 6), got;
        FutEnd from = i / 2 % 2 ? FUT_END_PEER : FUT_END_GUEST;
        uint8_t frame[FUT_FLOW_FRAME_MAX];
        FutSegment read;
        flow.key.tag = tags[i % 3];
        flow.key.nic = 3;
        size_t length = fut_flow_build(&flow, from, &segment, frame);
        g_assert_true(fut_flow_parse(frame, length, 3, from, &got, &read));
        g_assert_cmpmem(&got, sizeof(got), &flow, sizeof(flow));
        g_assert_cmphex(read.seq, ==, segment.seq);
        g_assert_cmphex(read.ack, ==, segment.ack);
        g_assert_cmphex(read.flags, ==, FUT_TCP_RST);
        g_assert_cmpuint(read.length, ==, 0);
        check_sums(frame + (flow.key.tag == FUT_FLOW_UNTAGGED ? 14 : 18), flow.key.family);
        for (size_t cut = 0; cut < length; cut++) {
            g_autofree uint8_t *exact = g_memdup2(frame, cut);
            g_assert_false(fut_flow_parse(exact, cut, 3, from, &got, &read));
        }
    }
}

static void test_payload(void)
{
    const FutFlow flow = flow_of(1, 4);
    uint8_t frame[1514] = { 0 };
    FutFlow got;
    FutSegment read;

    fut_flow_build(&flow, FUT_END_PEER, &(FutSegment){ .flags = FUT_TCP_ACK }, frame);
    g_assert_true(fut_flow_parse(frame, 60, 0, FUT_END_PEER, &got, &read));
    g_assert_cmpuint(read.length, ==, 0); /* padded */
    frame[16] = 1;
    frame[17] = 44; /* 300 bytes of IP */
    g_assert_true(fut_flow_parse(frame, sizeof(frame), 0, FUT_END_PEER, &got, &read));
    g_assert_cmpuint(read.length, ==, 260);
    frame[46] = 0x80; /* with twelve bytes of options */
    g_assert_true(fut_flow_parse(frame, sizeof(frame), 0, FUT_END_PEER, &got, &read));
    g_assert_cmpuint(read.length, ==, 248);
    frame[21] = 1; /* the second part of a fragment */
    g_assert_false(fut_flow_parse(frame, sizeof(frame), 0, FUT_END_PEER, &got, &read));
    frame[21] = 0;
    frame[23] = 17; /* UDP */
    g_assert_false(fut_flow_parse(frame, sizeof(frame), 0, FUT_END_PEER, &got, &read));
}

/* -- the table -- */

static FutFlow list[FUT_FLOWS_MAX];

static void see(FutFlowTable *table, FutEnd from, unsigned number, uint8_t flags)
{
    const FutFlow flow = flow_of(number, 4);

    fut_flow_table_see(table, from, &flow, &(FutSegment){ .flags = flags });
}

static void test_table(void)
{
    FutFlowTable *table = fut_flow_table_new();

    see(table, FUT_END_PEER, 1, FUT_TCP_SYN);
    see(table, FUT_END_PEER, 1, FUT_TCP_ACK);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 0); /* anybody can send that */
    see(table, FUT_END_GUEST, 1, FUT_TCP_SYN | FUT_TCP_ACK);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 0);
    see(table, FUT_END_GUEST, 1, FUT_TCP_ACK);
    see(table, FUT_END_GUEST, 2, FUT_TCP_ACK | FUT_TCP_PSH);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 2);
    g_assert_cmpuint(list[0].key.port[FUT_END_PEER], ==, 1026); /* used last */
    see(table, FUT_END_PEER, 1, FUT_TCP_ACK);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 2);
    g_assert_cmpuint(list[0].key.port[FUT_END_PEER], ==, 1025);

    see(table, FUT_END_PEER, 1, FUT_TCP_FIN | FUT_TCP_ACK);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 2);
    see(table, FUT_END_GUEST, 1, FUT_TCP_FIN | FUT_TCP_ACK);
    see(table, FUT_END_GUEST, 1, FUT_TCP_ACK);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 1);
    see(table, FUT_END_PEER, 1, FUT_TCP_SYN); /* the same ports again */
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 2);
    see(table, FUT_END_PEER, 2, FUT_TCP_RST);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 1);
    fut_flow_table_free(table);
}

static void test_bound(void)
{
    FutFlowTable *table = fut_flow_table_new();

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3 * FUT_FLOWS_MAX; i++) {
            see(table, FUT_END_GUEST, i, FUT_TCP_ACK);
            see(table, FUT_END_PEER, 0, FUT_TCP_ACK); /* a flood of its own */
            see(table, FUT_END_GUEST, 7, FUT_TCP_ACK);
            if (i % 5 == 0) {
                see(table, FUT_END_GUEST, i, FUT_TCP_RST);
            }
        }
    }
    unsigned count = fut_flow_table_list(table, list);
    g_assert_cmpuint(count, >, FUT_FLOWS_MAX / 2);
    g_assert_cmpuint(count, <=, FUT_FLOWS_MAX);
    g_assert_cmpuint(list[0].key.port[FUT_END_PEER], ==, 1024 + 7);
    for (unsigned i = 0; i < count; i++) {
        fut_flow_table_remove(table, &list[i].key);
    }
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 0);
    fut_flow_table_free(table);
}

/* -- as bytes -- */

static void test_list(void)
{
    static FutFlow got[FUT_FLOWS_MAX];
    FutBuf buf = { 0 };
    unsigned count = 0;

    for (unsigned i = 0; i < 10; i++) {
        list[i] = flow_of(i, i % 3 ? 4 : 6);
        list[i].key.nic = (uint16_t)i;
        list[i].key.tag = i % 2 ? 9 : FUT_FLOW_UNTAGGED;
    }
    fut_flow_list_encode(&buf, list, 10);
    g_assert_true(fut_flow_list_decode(buf.data, buf.len, got, &count, NULL));
    g_assert_cmpuint(count, ==, 10);
    g_assert_cmpmem(got, 10 * sizeof(FutFlow), list, 10 * sizeof(FutFlow));
    for (size_t cut = 0; cut < buf.len; cut++) {
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *exact = g_memdup2(buf.data, cut);
        g_assert_false(fut_flow_list_decode(exact, cut, got, &count, &error));
        g_assert_error(error, FUT_ERROR, FUT_ERR_IO);
    }
    g_autoptr(GError) error = NULL;
    buf.data[0] = 2;
    g_assert_false(fut_flow_list_decode(buf.data, buf.len, got, &count, &error));
    g_assert_error(error, FUT_ERROR, FUT_ERR_UNSUPPORTED);
    fut_buf_done(&buf);
}

/* Two connections as version 1 has them: snapshots that there are must stay readable. */
static void test_golden(void)
{
    static const char golden[] = "0100000002000000"
                                 "0000ffff0400020000000001020000000002500000040a0b0c0d5a5b5c5d"
                                 "02004d000600020000000001020000000002500001040a0b0c0d0e0f10111213"
                                 "1415161718195a5b5c5d5e5f60616263646566676869";
    FutFlow flows[2] = { flow_of(0, 4), flow_of(1, 6) };
    g_autoptr(GString) hex = g_string_new(NULL);
    FutBuf buf = { 0 };

    flows[1].key.nic = 2;
    flows[1].key.tag = 77;
    fut_flow_list_encode(&buf, flows, 2);
    for (size_t i = 0; i < buf.len; i++) {
        g_string_append_printf(hex, "%02x", buf.data[i]);
    }
    g_assert_cmpstr(hex->str, ==, golden);
    fut_buf_done(&buf);
}

/* What a packet costs: a figure for bench/README.md, not a promise. */
static void test_cost(void)
{
    enum {
        ROUNDS = 200000
    };
    FutFlowTable *table = fut_flow_table_new();
    uint8_t frames[64][FUT_FLOW_FRAME_MAX];
    size_t length = 0;

    for (unsigned i = 0; i < 64; i++) {
        const FutFlow flow = flow_of(i, 4);
        length =
            fut_flow_build(&flow, FUT_END_GUEST, &(FutSegment){ .flags = FUT_TCP_ACK }, frames[i]);
    }
    uint64_t begin_ns = fut_now_ns();
    for (unsigned i = 0; i < ROUNDS; i++) {
        FutFlow flow;
        FutSegment segment;
        g_assert_true(fut_flow_parse(frames[i % 64], length, 0, FUT_END_GUEST, &flow, &segment));
        fut_flow_table_see(table, FUT_END_GUEST, &flow, &segment);
    }
    g_test_message("%.1f ns a packet", (double)(fut_now_ns() - begin_ns) / ROUNDS);
    g_assert_cmpuint(fut_flow_table_list(table, list), ==, 64);
    fut_flow_table_free(table);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/flows/frames", test_frames);
    g_test_add_func("/flows/payload", test_payload);
    g_test_add_func("/flows/table", test_table);
    g_test_add_func("/flows/bound", test_bound);
    g_test_add_func("/flows/list", test_list);
    g_test_add_func("/flows/golden", test_golden);
    g_test_add_func("/flows/cost", test_cost);
    return g_test_run();
}
