/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pair's link: coming and going, signs of life, deadlines, and the way of a message to its
 * rule. */
#include "pair_impl.h"

/* -- link -- */

static void unlink_peer(FutPair *pair, const char *why)
{
    pair->linked = false;
    pair->session_on = false;
    fut_pair_set_string(&pair->last_reason, why);
}

/* The state's rule runs while peer_node still says who it was. */
static void lose(FutPair *pair, const char *why, uint16_t bye)
{
    FutPairInput in = { .why = why, .bye = bye };

    unlink_peer(pair, why);
    fut_pair_dispatch(pair, EV_LOST, &in);
    fut_pair_set_string(&pair->peer_node, "");
}

static void close_and_lose(FutPair *pair, const char *why, uint16_t bye)
{
    fut_act_text(pair, FUT_ACT_CLOSE, NULL, why);
    lose(pair, why, bye);
}

void fut_pair_hang_up(FutPair *pair, const char *why)
{
    if (pair->linked) {
        fut_act_text(pair, FUT_ACT_CLOSE, NULL, why);
        unlink_peer(pair, why);
        fut_pair_set_string(&pair->peer_node, "");
    }
}

static void blame(FutPair *pair, const char *why)
{
    fut_act_bye(pair, FUT_BYE_ERROR, why);
    close_and_lose(pair, why, 0);
}

void fut_pair_blame(FutPair *pair, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    blame(pair, why);
}

void fut_pair_start_session(FutPair *pair, uint32_t session, const char *peer_node)
{
    fut_act_number(pair, FUT_ACT_SESSION, session);
    pair->session_on = true;
    pair->partial_since_ns = FUT_NEVER;
    pair->heard_ns = pair->now_ns;
    pair->sent_ns = pair->now_ns;
    pair->committed = 0;
    pair->epoch = 0;
    fut_pair_set_string(&pair->peer_node, peer_node);
}

void fut_pair_turn_away(FutPair *pair, const FutPairInput *in)
{
    g_autofree char *why = g_strdup_printf("%s takes no connection: %s", pair->node,
                                           fut_state_explanation(pair->state));

    fut_act_bye(pair, FUT_BYE_REFUSED, why);
    fut_act_text(pair, FUT_ACT_CLOSE, NULL, why);
    pair->linked = false;
}

/* -- time -- */

static uint64_t after_ms(uint64_t from_ns, uint64_t ms)
{
    return from_ns + ms * FUT_NS_PER_MS;
}

static void set_now(FutPair *pair, uint64_t now_ns)
{
    pair->now_ns = MAX(pair->now_ns, now_ns);
}

/* When a backup that lives but does not acknowledge is given up. */
static uint64_t commit_deadline(const FutPair *pair)
{
    bool waiting = pair->linked && pair->holding && pair->epoch > pair->committed + 1;

    return waiting && pair->commit_ms ? after_ms(pair->unacked_since_ns, pair->commit_ms)
                                      : FUT_NEVER;
}

/* Every event first lets silence count: a primary that was frozen must not act on acknowledgements
 * that lay in its socket meanwhile. */
void fut_pair_enter(FutPair *pair, uint64_t now_ns)
{
    set_now(pair, now_ns);
    if (pair->linked && pair->now_ns >= after_ms(pair->heard_ns, pair->timeout_ms)) {
        g_autofree char *why =
            g_strdup_printf("no %s for %u ms", pair->session_on ? "sign of life" : "greeting",
                            pair->timeout_ms);
        close_and_lose(pair, why, 0);
    }
}

/* Bytes arrived. Each may keep the link alive, but they have to become a message some time: after a
 * damaged length all that follows would be taken for the body of one message. */
static void expect_whole_message(FutPair *pair)
{
    uint64_t patience_ms = (uint64_t)pair->timeout_ms * FUT_MESSAGE_PATIENCE;

    if (pair->partial_since_ns == FUT_NEVER) {
        pair->partial_since_ns = pair->now_ns;
    } else if (pair->now_ns >= after_ms(pair->partial_since_ns, patience_ms)) {
        g_autofree char *why = g_strdup_printf("no whole message for %" PRIu64 " ms", patience_ms);
        close_and_lose(pair, why, 0);
    }
}

/* Something arrived. Whoever was slow itself takes it as life: a backup that applied a large epoch,
 * which releases nothing and takes over only with a grant, and a primary that does not hold outputs
 * yet. Before the session is agreed on only the whole greeting counts, so that a stranger cannot
 * keep the place by dribbling. */
static void take_life(FutPair *pair, uint64_t now_ns)
{
    set_now(pair, now_ns);
    if (pair->session_on && !pair->holding) {
        pair->heard_ns = pair->now_ns;
    }
    fut_pair_enter(pair, now_ns);
    if (pair->session_on) {
        pair->heard_ns = pair->now_ns;
    }
}

void fut_pair_alive(FutPair *pair, uint64_t now_ns)
{
    take_life(pair, now_ns);
    if (pair->session_on) {
        expect_whole_message(pair);
    }
}

void fut_pair_tick(FutPair *pair, uint64_t now_ns)
{
    fut_pair_enter(pair, now_ns);
    if (pair->now_ns >= commit_deadline(pair)) {
        g_autofree char *why =
            g_strdup_printf("the backup did not acknowledge a checkpoint for %u ms",
                            pair->commit_ms);
        close_and_lose(pair, why, 0);
    }
    if (pair->session_on && pair->now_ns >= after_ms(pair->sent_ns, pair->heartbeat_ms)) {
        fut_act_send(pair, FUT_MSG_HEARTBEAT, 0, NULL, 0);
    }
    if (pair->now_ns >= pair->retry_at_ns) {
        FutPairInput in = { 0 };
        pair->retry_at_ns = FUT_NEVER;
        fut_pair_dispatch(pair, EV_TIMER, &in);
    }
}

uint64_t fut_pair_deadline(const FutPair *pair)
{
    uint64_t at = pair->retry_at_ns;

    if (pair->linked) {
        at = MIN(at, after_ms(pair->heard_ns, pair->timeout_ms));
    }
    if (pair->session_on) {
        at = MIN(at, after_ms(pair->sent_ns, pair->heartbeat_ms));
    }
    return MIN(at, commit_deadline(pair));
}

void fut_pair_retry_after(FutPair *pair, unsigned times)
{
    pair->retry_at_ns = after_ms(pair->now_ns, (uint64_t)pair->retry_ms * times);
}

/* -- events from below -- */

void fut_pair_link_up(FutPair *pair, uint64_t nonce, uint64_t now_ns)
{
    FutPairInput in = { .nonce = nonce };

    g_assert(!pair->linked);
    set_now(pair, now_ns);
    pair->linked = true;
    pair->nonce = nonce;
    pair->heard_ns = pair->now_ns;
    pair->heartbeat_ms = pair->own_heartbeat_ms;
    pair->timeout_ms = pair->own_timeout_ms;
    if (!fut_pair_dispatch(pair, EV_LINK_UP, &in)) {
        fut_pair_turn_away(pair, &in);
    }
    pair->connect_open = false;
}

void fut_pair_link_down(FutPair *pair, const char *why, uint64_t now_ns)
{
    bool connecting = pair->connect_open;

    set_now(pair, now_ns);
    pair->connect_open = false;
    if (pair->linked || (connecting && pair->state == FUT_STATE_CONNECTING)) {
        lose(pair, why, 0);
    }
}

void fut_pair_bad_peer(FutPair *pair, const char *why, uint64_t now_ns)
{
    set_now(pair, now_ns);
    if (pair->linked) {
        blame(pair, why);
    }
}

void fut_pair_sent(FutPair *pair, uint64_t now_ns)
{
    set_now(pair, now_ns);
    pair->sent_ns = pair->now_ns;
}

static FutPairEvent event_of(uint16_t type)
{
    static const struct {
        uint16_t type;
        FutPairEvent event;
    } events[] = {
        { FUT_MSG_HELLO, EV_HELLO },
        { FUT_MSG_PAGES, EV_PAGES },
        { FUT_MSG_BARRIER, EV_BARRIER },
        { FUT_MSG_EPOCH_PART, EV_EPOCH_PART },
        { FUT_MSG_CHECKPOINT, EV_CHECKPOINT },
        { FUT_MSG_INBOUND, EV_INBOUND },
        { FUT_MSG_DISK, EV_DISK },
        { FUT_MSG_DISK_BASE, EV_DISK_BASE },
        { FUT_MSG_PROBES, EV_PROBES },
        { FUT_MSG_FLOWS, EV_FLOWS },
        { FUT_MSG_WELCOME, EV_WELCOME },
        { FUT_MSG_BARRIER_DONE, EV_BARRIER_DONE },
        { FUT_MSG_ACK, EV_ACK },
        { FUT_MSG_HANDOVER, EV_HANDOVER },
        { FUT_MSG_DISK_KEPT, EV_DISK_KEPT },
        { FUT_MSG_DISK_SAFE, EV_DISK_SAFE },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
        if (events[i].type == type) {
            return events[i].event;
        }
    }
    return EV_COUNT;
}

/* Does the message come at a time when such messages come at all? The rules of the state say the
 * rest. */
static bool in_time(const FutPair *pair, uint16_t type)
{
    bool greeting = type == FUT_MSG_HELLO || type == FUT_MSG_WELCOME;
    return greeting != pair->session_on;
}

static void take_message(FutPair *pair, const FutFrame *frame)
{
    FutPairInput in = { .frame = frame };
    FutPairEvent event = event_of(frame->type);
    bool known = event != EV_COUNT || frame->type == FUT_MSG_HEARTBEAT;

    if (!known || !in_time(pair, frame->type) ||
        (event != EV_COUNT && !fut_pair_rule(pair, event))) {
        fut_pair_blame(pair, "unexpected message %s (%u) in state %s",
                       fut_wire_type_name(frame->type), frame->type, fut_state_name(pair->state));
    } else if (frame->flags != 0 || frame->length > fut_wire_cap(frame->type) ||
               (fut_wire_is_empty(frame->type) && frame->length != 0)) {
        fut_pair_blame(pair, "bad %s from the peer: wrong flags or length",
                       fut_wire_type_name(frame->type));
    } else if (event != EV_COUNT) {
        fut_pair_dispatch(pair, event, &in);
    }
}

void fut_pair_frame(FutPair *pair, const FutFrame *frame, uint64_t now_ns)
{
    take_life(pair, now_ns);
    pair->partial_since_ns = FUT_NEVER;
    if (!pair->linked) {
        return;
    }
    if (frame->type == FUT_MSG_BYE) {
        g_autofree char *text = fut_bye_decode(frame->body, frame->length);
        close_and_lose(pair, *text ? text : "the peer said goodbye", frame->flags);
    } else {
        take_message(pair, frame);
    }
}
