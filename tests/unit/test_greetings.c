/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links under way: patience with each has an end, many make room for the next, and our own call is
 * never what has to go. */
#include "greetings.h"

#include "fut_clock.h"
#include "tls_pair.h"

typedef struct {
    FutGreetings greetings;
    FutTls *tls;
    FutLink *up; /* the last that was greeted */
    unsigned greeted, failed, failed_calls;
    char *why; /* of the last failure */
} World;

static void count_greeted(void *opaque, FutLink *take_link, bool called)
{
    World *world = opaque;
    world->greeted++;
    fut_link_unref(world->up);
    world->up = take_link;
}

static void count_failed(void *opaque, bool called, const char *why)
{
    World *world = opaque;
    world->failed++;
    world->failed_calls += called;
    g_free(world->why);
    world->why = g_strdup(why);
}

static void world_init(World *world)
{
    *world = (World){ .greetings = { .greeted = count_greeted, .failed = count_failed } };
    world->greetings.opaque = world;
    world->tls = psk_of(files.key, NULL);
}

static void world_done(World *world)
{
    for (size_t i = 0; i < FUT_GREETINGS_MAX; i++) {
        fut_link_unref(world->greetings.all[i].link);
    }
    fut_link_unref(world->up);
    fut_tls_unref(world->tls);
    g_free(world->why);
}

/* A connection that comes in (or our own call); returns the other end's descriptor. */
static int add(World *world, bool called, bool tls, uint64_t now_ns)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    FutLink *link = fut_link_from_fd(fds[0], "peer");
    if (tls) {
        fut_link_start_tls(link, world->tls, !called);
    }
    fut_greetings_add(&world->greetings, link, called, now_ns);
    return fds[1];
}

static nfds_t run(World *world, uint64_t now_ns)
{
    struct pollfd fds[FUT_GREETINGS_MAX];
    nfds_t count = fut_greetings_poll(&world->greetings, fds);
    g_assert_cmpint(poll(fds, count, 0), >=, 0);
    fut_greetings_run(&world->greetings, fds, count, now_ns);
    return count;
}

#define PATIENCE_NS (FUT_GREETING_MS * FUT_NS_PER_MS)

static void test_plain(void)
{
    World world;
    world_init(&world);
    int fd = add(&world, false, false, 1);
    g_assert_cmpuint(world.greeted, ==, 1);
    g_assert_cmpuint(run(&world, 1), ==, 0);
    g_assert_cmpuint(fut_greetings_deadline(&world.greetings), ==, UINT64_MAX);
    close(fd);
    world_done(&world);
}

/* One that says nothing, and one that says a byte now and then. */
static void test_patience(void)
{
    World world;
    world_init(&world);
    int silent = add(&world, false, true, 1000), slow = add(&world, false, true, 2000);
    g_assert_cmpuint(fut_greetings_deadline(&world.greetings), ==, 1000 + PATIENCE_NS);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_cmpint(send(slow, "\x16\x03\x01\x02\x00" + i, 1, 0), ==, 1);
        g_assert_cmpuint(run(&world, 2000 + i), ==, 2);
    }
    g_assert_cmpuint(world.failed, ==, 0);
    g_assert_cmpuint(run(&world, 1000 + PATIENCE_NS), ==, 2);
    g_assert_cmpuint(world.failed, ==, 1);
    g_assert_cmpstr(world.why, ==, "no TLS with peer: it said nothing, or not enough, for 3000 ms");
    g_assert_cmpint(send(slow, "\x01", 1, 0), ==, 1);
    g_assert_cmpuint(run(&world, 2000 + PATIENCE_NS), ==, 1);
    g_assert_cmpuint(world.failed, ==, 2);
    g_assert_cmpuint(run(&world, 2000 + PATIENCE_NS), ==, 0);
    g_assert_cmpuint(world.greeted, ==, 0);
    close(silent);
    close(slow);
    world_done(&world);
}

/* The oldest stranger makes room; our own call stays, old as it is. */
static void test_many(void)
{
    World world;
    int fds[3 * FUT_GREETINGS_MAX];
    char byte;
    world_init(&world);
    for (int i = 0; i < 3 * FUT_GREETINGS_MAX; i++) {
        fds[i] = add(&world, i == 0, true, 1000 + (uint64_t)i);
    }
    g_assert_cmpuint(world.failed, ==, 2 * FUT_GREETINGS_MAX);
    g_assert_cmpuint(world.failed_calls, ==, 0);
    g_assert_cmpstr(world.why, ==, "no TLS with peer: too many connections at once");
    for (int i = 1; i < 3 * FUT_GREETINGS_MAX; i++) {
        ssize_t got = recv(fds[i], &byte, 1, MSG_DONTWAIT);
        g_assert_cmpint(got, ==, i <= 2 * FUT_GREETINGS_MAX ? 0 : -1);
    }
    g_assert_cmpuint(run(&world, 2000), ==, FUT_GREETINGS_MAX);
    for (int i = 0; i < 3 * FUT_GREETINGS_MAX; i++) {
        close(fds[i]);
    }
    world_done(&world);
}

/* The right one gets through in a crowd; one that hangs up is let go of. */
static void test_in_a_crowd(void)
{
    World world;
    g_autoptr(GError) error = NULL;
    world_init(&world);
    int silent = add(&world, false, true, 1), gone = add(&world, false, true, 2);
    g_autoptr(FutLink) right = fut_link_from_fd(add(&world, false, true, 3), "server");
    fut_link_start_tls(right, world.tls, false);
    close(gone);
    for (int i = 0, done = 0; i < 20 && world.greeted == 0; i++) {
        done = turn(right, done, &error);
        g_assert_no_error(error);
        run(&world, 10);
    }
    g_assert_cmpuint(world.greeted, ==, 1);
    g_assert_cmpuint(world.failed, ==, 1);
    g_assert_cmpstr(fut_link_peer(world.up), ==, "futago");
    g_assert_cmpuint(run(&world, 10), ==, 1);
    close(silent);
    world_done(&world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    make_files();
    g_test_add_func("/greetings/plain", test_plain);
    g_test_add_func("/greetings/patience", test_patience);
    g_test_add_func("/greetings/many", test_many);
    g_test_add_func("/greetings/in-a-crowd", test_in_a_crowd);
    int status = g_test_run();
    drop_files();
    return status;
}
