/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of connections after a restore: two ends that answer as RFC 5961 says, and what each of them gets to see. */
#include <glib.h>

#include "flow_check.h"

#define MS 1000000ull

typedef enum {
    ANSWERS,
    REFUSES, /* does not know it */
    LISTENS, /* takes the question for a new connection */
    SILENT
} Manner;

typedef struct {
    Manner manner;
    uint32_t sends, expects;
    unsigned asked, resets;
    uint32_t reset_seq; /* of the last one */
} End;

typedef struct {
    FutFlowCheck *check;
    FutFlow flow;
    End end[2];
    uint64_t now_ns;
} World;

static World world(bool alone)
{
    World w = { .flow = { .key = { .port = { 80, 4000 }, .tag = FUT_FLOW_UNTAGGED, .family = 4 } },
                .now_ns = MS };

    w.check = fut_flow_check_new(&w.flow, 1, alone, w.now_ns);
    return w;
}

static bool send(World *w, FutEnd from, uint32_t seq, uint32_t ack, uint8_t flags, uint32_t length)
{
    const FutSegment segment = { seq, ack, length, flags };

    return fut_flow_check_see(w->check, from, &w->flow, &segment, w->now_ns);
}

static void answer(World *w, FutEnd from, const FutSegment *question)
{
    const End *end = &w->end[from];

    switch (end->manner) {
    case ANSWERS:
        g_assert_true(send(w, from, end->sends, end->expects, FUT_TCP_ACK, 0));
        break;
    case REFUSES:
        g_assert_true(send(w, from, 0, question->seq + 1, FUT_TCP_RST | FUT_TCP_ACK, 0));
        break;
    case LISTENS:
        g_assert_true(send(w, from, end->sends, question->seq + 1, FUT_TCP_SYN | FUT_TCP_ACK, 0));
        break;
    case SILENT:
        break;
    }
}

static void arrive(World *w, const FutFlowFrame *frame)
{
    End *end = &w->end[frame->to];
    FutSegment segment;
    FutFlow flow;

    g_assert_true(fut_flow_parse(frame->bytes, frame->length, 0, !frame->to, &flow, &segment));
    g_assert_cmpmem(&flow, sizeof(flow), &w->flow, sizeof(flow));
    if (segment.flags & FUT_TCP_RST) {
        end->resets++;
        end->reset_seq = segment.seq;
    } else {
        g_assert_cmphex(segment.flags, ==, FUT_TCP_SYN);
        end->asked++;
        answer(w, frame->to, &segment);
    }
}

/* Until all is over or the time has come. */
static void go_on(World *w, uint64_t until_ns)
{
    FutFlowFrame frame;

    for (;;) {
        while (fut_flow_check_next(w->check, w->now_ns, &frame)) {
            arrive(w, &frame);
        }
        uint64_t next_ns = fut_flow_check_deadline(w->check);
        if (next_ns >= until_ns) {
            w->now_ns = until_ns == UINT64_MAX ? w->now_ns : until_ns;
            return;
        }
        g_assert_cmpuint(next_ns, >, w->now_ns);
        w->now_ns = next_ns;
    }
}

static void expect(World *w, FutFlowVerdict verdict, unsigned guest_resets, unsigned peer_resets)
{
    for (unsigned i = 0; i < FUT_FLOW_VERDICTS; i++) {
        g_assert_cmpuint(fut_flow_check_count(w->check, (FutFlowVerdict)i), ==, i == verdict);
    }
    g_assert_cmpuint(w->end[FUT_END_GUEST].resets, ==, guest_resets);
    g_assert_cmpuint(w->end[FUT_END_PEER].resets, ==, peer_resets);
    g_assert_false(send(w, FUT_END_PEER, 1, 1, FUT_TCP_ACK, 1)); /* from now on all passes */
    fut_flow_check_free(w->check);
}

static void test_agree(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ ANSWERS, .sends = 2000, .expects = 1000 };
    g_assert_true(send(&w, FUT_END_PEER, 2000, 1000, FUT_TCP_ACK, 10)); /* before it is judged */
    go_on(&w, UINT64_MAX);
    g_assert_cmpuint(w.now_ns, ==, MS);
    expect(&w, FUT_FLOW_KEPT, 0, 0);
}

/* What the peer misses the guest sends again. */
static void test_behind(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 200, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ ANSWERS, .sends = 2000, .expects = 0xffffff00 };
    go_on(&w, UINT64_MAX);
    expect(&w, FUT_FLOW_KEPT, 0, 0);
}

static void test_gone_on(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ ANSWERS, .sends = 2050, .expects = 1070 };
    go_on(&w, UINT64_MAX);
    g_assert_cmpuint(w.now_ns, ==, MS);
    g_assert_cmpuint(w.end[FUT_END_GUEST].reset_seq, ==, 2000);
    g_assert_cmpuint(w.end[FUT_END_PEER].reset_seq, ==, 1070);
    expect(&w, FUT_FLOW_RESET, 1, 1);
}

static World watching(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ ANSWERS, .sends = 2050, .expects = 1000 };
    go_on(&w, 2 * MS);
    g_assert_true(send(&w, FUT_END_PEER, 2050, 1000, FUT_TCP_ACK, 0));
    g_assert_true(
        send(&w, FUT_END_PEER, 2010, 1000, FUT_TCP_ACK, 40)); /* not from where it lacks */
    g_assert_true(send(&w, FUT_END_GUEST, 1000, 2000, FUT_TCP_ACK, 0));
    return w;
}

static void test_sent_again(void)
{
    World w = watching();

    g_assert_false(send(&w, FUT_END_PEER, 2000, 1000, FUT_TCP_ACK, 50));
    go_on(&w, UINT64_MAX);
    expect(&w, FUT_FLOW_KEPT, 0, 0);
}

static void test_lost(void)
{
    World w = watching();

    go_on(&w, 19000 * MS);
    g_assert_cmpuint(w.end[FUT_END_GUEST].resets, ==, 0);
    go_on(&w, UINT64_MAX);
    expect(&w, FUT_FLOW_RESET, 1, 1);
}

static void test_peer_reset_while_watched(void)
{
    World w = watching();

    g_assert_true(send(&w, FUT_END_PEER, 2050, 1000, FUT_TCP_RST, 0));
    go_on(&w, UINT64_MAX);
    expect(&w, FUT_FLOW_RESET, 1, 0);
}

static void test_one_does_not_know(void)
{
    for (FutEnd gone = FUT_END_GUEST; gone <= FUT_END_PEER; gone++) {
        World w = world(false);
        w.end[!gone] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
        w.end[gone] = (End){ .manner = REFUSES };
        go_on(&w, UINT64_MAX);
        expect(&w, FUT_FLOW_RESET, gone != FUT_END_GUEST, gone != FUT_END_PEER);
    }
}

/* What our question has begun there is ended, too. */
static void test_listens(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ LISTENS, .sends = 777 };
    go_on(&w, UINT64_MAX);
    g_assert_cmpuint(w.end[FUT_END_GUEST].reset_seq, ==, 2000);
    expect(&w, FUT_FLOW_RESET, 1, 1);
}

static void test_silent_peer(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ .manner = SILENT };
    go_on(&w, UINT64_MAX);
    g_assert_cmpuint(w.end[FUT_END_PEER].asked, >, 3);
    g_assert_cmpuint(w.end[FUT_END_PEER].asked, <, 8);
    g_assert_cmpuint(w.end[FUT_END_GUEST].asked, ==, 1);
    g_assert_cmpuint(w.now_ns, <, 4000 * MS);
    expect(&w, FUT_FLOW_SILENT, 1, 0);
}

/* A reset that answers nothing, as anybody could send one, says nothing. */
static void test_made_up(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ .manner = SILENT };
    w.end[FUT_END_PEER] = (End){ .manner = SILENT };
    go_on(&w, 2 * MS);
    g_assert_true(send(&w, FUT_END_PEER, 2000, 1000, FUT_TCP_RST | FUT_TCP_ACK, 0));
    g_assert_true(send(&w, FUT_END_PEER, 2000, 0, FUT_TCP_RST, 0));
    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    w.end[FUT_END_PEER] = (End){ ANSWERS, .sends = 2000, .expects = 1000 };
    go_on(&w, UINT64_MAX);
    expect(&w, FUT_FLOW_KEPT, 0, 0);
}

static void test_silent_guest(void)
{
    World w = world(false);

    w.end[FUT_END_GUEST] = (End){ .manner = SILENT };
    w.end[FUT_END_PEER] = (End){ ANSWERS, .sends = 2000, .expects = 1000 };
    go_on(&w, UINT64_MAX);
    expect(&w, FUT_FLOW_LEFT, 0, 0);
}

static void test_alone(void)
{
    World w = world(true);

    w.end[FUT_END_GUEST] = (End){ ANSWERS, .sends = 1000, .expects = 2000 };
    go_on(&w, UINT64_MAX);
    g_assert_cmpuint(w.end[FUT_END_PEER].asked, ==, 0);
    expect(&w, FUT_FLOW_RESET, 1, 0);
}

/* An idle connection's own probe has the number before the next. */
static void test_judge(void)
{
    static const struct {
        uint32_t guest_sends, peer_expects, peer_sends, guest_expects;
        FutFlowJudgement judgement;
    } cases[] = {
        { 5, 5, 9, 9, FUT_FLOW_GO_ON },
        { 5, 5, 8, 9, FUT_FLOW_GO_ON },
        { 5, 5, 7, 9, FUT_FLOW_BREAK },
        { 5, 6, 9, 9, FUT_FLOW_BREAK },
        { 5, 5, 10, 9, FUT_FLOW_WATCH },
        { 5, 6, 10, 9, FUT_FLOW_BREAK },
        { 3, 0xfffffffe, 2, 0xfffffffd, FUT_FLOW_WATCH },
        { 0x80000000, 0, 9, 9, FUT_FLOW_BREAK },
        { 0x40000001, 0, 9, 9, FUT_FLOW_BREAK },
        { 0x40000000, 0, 9, 9, FUT_FLOW_GO_ON },
        { 5, 5, 0x50000000, 9, FUT_FLOW_BREAK },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const uint32_t sends[2] = { cases[i].guest_sends, cases[i].peer_sends };
        const uint32_t expects[2] = { cases[i].guest_expects, cases[i].peer_expects };
        g_assert_cmpint(fut_flow_judge(sends, expects), ==, cases[i].judgement);
    }
}

/* Many at once leave in bursts; other connections are not touched; each is told once. */
static void test_many(void)
{
    static FutFlow flows[FUT_FLOWS_MAX];
    FutFlowVerdict verdict;
    FutFlowFrame frame;
    FutFlowKey key;
    unsigned told = 0, sent = 0;

    for (unsigned i = 0; i < FUT_FLOWS_MAX; i++) {
        flows[i].key = (FutFlowKey){ .port = { 80, (uint16_t)(i / 2) }, .family = 4 };
    }
    FutFlowCheck *check = fut_flow_check_new(flows, FUT_FLOWS_MAX, false, MS);
    while (fut_flow_check_next(check, MS, &frame)) {
        sent++;
    }
    g_assert_cmpuint(sent, ==, FUT_FLOW_BURST);
    g_assert_cmpuint(fut_flow_check_deadline(check), ==, MS + FUT_FLOW_PAUSE_NS);
    FutFlow other = { .key = { .port = { 81, 1 }, .family = 4 } };
    g_assert_false(fut_flow_check_see(check, FUT_END_PEER, &other, &(FutSegment){ 0 }, MS));
    for (uint64_t now_ns = MS; now_ns != UINT64_MAX; now_ns = fut_flow_check_deadline(check)) {
        for (sent = 0; fut_flow_check_next(check, now_ns, &frame); sent++) {
            g_assert_cmpuint(sent, <, FUT_FLOW_BURST);
        }
    }
    for (; fut_flow_check_judged(check, &key, &verdict); told++) {
        g_assert_cmpint(verdict, ==, FUT_FLOW_LEFT);
    }
    g_assert_cmpuint(told, ==, FUT_FLOWS_MAX / 2); /* each was there twice */
    fut_flow_check_free(check);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/flow-check/agree", test_agree);
    g_test_add_func("/flow-check/behind", test_behind);
    g_test_add_func("/flow-check/gone-on", test_gone_on);
    g_test_add_func("/flow-check/sent-again", test_sent_again);
    g_test_add_func("/flow-check/lost", test_lost);
    g_test_add_func("/flow-check/reset-while-watched", test_peer_reset_while_watched);
    g_test_add_func("/flow-check/one-does-not-know", test_one_does_not_know);
    g_test_add_func("/flow-check/listens", test_listens);
    g_test_add_func("/flow-check/silent-peer", test_silent_peer);
    g_test_add_func("/flow-check/made-up", test_made_up);
    g_test_add_func("/flow-check/silent-guest", test_silent_guest);
    g_test_add_func("/flow-check/alone", test_alone);
    g_test_add_func("/flow-check/judge", test_judge);
    g_test_add_func("/flow-check/many", test_many);
    return g_test_run();
}
