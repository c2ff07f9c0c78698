/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pair protocol where all goes well, and where a host says no: protecting, epochs, hand-over,
 * ending protection, refusals. Losses are in test_pair_loss.c. */
#include "pair_world.h"

static World *world_protected(void)
{
    World *world = world_new();

    world_protect(world);
    return world;
}

static void test_protect(void)
{
    World *world = world_new();

    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 0);
    g_assert_false(fut_pair_may_cut(world->a.pair));
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "connect HELLO session start-copy FUT-101 BARRIER hold");
    expect(&world->b, "WELCOME session FUT-121 barrier-in BARRIER_DONE");
    g_assert_cmpuint(world->a.session, ==, world->b.session);
    g_assert_cmpuint(world->a.session, !=, 0);
    expect_state(&world->a, FUT_STATE_PROTECTING);
    expect_state(&world->b, FUT_STATE_RECEIVING);
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 1);

    g_assert_cmpuint(host_cut(&world->a), ==, 1);
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 2);
    world_pump(world);
    expect(&world->a, "release:1 FUT-102");
    expect(&world->b, "ACK apply:1 FUT-122");
    expect_state(&world->a, FUT_STATE_PROTECTED);
    expect_state(&world->b, FUT_STATE_STANDBY);
    world_free(world);
}

static void test_status(void)
{
    World *world = world_protected();
    FutPairStatus a = host_status(&world->a), b = host_status(&world->b);

    g_assert_cmpint(a.role, ==, FUT_ROLE_PRIMARY);
    g_assert_cmpstr(a.peer_node, ==, "hostb");
    g_assert_cmpstr(b.peer_node, ==, "hosta");
    g_assert_cmpuint(a.epoch, ==, 2);
    g_assert_cmpuint(a.committed, ==, 1);
    g_assert_cmpuint(b.epoch, ==, 1);
    g_assert_cmpuint(b.generation, ==, 1);
    g_assert_true(a.linked && b.linked);
    g_assert_cmpstr(a.last_reason, ==, "");
    world_free(world);
}

static void test_window(void)
{
    World *world = world_protected();

    host_cut(&world->a);
    g_assert_true(fut_pair_may_cut(world->a.pair));
    host_cut(&world->a);
    g_assert_false(fut_pair_may_cut(world->a.pair));
    g_assert_cmpuint(host_status(&world->a).in_flight, ==, 2);
    g_assert_cmpuint(world->a.released, ==, 1);
    world_pump(world);
    expect(&world->a, "release:2 release:3");
    expect(&world->b, "ACK apply:2 ACK apply:3");
    g_assert_true(fut_pair_may_cut(world->a.pair));
    g_assert_cmpuint(host_status(&world->a).in_flight, ==, 0);
    world_free(world);
}

static void test_heartbeats(void)
{
    World *world = world_protected();

    world_advance(world, 20 * TIMEOUT_MS);
    expect(&world->a, "");
    expect(&world->b, "");
    expect_state(&world->a, FUT_STATE_PROTECTED);
    expect_state(&world->b, FUT_STATE_STANDBY);
    world_free(world);
}

/* Sending anything postpones the heartbeat; being silent brings it after heartbeat_ms. */
static void test_heartbeat_due(void)
{
    World *world = world_protected();
    uint64_t due_ns = world->now_ns + HEARTBEAT_MS * FUT_NS_PER_MS;

    g_assert_cmpuint(fut_pair_deadline(world->a.pair), ==, due_ns);
    fut_pair_sent(world->a.pair, due_ns - 1);
    fut_pair_tick(world->a.pair, due_ns);
    FutAction action;
    g_assert_false(fut_pair_next_action(world->a.pair, &action));
    fut_pair_tick(world->a.pair, due_ns - 1 + HEARTBEAT_MS * FUT_NS_PER_MS);
    g_assert_true(fut_pair_next_action(world->a.pair, &action));
    g_assert_cmpint(action.kind, ==, FUT_ACT_SEND);
    g_assert_cmpint(action.type, ==, FUT_MSG_HEARTBEAT);
    world_free(world);
}

static void send_part(Host *host, uint64_t epoch, size_t bytes)
{
    uint8_t body[64] = { 0 };

    fut_put_le64(body, epoch);
    host_post(host->peer, FUT_MSG_EPOCH_PART, 0, body, 8 + bytes);
}

static void test_parts(void)
{
    World *world = world_protected();
    uint32_t flags;
    uint64_t epoch = fut_pair_cut(world->a.pair, &flags, world->now_ns);

    send_part(&world->a, epoch, 10);
    send_part(&world->a, epoch, 20);
    world_pump(world);
    expect(&world->b, "");
    g_assert_cmpuint(world->a.released, ==, 1);
    host_send_checkpoint(&world->a, epoch, 0, 2, 30);
    world_pump(world);
    expect(&world->b, "ACK apply:2");
    g_assert_cmpuint(world->a.released, ==, 2);
    world_free(world);
}

static void test_retry_connect(void)
{
    World *world = world_new();

    world->unreachable = true;
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "connect FUT-103");
    expect_report(&world->a, "connection refused");
    g_assert_cmpstr(host_status(&world->a).last_reason, ==, "connection refused");
    world_advance(world, 3 * RETRY_MS);
    expect(&world->a, "connect connect connect"); /* and no more words about it */
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 0);
    world->unreachable = false;
    world_advance(world, RETRY_MS);
    expect_state(&world->a, FUT_STATE_PROTECTING);
    world_free(world);
}

/* CONNECT is answered after the wish was taken back, and after it was there again. */
static void test_connect_answered_late(void)
{
    World *world = world_new();
    FutPair *pair = world->a.pair;
    FutAction action;

    g_assert_true(fut_pair_protect(pair, world->now_ns, NULL));
    g_assert_true(fut_pair_next_action(pair, &action));
    g_assert_cmpint(action.kind, ==, FUT_ACT_CONNECT);
    g_assert_true(fut_pair_unprotect(pair, world->now_ns, NULL));
    g_assert_true(fut_pair_protect(pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "FUT-112");
    expect_state(&world->a, FUT_STATE_CONNECTING);
    g_assert_true(fut_pair_unprotect(pair, world->now_ns, NULL));
    world->a.linked = true;
    fut_pair_link_up(pair, 1, world->now_ns);
    world_pump(world);
    expect(&world->a, "FUT-112 BYE:2 close");
    expect_state(&world->a, FUT_STATE_ALONE);
    world_free(world);
}

static void test_unprotect(void)
{
    World *world = world_protected();

    host_cut(&world->a);
    g_assert_true(fut_pair_unprotect(world->a.pair, world->now_ns, NULL));
    g_assert_cmpuint(world->a.released, ==, 1);
    world_pump(world);
    expect(&world->a, "BYE:4 close stop-copy ask:2 release-all FUT-107 FUT-112");
    expect(&world->b, "ACK apply:2 close discard FUT-129");
    expect_state(&world->a, FUT_STATE_ALONE);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpuint(host_status(&world->a).generation, ==, 2);
    world_protect(world); /* and again */
    g_assert_cmpuint(host_status(&world->b).generation, ==, 2);
    world_free(world);
}

static void test_unprotect_early(void)
{
    World *world = world_new();

    world->copy_slow = true;
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_COPYING);
    world_forget(world);
    g_assert_true(fut_pair_unprotect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "BYE:4 close stop-copy FUT-112"); /* nobody need be asked */
    expect(&world->b, "close discard FUT-129");
    fut_pair_copied(world->a.pair, world->now_ns); /* too late: ignored */
    expect_state(&world->a, FUT_STATE_ALONE);

    world->copy_slow = false;
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world_forget(world);
    g_assert_true(fut_pair_unprotect(world->a.pair, world->now_ns, NULL)); /* nothing cut yet */
    world_pump(world);
    expect(&world->a, "BYE:4 close stop-copy release-all FUT-112");
    world_free(world);
}

static void hand_over(World *world)
{
    expect_state(&world->a, FUT_STATE_HANDING);
    g_assert_true(fut_pair_may_cut(world->a.pair));
    host_cut(&world->a);
    g_assert_false(fut_pair_may_cut(world->a.pair));
    world_pump(world);
}

static void test_hand_over(void)
{
    World *world = world_protected();

    host_cut(&world->a); /* the final one waits for it */
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "FUT-109 ask:1 release:2 cut");
    hand_over(world);
    expect(&world->a, "release:3 close stop-copy halt drop-all FUT-110");
    expect(&world->b,
           "ACK apply:2 ACK apply:3 FUT-131 ask:2 FUT-126 take-over BYE:5 close FUT-127");
    expect_state(&world->a, FUT_STATE_FENCED);
    expect_state(&world->b, FUT_STATE_ALONE);
    g_assert_cmpint(host_status(&world->b).role, ==, FUT_ROLE_PRIMARY);
    g_assert_cmpuint(host_status(&world->b).generation, ==, 2);
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, UINT64_MAX);
    g_assert_cmpuint(fut_pair_output_epoch(world->b.pair), ==, 0);
    g_assert_true(world->b.running && !world->a.running);
    world_free(world);
}

static void test_hand_over_asked_by_backup(void)
{
    World *world = world_protected();

    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL));
    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL)); /* once is enough */
    world_pump(world);
    expect(&world->b, "HANDOVER FUT-130 HANDOVER FUT-130");
    expect(&world->a, "FUT-109 ask:1 cut");
    hand_over(world);
    expect_state(&world->a, FUT_STATE_FENCED);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

static void test_hand_over_asked_by_both(void)
{
    World *world = world_protected();

    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL));
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "FUT-109 ask:1 cut");
    hand_over(world);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

/* The guest is not stopped for a hand-over that the arbiter could not decide. */
static void test_hand_over_without_arbiter(void)
{
    World *world = world_protected();

    world->arbiter_down = true;
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "FUT-109 ask:1 FUT-113");
    expect_state(&world->a, FUT_STATE_PROTECTED);
    g_assert_cmpstr(host_status(&world->a).last_reason, ==, "arbiter is down");
    host_cut(&world->a); /* an ordinary one */
    world_pump(world);
    expect(&world->a, "release:2");
    expect_state(&world->b, FUT_STATE_STANDBY);
    world->arbiter_down = false;
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    hand_over(world);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

/* It is asked again by the backup, which does not hear what came of the first time. */
static void test_hand_over_asked_again(void)
{
    World *world = world_protected();

    world->arbiter_down = true;
    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "FUT-109 ask:1 FUT-113");
    world->arbiter_down = false;
    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->a, "FUT-109 ask:1 cut");
    hand_over(world);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

/* The backup's first acknowledgement waits for its disks: the primary does not know yet that it could hand over. */
static void test_hand_over_asked_early(void)
{
    World *world = world_new();

    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    fut_pair_ack_late(world->b.pair);
    host_cut(&world->a);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_STANDBY);
    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_PROTECTING);
    fut_pair_written(world->b.pair, 1, world->now_ns);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_PROTECTED);
    g_assert_true(fut_pair_failover(world->b.pair, world->now_ns, NULL));
    world_pump(world);
    hand_over(world);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

/* Somebody else has a later generation: the guest does not run on, and nothing more gets out. */
static void test_hand_over_refused(void)
{
    World *world = world_protected();

    world->generation = 2;
    world->holder = &world->b;
    host_cut(&world->a);
    world->b.frozen = true;
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_FENCED);
    g_assert_true(world->a.halted);
    g_assert_cmpuint(world->a.released, ==, 1);
    world_free(world);
}

/* While the arbiter thinks, the guest goes on; so does the protection. */
static void test_hand_over_with_slow_arbiter(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    for (int i = 2; i < 5; i++) {
        host_cut(&world->a);
        world_pump(world);
        g_assert_cmpuint(world->a.released, ==, i);
    }
    world_forget(world);
    world_answer(&world->a);
    world_pump(world);
    expect(&world->a, "cut");
    world->arbiter_slow = false;
    hand_over(world);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

/* The image does not start: the old primary, which still has all of it, takes the VM back. */
static void test_hand_over_fails(void)
{
    World *world = world_protected();

    world->b.start_fails = true;
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world_forget(world);
    world->unreachable = true;
    hand_over(world);
    expect(&world->b, "ACK apply:2 FUT-131 ask:2 FUT-126 take-over BYE:6 close FUT-128");
    expect(&world->a,
           "release:2 close stop-copy FUT-105 ask:3 release-all resume FUT-111 connect FUT-103");
    expect_state(&world->b, FUT_STATE_FAILED);
    expect_state(&world->a, FUT_STATE_CONNECTING);
    g_assert_cmpuint(host_status(&world->a).generation, ==, 3);
    g_assert_true(world->a.running && !world->b.running);
    world_free(world);
}

static void test_wrong_states(void)
{
    World *world = world_new();
    FutPair *a = world->a.pair, *b = world->b.pair;
    uint64_t now = world->now_ns;

    expect_refused(fut_pair_unprotect(a, now, error), "runs unprotected");
    expect_refused(fut_pair_failover(a, now, error), "runs unprotected");
    expect_refused(fut_pair_protect(b, now, error), "this is the backup");
    expect_refused(fut_pair_failover(b, now, error), "no committed image");
    world_protect(world);
    expect_refused(fut_pair_protect(a, now, error), "is protected");
    expect_refused(fut_pair_unprotect(b, now, error), "ask the primary");
    g_assert_true(fut_pair_failover(a, now, NULL));
    expect_refused(fut_pair_failover(a, now, error), "hand-over is under way");
    world_pump(world);
    uint32_t flags;
    fut_pair_cut(a, &flags, now);
    g_assert_cmpuint(flags, ==, FUT_CHECKPOINT_FINAL);
    expect_refused(fut_pair_unprotect(a, now, error), "hand-over is under way");
    world_free(world);
}

/* A guest that cannot make its final checkpoint is not kept in a hand-over for ever. */
static void test_unprotect_handing(void)
{
    World *world = world_new();

    world_protect(world);
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    g_assert_true(fut_pair_unprotect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_ALONE);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpuint(host_status(&world->a).generation, ==, 2);
    world_free(world);
}

/* -- refusals -- */

static char *other_machine[] = { "machine=microvm", "cpu=max", "ram.pc=536870912", NULL };

static void check_refusal(const FutPairConfig *a, const FutPairConfig *b, const char *part)
{
    World *world = world_new_with(a, b);

    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->b, "BYE:2 FUT-123 close");
    expect(&world->a, "connect HELLO close FUT-104");
    expect_report(&world->a, part);
    expect_report(&world->b, part);
    expect_state(&world->a, FUT_STATE_CONNECTING);
    expect_state(&world->b, FUT_STATE_WAITING);
    world_advance(world, 9 * RETRY_MS); /* no hurry, nothing said twice */
    expect(&world->a, "");
    world_advance(world, RETRY_MS);
    expect(&world->a, "connect HELLO close");
    expect(&world->b, "BYE:2 close");
    world_free(world);
}

static void test_refusals(void)
{
    FutPairConfig a = host_config(FUT_ROLE_PRIMARY, "hosta");
    FutPairConfig b = host_config(FUT_ROLE_BACKUP, "hostb");
    FutPairConfig other = b;

    other.machine = other_machine;
    check_refusal(&a, &other, "ram.pc: here 268435456, there 536870912");
    other = b;
    other.vm = "mail";
    check_refusal(&a, &other, "hostb is the backup of VM \"mail\", not of \"web\"");
    other = b;
    other.node = "hosta";
    check_refusal(&a, &other, "both hosts call themselves \"hosta\"");
    other = b;
    other.generation = 5;
    check_refusal(&a, &other, "generation 1 of hosta is too old: hostb knows of 5");
    other = a;
    other.heartbeat_ms = 4;
    check_refusal(&other, &b, "heartbeat 4 ms");
    other = a;
    other.timeout_ms = 120001;
    check_refusal(&other, &b, "timeout 120001 ms");
    other = a;
    other.heartbeat_ms = other.timeout_ms = 60;
    check_refusal(&other, &b, "heartbeat 60 ms with timeout 60 ms");
}

/* The primary's times rule on both sides. */
static void test_times_adopted(void)
{
    FutPairConfig a = host_config(FUT_ROLE_PRIMARY, "hosta");
    FutPairConfig b = host_config(FUT_ROLE_BACKUP, "hostb");

    b.heartbeat_ms = 9000;
    b.timeout_ms = 100000;
    World *world = world_new_with(&a, &b);
    world_protect(world);
    world_advance(world, 10 * TIMEOUT_MS);
    expect_state(&world->a, FUT_STATE_PROTECTED);
    world->cut_off = true;
    world->arbiter_slow = true;
    world_advance(world, TIMEOUT_MS);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world_free(world);
}

static void test_busy_bye(void)
{
    World *world = world_protected();
    FutBuf body = { 0 };

    fut_pair_busy_bye(world->b.pair, &body);
    g_autofree char *text = fut_bye_decode(body.data, body.len);
    g_assert_cmpstr(text, ==, "hostb is busy: it has a connection to hosta already");
    fut_buf_done(&body);
    world_free(world);
}

/* -- peers that misbehave -- */

static void check_blame(FutMsgType type, uint16_t flags, const void *body, size_t length,
                        const char *part)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    host_post(&world->b, type, flags, body, length);
    world_pump(world);
    expect(&world->b, "BYE:1 close FUT-124 ask:2");
    expect_report(&world->b, part);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world_free(world);
}

static void test_backup_blames(void)
{
    uint8_t checkpoint[FUT_CHECKPOINT_SIZE];
    uint8_t inbound[FUT_INBOUND_SIZE + 1] = { 0 };
    uint8_t epoch[8];

    check_blame(FUT_MSG_PAGES, 0, "", 0, "unexpected message PAGES (2) in state standby");
    check_blame(FUT_MSG_HELLO, 0, "", 0, "unexpected message HELLO");
    check_blame(FUT_MSG_BARRIER, 0, "", 0, "unexpected message BARRIER");
    check_blame(FUT_MSG_ACK, 0, "12345678", 8, "unexpected message ACK");
    check_blame((FutMsgType)99, 0, "", 0, "unexpected message unknown (99)");
    check_blame(FUT_MSG_HEARTBEAT, 0, "x", 1, "bad HEARTBEAT");
    check_blame(FUT_MSG_HEARTBEAT, 1, "", 0, "bad HEARTBEAT");
    check_blame(FUT_MSG_EPOCH_PART, 0, "1234567", 7, "too short");
    fut_put_le64(epoch, 3);
    check_blame(FUT_MSG_EPOCH_PART, 0, epoch, 8, "EPOCH_PART of epoch 3, due is 2");
    check_blame(FUT_MSG_CHECKPOINT, 0, "x", 1, "too short");
    fut_checkpoint_encode(checkpoint, &(FutCheckpoint){ .epoch = 1 });
    check_blame(FUT_MSG_CHECKPOINT, 0, checkpoint, sizeof(checkpoint),
                "CHECKPOINT of epoch 1, due is 2");
    fut_checkpoint_encode(checkpoint, &(FutCheckpoint){ .epoch = 2, .parts = 1 });
    check_blame(FUT_MSG_CHECKPOINT, 0, checkpoint, sizeof(checkpoint),
                "epoch 2 is not complete: 1 parts");
    fut_checkpoint_encode(checkpoint, &(FutCheckpoint){ .epoch = 2, .stream_length = 1 });
    check_blame(FUT_MSG_CHECKPOINT, 0, checkpoint, sizeof(checkpoint),
                "0 parts and 1 bytes announced");
    check_blame(FUT_MSG_INBOUND, 0, inbound, sizeof(inbound), "epoch 0");
    fut_inbound_encode(inbound, &(FutInbound){ .epoch = 99 });
    check_blame(FUT_MSG_INBOUND, 0, inbound, sizeof(inbound), "INBOUND of epoch 99");
}

static void test_primary_blames(void)
{
    static const struct {
        FutMsgType type;
        uint8_t epoch;
        const char *part;
    } cases[] = {
        { FUT_MSG_ACK, 1, "acknowledged epoch 1, due was one from 2 to 2" },
        { FUT_MSG_ACK, 3, "acknowledged epoch 3" },
        { FUT_MSG_BARRIER_DONE, 0, "unexpected message BARRIER_DONE (17) in state protected" },
        { FUT_MSG_WELCOME, 0, "unexpected message WELCOME" },
        { FUT_MSG_CHECKPOINT, 2, "unexpected message CHECKPOINT" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        World *world = world_protected();
        uint8_t body[8] = { cases[i].epoch };
        host_cut(&world->a);
        world->arbiter_slow = true;
        g_queue_clear_full(&world->b.inbox, message_free);
        host_post(&world->a, cases[i].type, 0, body, cases[i].type == FUT_MSG_BARRIER_DONE ? 0 : 8);
        world_pump(world);
        expect(&world->a, "BYE:1 close stop-copy FUT-105 ask:2");
        expect_report(&world->a, cases[i].part);
        g_assert_cmpuint(world->a.released, ==, 1);
        world_free(world);
    }
}

/* An acknowledgement of the epoch that still runs. */
static void test_ack_of_running_epoch(void)
{
    World *world = world_protected();
    uint8_t body[8] = { 2 };

    world->arbiter_slow = true;
    host_post(&world->a, FUT_MSG_ACK, 0, body, sizeof(body));
    world_pump(world);
    expect(&world->a, "BYE:1 close stop-copy FUT-105 ask:2");
    g_assert_cmpuint(world->a.released, ==, 1);
    world_free(world);
}

/* Before the copy is complete no epoch is accepted, and in the middle of one no copy. */
static void test_copy_order(void)
{
    World *world = world_new();

    world->copy_slow = true;
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    host_post(&world->b, FUT_MSG_PAGES, 0, "12345678", 8);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_RECEIVING);
    world_forget(world);
    send_part(&world->a, 1, 1);
    world_pump(world);
    expect(&world->b, "BYE:1 close discard FUT-129");
    expect_report(&world->b, "EPOCH_PART before the copy was complete");
    world->copy_slow = false;
    world_advance(world, RETRY_MS);
    expect_state(&world->a, FUT_STATE_PROTECTING);
    world_forget(world);
    send_part(&world->a, 1, 1);
    host_post(&world->b, FUT_MSG_PAGES, 0, "12345678", 8);
    world_pump(world);
    expect(&world->b, "BYE:1 close discard FUT-129");
    expect(&world->a, "close stop-copy release-all FUT-103"); /* nothing was cut */
    world_free(world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pair/protect", test_protect);
    g_test_add_func("/pair/status", test_status);
    g_test_add_func("/pair/window", test_window);
    g_test_add_func("/pair/heartbeats", test_heartbeats);
    g_test_add_func("/pair/heartbeat-due", test_heartbeat_due);
    g_test_add_func("/pair/parts", test_parts);
    g_test_add_func("/pair/retry-connect", test_retry_connect);
    g_test_add_func("/pair/connect-answered-late", test_connect_answered_late);
    g_test_add_func("/pair/unprotect", test_unprotect);
    g_test_add_func("/pair/unprotect-early", test_unprotect_early);
    g_test_add_func("/pair/unprotect-handing", test_unprotect_handing);
    g_test_add_func("/pair/hand-over", test_hand_over);
    g_test_add_func("/pair/hand-over/asked-by-backup", test_hand_over_asked_by_backup);
    g_test_add_func("/pair/hand-over/asked-by-both", test_hand_over_asked_by_both);
    g_test_add_func("/pair/hand-over/fails", test_hand_over_fails);
    g_test_add_func("/pair/hand-over/hand-over-without-arbiter", test_hand_over_without_arbiter);
    g_test_add_func("/pair/hand-over/asked-again", test_hand_over_asked_again);
    g_test_add_func("/pair/hand-over/asked-early", test_hand_over_asked_early);
    g_test_add_func("/pair/hand-over/refused", test_hand_over_refused);
    g_test_add_func("/pair/hand-over/hand-over-with-slow-arbiter",
                    test_hand_over_with_slow_arbiter);
    g_test_add_func("/pair/wrong-states", test_wrong_states);
    g_test_add_func("/pair/refusals", test_refusals);
    g_test_add_func("/pair/times-adopted", test_times_adopted);
    g_test_add_func("/pair/busy-bye", test_busy_bye);
    g_test_add_func("/pair/backup-blames", test_backup_blames);
    g_test_add_func("/pair/primary-blames", test_primary_blames);
    g_test_add_func("/pair/ack-of-running-epoch", test_ack_of_running_epoch);
    g_test_add_func("/pair/copy-order", test_copy_order);
    return g_test_run();
}
