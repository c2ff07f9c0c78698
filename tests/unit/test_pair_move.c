/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair for a move: the backup takes the VM when it is handed over and never otherwise. */
#include "pair_world.h"
#include "wire_disk.h"

static World *world_for_move(void)
{
    FutPairConfig a = host_config(FUT_ROLE_PRIMARY, "hosta");
    FutPairConfig b = host_config(FUT_ROLE_BACKUP, "hostb");

    b.moving = true;
    return world_new_with(&a, &b);
}

static World *world_moving(void)
{
    World *world = world_for_move();

    world->a.running = true;
    g_assert_true(fut_pair_move(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    host_cut(&world->a);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_PROTECTED);
    expect_state(&world->b, FUT_STATE_STANDBY);
    g_assert_true(fut_pair_moving(world->a.pair) && fut_pair_moving(world->b.pair));
    return world;
}

static void test_handed_over(void)
{
    World *world = world_moving();

    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    host_cut(&world->a);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_FENCED);
    expect_state(&world->b, FUT_STATE_ALONE);
    g_assert_true(world->b.running && !world->a.running);
    g_assert_false(fut_pair_moving(world->b.pair)); /* an ordinary primary from here on */
    world_free(world);
}

/* Its disks are with the primary. */
static void test_primary_dies(void)
{
    World *world = world_moving();

    world->a.frozen = true;
    host_close(&world->a);
    world_pump(world);
    world_advance(world, 10 * TIMEOUT_MS);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_false(world->b.running);
    g_assert_cmpuint(world->generation, ==, 1);
    world_free(world);
}

/* The hand-over was complete: then it counts, whatever became of the link. */
static void test_link_lost_after_the_last_checkpoint(void)
{
    World *world = world_moving();

    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world->arbiter_slow = true;
    host_cut(&world->a);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world->a.frozen = true;
    host_close(&world->a);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world_answer(&world->b);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_ALONE);
    g_assert_true(world->b.running);
    world_free(world);
}

/* Before the final checkpoint nobody else can have the VM: the primary goes on without asking, whatever the arbiter does. */
static void test_no_arbiter_needed_before_it(void)
{
    World *world = world_moving();

    world->arbiter_down = world->unreachable = true;
    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_PROTECTED); /* not handed over */
    host_close(&world->b);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_CONNECTING);
    g_assert_true(world->a.running);
    g_assert_cmpuint(world->a.released, ==, UINT64_MAX);
    g_assert_cmpuint(world->generation, ==, 1);
    world_free(world);

    world = world_moving();
    world->arbiter_down = true;
    g_assert_true(fut_pair_unprotect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->a, FUT_STATE_ALONE);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpuint(world->a.released, ==, UINT64_MAX);
    world_free(world);
}

/* After it the arbiter decides. */
static void test_arbiter_needed_after_it(void)
{
    World *world = world_moving();

    g_assert_true(fut_pair_failover(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    world->arbiter_down = true;
    host_cut(&world->a);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world->unreachable = true;
    host_close(&world->b);
    world_pump(world);
    expect_state(&world->a, FUT_STATE_ASKING);
    world->arbiter_down = false;
    world_advance(world, 5 * RETRY_MS);
    bool here = host_status(&world->a).state != FUT_STATE_FENCED;
    g_assert_true(here != world->b.running);
    g_assert_cmpuint(world->generation, ==, 2);
    world_free(world);
}

static void test_both_must_want_it(void)
{
    World *world = world_for_move();

    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpstr(host_status(&world->a).last_reason, ==,
                    "hostb waits for a VM that moves there: use futago relocate");
    world_free(world);

    world = world_new();
    g_assert_true(fut_pair_move(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpstr(
        host_status(&world->a).last_reason, ==,
        "hostb is a standby and its VM would move: relocate it to a host with futago receive");
    world_free(world);
}

static void test_no_disks_on_the_link(void)
{
    World *world = world_moving();
    uint8_t body[FUT_DISK_HEAD_SIZE];

    fut_disk_head_encode(body,
                         &(FutDiskHead){ .epoch = 2, .length = 512, .kind = FUT_DISK_ZEROES });
    world->unreachable = true;
    host_post(&world->b, FUT_MSG_DISK, 0, body, sizeof(body));
    world_pump(world);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpstr(host_status(&world->b).last_reason, ==,
                    "a DISK message in a move: its disks follow by other ways");
    world_free(world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pair/move/handed-over", test_handed_over);
    g_test_add_func("/pair/move/primary-dies", test_primary_dies);
    g_test_add_func("/pair/move/link-lost-after-the-last-checkpoint",
                    test_link_lost_after_the_last_checkpoint);
    g_test_add_func("/pair/move/no-arbiter-needed-before-it", test_no_arbiter_needed_before_it);
    g_test_add_func("/pair/move/arbiter-needed-after-it", test_arbiter_needed_after_it);
    g_test_add_func("/pair/move/both-must-want-it", test_both_must_want_it);
    g_test_add_func("/pair/move/no-disks-on-the-link", test_no_disks_on_the_link);
    return g_test_run();
}
