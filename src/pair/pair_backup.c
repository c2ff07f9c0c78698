/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The backup's rules: accepting a primary, committing epochs, claiming the VM and taking it
 * over. */
#include "pair_impl.h"

#include "wire_disk.h"

/* -- image -- */

static void discard(FutPair *pair)
{
    if (pair->image) {
        pair->image = false;
        fut_act(pair, FUT_ACT_DISCARD);
    }
    pair->committed = 0;
}

static void back_to_waiting(FutPair *pair, FutPairReport report, const char *who, const char *why)
{
    discard(pair);
    fut_pair_set_state(pair, FUT_STATE_WAITING);
    fut_pair_report(pair, report, who, why, 0);
}

static void start_epoch(FutPair *pair)
{
    pair->parts = 0;
    pair->part_bytes = 0;
    pair->acked_early = false;
}

/* -- accepting a primary -- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Depends on both ends' nonces: neither a replayed HELLO nor a replayed WELCOME gives an old
 * session. */
static uint32_t session_of(uint64_t primary_nonce, uint64_t backup_nonce)
{
    uint32_t session = (uint32_t)(mix(mix(primary_nonce) + backup_nonce) >> 32);
    return session ? session : 1;
}

static bool times_ok(const FutHello *hello)
{
    return hello->heartbeat_ms >= FUT_PAIR_HEARTBEAT_MIN_MS &&
           hello->heartbeat_ms <= FUT_PAIR_HEARTBEAT_MAX_MS &&
           hello->timeout_ms >= FUT_PAIR_TIMEOUT_MIN_MS &&
           hello->timeout_ms <= FUT_PAIR_TIMEOUT_MAX_MS && hello->timeout_ms > hello->heartbeat_ms;
}

/* In CLAIMING this host may hold generation + 1 without knowing it: only a primary that proves
 * otherwise is let in. */
static char *generation_objection(const FutPair *pair, const FutHello *hello)
{
    uint64_t least = pair->generation + (pair->state == FUT_STATE_CLAIMING ? 1 : 0);

    if (hello->generation >= FUT_GENERATION_MAX) {
        return g_strdup_printf("generation %" PRIu64 " is out of range", hello->generation);
    }
    if (hello->generation < least) {
        return g_strdup_printf("generation %" PRIu64 " of %s is too old: %s knows of %" PRIu64
                               "%s; stop the VM on %s unless it is the right one",
                               hello->generation, hello->node, pair->node, pair->generation,
                               least > pair->generation ? " and has claimed the next" : "",
                               hello->node);
    }
    return NULL;
}

/* The machine's first line names the QEMU: options do not put that right. */
static const char *machine_remedy(const char *difference)
{
    return g_str_has_prefix(difference, "qemu:") ? "install the same QEMU on both hosts"
                                                 : "start both with the same options";
}

/* What speaks against this primary, in words for its reader; NULL: nothing. Caller frees. */
static char *objection(const FutPair *pair, const FutHello *hello)
{
    if (strcmp(hello->vm, pair->vm) != 0) {
        return g_strdup_printf("%s is the backup of VM \"%s\", not of \"%s\"", pair->node, pair->vm,
                               hello->vm);
    }
    if (strcmp(hello->node, pair->node) == 0) {
        return g_strdup_printf("both hosts call themselves \"%s\": give them different node names",
                               pair->node);
    }
    if (!times_ok(hello)) {
        return g_strdup_printf(
            "heartbeat %u ms with timeout %u ms: choose a heartbeat of %u to %u ms and a larger timeout of "
            "%u to %u ms",
            hello->heartbeat_ms, hello->timeout_ms, FUT_PAIR_HEARTBEAT_MIN_MS,
            FUT_PAIR_HEARTBEAT_MAX_MS, FUT_PAIR_TIMEOUT_MIN_MS, FUT_PAIR_TIMEOUT_MAX_MS);
    }
    if (!(hello->features & FUT_FEATURE_MOVE) == pair->moving) {
        return g_strdup_printf(
            pair->moving
                ? "%s waits for a VM that moves there: use futago relocate"
                : "%s is a standby and its VM would move: relocate it to a host with futago receive",
            pair->node);
    }
    char *why = generation_objection(pair, hello);
    if (why) {
        return why;
    }
    g_autofree char *difference = fut_machine_difference(hello->machine, pair->machine);
    if (difference && g_str_has_prefix(difference, FUT_WIRE_ARBITER_KEY ": ")) {
        return g_strdup_printf("the hosts ask different arbiters: %s; name the same one on both "
                               "(--arbiter)",
                               difference + strlen(FUT_WIRE_ARBITER_KEY ": "));
    }
    return difference ? g_strdup_printf("the machines differ in %s; %s", difference,
                                        machine_remedy(difference))
                      : NULL;
}

/* The state stays what it was: WAITING, or CLAIMING. */
static void refuse(FutPair *pair, const char *who, const char *why)
{
    fut_act_bye(pair, FUT_BYE_REFUSED, why);
    fut_pair_report_change(pair, FUT_REPORT_REFUSING, who, why, 0);
    fut_pair_hang_up(pair, why);
}

static void accept_primary(FutPair *pair, const FutHello *hello)
{
    FutWelcome welcome = {
        .version = MIN(hello->version_max, FUT_WIRE_VERSION),
        .session = session_of(hello->nonce, pair->nonce),
        .generation = hello->generation,
        .node = pair->node,
    };
    FutBuf body = { 0 };

    discard(pair);
    pair->generation = hello->generation;
    pair->heartbeat_ms = hello->heartbeat_ms;
    pair->timeout_ms = hello->timeout_ms;
    fut_welcome_encode(&body, &welcome);
    fut_act_send(pair, FUT_MSG_WELCOME, 0, body.data, body.len);
    fut_buf_done(&body);
    fut_pair_start_session(pair, welcome.session, hello->node);
    fut_pair_set_state(pair, FUT_STATE_RECEIVING);
    pair->image = true;
    pair->barrier_in = false;
    pair->disk_epoch = 0;
    pair->ack_late = false;
    pair->ack_hold = pair->acked = 0;
    start_epoch(pair);
    fut_pair_report(pair, FUT_REPORT_RECEIVING, hello->node, NULL, 0);
}

static void take_hello(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FutHello) hello = fut_hello_decode(in->frame->body, in->frame->length, &error);

    if (!hello) {
        if (g_error_matches(error, FUT_ERROR, FUT_ERR_MISMATCH)) {
            refuse(pair, "a primary", error->message);
        } else {
            fut_pair_blame(pair, "%s", error->message);
        }
        return;
    }
    g_autofree char *why = objection(pair, hello);
    if (why) {
        refuse(pair, hello->node, why);
    } else {
        accept_primary(pair, hello);
    }
}

/* HELLO is awaited; the silence timer does the rest. */
static void await_hello(FutPair *pair, const FutPairInput *in)
{
}

/* -- the copy -- */

static void take_pages(FutPair *pair, const FutPairInput *in)
{
    if (pair->parts > 0) {
        fut_pair_blame(pair, "PAGES in the middle of an epoch");
    }
}

static void take_barrier(FutPair *pair, const FutPairInput *in)
{
    if (pair->barrier_in) {
        fut_pair_blame(pair, "a second BARRIER");
        return;
    }
    pair->barrier_in = true;
    fut_act(pair, FUT_ACT_BARRIER_IN);
    fut_act_send(pair, FUT_MSG_BARRIER_DONE, 0, NULL, 0);
}

static void receiving_lost(FutPair *pair, const FutPairInput *in)
{
    back_to_waiting(pair, FUT_REPORT_DISCARDED, pair->peer_node, in->why);
}

/* -- epochs -- */

/* Checks an epoch's number; blames the peer when it is not the next one. */
static bool is_next(FutPair *pair, const char *what, uint64_t epoch)
{
    if (!pair->barrier_in) {
        fut_pair_blame(pair, "%s before the copy was complete", what);
    } else if (epoch != pair->committed + 1) {
        fut_pair_blame(pair, "%s of epoch %" PRIu64 ", due is %" PRIu64, what, epoch,
                       pair->committed + 1);
    } else {
        return true;
    }
    return false;
}

static void take_part(FutPair *pair, const FutPairInput *in)
{
    if (in->frame->length < 8) {
        fut_pair_blame(pair, "bad EPOCH_PART from the peer: too short");
        return;
    }
    uint64_t epoch = fut_get_le64(in->frame->body);

    if (!is_next(pair, "EPOCH_PART", epoch)) {
        return;
    }
    if (pair->parts == UINT32_MAX) {
        fut_pair_blame(pair, "too many parts");
        return;
    }
    pair->parts++;
    pair->part_bytes += in->frame->length - 8;
    if (pair->fault == FUT_FAULT_ACK_PART && !pair->acked_early) {
        pair->acked_early = true;
        pair->acked = epoch;
        fut_act_send_epoch(pair, FUT_MSG_ACK, epoch);
    }
}

static void send_acks(FutPair *pair, uint64_t upto)
{
    while (pair->acked < upto) {
        fut_act_send_epoch(pair, FUT_MSG_ACK, ++pair->acked);
    }
}

void fut_pair_ack_late(FutPair *pair)
{
    pair->ack_late = true;
}

void fut_pair_written(FutPair *pair, uint64_t epoch, uint64_t now_ns)
{
    fut_pair_enter(pair, now_ns);
    if (pair->ack_hold > 0 && epoch >= pair->ack_hold) {
        pair->ack_hold = 0;
        if (pair->session_on && pair->role == FUT_ROLE_BACKUP) {
            send_acks(pair, pair->committed);
        }
    }
}

void fut_pair_disk_safe(FutPair *pair, uint64_t mark, uint64_t now_ns)
{
    bool told = pair->state == FUT_STATE_RECEIVING || pair->state == FUT_STATE_STANDBY;

    fut_pair_enter(pair, now_ns);
    if (told && pair->session_on) {
        fut_act_send_epoch(pair, FUT_MSG_DISK_SAFE, mark);
    }
}

/* Holding all of it is the commit; applying cannot fail. So the ACK goes first: the primary's
 * clients wait for it. */
static void commit(FutPair *pair, uint64_t epoch)
{
    if (pair->ack_late) {
        pair->ack_late = false;
        pair->ack_hold = epoch;
    }
    if (pair->ack_hold == 0) {
        send_acks(pair, epoch);
    }
    fut_act_number(pair, FUT_ACT_APPLY, epoch);
    pair->committed = epoch;
    start_epoch(pair);
    if (pair->state == FUT_STATE_RECEIVING) {
        fut_pair_set_state(pair, FUT_STATE_STANDBY);
        fut_pair_forget_reasons(pair);
        fut_pair_report(pair, FUT_REPORT_STANDBY, pair->peer_node, NULL, pair->generation);
    }
}

static void take_checkpoint(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    FutCheckpoint c;

    if (!fut_checkpoint_decode(in->frame->body, in->frame->length, &c, &error)) {
        fut_pair_blame(pair, "%s", error->message);
        return;
    }
    uint64_t bytes = pair->part_bytes + (in->frame->length - FUT_CHECKPOINT_SIZE);

    if (!is_next(pair, "CHECKPOINT", c.epoch)) {
        return;
    }
    if (c.released > pair->acked) {
        fut_pair_blame(pair,
                       "outputs of epoch %" PRIu64 " were released, acknowledged was %" PRIu64,
                       c.released, pair->acked);
        return;
    }
    if (c.parts != pair->parts || c.stream_length != bytes) {
        fut_pair_blame(pair,
                       "epoch %" PRIu64 " is not complete: %u parts and %" PRIu64
                       " bytes announced, %u and %" PRIu64 " received",
                       c.epoch, c.parts, c.stream_length, pair->parts, bytes);
        return;
    }
    commit(pair, c.epoch);
    if (c.flags & FUT_CHECKPOINT_FINAL) {
        fut_pair_report(pair, FUT_REPORT_HANDED_US, pair->peer_node, NULL, pair->generation + 1);
        fut_pair_ask(pair, FUT_STATE_CLAIMING);
    }
}

/* The driver keeps the packet. One of a committed epoch is of no use any more, but no fault
 * either. */
static void take_inbound(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    FutInbound inbound;

    if (!fut_inbound_decode(in->frame->body, in->frame->length, &inbound, &error)) {
        fut_pair_blame(pair, "%s", error->message);
    } else if (!pair->barrier_in || inbound.epoch > pair->committed + 1 + FUT_PAIR_WINDOW_MAX) {
        fut_pair_blame(pair, "INBOUND of epoch %" PRIu64 ", committed is %" PRIu64, inbound.epoch,
                       pair->committed);
    }
}

/* -- disks; the driver keeps what is to be written -- */

/* Epoch 0 is the copy: written at once. Later ones are written when their epoch is committed. */
static void take_disk(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    FutDiskHead head;

    if (pair->moving) {
        fut_pair_blame(pair, "a DISK message in a move: its disks follow by other ways");
        return;
    }
    if (!fut_disk_head_decode(in->frame->body, in->frame->length, &head, &error)) {
        fut_pair_blame(pair, "%s", error->message);
        return;
    }
    if (head.kind == FUT_DISK_STORED && head.epoch <= pair->committed) {
        return;
    }
    bool copy = head.epoch == 0 && pair->committed == 0;
    bool due = pair->barrier_in && head.kind != FUT_DISK_STORED && head.epoch > pair->committed &&
               head.epoch <= pair->committed + 1 + FUT_PAIR_WINDOW_MAX;

    if ((!copy && !due) || head.epoch < pair->disk_epoch) {
        fut_pair_blame(pair, "DISK of epoch %" PRIu64 " after %" PRIu64 ", committed is %" PRIu64,
                       head.epoch, pair->disk_epoch, pair->committed);
        return;
    }
    pair->disk_epoch = head.epoch;
}

static void take_disk_base(FutPair *pair, const FutPairInput *in)
{
    g_autoptr(GError) error = NULL;
    FutDiskBase base;

    if (pair->moving) {
        fut_pair_blame(pair, "a DISK_BASE message in a move: its disks follow by other ways");
    } else if (!fut_disk_base_decode(in->frame->body, in->frame->length, &base, &error)) {
        fut_pair_blame(pair, "%s", error->message);
    }
}

static void image_bad(FutPair *pair, const FutPairInput *in)
{
    g_autofree char *who = g_strdup(pair->peer_node);

    fut_act_bye(pair, FUT_BYE_REFUSED, in->why);
    fut_pair_hang_up(pair, in->why);
    back_to_waiting(pair, FUT_REPORT_DISCARDED, who, in->why);
}

/* -- losing the primary, claiming the VM -- */

static void standby_lost(FutPair *pair, const FutPairInput *in)
{
    if (in->bye == FUT_BYE_UNPROTECT || pair->moving) { /* whose disks are there stays there */
        back_to_waiting(pair, FUT_REPORT_DISCARDED, pair->peer_node, in->why);
        return;
    }
    fut_pair_report(pair, FUT_REPORT_PRIMARY_LOST, pair->peer_node, in->why, pair->generation + 1);
    fut_pair_ask(pair, FUT_STATE_CLAIMING);
}

static void standby_failover(FutPair *pair, const FutPairInput *in)
{
    fut_act_send(pair, FUT_MSG_HANDOVER, 0, NULL, 0);
    fut_pair_report(pair, FUT_REPORT_ASKED_HANDOVER, pair->peer_node, NULL, 0);
}

/* A link without session is one that came while claiming: its HELLO can only be refused now. */
static void claiming_granted(FutPair *pair, const FutPairInput *in)
{
    pair->generation = in->generation;
    if (!pair->session_on) {
        fut_pair_hang_up(pair, "taking over");
    }
    fut_pair_set_state(pair, FUT_STATE_TAKING);
    fut_pair_report(pair, FUT_REPORT_TAKING, NULL, NULL, pair->generation);
    fut_act(pair, FUT_ACT_TAKE_OVER);
}

/* Both belong to it: how the primary was lost, and that it was not as dead as it seemed. */
static void claim_refused(FutPair *pair, const char *why)
{
    if (pair->session_on) {
        fut_pair_hang_up(pair, why);
    } else {
        g_autofree char *both = g_strdup_printf("%s; %s", pair->last_reason, why);
        fut_pair_set_string(&pair->last_reason, both);
    }
    back_to_waiting(pair, FUT_REPORT_DISCARDED, pair->vm, why);
}

static void claiming_answer(FutPair *pair, const FutPairInput *in)
{
    switch (in->answer) {
    case FUT_ANSWER_GRANTED:
        claiming_granted(pair, in);
        break;
    case FUT_ANSWER_REFUSED:
        claim_refused(pair, in->why);
        break;
    case FUT_ANSWER_UNKNOWN:
        fut_pair_report_change(pair, FUT_REPORT_NO_CLAIM, NULL, in->why, 0);
        fut_pair_set_string(&pair->doubt, in->why);
        fut_pair_retry_after(pair, 1);
        break;
    }
}

/* -- taking over -- */

static void taking_taken(FutPair *pair, const FutPairInput *in)
{
    if (pair->linked) {
        fut_act_bye(pair, in->ok ? FUT_BYE_TAKEN : FUT_BYE_FAILED,
                    in->ok ? "the VM runs here now" : in->why);
        fut_pair_hang_up(pair, in->ok ? "hand-over is done" : in->why);
    }
    if (!in->ok) {
        fut_pair_set_state(pair, FUT_STATE_FAILED);
        fut_pair_report(pair, FUT_REPORT_FAILED, NULL, in->why, 0);
        return;
    }
    pair->role = FUT_ROLE_PRIMARY;
    pair->image = pair->moving = false;
    pair->heartbeat_ms = pair->own_heartbeat_ms;
    pair->timeout_ms = pair->own_timeout_ms;
    fut_pair_set_state(pair, FUT_STATE_ALONE);
    fut_pair_report(pair, FUT_REPORT_TAKEN, NULL, NULL, pair->generation);
}

/* The driver keeps it, and has checked it. Probes may come amid a hand-over. */
static void take_beside(FutPair *pair, const FutPairInput *in)
{
}

const FutPairRules fut_backup_rules[FUT_STATE_COUNT] = {
    [FUT_STATE_WAITING] = {
        [EV_LINK_UP] = await_hello,
        [EV_HELLO] = take_hello,
    },
    [FUT_STATE_RECEIVING] = {
        [EV_PAGES] = take_pages,
        [EV_BARRIER] = take_barrier,
        [EV_EPOCH_PART] = take_part,
        [EV_CHECKPOINT] = take_checkpoint,
        [EV_INBOUND] = take_inbound,
        [EV_PROBES] = take_beside,
        [EV_FLOWS] = take_beside,
        [EV_DISK] = take_disk,
        [EV_DISK_BASE] = take_disk_base,
        [EV_IMAGE_BAD] = image_bad,
        [EV_LOST] = receiving_lost,
    },
    [FUT_STATE_STANDBY] = {
        [EV_EPOCH_PART] = take_part,
        [EV_CHECKPOINT] = take_checkpoint,
        [EV_INBOUND] = take_inbound,
        [EV_PROBES] = take_beside,
        [EV_DISK] = take_disk,
        [EV_IMAGE_BAD] = image_bad,
        [EV_LOST] = standby_lost,
        [EV_FAILOVER] = standby_failover,
    },
    /* the link may still be up: hand-over; or up again: somebody's HELLO */
    [FUT_STATE_CLAIMING] = {
        [EV_LINK_UP] = await_hello,
        [EV_HELLO] = take_hello,
        [EV_INBOUND] = take_inbound,
        [EV_PROBES] = take_beside,
        [EV_ANSWER] = claiming_answer,
        [EV_TIMER] = fut_pair_ask_again,
    },
    [FUT_STATE_TAKING] = {
        [EV_INBOUND] = take_inbound,
        [EV_PROBES] = take_beside,
        [EV_TAKEN] = taking_taken,
    },
};
