/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the control socket asks of the snapshot thread. */
#include <string.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "snapper_internal.h"

#define REASON_MAX 200
#define COUNT_MAX 1000000
#define JSON_BYTES_MAX (1ll << 60)
/* What stays of a schedule's snapshots if nothing is said. */
#define KEEP_DEFAULT 60
#define HOURLY_DEFAULT 24
#define DAILY_DEFAULT 7
#define INTERVAL_MS_MIN 100
#define INTERVAL_MS_MAX (7 * 24 * 3600 * 1000ll)

/* Lock held. The folder asked for, or the one used last; borrowed. */
static const char *store_of(FutSnapper *snapper, const json_t *args, GError **error)
{
    const char *store = json_string_value(json_object_get(args, "store"));

    store = store ? store : snapper->known_store;
    if (!store) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "no store is known yet: say where snapshots go (--store DIR)");
        return NULL;
    }
    if (!g_path_is_absolute(store)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s: the store's whole path is needed", store);
        return NULL;
    }
    return store;
}

static void remember_store(FutSnapper *snapper, const char *store)
{
    char *copy = g_strdup(store);

    g_free(snapper->known_store);
    snapper->known_store = copy;
}

/* -- create -- */

static FutSnapOrder order_of(const char *store, const json_t *args)
{
    const char *reason = json_string_value(json_object_get(args, "reason"));
    const json_t *min_free = json_object_get(args, "min_free");

    return (FutSnapOrder){
        .store = g_strdup(store),
        .reason = reason && g_utf8_validate(reason, -1, NULL) ? g_strndup(reason, REASON_MAX)
                                                              : g_strdup("by hand"),
        .asked_ns = fut_now_ns(),
        .full = json_is_true(json_object_get(args, "full")),
        .hash = json_is_true(json_object_get(args, "hash")),
        .soon = json_is_true(json_object_get(args, "soon")),
        .min_free = json_is_integer(min_free) && json_integer_value(min_free) >= 0
                        ? (uint64_t)json_integer_value(min_free)
                        : FUT_SNAPPER_MIN_FREE,
    };
}

/* Lock held, none under way. Its number; 0 with an error. */
static uint64_t order_one(FutSnapper *snapper, const json_t *args, GError **error)
{
    const char *store = store_of(snapper, args, error);

    if (!store) {
        return 0;
    }
    snapper->order = order_of(store, args);
    snapper->wanted = true;
    remember_store(snapper, snapper->order.store);
    g_cond_signal(&snapper->changed);
    return ++snapper->ordered;
}

json_t *fut_snapper_create(FutSnapper *snapper, json_t *args, GError **error)
{
    uint64_t number = 0;

    if (!fut_series_possible(snapper->service->engine, error) ||
        !fut_restore_over(snapper->service, error)) {
        return NULL;
    }
    g_mutex_lock(&snapper->lock);
    if (snapper->wanted || snapper->running) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_BUSY,
                            "a snapshot is being taken: wait until it is done");
    } else {
        number = order_one(snapper, args, error);
    }
    g_mutex_unlock(&snapper->lock);
    return number ? json_pack("{s:I}", "number", (json_int_t)number) : NULL;
}

/* Lock held. False: the limit has come, and `waiter` is not done. */
static bool wait_for_end(FutSnapper *snapper, const FutSnapWaiter *waiter, gint64 limit_us)
{
    while (waiter ? !waiter->done : snapper->wanted || snapper->running) {
        if (!g_cond_wait_until(&snapper->ended, &snapper->lock, limit_us)) {
            return waiter && waiter->done;
        }
    }
    return true;
}

bool fut_snapper_take(FutSnapper *snapper, const json_t *args, unsigned limit_s, uint64_t *ret_id,
                      GError **error)
{
    gint64 limit_us = g_get_monotonic_time() + (gint64)limit_s * G_USEC_PER_SEC;
    FutSnapWaiter waiter = { 0 };

    if (!fut_series_possible(snapper->service->engine, error) ||
        !fut_restore_over(snapper->service, error)) {
        return false;
    }
    g_mutex_lock(&snapper->lock);
    g_assert(!snapper->waiter);
    bool in_time = wait_for_end(snapper, NULL, limit_us);
    waiter.number = in_time ? order_one(snapper, args, &waiter.error) : 0;
    if (waiter.number) {
        snapper->order.soon = true; /* something has happened in the guest */
        snapper->waiter = &waiter;
        in_time = wait_for_end(snapper, &waiter, limit_us);
        snapper->waiter = NULL;
    }
    g_mutex_unlock(&snapper->lock);
    if (!in_time) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_BUSY,
            "no snapshot within %u s: the store is slow, or a snapshot before it is still being taken",
            limit_s);
        return false;
    }
    if (waiter.error) {
        g_propagate_error(error, waiter.error);
        return false;
    }
    *ret_id = waiter.id;
    return true;
}

/* -- auto -- */

static bool read_ms(const json_t *args, const char *key, uint64_t *ret_ns, GError **error)
{
    const json_t *value = json_object_get(args, key);
    json_int_t ms = json_integer_value(value);

    if (!value) {
        return true;
    }
    if (!json_is_integer(value) || ms < INTERVAL_MS_MIN || ms > INTERVAL_MS_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "\"%s\" must be from %d ms to 7 days", key,
                    INTERVAL_MS_MIN);
        return false;
    }
    *ret_ns = (uint64_t)ms * FUT_NS_PER_MS;
    return true;
}

static bool read_policy(const json_t *args, FutSnapPolicy *ret, GError **error)
{
    FutSnapPolicy policy = { FUT_SNAP_BY_DIRTY, 5 * FUT_NS_PER_S, 300 * FUT_NS_PER_S, 0.02 };
    const char *by = json_string_value(json_object_get(args, "by"));
    const json_t *cost = json_object_get(args, "cost");

    if (!read_ms(args, "min_ms", &policy.min_ns, error) ||
        !read_ms(args, "max_ms", &policy.max_ns, error)) {
        return false;
    }
    policy.by = by && strcmp(by, "cpu") == 0 ? FUT_SNAP_BY_CPU : FUT_SNAP_BY_DIRTY;
    policy.cost = cost ? json_number_value(cost) : policy.cost;
    const char *fault = NULL;
    if (by && strcmp(by, "cpu") != 0 && strcmp(by, "dirty") != 0) {
        fault = "\"by\" must be cpu or dirty";
    } else if (policy.min_ns > policy.max_ns) {
        fault =
            "the shortest interval is longer than the longest: give --min and --max the other way round";
    } else if (!(policy.cost >= 0.0001 && policy.cost <= 1)) {
        fault = "\"cost\" must be from 0.01 % to 100 %";
    }
    if (fault) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, fault);
        return false;
    }
    *ret = policy;
    return true;
}

static bool read_bound(const json_t *args, const char *key, json_int_t least, json_int_t most,
                       uint64_t *ret, GError **error)
{
    const json_t *value = json_object_get(args, key);

    if (!value) {
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < least ||
        json_integer_value(value) > most) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "\"%s\" must be from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, key,
                    least, most);
        return false;
    }
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

static bool read_bounds(const json_t *args, FutPrunePolicy *ret, GError **error)
{
    uint64_t keep = 0, hourly = 0, daily = 0, max_bytes = 0, min_free = FUT_SNAPPER_MIN_FREE;

    if (!read_bound(args, "keep", 1, COUNT_MAX, &keep, error) ||
        !read_bound(args, "hourly", 1, COUNT_MAX, &hourly, error) ||
        !read_bound(args, "daily", 1, COUNT_MAX, &daily, error) ||
        !read_bound(args, "max_bytes", 1, JSON_BYTES_MAX, &max_bytes, error) ||
        !read_bound(args, "min_free", 0, JSON_BYTES_MAX, &min_free, error)) {
        return false;
    }
    if (keep == 0 && hourly == 0 && daily == 0) {
        keep = KEEP_DEFAULT;
        hourly = HOURLY_DEFAULT;
        daily = DAILY_DEFAULT;
    }
    *ret = (FutPrunePolicy){ .keep = (unsigned)keep,
                             .hourly = (unsigned)hourly,
                             .daily = (unsigned)daily,
                             .max_bytes = max_bytes,
                             .min_free = min_free };
    return true;
}

/* What runs in a backup's process is not the guest. */
static bool may_follow(FutSnapper *snapper, const FutSnapPolicy *policy, GError **error)
{
    FutEngineStatus status;

    fut_engine_status(snapper->service->engine, &status);
    if (policy->by == FUT_SNAP_BY_CPU && status.role == FUT_ROLE_BACKUP) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "a backup does not see how busy the guest's vCPUs are: use --by dirty, "
                            "or the schedule of the primary");
        return false;
    }
    return true;
}

json_t *fut_snapper_auto(FutSnapper *snapper, json_t *args, GError **error)
{
    FutSnapPolicy policy;
    FutPrunePolicy bounds;

    if (!fut_series_possible(snapper->service->engine, error) ||
        !fut_restore_over(snapper->service, error) || !read_policy(args, &policy, error) ||
        !read_bounds(args, &bounds, error) || !may_follow(snapper, &policy, error)) {
        return NULL;
    }
    g_mutex_lock(&snapper->lock);
    const char *store = store_of(snapper, args, error);
    if (!store) {
        g_mutex_unlock(&snapper->lock);
        return NULL;
    }
    char *copy = g_strdup(store);
    g_free(snapper->auto_store);
    snapper->auto_store = copy;
    remember_store(snapper, copy);
    snapper->bounds = bounds;
    snapper->removed = 0;
    snapper->short_of_room = false;
    snapper->automatic = true;
    snapper->end_wanted = false;
    fut_snap_clock_init(&snapper->clock, &policy);
    g_autofree char *text =
        g_strdup_printf("snapshots by schedule into %s: every %.1f to %.0f s, by %s", copy,
                        (double)policy.min_ns / 1e9, (double)policy.max_ns / 1e9,
                        policy.by == FUT_SNAP_BY_CPU ? "the guest's use of its vCPUs"
                                                     : "what they cost the guest");
    g_cond_signal(&snapper->changed);
    g_mutex_unlock(&snapper->lock);
    fut_service_report(snapper->service, "FUT-242", text);
    return json_object();
}

json_t *fut_snapper_stop(FutSnapper *snapper, GError **error)
{
    g_mutex_lock(&snapper->lock);
    bool was = snapper->automatic;
    snapper->automatic = false;
    snapper->end_wanted = true;
    g_cond_signal(&snapper->changed);
    g_mutex_unlock(&snapper->lock);
    if (was) {
        fut_service_report(snapper->service, "FUT-243", "no more snapshots by schedule");
    }
    return json_object();
}

/* -- status -- */

static json_t *last_json(const FutSnapOutcome *last)
{
    const FutSeriesCut *cut = &last->cut;

    if (last->error) {
        return json_pack("{s:I, s:s, s:s}", "number", (json_int_t)last->number, "error",
                         last->error, "code", fut_err_name(last->code));
    }
    json_t *result =
        json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I}", "number",
                  (json_int_t)last->number, "id", (json_int_t)last->id, "parent",
                  (json_int_t)last->parent, "stop_ms", (double)cut->stop_ns / 1e6,
                  "longest_stop_ms", (double)cut->longest_stop_ns / 1e6, "total_ms",
                  (double)last->total_ns / 1e6, "pages", (json_int_t)cut->pages, "guarded_pages",
                  (json_int_t)cut->guarded, "faults", (json_int_t)cut->faults, "disk_bytes",
                  (json_int_t)cut->disk_bytes, "stored_bytes", (json_int_t)last->stored);
    json_object_set_new(result, "early_pages", json_integer((json_int_t)cut->early));
    json_object_set_new(result, "time", json_real((double)cut->time_us / 1e6));
    if (cut->epoch) {
        json_object_set_new(result, "epoch", json_integer((json_int_t)cut->epoch));
    }
    if (cut->memory_hash) {
        json_object_set_new(result, "memory_hash",
                            json_sprintf("%016" G_GINT64_MODIFIER "x", cut->memory_hash));
    }
    return result;
}

static json_t *auto_json(const FutSnapper *snapper)
{
    const FutSnapPolicy *policy = &snapper->clock.policy;

    const FutPrunePolicy *bounds = &snapper->bounds;
    json_t *result =
        json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "store", snapper->auto_store, "by",
                  policy->by == FUT_SNAP_BY_CPU ? "cpu" : "dirty", "min_s",
                  (double)policy->min_ns / 1e9, "max_s", (double)policy->max_ns / 1e9, "cost",
                  policy->cost, "busy", snapper->clock.busy, "cost_ms",
                  snapper->clock.cost_ns / 1e6, "interval_s",
                  (double)fut_snap_clock_interval(&snapper->clock) / 1e9);
    json_t *more =
        json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:b}", "keep", (int)bounds->keep, "hourly",
                  (int)bounds->hourly, "daily", (int)bounds->daily, "max_bytes",
                  (json_int_t)bounds->max_bytes, "min_free", (json_int_t)bounds->min_free,
                  "removed", (json_int_t)snapper->removed, "short_of_room", snapper->short_of_room);
    json_object_update(result, more);
    json_decref(more);
    return result;
}

json_t *fut_snapper_status(FutSnapper *snapper)
{
    json_t *result = json_object();

    g_mutex_lock(&snapper->lock);
    bool running = snapper->running || snapper->wanted;
    json_object_set_new(result, "running", json_boolean(running));
    if (snapper->known_store) {
        json_object_set_new(result, "store", json_string(snapper->known_store));
    }
    if (snapper->last.number > 0 || snapper->last.id > 0 || snapper->last.error) {
        json_object_set_new(result, "last", last_json(&snapper->last));
    }
    if (snapper->automatic) {
        json_object_set_new(result, "auto", auto_json(snapper));
    }
    g_mutex_unlock(&snapper->lock);
    if (running) {
        json_object_set_new(result, "share", json_real(fut_series_share(snapper->service->engine)));
    }
    return result;
}
