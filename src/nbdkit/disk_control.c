/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk_control.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "control_server.h"
#include "fut_clock.h"
#include "fut_error.h"

struct FutDiskControl {
    FutDiskControlSetup setup;
    char *name, *path;
    int listen_fd, wake_fd;
    bool stopping; /* atomic */
    GThread *thread;
};

/* -- status -- */

static const char *state_of(const FutRelocStats *stats, const FutCopyControl *how, bool connected,
                            bool asleep)
{
    if (stats->failed) {
        return "failed";
    }
    if (stats->complete) {
        return "complete";
    }
    if (asleep) {
        return "asleep";
    }
    if (!connected) {
        return "no source";
    }
    if (how->hurry) {
        return "detaching";
    }
    return how->paused ? "paused" : how->policy == FUT_COPY_NONE ? "on demand" : "copying";
}

/* Where it stands. left_s: null where it cannot be told. */
static json_t *standing(const FutDiskControl *control, const FutRelocStats *stats,
                        const FutCopyControl *how, const char *fault)
{
    uint64_t here = MIN(stats->valid_blocks << FUT_BLOCK_SHIFT, stats->size);
    double rate = stats->rates.demand + stats->rates.copy, left = (double)(stats->size - here);
    json_t *left_s = left <= 0 ? json_real(0) : rate > 0 ? json_real(left / rate) : json_null();

    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:f, s:s, s:b, s:I, s:I, s:I, s:I, s:o, s:f}",
                     "disk", control->name, "state",
                     state_of(stats, how, !fault, fut_reloc_asleep(control->setup.reloc)), "reason",
                     fault ? fault : "", "source", stats->complete ? "" : control->setup.source,
                     "size", (json_int_t)stats->size, "here", (json_int_t)here, "share",
                     (double)here / (double)stats->size, "policy",
                     fut_copy_policy_name(how->policy), "adaptive", how->adaptive, "rate_limit",
                     (json_int_t)how->rate, "rate", (json_int_t)rate, "copy_rate",
                     (json_int_t)stats->rates.copy, "demand_rate", (json_int_t)stats->rates.demand,
                     "left_s", left_s, "age_s", (double)stats->age_ns / FUT_NS_PER_S);
}

/* What was counted since the disk was started. */
static json_t *counted(const FutRelocStats *stats)
{
    double hits = stats->reads > 0 ? 1 - (double)stats->read_misses / (double)stats->reads : 1;
    double fetch_ms = stats->fetch_count > 0
                          ? (double)stats->fetch_ns_sum / FUT_NS_PER_MS / (double)stats->fetch_count
                          : 0;

    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                     "hit_ratio", hits, "reads", (json_int_t)stats->reads, "read_misses",
                     (json_int_t)stats->read_misses, "writes", (json_int_t)stats->writes, "flushes",
                     (json_int_t)stats->flushes, "fetches", (json_int_t)stats->fetch_count,
                     "fetch_ms", fetch_ms, "fetched", (json_int_t)stats->fetched, "copied",
                     (json_int_t)stats->copied, "holes", (json_int_t)stats->holes, "partial_blocks",
                     (json_int_t)stats->partial_blocks, "window", (json_int_t)stats->window,
                     "under_way", (json_int_t)stats->under_way, "store_errors",
                     (json_int_t)stats->store_errors);
}

static json_t *status(FutDiskControl *control)
{
    FutRelocStats stats;
    FutCopyControl how = fut_reloc_control(control->setup.reloc);

    fut_reloc_stats(control->setup.reloc, &stats);
    g_autofree char *fault = stats.complete ? NULL : control->setup.fault(control->setup.opaque);
    json_t *all = standing(control, &stats, &how, fault), *more = counted(&stats);
    json_object_update(all, more);
    json_decref(more);
    return all;
}

/* For who wants to move its VM on. */
static json_t *image(FutDiskControl *control)
{
    const char *cache = control->setup.cache;
    g_autofree char *coded = g_base64_encode((const guchar *)cache, strlen(cache));
    json_t *about = status(control);
    json_t *said =
        json_pack("{s:i, s:s, s:O, s:O}", "pid", (int)getpid(), "image", coded, "state",
                  json_object_get(about, "state"), "share", json_object_get(about, "share"));

    json_decref(about);
    return said;
}

/* [[seconds, share], ...] since the disk was started. */
static json_t *curve(FutDiskControl *control)
{
    FutCurvePoint points[FUT_CURVE_POINTS];
    unsigned count = fut_reloc_curve(control->setup.reloc, points);
    json_t *pairs = json_array();
    FutRelocStats stats;

    fut_reloc_stats(control->setup.reloc, &stats);
    for (unsigned i = 0; i < count; i++) {
        json_array_append_new(pairs, json_pack("[f, f]", (double)points[i].at_ns / FUT_NS_PER_S,
                                               (double)points[i].here / (double)stats.size));
    }
    return json_pack("{s:s, s:I, s:o}", "disk", control->name, "size", (json_int_t)stats.size,
                     "points", pairs);
}

/* -- verbs -- */

static json_t *set(FutDiskControl *control, const FutCopyControl *how)
{
    fut_reloc_set_control(control->setup.reloc, how, fut_now_ns());
    control->setup.changed(control->setup.opaque);
    return status(control);
}

static json_t *set_rate(FutDiskControl *control, FutCopyControl *how, json_t *args, GError **error)
{
    json_t *rate = json_object_get(args, "rate"), *adaptive = json_object_get(args, "adaptive");

    if ((rate && (!json_is_integer(rate) || json_integer_value(rate) < 0)) ||
        (adaptive && !json_is_boolean(adaptive))) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "rate: give \"rate\" as bytes a second, \"adaptive\" as true or false");
        return NULL;
    }
    how->rate = rate ? (uint64_t)json_integer_value(rate) : how->rate;
    how->adaptive = adaptive ? json_boolean_value(adaptive) : how->adaptive;
    return set(control, how);
}

static json_t *set_policy(FutDiskControl *control, FutCopyControl *how, json_t *args,
                          GError **error)
{
    const char *name = json_string_value(json_object_get(args, "policy"));

    how->policy = name ? fut_copy_policy_from_name(name) : FUT_COPY_POLICIES;
    if (how->policy == FUT_COPY_POLICIES) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "policy: use hot-first, sequential, idle-only or none");
        return NULL;
    }
    return set(control, how);
}

static json_t *run_verb(void *opaque, const char *verb, json_t *args, unsigned *follow,
                        GError **error)
{
    FutDiskControl *control = opaque;
    FutCopyControl how = fut_reloc_control(control->setup.reloc);

    if (strcmp(verb, "status") == 0) {
        return status(control);
    }
    if (strcmp(verb, "image") == 0) {
        return image(control);
    }
    if (strcmp(verb, "wake") == 0) {
        fut_reloc_wake(control->setup.reloc);
        return set(control, &how);
    }
    if (strcmp(verb, "curve") == 0) {
        return curve(control);
    }
    if (strcmp(verb, "rate") == 0) {
        return set_rate(control, &how, args, error);
    }
    if (strcmp(verb, "policy") == 0) {
        return set_policy(control, &how, args, error);
    }
    if (strcmp(verb, "detach") == 0) {
        how.hurry = true;
        return set(control, &how);
    }
    if (strcmp(verb, "pause") == 0 || strcmp(verb, "resume") == 0) {
        how.paused = strcmp(verb, "pause") == 0;
        how.hurry = false;
        return set(control, &how);
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%.64s': a disk does not know that verb", verb);
    return NULL;
}

/* -- life -- */

static void *control_main(void *opaque)
{
    static const FutControlServerOps ops = { .run = run_verb };
    FutDiskControl *control = opaque;
    g_autoptr(FutControlServer) server =
        fut_control_server_new(control->listen_fd, control->wake_fd, &ops, control);

    while (!__atomic_load_n(&control->stopping, __ATOMIC_ACQUIRE)) {
        fut_control_server_round(server, -1);
    }
    return NULL;
}

FutDiskControl *fut_disk_control_new(const FutDiskControlSetup *setup, GError **error)
{
    g_autofree char *path = fut_control_disk_path(setup->name, error);
    int fd = path ? fut_control_listen(path, error) : -1;

    if (fd < 0) {
        return NULL;
    }
    FutDiskControl *control = g_new0(FutDiskControl, 1);
    control->setup = *setup;
    control->name = g_strdup(setup->name);
    control->path = g_steal_pointer(&path);
    control->listen_fd = fd;
    control->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(control->wake_fd >= 0);
    control->thread = g_thread_new("control", control_main, control);
    return control;
}

void fut_disk_control_free(FutDiskControl *control)
{
    uint64_t one = 1;

    if (!control) {
        return;
    }
    __atomic_store_n(&control->stopping, true, __ATOMIC_RELEASE);
    g_assert(write(control->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
    g_thread_join(control->thread);
    unlink(control->path);
    close(control->listen_fd);
    close(control->wake_fd);
    g_free(control->name);
    g_free(control->path);
    g_free(control);
}
