/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pair protocol when something is lost: links, hosts, answers, time. Never are both active. */
#include "pair_world.h"

static World *world_protected(void)
{
    World *world = world_new();

    world_protect(world);
    return world;
}

/* Both see the link end at the same moment. */
static void break_link(World *world)
{
    host_unlink(&world->a);
    host_unlink(&world->b);
    fut_pair_link_down(world->a.pair, "connection reset", world->now_ns);
    fut_pair_link_down(world->b.pair, "connection reset", world->now_ns);
}

static void test_primary_dies(void)
{
    World *world = world_protected();

    host_cut(&world->a);
    world->a.frozen = true;
    world->a.running = false;
    host_close(&world->a);
    world_pump(world);
    expect(&world->b, "ACK apply:2 FUT-124 ask:2 FUT-126 take-over FUT-127");
    expect_state(&world->b, FUT_STATE_ALONE);
    g_assert_cmpint(host_status(&world->b).role, ==, FUT_ROLE_PRIMARY);
    g_assert_cmpuint(host_status(&world->b).committed, ==, 2);
    g_assert_cmpuint(fut_pair_output_epoch(world->b.pair), ==, 0);
    world_free(world);
}

/* A part of an epoch is nothing: what is taken over is the one before. */
static void test_primary_dies_in_epoch(void)
{
    World *world = world_protected();
    uint8_t part[9] = { 2 };

    host_post(&world->b, FUT_MSG_EPOCH_PART, 0, part, sizeof(part));
    host_close(&world->a);
    world->a.frozen = true;
    world_pump(world);
    expect(&world->b, "FUT-124 ask:2 FUT-126 take-over FUT-127");
    g_assert_cmpuint(world->b.applied, ==, 1);
    world_free(world);
}

static void test_backup_dies(void)
{
    World *world = world_protected();

    host_cut(&world->a);
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 3);
    world->b.frozen = true;
    world->unreachable = true;
    host_close(&world->b);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-105 ask:2 release-all FUT-107 connect FUT-103");
    expect_state(&world->a, FUT_STATE_CONNECTING);
    g_assert_cmpuint(host_status(&world->a).generation, ==, 2);
    g_assert_cmpuint(host_status(&world->a).in_flight, ==, 0);
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 0);
    world_free(world);
}

/* Heartbeats alone do not keep a backup: outputs would wait for ever. */
static void test_backup_never_acknowledges(void)
{
    World *world = world_protected();
    FutFrame heartbeat = { .type = FUT_MSG_HEARTBEAT };

    host_cut(&world->a);
    world->b.frozen = true;
    world->unreachable = true;
    for (unsigned ms = 0; ms < COMMIT_MS; ms += 10) {
        g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 3);
        fut_pair_frame(world->a.pair, &heartbeat, world->now_ns);
        world_advance(world, 10);
    }
    g_assert_nonnull(strstr(world->a.trace->str, "stop-copy FUT-105 ask:2 release-all FUT-107"));
    g_assert_cmpuint(host_status(&world->a).generation, ==, 2);
    world_free(world);
}

static void check_race(bool primary_first)
{
    World *world = world_protected();
    Host *first = primary_first ? &world->a : &world->b;
    Host *second = primary_first ? &world->b : &world->a;

    host_cut(&world->a);
    world->arbiter_slow = true;
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-105 ask:2");
    expect(&world->b, "FUT-124 ask:2");
    expect_state(&world->a, FUT_STATE_ASKING);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    g_assert_cmpuint(world->a.released, ==, 1);
    world_answer(first);
    world_pump(world);
    world_answer(second);
    world_pump(world);
    if (primary_first) {
        expect(&world->a, "release-all FUT-107 connect FUT-103");
        expect(&world->b, "discard FUT-129");
        expect_state(&world->b, FUT_STATE_WAITING);
        expect_report(&world->b, "hosta");
    } else {
        expect(&world->b, "FUT-126 take-over FUT-127");
        expect(&world->a, "halt drop-all FUT-108");
        expect_state(&world->a, FUT_STATE_FENCED);
        expect_report(&world->a, "hostb");
        g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, UINT64_MAX);
        g_assert_cmpuint(world->a.released, ==, 1);
    }
    world_free(world);
}

static void test_race(void)
{
    check_race(true);
    check_race(false);
}

/* The primary was granted and is back before the backup has its answer. */
static void test_primary_back_first(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    break_link(world);
    world_pump(world);
    world_forget(world);
    world_answer(&world->a);
    world_pump(world);
    expect(&world->a, "release-all FUT-107 connect HELLO session start-copy FUT-101 BARRIER hold");
    expect(&world->b, "discard WELCOME session FUT-121 barrier-in BARRIER_DONE");
    host_cut(&world->a);
    world_pump(world);
    expect(&world->b, "ACK apply:1 FUT-122");
    world_answer(&world->b); /* refused, but that is of the past */
    world_pump(world);
    expect(&world->b, "");
    expect_state(&world->b, FUT_STATE_STANDBY);
    g_assert_cmpuint(host_status(&world->b).generation, ==, 2);
    world_free(world);
}

static void test_arbiter_down(void)
{
    World *world = world_protected();

    host_cut(&world->a);
    world->arbiter_down = true;
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-105 ask:2 FUT-106");
    expect(&world->b, "FUT-124 ask:2 FUT-125");
    expect_report(&world->a, "arbiter is down");
    g_assert_cmpstr(host_status(&world->a).last_reason, ==, "arbiter is down");
    g_assert_cmpstr(host_status(&world->b).last_reason, ==, "arbiter is down");
    world_advance(world, 3 * RETRY_MS);
    expect(&world->a, "ask:2 ask:2 ask:2"); /* outputs stay held */
    expect(&world->b, "ask:2 ask:2 ask:2");
    g_assert_cmpuint(fut_pair_output_epoch(world->a.pair), ==, 3);
    world->arbiter_down = false;
    world->b.frozen = true;
    world_advance(world, RETRY_MS);
    expect(&world->a, "ask:2 release-all FUT-107 connect FUT-103");
    g_assert_cmpstr(host_status(&world->a).last_reason, !=, "arbiter is down");
    world->b.frozen = false;
    world_advance(world, 0);
    expect(&world->b, "ask:2 discard FUT-129");
    world_free(world);
}

/* A grant whose answer was given up for lost arrives while nobody asks. */
static void test_late_grant(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    fut_pair_answer(world->a.pair, FUT_ANSWER_UNKNOWN, 2, "no answer in 5 s", world->now_ns);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_ASKING);
    world_answer(&world->a);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_CONNECTING);
    g_assert_cmpuint(host_status(&world->a).generation, ==, 2);
    world_forget(world);
    fut_pair_answer(world->a.pair, FUT_ANSWER_REFUSED, 2, "echo", world->now_ns);
    fut_pair_answer(world->a.pair, FUT_ANSWER_GRANTED, 2, "echo", world->now_ns);
    fut_pair_answer(world->a.pair, FUT_ANSWER_GRANTED, 4, "not asked for", world->now_ns);
    world_pump(world);
    fut_pair_answer(world->a.pair, FUT_ANSWER_GRANTED, 3, "older", world->now_ns);
    world_pump(world);
    expect(&world->a, "");
    g_assert_cmpuint(host_status(&world->a).generation, ==, 4);
    world_free(world);
}

/* Answers to other questions than the open one decide nothing. */
static void test_stale_answers(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    world_forget(world);
    for (uint64_t generation = 0; generation < 4; generation++) {
        if (generation != 2) {
            fut_pair_answer(world->a.pair, FUT_ANSWER_REFUSED, generation, "?", world->now_ns);
            fut_pair_answer(world->b.pair, FUT_ANSWER_REFUSED, generation, "?", world->now_ns);
            fut_pair_answer(world->a.pair, FUT_ANSWER_UNKNOWN, generation, "?", world->now_ns);
        }
    }
    fut_pair_answer(world->a.pair, FUT_ANSWER_GRANTED, 1, "?", world->now_ns);
    fut_pair_answer(world->b.pair, FUT_ANSWER_GRANTED, 1, "?", world->now_ns);
    world_pump(world);
    expect(&world->a, "");
    expect(&world->b, "");
    expect_state(&world->a, FUT_STATE_ASKING);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world_free(world);
}

/* A backup that claims may hold the next generation without knowing: an equal one is not let in. */
static void test_claiming_refuses(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    break_link(world);
    world_pump(world);
    FutPairConfig config = host_config(FUT_ROLE_PRIMARY, "hostc");
    fut_pair_free(world->a.pair);
    world->a.pair = fut_pair_new(&config, world->now_ns);
    world_forget(world);
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect(&world->b, "BYE:2 FUT-123 close");
    expect_report(&world->b, "too old: hostb knows of 1 and has claimed the next");
    expect_state(&world->b, FUT_STATE_CLAIMING);
    expect_state(&world->a, FUT_STATE_CONNECTING);
    world_answer(&world->b);
    world_pump(world);
    expect(&world->b, "FUT-126 take-over FUT-127");
    world_free(world);
}

/* A stranger's link without HELLO does not hinder a takeover, and ends with it. */
static void test_stranger_while_claiming(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    break_link(world);
    world_pump(world);
    world_forget(world);
    fut_pair_link_up(world->b.pair, 77, world->now_ns);
    world_answer(&world->b);
    world_pump(world);
    expect(&world->b, "close FUT-126 take-over FUT-127");
    world_free(world);
}

/* -- silence -- */

static void test_silence(void)
{
    World *world = world_protected();

    world->cut_off = true;
    world->unreachable = true;
    world_advance(world, TIMEOUT_MS - 1);
    expect(&world->a, "");
    world->b.frozen = true;
    world_advance(world, 1);
    expect(&world->a, "close stop-copy FUT-105 ask:2 release-all FUT-107 connect FUT-103");
    world->b.frozen = false;
    world_advance(world, 0);
    expect(&world->b, "close FUT-124 ask:2 discard FUT-129");
    g_assert_cmpstr(host_status(&world->b).last_reason, ==, "no sign of life for 500 ms; hosta");
    world_free(world);
}

/* The primary stands still past the takeover; an ACK is in its socket. It must release nothing. */
static void test_frozen_primary(void)
{
    World *world = world_protected();

    host_cut(&world->a);
    world->a.frozen = true;
    world_advance(world, 10 * TIMEOUT_MS);
    expect(&world->b, "ACK apply:2 close FUT-124 ask:2 FUT-126 take-over FUT-127");
    g_assert_cmpuint(g_queue_get_length(&world->a.inbox), >, 1);
    world->a.frozen = false;
    world_pump(world); /* the ACK is read before any timer is looked at */
    expect(&world->a, "close stop-copy FUT-105 ask:2 halt drop-all FUT-108");
    g_assert_cmpuint(world->a.released, ==, 1);
    g_assert_true(world->b.running && !world->a.running);
    world_free(world);
}

/* The same, woken by its timer or by a command. */
static void test_frozen_primary_tick(void)
{
    for (int by_command = 0; by_command < 2; by_command++) {
        World *world = world_protected();
        world->a.frozen = true;
        world_advance(world, 10 * TIMEOUT_MS);
        world->a.frozen = false;
        if (by_command) {
            expect_refused(fut_pair_failover(world->a.pair, world->now_ns, error),
                           "backup is lost");
        } else {
            fut_pair_tick(world->a.pair, world->now_ns);
        }
        world_pump(world);
        expect_state(&world->a, FUT_STATE_FENCED);
        expect_state(&world->b, FUT_STATE_ALONE);
        world_free(world);
    }
}

/* A backup that was busy for long goes by what lies in its socket. */
static void test_slow_backup(void)
{
    World *world = world_protected();

    world->now_ns += 2 * TIMEOUT_MS * FUT_NS_PER_MS;
    fut_pair_alive(world->b.pair, world->now_ns);
    fut_pair_tick(world->b.pair, world->now_ns);
    expect_state(&world->b, FUT_STATE_STANDBY);
    world_free(world);
}

/* Who says nothing, or never finishes to say it, is sent away. */
static void test_no_greeting(void)
{
    static const uint8_t broken[] = { FUT_WIRE_VERSION, 0, FUT_WIRE_VERSION, 0, 's' };
    World *world = world_new();

    fut_pair_link_up(world->b.pair, 1, world->now_ns);
    for (int i = 0; i < 9; i++) {
        world->now_ns += TIMEOUT_MS / 10 * FUT_NS_PER_MS;
        fut_pair_alive(world->b.pair, world->now_ns);
        g_assert_true(host_status(&world->b).linked);
    }
    world_advance(world, TIMEOUT_MS / 10);
    expect(&world->b, "close");
    g_assert_cmpstr(host_status(&world->b).last_reason, ==, "no greeting for 500 ms");
    fut_pair_link_up(world->b.pair, 2, world->now_ns);
    world->b.linked = true;
    host_post(&world->b, FUT_MSG_HELLO, 0, broken, sizeof(broken));
    world_pump(world);
    expect(&world->b, "BYE:1 close");
    expect_state(&world->b, FUT_STATE_WAITING);
    world_free(world);
}

/* Bytes that never become a message are no life for ever. A long message may take long. */
static void test_endless_message(void)
{
    World *world = world_protected();
    uint64_t end_ns = world->now_ns + 20 * TIMEOUT_MS * FUT_NS_PER_MS;

    world->cut_off = true;
    world->arbiter_slow = true;
    while (world->now_ns < end_ns) {
        expect_state(&world->b, FUT_STATE_STANDBY);
        fut_pair_alive(world->b.pair, world->now_ns);
        world->now_ns += TIMEOUT_MS / 2 * FUT_NS_PER_MS;
    }
    fut_pair_alive(world->b.pair, world->now_ns);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    g_assert_cmpstr(host_status(&world->b).last_reason, ==, "no whole message for 10000 ms");
    world_free(world);
}

/* -- before anything was cut -- */

static void test_lost_while_copying(void)
{
    World *world = world_new();

    world->copy_slow = true;
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world_forget(world);
    break_link(world);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-103");
    expect(&world->b, "discard FUT-129");
    expect_state(&world->a, FUT_STATE_CONNECTING);
    world->copy_slow = false;
    world_advance(world, RETRY_MS);
    expect_state(&world->a, FUT_STATE_PROTECTING);
    g_assert_cmpuint(host_status(&world->a).generation, ==, 1);
    world_free(world);
}

/* Cut but not acknowledged: the backup may hold it, so the arbiter decides. */
static void test_lost_after_first_cut(void)
{
    World *world = world_new();

    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world->cut_off = true;
    host_cut(&world->a);
    world_forget(world);
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-105 ask:2 release-all FUT-107 connect FUT-103");
    expect(&world->b, "discard FUT-129");
    world_free(world);
}

static void test_unprotect_unheard(void)
{
    World *world = world_protected();

    world->cut_off = true;
    world->arbiter_slow = true;
    g_assert_true(fut_pair_unprotect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world->b.linked = false;
    fut_pair_link_down(world->b.pair, "connection closed", world->now_ns);
    world_pump(world);
    g_assert_cmpuint(world->a.released, ==, 1);
    world_answer(&world->b);
    world_pump(world);
    world_answer(&world->a);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_FENCED);
    expect_state(&world->b, FUT_STATE_ALONE);
    world_free(world);
}

/* -- in a hand-over -- */

static World *world_handing(void)
{
    World *world = world_protected();

    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world_forget(world);
    return world;
}

static void test_lost_before_final(void)
{
    World *world = world_handing();

    world->arbiter_slow = true;
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    world_answer(&world->a);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-105 ask:2 release-all FUT-107 connect FUT-103");
    g_assert_false(fut_pair_may_cut(world->a.pair));
    world_free(world);
}

static void check_lost_after_final(bool primary_first)
{
    World *world = world_handing();

    world->arbiter_slow = true;
    world->unreachable = true;
    host_cut(&world->a);
    world_pump(world);
    expect(&world->a, "release:2");
    expect(&world->b, "ACK apply:2 FUT-131 ask:2");
    world_advance(world, 4 * TIMEOUT_MS); /* the arbiter may take its time */
    expect_state(&world->a, FUT_STATE_HANDING);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    break_link(world);
    world_pump(world);
    world_answer(primary_first ? &world->a : &world->b);
    world_pump(world);
    world_answer(primary_first ? &world->b : &world->a);
    world_pump(world);
    if (primary_first) {
        expect(&world->a, "stop-copy FUT-105 ask:2 release-all resume FUT-111 connect FUT-103");
        expect(&world->b, "discard FUT-129");
    } else {
        expect(&world->a, "stop-copy FUT-105 ask:2 halt drop-all FUT-108");
        expect(&world->b, "FUT-126 take-over FUT-127");
    }
    g_assert_cmpint(world->a.running, ==, primary_first);
    g_assert_cmpint(world->b.running, ==, !primary_first);
    world_free(world);
}

static void test_lost_after_final(void)
{
    check_lost_after_final(true);
    check_lost_after_final(false);
}

/* -- through many hands -- */

static void swap_hosts_into(World *world, const char *name)
{
    /* b, the survivor, becomes a; a fresh backup is b */
    FutPairConfig config = host_config(FUT_ROLE_BACKUP, name);

    host_done(&world->a);
    world->a = world->b;
    world->a.peer = &world->b;
    host_init_with(&world->b, world, &world->a, &config);
    world->holder = &world->a;
}

static void test_reprotect(void)
{
    static const char *const names[] = { "hostc", "hostd", "hoste" };
    World *world = world_protected();

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        host_close(&world->a);
        world->a.frozen = true;
        world_pump(world);
        expect_state(&world->b, FUT_STATE_ALONE);
        swap_hosts_into(world, names[i]);
        world_protect(world);
        g_assert_cmpuint(host_status(&world->b).generation, ==, i + 2);
        host_cut(&world->a);
        world_pump(world);
        g_assert_cmpuint(host_status(&world->b).committed, ==, 2);
    }
    world_free(world);
}

/* -- the faults that the simulator must notice -- */

static void test_faults(void)
{
    World *world = world_protected();

    fut_pair_set_fault(world->a.pair, FUT_FAULT_RELEASE_EARLY);
    world->cut_off = true;
    host_cut(&world->a);
    world_pump(world);
    expect(&world->a, "release:2");
    fut_pair_set_fault(world->a.pair, FUT_FAULT_NO_ARBITER);
    fut_pair_set_fault(world->b.pair, FUT_FAULT_NO_ARBITER);
    world->unreachable = true;
    break_link(world);
    world_pump(world);
    expect(&world->a, "stop-copy FUT-105 release-all FUT-107 connect FUT-103");
    expect(&world->b, "FUT-124 FUT-126 take-over FUT-127");
    world_free(world);

    world = world_protected();
    uint8_t part[9] = { 2 };
    fut_pair_set_fault(world->b.pair, FUT_FAULT_ACK_PART);
    host_post(&world->b, FUT_MSG_EPOCH_PART, 0, part, sizeof(part));
    host_post(&world->b, FUT_MSG_EPOCH_PART, 0, part, sizeof(part));
    host_send_checkpoint(&world->a, 2, 0, 2, 2);
    g_queue_clear_full(&world->a.inbox, message_free);
    world->cut_off = true;
    world_pump(world);
    expect(&world->b, "ACK apply:2");
    world_free(world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pair-loss/primary-dies", test_primary_dies);
    g_test_add_func("/pair-loss/primary-dies-in-epoch", test_primary_dies_in_epoch);
    g_test_add_func("/pair-loss/backup-dies", test_backup_dies);
    g_test_add_func("/pair-loss/backup-never-acknowledges", test_backup_never_acknowledges);
    g_test_add_func("/pair-loss/race", test_race);
    g_test_add_func("/pair-loss/primary-back-first", test_primary_back_first);
    g_test_add_func("/pair-loss/arbiter-down", test_arbiter_down);
    g_test_add_func("/pair-loss/late-grant", test_late_grant);
    g_test_add_func("/pair-loss/stale-answers", test_stale_answers);
    g_test_add_func("/pair-loss/claiming-refuses", test_claiming_refuses);
    g_test_add_func("/pair-loss/stranger-while-claiming", test_stranger_while_claiming);
    g_test_add_func("/pair-loss/silence", test_silence);
    g_test_add_func("/pair-loss/frozen-primary", test_frozen_primary);
    g_test_add_func("/pair-loss/frozen-primary-tick", test_frozen_primary_tick);
    g_test_add_func("/pair-loss/slow-backup", test_slow_backup);
    g_test_add_func("/pair-loss/no-greeting", test_no_greeting);
    g_test_add_func("/pair-loss/endless-message", test_endless_message);
    g_test_add_func("/pair-loss/while-copying", test_lost_while_copying);
    g_test_add_func("/pair-loss/after-first-cut", test_lost_after_first_cut);
    g_test_add_func("/pair-loss/unprotect-unheard", test_unprotect_unheard);
    g_test_add_func("/pair-loss/before-final", test_lost_before_final);
    g_test_add_func("/pair-loss/after-final", test_lost_after_final);
    g_test_add_func("/pair-loss/reprotect", test_reprotect);
    g_test_add_func("/pair-loss/faults", test_faults);
    return g_test_run();
}
