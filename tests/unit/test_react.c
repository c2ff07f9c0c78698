/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Consequences of records, with real programs. */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "fut_error.h"
#include "react.h"
#include "test_tmp.h"

typedef struct {
    FutReact *react;
    char *folder;
    GMutex lock;
    GString *said; /* lines "ID text" */
    FutSituation situation;
    int failovers, stops;
    bool snapshots_fail;
} World;

static void world_report(void *opaque, const char *id, const char *text)
{
    World *world = opaque;

    g_mutex_lock(&world->lock);
    g_string_append_printf(world->said, "%s %s\n", id, text);
    g_mutex_unlock(&world->lock);
}

static FutSituation world_situation(void *opaque)
{
    return ((World *)opaque)->situation;
}

static bool world_failover(void *opaque, GError **error)
{
    g_atomic_int_inc(&((World *)opaque)->failovers);
    return true;
}

static void world_stop(void *opaque)
{
    g_atomic_int_inc(&((World *)opaque)->stops);
}

/* One that takes until the VM was handed over. */
static bool world_snapshot(void *opaque, const char *store, const char *reason, uint64_t *ret_id,
                           GError **error)
{
    World *world = opaque;

    world_report(world, "begins", store);
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    while (g_atomic_int_get(&world->failovers) == 0 && g_get_monotonic_time() < end) {
        g_usleep(1000);
    }
    g_usleep(20000); /* what does not wait for it would be done by now */
    world_report(world, "ends", reason);
    if (world->snapshots_fail) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_IO, "the store is full");
        return false;
    }
    *ret_id = 12;
    return true;
}

static const FutReactOps snapshot_ops = { .report = world_report,
                                          .situation = world_situation,
                                          .failover = world_failover,
                                          .snapshot = world_snapshot,
                                          .stop = world_stop };

static const FutReactOps ops = { .report = world_report,
                                 .situation = world_situation,
                                 .failover = world_failover,
                                 .stop = world_stop };

static void world_init(World *world)
{
    *world = (World){ .folder = fut_test_tmp(), .said = g_string_new("") };
    g_mutex_init(&world->lock);
    world->situation = (FutSituation){ true, true };
    world->react = fut_react_new(&ops, world, "vm", "node");
}

/* All that was begun has come to its end then. */
static void world_settle(World *world)
{
    g_clear_pointer(&world->react, fut_react_free);
}

static void world_done(World *world)
{
    world_settle(world);
    fut_test_tmp_remove(world->folder);
    g_free(world->folder);
    g_string_free(world->said, TRUE);
    g_mutex_clear(&world->lock);
}

/* Caller frees. */
static char *program(const World *world, const char *script)
{
    char *path = g_build_filename(world->folder, "program", NULL);
    g_autofree char *text = g_strdup_printf("#!/bin/sh\ncd %s\n%s\n", world->folder, script);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_cmpint(g_chmod(path, 0700), ==, 0);
    return path;
}

static void take(World *world, const char *text, uint64_t lost)
{
    GError *error = NULL;
    FutProbe probe = { .name = (char *)"web",
                       .point = (char *)"f",
                       .field_count = 1,
                       .labels = { (char *)"comm" },
                       .keys = fut_probe_keys_parse(text, &error) };
    FutProbeRecord record = { .probe = &probe,
                              .sequence = 7,
                              .vcpu = 1,
                              .host_time_us = 1000001,
                              .guest_time_ns = 2000000003,
                              .values = { { FUT_VALUE_TEXT, 0, "a;b" } } };

    g_assert_no_error(error);
    fut_react_take(world->react, &record, lost);
    fut_probe_keys_free(probe.keys);
}

static char *outcome(World *world)
{
    uint64_t lost;
    FutFinding *finding = fut_health_find(fut_react_lock(world->react, &lost), "web", "x a;b");
    char *text = g_strdup(finding ? finding->outcome : NULL);

    fut_react_unlock(world->react);
    return text;
}

static void wait_for_outcome(World *world, const char *words)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    for (;;) {
        g_autofree char *text = outcome(world);
        if (text && strstr(text, words)) {
            return;
        }
        if (g_get_monotonic_time() > end) {
            g_error("'%s' was never said, but '%s'", words, text);
        }
        g_usleep(2000);
    }
}

static void test_only_records(void)
{
    World world;
    uint64_t lost;
    world_init(&world);

    take(&world, "says=x kprobe:f", 3);
    g_assert_cmpuint(fut_react_lock(world.react, &lost)->findings.length, ==, 0);
    g_assert_cmpuint(lost, ==, 3);
    fut_react_unlock(world.react);
    world_settle(&world);
    g_assert_cmpstr(world.said->str, ==, "");
    world_done(&world);
}

static void test_command(void)
{
    World world;
    world_init(&world);
    g_autofree char *path = program(
        &world,
        "env | grep ^FUTAGO_ | sort > env; echo \"$1 $2\" >> env; echo not so good >&2; exit 3");
    g_autofree char *text =
        g_strdup_printf("severity=error says=\"x {comm}\" on=report,command:%s kprobe:f", path);
    g_autofree char *env = NULL, *file = g_build_filename(world.folder, "env", NULL);

    take(&world, text, 0);
    wait_for_outcome(&world, "exit status 3 (not so good)");
    g_assert_true(g_file_get_contents(file, &env, NULL, NULL));
    g_assert_cmpstr(
        env, ==,
        "FUTAGO_CAUSE=x a;b\nFUTAGO_FIELD_COMM=a;b\nFUTAGO_GUEST_TIME=2.000000003\n"
        "FUTAGO_NODE=node\nFUTAGO_PROBE=web\nFUTAGO_SCOPE=service\nFUTAGO_SEQUENCE=7\n"
        "FUTAGO_SEVERITY=error\nFUTAGO_TIME=1.000001\nFUTAGO_VCPU=1\nFUTAGO_VM=vm\nweb vm\n");
    world_settle(&world);
    g_assert_nonnull(strstr(world.said->str, "FUT-210 web, error, service: x a;b\n"));
    g_assert_nonnull(strstr(world.said->str, "FUT-211 command after web: "));
    world_done(&world);
}

static void test_late_program(void)
{
    World world;
    uint64_t lost;
    world_init(&world);
    static const char *const scripts[] = { "exec sleep 100", "exec yes" };

    for (size_t i = 0; i < G_N_ELEMENTS(scripts); i++) {
        g_autofree char *path = program(&world, scripts[i]);
        g_autofree char *text =
            g_strdup_printf("says=\"x {comm}\" on=command:%s limit=1 kprobe:f", path);
        take(&world, text, 0);
        wait_for_outcome(&world, "no end within 1 s, killed");
        fut_health_clear(fut_react_lock(world.react, &lost), NULL);
        fut_react_unlock(world.react);
    }
    world_done(&world);
}

/* As many programs as there may be run, and do not end: the VM is handed over all the same. */
static void test_deed_beside_programs(void)
{
    World world;
    world_init(&world);
    g_autofree char *path = program(&world, "while ! [ -e go ]; do sleep 0.05; done");
    g_autofree char *text =
        g_strdup_printf("says=\"x {comm}\" on=command:%s limit=300 kprobe:f", path);
    g_autofree char *go = g_build_filename(world.folder, "go", NULL);

    for (int i = 0; i < FUT_REACT_PROGRAMS; i++) {
        take(&world, text, 0);
    }
    take(&world, "says=\"x {comm}\" scope=host on=failover kprobe:f", 0);
    wait_for_outcome(&world, "handing the VM over");
    g_assert_true(g_file_set_contents(go, "", 0, NULL));
    world_settle(&world);
    g_assert_cmpint(world.failovers, ==, 1);
    world_done(&world);
}

static void ask(int status, FutScope scope, const char *words, int failovers, int stops)
{
    World world;
    world_init(&world);
    g_autofree char *script = g_strdup_printf("exit %d", status);
    g_autofree char *path = program(&world, script);
    g_autofree char *text = g_strdup_printf("says=\"x {comm}\" on=ask:%s scope=%s kprobe:f", path,
                                            fut_scope_names[scope]);

    take(&world, text, 0);
    wait_for_outcome(&world, words);
    world_settle(&world);
    g_assert_cmpint(world.failovers, ==, failovers);
    g_assert_cmpint(world.stops, ==, stops);
    world_done(&world);
}

static void test_ask(void)
{
    ask(0, FUT_SCOPE_HOST, "nothing is to be done", 0, 0);
    ask(10, FUT_SCOPE_HOST, "handing the VM over", 1, 0);
    ask(10, FUT_SCOPE_SYSTEM, "the twin holds the same failed system", 0, 0);
    ask(11, FUT_SCOPE_SERVICE, "handing the VM over; the twin holds the same failed state", 1, 0);
    ask(12, FUT_SCOPE_SYSTEM, "takes no snapshots", 0, 0);
    ask(13, FUT_SCOPE_SYSTEM, "ending the VM", 0, 1);
    ask(1, FUT_SCOPE_SYSTEM, "exit status 1 means nothing", 0, 0);
}

/* Where these words begin in what was said; they are there. */
static size_t place(const World *world, const char *words)
{
    const char *at = strstr(world->said->str, words);

    if (!at) {
        g_error("'%s' was never said, but '%s'", words, world->said->str);
    }
    return (size_t)(at - world->said->str);
}

/* What stands behind a snapshot begins when that has ended; what stands before it, and what another record asks for, does not wait. */
static void after_snapshot(bool fails)
{
    World world;
    world_init(&world);
    fut_react_free(world.react);
    world.react = fut_react_new(&snapshot_ops, &world, "vm", "node");
    world.snapshots_fail = fails;
    g_autofree char *path = program(&world, "exit 0");
    g_autofree char *text =
        g_strdup_printf("says=\"x {comm}\" scope=host on=snapshot:/s,stop,command:%s kprobe:f",
                        path);

    take(&world, text, 0);
    take(&world, "says=\"y {comm}\" scope=host on=failover kprobe:f", 0);
    world_settle(&world);
    size_t ends = place(&world, "ends web: x a;b");
    g_assert_cmpuint(place(&world, "begins /s"), <, ends);
    g_assert_cmpint(world.failovers, ==, 1);
    g_assert_cmpuint(place(&world, "ending the VM"), >, ends);
    g_assert_cmpuint(place(&world, "exit status 0"), >, ends);
    place(&world, fails ? "snapshot after web: the store is full" : "snapshot 12 is taken");
    g_assert_cmpint(world.stops, ==, 1);
    world_done(&world);
}

static void test_snapshot_first(void)
{
    after_snapshot(false);
    after_snapshot(true);
}

/* A failure that comes again and again does not run programs without end, nor fill the events. */
static void test_flood(void)
{
    World world;
    world_init(&world);
    g_autofree char *path = program(&world, "echo x >> runs");
    g_autofree char *text =
        g_strdup_printf("severity=error says=\"x {comm}\" on=command:%s kprobe:f", path);
    g_autofree char *runs = NULL, *file = g_build_filename(world.folder, "runs", NULL);

    for (int i = 0; i < 2000; i++) {
        take(&world, text, 0);
    }
    uint64_t lost;
    g_assert_cmpuint(fut_health_find(fut_react_lock(world.react, &lost), "web", "x a;b")->count, ==,
                     2000);
    fut_react_unlock(world.react);
    world_settle(&world);
    g_assert_true(g_file_get_contents(file, &runs, NULL, NULL));
    g_assert_cmpuint(strlen(runs) / 2, >=, FUT_REACT_BURST);
    g_assert_cmpuint(strlen(runs) / 2, <=,
                     FUT_REACT_BURST + 12); /* two minutes, should it take that long */
    g_auto(GStrv) lines = g_strsplit(world.said->str, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), <, 300);
    g_assert_nonnull(strstr(world.said->str, "FUT-211 web: nothing is done after this record"));
    world_done(&world);
}

static void test_check(void)
{
    World world;
    world_init(&world);
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "on=command:/no/such kprobe:f", "no program" },
        { "on=ask:/etc/passwd kprobe:f", "no program" },
        { "on=snapshot kprobe:f", "takes no snapshots" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(FutProbeKeys) keys = fut_probe_keys_parse(cases[i].text, NULL);
        g_autoptr(GError) error = NULL;
        g_assert_false(fut_react_check(world.react, keys, &error));
        g_assert_nonnull(strstr(error->message, cases[i].message));
    }
    g_autoptr(FutProbeKeys) good =
        fut_probe_keys_parse("on=command:/bin/sh,failover kprobe:f", NULL);
    g_assert_true(fut_react_check(world.react, good, NULL));
    world_done(&world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/react/only-records", test_only_records);
    g_test_add_func("/react/command", test_command);
    g_test_add_func("/react/late-program", test_late_program);
    g_test_add_func("/react/deed-beside-programs", test_deed_beside_programs);
    g_test_add_func("/react/ask", test_ask);
    g_test_add_func("/react/snapshot-first", test_snapshot_first);
    g_test_add_func("/react/flood", test_flood);
    g_test_add_func("/react/check", test_check);
    return g_test_run();
}
