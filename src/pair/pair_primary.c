/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary's rules: getting a backup, epochs and their release, losing the backup, handing
 * over. */
#include "pair_impl.h"
#include "wire_disk.h"

/* -- small steps -- */

static void connect_now(FutPair *pair)
{
    fut_pair_set_state(pair, FUT_STATE_CONNECTING);
    if (!pair->connect_open) { /* else the answer to an earlier CONNECT will do */
        pair->connect_open = true;
        fut_act(pair, FUT_ACT_CONNECT);
    }
}

static void connect_later(FutPair *pair, uint16_t bye)
{
    fut_pair_set_state(pair, FUT_STATE_CONNECTING);
    fut_pair_retry_after(pair, bye == FUT_BYE_REFUSED ? FUT_REFUSED_SLOWDOWN : 1);
}

static void stop_copy(FutPair *pair)
{
    if (pair->copying) {
        pair->copying = false;
        fut_act(pair, FUT_ACT_STOP_COPY);
    }
}

static void release_all(FutPair *pair)
{
    if (pair->holding) {
        pair->holding = false;
        pair->epoch = 0;
        fut_act(pair, FUT_ACT_RELEASE_ALL);
    }
}

static bool any_cut(const FutPair *pair)
{
    return pair->epoch > 1;
}

/* HALT first: nothing may leave the guest any more when the twin runs. */
static void fence(FutPair *pair)
{
    fut_pair_set_state(pair, FUT_STATE_FENCED);
    pair->wanted = false;
    fut_act(pair, FUT_ACT_HALT);
    if (pair->holding) {
        pair->holding = false;
        fut_act(pair, FUT_ACT_DROP_ALL);
    }
}

/* -- getting a backup -- */

static void alone_protect(FutPair *pair, const FutPairInput *in)
{
    pair->wanted = true;
    connect_now(pair);
}

static void connecting_timer(FutPair *pair, const FutPairInput *in)
{
    connect_now(pair);
}

static void connecting_unprotect(FutPair *pair, const FutPairInput *in)
{
    pair->wanted = false;
    fut_pair_set_state(pair, FUT_STATE_ALONE);
    fut_pair_report(pair, FUT_REPORT_ENDED, NULL, NULL, 0);
}

static void connecting_lost(FutPair *pair, const FutPairInput *in)
{
    fut_pair_report_change(pair, FUT_REPORT_UNREACHABLE, NULL, in->why, 0);
    connect_later(pair, 0);
}

static void connecting_link_up(FutPair *pair, const FutPairInput *in)
{
    if (!pair->connect_open) { /* not the link that was asked for */
        fut_pair_turn_away(pair, in);
        return;
    }
    FutHello hello = {
        .version_min = FUT_WIRE_VERSION_MIN,
        .version_max = FUT_WIRE_VERSION,
        .nonce = in->nonce,
        .generation = pair->generation,
        .heartbeat_ms = pair->own_heartbeat_ms,
        .timeout_ms = pair->own_timeout_ms,
        .features = pair->moving ? FUT_FEATURE_MOVE : 0,
        .vm = pair->vm,
        .node = pair->node,
        .machine = pair->machine,
    };
    FutBuf body = { 0 };

    fut_pair_set_state(pair, FUT_STATE_GREETING);
    fut_hello_encode(&body, &hello);
    fut_act_send(pair, FUT_MSG_HELLO, 0, body.data, body.len);
    fut_buf_done(&body);
}

static void greeting_welcome(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutWelcome) welcome = fut_welcome_decode(in->frame->body, in->frame->length, &error);

    if (!welcome) {
        fut_pair_blame(pair, "%s", error->message);
    } else if (welcome->version < FUT_WIRE_VERSION_MIN || welcome->version > FUT_WIRE_VERSION) {
        fut_pair_blame(pair, "the backup chose protocol version %u, which was not offered",
                       welcome->version);
    } else if (welcome->generation != pair->generation) {
        fut_pair_blame(pair, "the backup accepted generation %" PRIu64 ", offered was %" PRIu64,
                       welcome->generation, pair->generation);
    } else {
        fut_pair_start_session(pair, welcome->session, welcome->node);
        fut_pair_set_state(pair, FUT_STATE_COPYING);
        pair->copying = true;
        pair->final_cut = pair->final_acked = false;
        fut_act(pair, FUT_ACT_START_COPY);
        fut_pair_report(pair, FUT_REPORT_COPYING, welcome->node, NULL, 0);
    }
}

/* The driver reads it. */
static void copying_disk_kept(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    FutDiskKept kept;

    if (!fut_disk_kept_decode(in->frame->body, in->frame->length, &kept, &error)) {
        fut_pair_blame(pair, "%s", error->message);
    }
}

/* Likewise. */
static void take_disk_safe(FutPair *pair, const FutPairInput *in)
{
    if (in->frame->length != 8) {
        fut_pair_blame(pair, "bad DISK_SAFE from the peer: wrong length");
    }
}

static void copying_copied(FutPair *pair, const FutPairInput *in)
{
    fut_act_send(pair, FUT_MSG_BARRIER, 0, NULL, 0);
    fut_pair_set_state(pair, FUT_STATE_SETTLING);
}

static void settling_done(FutPair *pair, const FutPairInput *in)
{
    pair->epoch = 1;
    pair->holding = true;
    fut_pair_set_state(pair, FUT_STATE_PROTECTING);
    fut_act(pair, FUT_ACT_HOLD);
}

/* -- without a checkpoint cut, the backup has nothing to take over: no question to ask -- */

static void early_lost(FutPair *pair, const FutPairInput *in)
{
    bool refused = in->bye == FUT_BYE_REFUSED;

    stop_copy(pair);
    release_all(pair);
    fut_pair_report_change(pair, refused ? FUT_REPORT_REFUSED : FUT_REPORT_UNREACHABLE, NULL,
                           in->why, 0);
    connect_later(pair, in->bye);
}

static void early_unprotect(FutPair *pair, const FutPairInput *in)
{
    fut_act_bye(pair, FUT_BYE_UNPROTECT, "protection ended on request");
    fut_pair_hang_up(pair, "protection ended on request");
    stop_copy(pair);
    release_all(pair);
    connecting_unprotect(pair, in);
}

/* -- protected -- */

static void take_ack(FutPair *pair, const FutPairInput *in)
{
    uint64_t epoch = in->frame->length == 8 ? fut_get_le64(in->frame->body) : 0;

    if (epoch != pair->committed + 1 || epoch >= pair->epoch) {
        fut_pair_blame(pair,
                       "the backup acknowledged epoch %" PRIu64 ", due was one from %" PRIu64
                       " to %" PRIu64,
                       epoch, pair->committed + 1, pair->epoch - 1);
        return;
    }
    pair->committed = epoch;
    pair->unacked_since_ns = pair->now_ns;
    fut_act_number(pair, FUT_ACT_RELEASE,
                   pair->fault == FUT_FAULT_RELEASE_AHEAD ? pair->epoch - 1 : epoch);
    if (pair->state == FUT_STATE_PROTECTING) {
        fut_pair_set_state(pair, FUT_STATE_PROTECTED);
        fut_pair_forget_reasons(pair);
        fut_pair_report(pair, FUT_REPORT_PROTECTED, pair->peer_node, NULL, pair->generation);
    }
}

/* The backup of a move claims nothing without the final checkpoint. */
static bool none_can_claim(const FutPair *pair)
{
    return pair->moving && !pair->final_cut;
}

static void lost_to_ask(FutPair *pair, const FutPairInput *in)
{
    stop_copy(pair);
    fut_pair_report(pair, FUT_REPORT_LOST, pair->peer_node, in->why, pair->generation + 1);
    fut_pair_ask(pair, FUT_STATE_ASKING);
}

static void late_lost(FutPair *pair, const FutPairInput *in)
{
    if (none_can_claim(pair)) {
        early_lost(pair, in);
    } else {
        lost_to_ask(pair, in);
    }
}

/* Asked for while it is under way, or before this host knows that the backup holds an image (its acknowledgement may be late). */
static void ignore_handover(FutPair *pair, const FutPairInput *in)
{
}

static void protecting_lost(FutPair *pair, const FutPairInput *in)
{
    if (any_cut(pair)) {
        late_lost(pair, in);
    } else {
        early_lost(pair, in);
    }
}

/* The backup might not hear the BYE and claim the VM: outputs wait for the arbiter here too. */
static void late_unprotect(FutPair *pair, const FutPairInput *in)
{
    if (none_can_claim(pair)) {
        early_unprotect(pair, in);
        return;
    }
    pair->wanted = false;
    fut_act_bye(pair, FUT_BYE_UNPROTECT, "protection ended on request");
    fut_pair_hang_up(pair, "protection ended on request");
    stop_copy(pair);
    fut_pair_ask(pair, FUT_STATE_ASKING);
}

static void protecting_unprotect(FutPair *pair, const FutPairInput *in)
{
    if (any_cut(pair)) {
        late_unprotect(pair, in);
    } else {
        early_unprotect(pair, in);
    }
}

/* -- asking the arbiter -- */

static void asking_granted(FutPair *pair, const FutPairInput *in)
{
    pair->generation = in->generation;
    release_all(pair);
    if (pair->final_cut) {
        fut_act(pair, FUT_ACT_RESUME);
        fut_pair_report(pair, FUT_REPORT_TAKEN_BACK, NULL, NULL, pair->generation);
    } else {
        fut_pair_report(pair, FUT_REPORT_ALONE, NULL, NULL, pair->generation);
    }
    pair->final_cut = false;
    if (pair->wanted) {
        connect_now(pair);
    } else {
        connecting_unprotect(pair, in);
    }
}

static void asking_answer(FutPair *pair, const FutPairInput *in)
{
    switch (in->answer) {
    case FUT_ANSWER_GRANTED:
        asking_granted(pair, in);
        break;
    case FUT_ANSWER_REFUSED:
        fence(pair);
        fut_pair_report(pair, FUT_REPORT_FENCED, NULL, in->why, 0);
        break;
    case FUT_ANSWER_UNKNOWN:
        fut_pair_report_change(pair, FUT_REPORT_NO_ANSWER, NULL, in->why, 0);
        fut_pair_set_string(&pair->doubt, in->why);
        fut_pair_retry_after(pair, 1);
        break;
    }
}

static void asking_unprotect(FutPair *pair, const FutPairInput *in)
{
    pair->wanted = false;
}

/* -- handing over -- */

/* One final checkpoint, once all earlier ones are acknowledged. */
static void cut_final(FutPair *pair)
{
    if (fut_pair_may_cut(pair)) {
        fut_act(pair, FUT_ACT_CUT);
    }
}

/* The twin will need the arbiter while the guest stands still. So the arbiter first confirms the
 * generation that this host has: if it does not answer, the guest has not been stopped. */
static void protected_failover(FutPair *pair, const FutPairInput *in)
{
    fut_pair_set_state(pair, FUT_STATE_HANDING);
    fut_pair_report(pair, FUT_REPORT_HANDING, pair->peer_node, NULL, 0);
    pair->probing = true;
    fut_act_number(pair, FUT_ACT_ASK, pair->generation);
}

static void handing_probed(FutPair *pair, const FutPairInput *in)
{
    switch (in->answer) {
    case FUT_ANSWER_GRANTED:
        cut_final(pair);
        break;
    case FUT_ANSWER_REFUSED: /* somebody has a later generation */
        lost_to_ask(pair, in);
        fut_pair_hang_up(pair, in->why);
        break;
    case FUT_ANSWER_UNKNOWN:
        fut_pair_set_state(pair, FUT_STATE_PROTECTED);
        fut_pair_set_string(&pair->last_reason, in->why);
        fut_pair_report(pair, FUT_REPORT_NOT_HANDING, NULL, in->why, 0);
        break;
    }
}

static void handing_ack(FutPair *pair, const FutPairInput *in)
{
    take_ack(pair, in);
    if (pair->state != FUT_STATE_HANDING) {
        return; /* the ack was bad */
    }
    pair->final_acked = pair->final_cut && pair->committed == pair->epoch - 1;
    if (!pair->probing) {
        cut_final(pair);
    }
}

static void handing_lost(FutPair *pair, const FutPairInput *in)
{
    stop_copy(pair);
    if (in->bye == FUT_BYE_TAKEN && pair->final_acked) {
        fence(pair);
        fut_pair_report(pair, FUT_REPORT_HANDED, pair->peer_node, NULL, 0);
        return;
    }
    if (in->bye == FUT_BYE_FAILED && pair->final_acked) {
        pair->generation++; /* the backup's; it will never run in it */
    }
    late_lost(pair, in);
}

/* -- epochs -- */

uint64_t fut_pair_under_way(const FutPair *pair)
{
    return pair->epoch > 0 ? pair->epoch - 1 - pair->committed : 0;
}

bool fut_pair_may_cut(const FutPair *pair)
{
    uint64_t in_flight = fut_pair_under_way(pair);

    switch (pair->state) {
    case FUT_STATE_PROTECTING:
    case FUT_STATE_PROTECTED:
        return in_flight < pair->window;
    case FUT_STATE_HANDING:
        return pair->probing ? in_flight < pair->window : in_flight == 0 && !pair->final_cut;
    default:
        return false;
    }
}

uint64_t fut_pair_cut(FutPair *pair, uint32_t *ret_flags, uint64_t now_ns)
{
    g_assert(fut_pair_may_cut(pair));
    pair->now_ns = MAX(pair->now_ns, now_ns);
    pair->final_cut = pair->state == FUT_STATE_HANDING && !pair->probing;
    *ret_flags = pair->final_cut ? FUT_CHECKPOINT_FINAL : 0;
    if (pair->fault == FUT_FAULT_RELEASE_EARLY) {
        fut_act_number(pair, FUT_ACT_RELEASE, pair->epoch);
    }
    if (pair->epoch == pair->committed + 1) {
        pair->unacked_since_ns = pair->now_ns;
    }
    return pair->epoch++;
}

uint64_t fut_pair_output_epoch(const FutPair *pair)
{
    if (pair->state == FUT_STATE_FENCED) {
        return UINT64_MAX;
    }
    return pair->holding ? pair->epoch : 0;
}

const FutPairRules fut_primary_rules[FUT_STATE_COUNT] = {
    [FUT_STATE_ALONE] = {
        [EV_PROTECT] = alone_protect,
    },
    [FUT_STATE_CONNECTING] = {
        [EV_LINK_UP] = connecting_link_up,
        [EV_LOST] = connecting_lost,
        [EV_TIMER] = connecting_timer,
        [EV_UNPROTECT] = connecting_unprotect,
    },
    [FUT_STATE_GREETING] = {
        [EV_WELCOME] = greeting_welcome,
        [EV_LOST] = early_lost,
        [EV_UNPROTECT] = early_unprotect,
    },
    [FUT_STATE_COPYING] = {
        [EV_COPIED] = copying_copied,
        [EV_DISK_SAFE] = take_disk_safe,
        [EV_DISK_KEPT] = copying_disk_kept,
        [EV_LOST] = early_lost,
        [EV_UNPROTECT] = early_unprotect,
    },
    [FUT_STATE_SETTLING] = {
        [EV_BARRIER_DONE] = settling_done,
        [EV_DISK_SAFE] = take_disk_safe,
        [EV_LOST] = early_lost,
        [EV_UNPROTECT] = early_unprotect,
    },
    [FUT_STATE_PROTECTING] = {
        [EV_ACK] = take_ack,
        [EV_HANDOVER] = ignore_handover,
        [EV_LOST] = protecting_lost,
        [EV_DISK_SAFE] = take_disk_safe,
        [EV_UNPROTECT] = protecting_unprotect,
    },
    [FUT_STATE_PROTECTED] = {
        [EV_ACK] = take_ack,
        [EV_HANDOVER] = protected_failover,
        [EV_DISK_SAFE] = take_disk_safe,
        [EV_FAILOVER] = protected_failover,
        [EV_LOST] = late_lost,
        [EV_UNPROTECT] = late_unprotect,
    },
    [FUT_STATE_ASKING] = {
        [EV_ANSWER] = asking_answer,
        [EV_TIMER] = fut_pair_ask_again,
        [EV_UNPROTECT] = asking_unprotect,
    },
    [FUT_STATE_HANDING] = {
        [EV_ACK] = handing_ack,
        [EV_PROBED] = handing_probed,
        [EV_DISK_SAFE] = take_disk_safe,
        [EV_HANDOVER] = ignore_handover,
        [EV_LOST] = handing_lost,
        [EV_UNPROTECT] = late_unprotect, /* not after the final checkpoint: fut_pair_unprotect() */
    },
};
