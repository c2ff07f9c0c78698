/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the pair machine makes of messages about disks. */
#include "pair_world.h"

#include "wire_disk.h"

static void post(World *world, const FutDiskHead *head)
{
    uint8_t body[FUT_DISK_HEAD_SIZE];

    fut_disk_head_encode(body, head);
    host_post(&world->b, FUT_MSG_DISK, 0, body, sizeof(body));
    world_pump(world);
}

static void post_disk(World *world, uint64_t epoch)
{
    post(world, &(FutDiskHead){ .epoch = epoch, .length = 512, .kind = FUT_DISK_ZEROES });
}

static void post_stored(World *world, uint64_t epoch)
{
    post(world, &(FutDiskHead){ .epoch = epoch, .kind = FUT_DISK_STORED });
}

static World *world_copying(void)
{
    World *world = world_new();

    world->a.running = true;
    world->copy_slow = true;
    g_assert_true(fut_pair_protect(world->a.pair, world->now_ns, NULL));
    world_pump(world);
    expect_state(&world->b, FUT_STATE_RECEIVING);
    return world;
}

static World *world_protected(void)
{
    World *world = world_new();

    world_protect(world);
    expect_state(&world->b, FUT_STATE_STANDBY);
    return world;
}

static void test_copy(void)
{
    World *world = world_copying();

    post_disk(world, 0);
    post_disk(world, 0);
    expect_state(&world->b, FUT_STATE_RECEIVING);
    post_disk(world, 1); /* before the copy is complete */
    expect_state(&world->b, FUT_STATE_WAITING);
    world_free(world);
}

static void test_epochs(void)
{
    World *world = world_protected();

    g_assert_cmpuint(host_status(&world->b).committed, ==, 1);
    post_disk(world, 2);
    post_disk(world, 3); /* the guest goes on while the checkpoint is on its way */
    expect_state(&world->b, FUT_STATE_STANDBY);
    g_assert_true(host_status(&world->b).linked);
    world_free(world);
}

/* Each ends the link: a copy's write under protection, one of a committed epoch, one that goes back, one out of the window. */
static void test_out_of_order(void)
{
    static const struct {
        uint64_t first, second;
    } wrong[] = { { 0, 0 }, { 1, 0 }, { 3, 2 }, { 2 + FUT_PAIR_WINDOW_MAX + 1, 0 } };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        World *world = world_protected();
        world->arbiter_slow = true;
        post_disk(world, wrong[i].first);
        if (wrong[i].second > 0) {
            expect_state(&world->b, FUT_STATE_STANDBY);
            post_disk(world, wrong[i].second);
        }
        expect_state(&world->b, FUT_STATE_CLAIMING);
        world_free(world);
    }
}

/* A shared disk can have what was committed, at any time, and nothing else. */
static void test_stored(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    post_disk(world, 3);
    post_stored(world, 1);
    expect_state(&world->b, FUT_STATE_STANDBY);
    post_stored(world, 2);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    world_free(world);
}

/* A backup whose disks fail must not claim the VM that it cannot run. */
static void test_image_bad(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    fut_pair_image_bad(world->b.pair, "disk d cannot be written", world->now_ns);
    world_pump(world);
    expect_state(&world->b, FUT_STATE_WAITING);
    g_assert_cmpuint(world->b.asked, ==, 0);
    g_assert_cmpint(host_status(&world->a).role, ==, FUT_ROLE_PRIMARY);
    g_assert_true(world->a.running && !world->b.running);

    world_answer(&world->a);
    world_advance(world, 20 * RETRY_MS); /* there may be room again */
    expect_state(&world->b, FUT_STATE_RECEIVING);
    world_free(world);
}

static void test_image_bad_too_late(void)
{
    World *world = world_protected();

    world->arbiter_slow = true;
    host_close(&world->a);
    world->a.frozen = true;
    world_pump(world);
    expect_state(&world->b, FUT_STATE_CLAIMING);
    fut_pair_image_bad(world->b.pair, "disk d cannot be written", world->now_ns);
    expect_state(&world->b, FUT_STATE_CLAIMING); /* taking over will say so */
    world_free(world);
}

/* What the guest flushed is on the backup's disk before anybody outside can know. */
static void test_late_ack(void)
{
    World *world = world_protected();

    fut_pair_ack_late(world->b.pair);
    host_cut(&world->a);
    world_pump(world);
    g_assert_cmpuint(host_status(&world->b).committed, ==, 2);
    g_assert_cmpuint(host_status(&world->a).committed, ==, 1);
    fut_pair_written(world->b.pair, 1, world->now_ns);
    world_pump(world);
    g_assert_cmpuint(host_status(&world->a).committed, ==, 1);
    fut_pair_written(world->b.pair, 2, world->now_ns);
    world_pump(world);
    g_assert_cmpuint(host_status(&world->a).committed, ==, 2);

    host_cut(&world->a); /* the next one has nothing to wait for */
    world_pump(world);
    g_assert_cmpuint(host_status(&world->a).committed, ==, 3);
    world_free(world);
}

/* A primary cannot have let outputs go of an epoch that is committed here, but not acknowledged. */
static void test_released_early(void)
{
    uint8_t checkpoint[FUT_CHECKPOINT_SIZE];
    World *world = world_protected();

    world->arbiter_slow = true;
    fut_pair_ack_late(world->b.pair);
    host_cut(&world->a);
    world_pump(world);
    fut_checkpoint_encode(checkpoint, &(FutCheckpoint){ .epoch = 3, .released = 2 });
    host_post(&world->b, FUT_MSG_CHECKPOINT, 0, checkpoint, sizeof(checkpoint));
    world_pump(world);
    expect_report(&world->b, "outputs of epoch 2 were released, acknowledged was 1");
    world_free(world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pair-disk/copy", test_copy);
    g_test_add_func("/pair-disk/epochs", test_epochs);
    g_test_add_func("/pair-disk/out-of-order", test_out_of_order);
    g_test_add_func("/pair-disk/stored", test_stored);
    g_test_add_func("/pair-disk/released-early", test_released_early);
    g_test_add_func("/pair-disk/image-bad", test_image_bad);
    g_test_add_func("/pair-disk/image-bad-too-late", test_image_bad_too_late);
    g_test_add_func("/pair-disk/late-ack", test_late_ack);
    return g_test_run();
}
