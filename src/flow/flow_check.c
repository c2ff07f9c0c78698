/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flow_check.h"

#include <string.h>

#define MS 1000000ull
/* Linux answers such a question twice a second at most. */
#define ASK_EVERY_NS (600 * MS)
#define PEER_NS (3000 * MS)   /* for a peer's answer, from the guest's on */
#define GUEST_NS (10000 * MS) /* for the guest's; its memory may come lazily */
#define WATCH_NS (20000 * MS)
/* Sequence numbers may differ by what is under way: no window is larger (RFC 7323). */
#define WINDOW_MAX (1 << 30)

typedef enum {
    ASKING,
    WATCHING,
    OVER
} Phase;

typedef enum {
    UNKNOWN, /* has not answered */
    OPEN,    /* `sends` and `expects` are what it said */
    GONE,    /* it does not know the connection */
    HALF /* likewise, and it takes the question for a new one: that has to be ended at `expects` */
} Answer;

typedef struct {
    FutFlow flow;
    Phase phase;
    FutFlowVerdict verdict;
    Answer answer[2];
    uint32_t sends[2], expects[2];
    uint8_t asked;      /* bit by end: at least once */
    uint8_t reset_due;  /* bit by end */
    uint64_t ask_ns[2]; /* when next */
    uint64_t answer_ns; /* the guest's came */
    uint64_t give_up_ns;
    bool told;
} Conn;

struct FutFlowCheck {
    bool alone;
    uint32_t
        ask_seq; /* of our questions; a refusal has to name it, so that nobody else can make one up */
    uint64_t pause_ns; /* until then nothing leaves; 0: none */
    unsigned burst;
    unsigned open; /* connections that are not over, or still have frames to be sent */
    unsigned counts[FUT_FLOW_VERDICTS];
    GHashTable *by_key; /* FutFlowKey to Conn, both in `conn` */
    unsigned count;
    Conn conn[];
};

/* -- judging -- */

FutFlowJudgement fut_flow_judge(const uint32_t sends[2], const uint32_t expects[2])
{
    int32_t unsent = (int32_t)(sends[FUT_END_GUEST] - expects[FUT_END_PEER]);
    int32_t missed = (int32_t)(sends[FUT_END_PEER] - expects[FUT_END_GUEST]);

    if (unsent < 0 || unsent > WINDOW_MAX || missed < -1 || missed > WINDOW_MAX) {
        return FUT_FLOW_BREAK;
    }
    /* -1: not an answer but the probe of an idle connection, which is sent with the number before */
    return missed <= 0 ? FUT_FLOW_GO_ON : FUT_FLOW_WATCH;
}

/* -- life -- */

static guint hash_key(gconstpointer key)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < sizeof(FutFlowKey); i++) {
        hash = (hash ^ ((const uint8_t *)key)[i]) * 16777619u;
    }
    return hash;
}

static gboolean same_key(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(FutFlowKey)) == 0;
}

FutFlowCheck *fut_flow_check_new(const FutFlow *flows, unsigned count, bool alone, uint64_t now_ns)
{
    FutFlowCheck *check = g_malloc0(sizeof(*check) + count * sizeof(Conn));

    check->alone = alone;
    check->ask_seq = g_random_int();
    check->by_key = g_hash_table_new(hash_key, same_key);
    for (unsigned i = 0; i < count; i++) {
        Conn *conn = &check->conn[check->count];
        if (!g_hash_table_contains(check->by_key, &flows[i].key)) {
            *conn = (Conn){ .flow = flows[i], .ask_ns = { now_ns, alone ? UINT64_MAX : now_ns } };
            conn->give_up_ns = now_ns + GUEST_NS;
            g_hash_table_insert(check->by_key, &conn->flow.key, conn);
            check->count++;
        }
    }
    check->open = check->count;
    return check;
}

void fut_flow_check_free(FutFlowCheck *check)
{
    if (check) {
        g_hash_table_unref(check->by_key);
        g_free(check);
    }
}

static void end(FutFlowCheck *check, Conn *conn, FutFlowVerdict verdict)
{
    conn->phase = OVER;
    conn->verdict = verdict;
    check->counts[verdict]++;
    check->open -= conn->reset_due == 0;
}

/* The peer was never asked where it may not be spoken to: then it is UNKNOWN. */
static void reset(FutFlowCheck *check, Conn *conn, FutFlowVerdict verdict)
{
    for (FutEnd end_of = FUT_END_GUEST; end_of <= FUT_END_PEER; end_of++) {
        if (conn->answer[end_of] == OPEN || conn->answer[end_of] == HALF) {
            conn->reset_due |= (uint8_t)(1 << end_of);
        }
    }
    end(check, conn, verdict);
}

static void judge(FutFlowCheck *check, Conn *conn, uint64_t now_ns)
{
    const Answer *answer = conn->answer;

    if (answer[FUT_END_GUEST] == UNKNOWN || (answer[FUT_END_PEER] == UNKNOWN && !check->alone)) {
        return;
    }
    if (answer[FUT_END_GUEST] != OPEN || answer[FUT_END_PEER] != OPEN) {
        reset(check, conn, FUT_FLOW_RESET);
        return;
    }
    switch (fut_flow_judge(conn->sends, conn->expects)) {
    case FUT_FLOW_GO_ON:
        end(check, conn, FUT_FLOW_KEPT);
        break;
    case FUT_FLOW_WATCH:
        conn->phase = WATCHING;
        conn->give_up_ns = now_ns + WATCH_NS;
        break;
    case FUT_FLOW_BREAK:
        reset(check, conn, FUT_FLOW_RESET);
        break;
    }
}

/* -- what passes -- */

static void take_answer(const FutFlowCheck *check, Conn *conn, FutEnd from,
                        const FutSegment *segment)
{
    const uint8_t look = FUT_TCP_SYN | FUT_TCP_FIN | FUT_TCP_RST | FUT_TCP_ACK;

    if (conn->answer[from] != UNKNOWN || !(conn->asked & 1 << from)) {
        return;
    }
    bool names = segment->flags & FUT_TCP_ACK && segment->ack == check->ask_seq + 1;
    if (segment->flags & FUT_TCP_RST) {
        conn->answer[from] = names ? GONE : UNKNOWN;
    } else if (segment->flags & FUT_TCP_SYN) {
        conn->answer[from] = names ? HALF : GONE;
        conn->expects[from] = segment->ack;
        conn->sends[from] = segment->seq + 1;
    } else if ((segment->flags & look) == FUT_TCP_ACK && segment->length == 0) {
        conn->answer[from] = OPEN;
        conn->sends[from] = segment->seq;
        conn->expects[from] = segment->ack;
    }
}

/* The peer sends again what the guest has not: it had kept it. */
static bool is_the_missing(const Conn *conn, const FutSegment *segment)
{
    uint32_t end_seq = segment->seq + segment->length + (segment->flags & FUT_TCP_FIN ? 1 : 0);
    uint32_t expected = conn->expects[FUT_END_GUEST];

    return (int32_t)(segment->seq - expected) <= 0 && (int32_t)(end_seq - expected) > 0 &&
           !(segment->flags & (FUT_TCP_RST | FUT_TCP_SYN));
}

static bool see_watching(FutFlowCheck *check, Conn *conn, FutEnd from, const FutSegment *segment)
{
    if (segment->flags & (FUT_TCP_RST | FUT_TCP_SYN)) {
        conn->answer[from] = GONE;
        reset(check, conn, FUT_FLOW_RESET);
    } else if (from == FUT_END_PEER && is_the_missing(conn, segment)) {
        end(check, conn, FUT_FLOW_KEPT);
        return false;
    }
    return true;
}

bool fut_flow_check_see(FutFlowCheck *check, FutEnd from, const FutFlow *flow,
                        const FutSegment *segment, uint64_t now_ns)
{
    Conn *conn = check->open ? g_hash_table_lookup(check->by_key, &flow->key) : NULL;

    if (!conn || conn->phase == OVER) {
        return false;
    }
    if (conn->phase == WATCHING) {
        return see_watching(check, conn, from, segment);
    }
    take_answer(check, conn, from, segment);
    if (from == FUT_END_GUEST && conn->answer[from] != UNKNOWN && conn->answer_ns == 0) {
        conn->answer_ns = now_ns;
        conn->give_up_ns = now_ns + PEER_NS;
    }
    judge(check, conn, now_ns);
    return true;
}

/* -- what is to be sent -- */

static void build(const Conn *conn, FutEnd to, const FutSegment *segment, FutFlowFrame *ret)
{
    ret->to = to;
    ret->nic = conn->flow.key.nic;
    ret->length = fut_flow_build(&conn->flow, !to, segment, ret->bytes);
}

/* Each end gets the number that it expects next. */
static bool send_reset(FutFlowCheck *check, Conn *conn, FutFlowFrame *ret)
{
    FutEnd to = conn->reset_due & 1 << FUT_END_GUEST ? FUT_END_GUEST : FUT_END_PEER;

    conn->reset_due &= (uint8_t) ~(1 << to);
    check->open -= conn->reset_due == 0;
    build(conn, to,
          &(FutSegment){ .seq = conn->expects[to],
                         .ack = conn->sends[to],
                         .flags = FUT_TCP_RST | FUT_TCP_ACK },
          ret);
    return true;
}

static bool ask(const FutFlowCheck *check, Conn *conn, uint64_t now_ns, FutFlowFrame *ret)
{
    for (FutEnd to = FUT_END_GUEST; to <= FUT_END_PEER; to++) {
        if (conn->answer[to] == UNKNOWN && conn->ask_ns[to] <= now_ns) {
            conn->asked |= (uint8_t)(1 << to);
            conn->ask_ns[to] = now_ns + ASK_EVERY_NS;
            build(conn, to, &(FutSegment){ .seq = check->ask_seq, .flags = FUT_TCP_SYN }, ret);
            return true;
        }
    }
    return false;
}

static void give_up(FutFlowCheck *check, Conn *conn)
{
    if (conn->answer[FUT_END_GUEST] == UNKNOWN) {
        end(check, conn, FUT_FLOW_LEFT);
    } else {
        reset(check, conn, conn->phase == WATCHING ? FUT_FLOW_RESET : FUT_FLOW_SILENT);
    }
}

static bool next_of(FutFlowCheck *check, Conn *conn, uint64_t now_ns, FutFlowFrame *ret)
{
    if (conn->phase != OVER && conn->give_up_ns <= now_ns) {
        give_up(check, conn);
    }
    if (conn->reset_due) {
        return send_reset(check, conn, ret);
    }
    return conn->phase == ASKING && ask(check, conn, now_ns, ret);
}

bool fut_flow_check_next(FutFlowCheck *check, uint64_t now_ns, FutFlowFrame *ret)
{
    if (check->pause_ns > now_ns) {
        return false;
    }
    for (unsigned i = 0; i < check->count; i++) {
        if (next_of(check, &check->conn[i], now_ns, ret)) {
            if (++check->burst == FUT_FLOW_BURST) {
                check->burst = 0;
                check->pause_ns = now_ns + FUT_FLOW_PAUSE_NS;
            }
            return true;
        }
    }
    check->burst = 0;
    return false;
}

static uint64_t deadline_of(const Conn *conn)
{
    uint64_t deadline = conn->phase == OVER ? UINT64_MAX : conn->give_up_ns;

    if (conn->reset_due) {
        return 0;
    }
    for (unsigned i = 0; i < 2 && conn->phase == ASKING; i++) {
        deadline = conn->answer[i] == UNKNOWN ? MIN(deadline, conn->ask_ns[i]) : deadline;
    }
    return deadline;
}

uint64_t fut_flow_check_deadline(const FutFlowCheck *check)
{
    uint64_t deadline = UINT64_MAX;

    for (unsigned i = 0; i < check->count && check->open; i++) {
        deadline = MIN(deadline, deadline_of(&check->conn[i]));
    }
    return deadline == UINT64_MAX ? deadline : MAX(deadline, check->pause_ns);
}

/* -- sight -- */

unsigned fut_flow_check_count(const FutFlowCheck *check, FutFlowVerdict verdict)
{
    return check->counts[verdict];
}

bool fut_flow_check_judged(FutFlowCheck *check, FutFlowKey *ret, FutFlowVerdict *ret_verdict)
{
    for (unsigned i = 0; i < check->count; i++) {
        Conn *conn = &check->conn[i];
        if (conn->phase == OVER && !conn->told) {
            conn->told = true;
            *ret = conn->flow.key;
            *ret_verdict = conn->verdict;
            return true;
        }
    }
    return false;
}
