/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago snapshot create, auto, status: snapshots of a VM that runs. */
#include "snapshot_live.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli_disk.h"
#include "fut_clock.h"
#include "fut_error.h"

#define LOOK_EVERY_US 20000
/* So long without any progress. */
#define STUCK_NS (120 * FUT_NS_PER_S)

static void print_json(const json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT);
    printf("\n");
}

/* The VM does not have our folder. NULL stays NULL. */
static char *whole_path(const char *path)
{
    return path ? g_canonicalize_filename(path, NULL) : NULL;
}

/* -- create -- */

static void show_progress(const char *vm, double share)
{
    if (isatty(STDERR_FILENO)) {
        int full = (int)(share * 30);
        fprintf(stderr, "\r%s: snapshot [%-30.*s] %3.0f %% ", vm, full,
                "==============================", share * 100);
    }
}

static void end_progress(void)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K");
    }
}

static bool print_last(const char *vm, const json_t *last, bool as_json, GError **error)
{
    const char *fault = fut_cli_text(last, "error");

    if (*fault) {
        FutErr code = fut_err_from_name(fut_cli_text(last, "code"));
        g_set_error(error, FUT_ERROR, code == FUT_ERR_COUNT ? FUT_ERR_IO : code,
                    "no snapshot of '%s': %s", vm, fault);
        return false;
    }
    if (as_json) {
        print_json(last);
        return true;
    }
    double parent = fut_cli_value(last, "parent");
    g_autofree char *kind =
        parent > 0 ? g_strdup_printf("what changed since %.0f", parent) : g_strdup("in full");
    double epoch = fut_cli_value(last, "epoch");
    g_autofree char *cost =
        epoch > 0 ? g_strdup_printf("the backup's image of epoch %.0f", epoch)
                  : g_strdup_printf("guest stopped %.2f ms", fut_cli_value(last, "stop_ms"));
    printf("%s: snapshot %.0f, %s: %.1f MB stored; %s, %.0f ms in all\n", vm,
           fut_cli_value(last, "id"), kind, fut_cli_value(last, "stored_bytes") / 1e6, cost,
           fut_cli_value(last, "total_ms"));
    return true;
}

static bool wait_for_end(FutControlClient *client, const char *vm, double number, bool as_json,
                         GError **error)
{
    uint64_t moved_ns = fut_now_ns();
    double share = -1;

    while (fut_now_ns() - moved_ns < STUCK_NS) {
        json_t *status =
            fut_control_call(client, "snapshot-status", NULL, FUT_CLI_ANSWER_MS, error);
        if (!status) {
            return false;
        }
        const json_t *last = json_object_get(status, "last");
        if (last && fut_cli_value(last, "number") >= number) {
            end_progress();
            bool ok = print_last(vm, last, as_json, error);
            json_decref(status);
            return ok;
        }
        if (fut_cli_value(status, "share") != share) {
            share = fut_cli_value(status, "share");
            moved_ns = fut_now_ns();
            show_progress(vm, share);
        }
        json_decref(status);
        g_usleep(LOOK_EVERY_US);
    }
    end_progress();
    g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                "the snapshot of '%s' does not come on: see futago events", vm);
    return false;
}

static bool create(const char *vm, json_t *take_args, bool as_json, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);

    if (!client) {
        json_decref(take_args);
        return false;
    }
    json_t *result =
        fut_control_call(client, "snapshot-create", take_args, FUT_CLI_ANSWER_MS, error);
    if (!result) {
        return false;
    }
    double number = fut_cli_value(result, "number");
    json_decref(result);
    return wait_for_end(client, vm, number, as_json, error);
}

bool fut_snapshot_live_create(int argc, char **argv, GError **error)
{
    static const FutCommand command = { .name = "snapshot create", .usage = "VM" };
    gboolean full = FALSE, hash = FALSE, soon = FALSE, as_json = FALSE;
    g_autofree char *store = NULL, *reason = NULL;
    const GOptionEntry entries[] = {
        { "store", 0, 0, G_OPTION_ARG_FILENAME, &store,
          "Folder of snapshots, made if it is missing (default: the one used last)", "DIR" },
        { "full", 0, 0, G_OPTION_ARG_NONE, &full, "All of it, not what changed since the last one",
          NULL },
        { "soon", 0, 0, G_OPTION_ARG_NONE, &soon,
          "One of all memory is of now, and not of when it was copied", NULL },
        { "reason", 0, 0, G_OPTION_ARG_STRING, &reason, "A few words for the listing", "TEXT" },
        { "hash", 0, 0, G_OPTION_ARG_NONE, &hash,
          "Keep a hash of all memory; the guest stands still for it", NULL },
        { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "One JSON object", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&command, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&command, argc, argv, false, error);
    if (!vm) {
        return false;
    }
    g_autofree char *path = whole_path(store);
    json_t *args = json_pack("{s:b, s:b, s:b, s:s*, s:s*}", "full", full, "hash", hash, "soon",
                             soon, "store", path, "reason", reason);
    if (!args) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, "--store and --reason must be UTF-8");
        return false;
    }
    return create(vm, args, as_json, error);
}

/* -- auto -- */

/* "90", "90s", "5m", "2h", "500ms". */
static bool parse_ms(const char *option, const char *text, json_t *args, const char *key,
                     GError **error)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = { { "", 1000 },   { "ms", 1 },      { "s", 1000 },
                  { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    char *end = NULL;
    double number = text ? g_ascii_strtod(text, &end) : 0;

    if (!text) {
        return true;
    }
    for (size_t i = 0; end != text && i < G_N_ELEMENTS(units); i++) {
        double ms = number * units[i].ms;
        if (strcmp(end, units[i].unit) == 0 && ms >= 1 && ms <= 1e10) {
            json_object_set_new(args, key, json_integer((json_int_t)ms));
            return true;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "%s %s: say how long, as 30s or 5m", option, text);
    return false;
}

/* "2%" or "0.02". */
static bool parse_share(const char *text, json_t *args, GError **error)
{
    char *end = NULL;
    double share = text ? g_ascii_strtod(text, &end) : 0;

    if (!text) {
        return true;
    }
    bool percent = end != text && strcmp(end, "%") == 0;
    share /= percent ? 100 : 1;
    if (end == text || (*end && !percent) || !(share > 0 && share <= 1)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--cost %s: say which share of the guest's time, as 2%%", text);
        return false;
    }
    json_object_set_new(args, "cost", json_real(share));
    return true;
}

typedef struct {
    char *keep, *hourly, *daily, *max_bytes, *min_free; /* owned; NULL: not given */
} Bounds;

static void bounds_done(Bounds *bounds)
{
    g_free(bounds->keep);
    g_free(bounds->hourly);
    g_free(bounds->daily);
    g_free(bounds->max_bytes);
    g_free(bounds->min_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bounds, bounds_done)

static bool parse_count(const char *option, const char *text, json_t *args, GError **error)
{
    unsigned count;

    if (text && !fut_cli_number(option, text, 1, 1000000, &count, error)) {
        return false;
    }
    if (text) {
        json_object_set_new(args, option, json_integer(count));
    }
    return true;
}

static bool parse_bytes(const char *option, const char *key, const char *text, json_t *args,
                        GError **error)
{
    uint64_t bytes;

    if (text && (!fut_disk_parse_size(text, &bytes) || bytes == 0 || bytes > 1ull << 60)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--%s %s: give bytes such as 500M or 20G",
                    option, text);
        return false;
    }
    if (text) {
        json_object_set_new(args, key, json_integer((json_int_t)bytes));
    }
    return true;
}

static bool parse_bounds(const Bounds *bounds, json_t *args, GError **error)
{
    return parse_count("keep", bounds->keep, args, error) &&
           parse_count("hourly", bounds->hourly, args, error) &&
           parse_count("daily", bounds->daily, args, error) &&
           parse_bytes("max-bytes", "max_bytes", bounds->max_bytes, args, error) &&
           parse_bytes("min-free", "min_free", bounds->min_free, args, error);
}

static bool request(const char *vm, const char *verb, json_t *take_args, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);

    if (!client) {
        json_decref(take_args);
        return false;
    }
    json_t *result = fut_control_call(client, verb, take_args, FUT_CLI_ANSWER_MS, error);
    json_decref(result);
    return result != NULL;
}

bool fut_snapshot_live_auto(int argc, char **argv, GError **error)
{
    static const FutCommand command = { .name = "snapshot auto", .usage = "VM" };
    g_autofree char *store = NULL, *min = NULL, *max = NULL, *cost = NULL, *by = NULL;
    g_auto(Bounds) bounds = { 0 };
    gboolean stop = FALSE;
    const GOptionEntry entries[] = {
        { "store", 0, 0, G_OPTION_ARG_FILENAME, &store,
          "Folder of snapshots, made if it is missing (default: the one used last)", "DIR" },
        { "min", 0, 0, G_OPTION_ARG_STRING, &min, "Shortest interval (default: 5s)", "TIME" },
        { "max", 0, 0, G_OPTION_ARG_STRING, &max, "Longest interval (default: 5m)", "TIME" },
        { "by", 0, 0, G_OPTION_ARG_STRING, &by,
          "dirty: by what a snapshot costs the guest (default); cpu: idle often, busy seldom",
          "dirty|cpu" },
        { "cost", 0, 0, G_OPTION_ARG_STRING, &cost,
          "by dirty: share of the guest's time for it (default: 2%)", "SHARE" },
        { "keep", 0, 0, G_OPTION_ARG_STRING, &bounds.keep,
          "Of the schedule's own, the newest N stay (default: 60, 24 hourly and 7 daily ones)",
          "N" },
        { "hourly", 0, 0, G_OPTION_ARG_STRING, &bounds.hourly, "One of each of N hours stays",
          "N" },
        { "daily", 0, 0, G_OPTION_ARG_STRING, &bounds.daily, "One of each of N days stays", "N" },
        { "max-bytes", 0, 0, G_OPTION_ARG_STRING, &bounds.max_bytes,
          "The store grows no larger: the oldest go", "SIZE" },
        { "min-free", 0, 0, G_OPTION_ARG_STRING, &bounds.min_free,
          "So much stays free in the file system (default: 128M)", "SIZE" },
        { "stop", 0, 0, G_OPTION_ARG_NONE, &stop, "Take no more of them", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&command, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&command, argc, argv, false, error);
    if (!vm) {
        return false;
    }
    if (stop) {
        return request(vm, "snapshot-stop", NULL, error);
    }
    g_autofree char *path = whole_path(store);
    json_t *args = json_pack("{s:s*, s:s*}", "store", path, "by", by);
    if (!args) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, "--store and --by must be UTF-8");
        return false;
    }
    if (!parse_ms("--min", min, args, "min_ms", error) ||
        !parse_ms("--max", max, args, "max_ms", error) || !parse_share(cost, args, error) ||
        !parse_bounds(&bounds, args, error)) {
        json_decref(args);
        return false;
    }
    return request(vm, "snapshot-auto", args, error);
}

/* -- status -- */

static void print_status(const char *vm, const json_t *status)
{
    const json_t *last = json_object_get(status, "last");
    const json_t *schedule = json_object_get(status, "auto");

    if (json_is_true(json_object_get(status, "running"))) {
        printf("%s: a snapshot is being taken, %.0f %%\n", vm,
               fut_cli_value(status, "share") * 100);
    }
    if (last) {
        g_autoptr(GError) error = NULL;
        if (!print_last(vm, last, false, &error)) {
            printf("%s\n", error->message);
        }
    } else {
        printf("%s: no snapshot was taken yet\n", vm);
    }
    if (schedule) {
        printf("%s: by schedule into %s, by %s, every %.1f s now (%.1f to %.0f s)\n", vm,
               fut_cli_text(schedule, "store"), fut_cli_text(schedule, "by"),
               fut_cli_value(schedule, "interval_s"), fut_cli_value(schedule, "min_s"),
               fut_cli_value(schedule, "max_s"));
        printf("%s: %.0f old ones were removed%s\n", vm, fut_cli_value(schedule, "removed"),
               json_is_true(json_object_get(schedule, "short_of_room"))
                   ? "; the store has no room left within its bounds (FUT-244)"
                   : "");
    }
}

bool fut_snapshot_live_status(int argc, char **argv, GError **error)
{
    static const FutCommand command = { .name = "snapshot status", .usage = "VM" };
    gboolean as_json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "One JSON object", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&command, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&command, argc, argv, false, error);
    g_autoptr(FutControlClient) client = vm ? fut_control_connect(vm, error) : NULL;
    json_t *status =
        client ? fut_control_call(client, "snapshot-status", NULL, FUT_CLI_ANSWER_MS, error) : NULL;
    if (!status) {
        return false;
    }
    if (as_json) {
        print_json(status);
    } else {
        print_status(vm, status);
    }
    json_decref(status);
    return true;
}
