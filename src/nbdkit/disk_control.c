/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk_control.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "control_server.h"
#include "fut_clock.h"
#include "fut_error.h"

/* Rates are of the time between two looks, at least so long. */
#define RATE_OVER_NS FUT_NS_PER_S

struct FutDiskControl {
    FutDiskControlSetup setup;
    char *name, *path;
    int listen_fd, wake_fd;
    bool stopping; /* atomic */
    GThread *thread;

    /* the thread's: where the rate is counted from, and the last one counted */
    uint64_t rate_ns, rate_bytes, rate;
};

/* -- status -- */

/* Bytes a second that came from the source lately. */
static uint64_t measure_rate(FutDiskControl *control, const FutRelocStats *stats)
{
    uint64_t now_ns = fut_now_ns(), bytes = stats->fetched + stats->copied;

    if (now_ns - control->rate_ns >= RATE_OVER_NS) {
        control->rate = (uint64_t)((double)(bytes - control->rate_bytes) * FUT_NS_PER_S /
                                   (double)(now_ns - control->rate_ns));
        control->rate_ns = now_ns;
        control->rate_bytes = bytes;
    }
    return control->rate;
}

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

static json_t *status(FutDiskControl *control)
{
    FutRelocStats stats;
    FutCopyControl how = fut_reloc_control(control->setup.reloc);

    fut_reloc_stats(control->setup.reloc, &stats);
    g_autofree char *fault = stats.complete ? NULL : control->setup.fault(control->setup.opaque);
    uint64_t here = MIN(stats.valid_blocks << FUT_BLOCK_SHIFT, stats.size);
    double hits = stats.reads > 0 ? 1 - (double)stats.read_misses / (double)stats.reads : 1;
    double fetch_ms = stats.fetch_count > 0
                          ? (double)stats.fetch_ns_sum / FUT_NS_PER_MS / (double)stats.fetch_count
                          : 0;
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:s, s:b, s:I, s:I, s:f, s:I, s:I, s:I, s:f, "
                     "s:I, s:I, s:I, s:I, s:I}",
                     "disk", control->name, "state",
                     state_of(&stats, &how, !fault, fut_reloc_asleep(control->setup.reloc)),
                     "reason", fault ? fault : "", "size", (json_int_t)stats.size, "here",
                     (json_int_t)here, "share", (double)here / (double)stats.size, "policy",
                     fut_copy_policy_name(how.policy), "adaptive", how.adaptive, "rate_limit",
                     (json_int_t)how.rate, "rate", (json_int_t)measure_rate(control, &stats),
                     "hit_ratio", hits, "reads", (json_int_t)stats.reads, "read_misses",
                     (json_int_t)stats.read_misses, "writes", (json_int_t)stats.writes, "fetch_ms",
                     fetch_ms, "fetched", (json_int_t)stats.fetched, "copied",
                     (json_int_t)stats.copied, "holes", (json_int_t)stats.holes, "window",
                     (json_int_t)stats.window, "store_errors", (json_int_t)stats.store_errors);
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
    if (strcmp(verb, "wake") == 0) {
        fut_reloc_wake(control->setup.reloc);
        return set(control, &how);
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
        fut_control_server_round(server);
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
    control->rate_ns = fut_now_ns();
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
