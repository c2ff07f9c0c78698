/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago disk: looks at relocating disks, and steers their copy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cli_disk.h"
#include "disk_plot.h"
#include "fut_clock.h"
#include "fut_error.h"

#define LOOK_EVERY_US 500000
#define WAIT_MAX_S 604800

typedef struct {
    gboolean json, watch;
    char *wait, *adaptive, *plot;
} Options;

static json_t *ask(const char *disk, const char *verb, json_t *take_args, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect_disk(disk, error);

    if (!client) {
        json_decref(take_args);
        return NULL;
    }
    return fut_control_call(client, verb, take_args, FUT_CLI_ANSWER_MS, error);
}

static void show(const json_t *status, const Options *options)
{
    if (options->json) {
        char *text = json_dumps(status, options->watch ? JSON_COMPACT : JSON_INDENT(2));
        printf("%s\n", text);
        free(text);
        return;
    }
    g_autofree char *block = fut_disk_block(status);
    printf("%s", block);
}

/* -- looking -- */

static bool is_over(const json_t *status)
{
    const char *state = fut_cli_text(status, "state");
    return strcmp(state, "complete") == 0 || strcmp(state, "failed") == 0;
}

/* Shows the disk anew until it is complete: a bar and a curve on a terminal, otherwise a line a look. */
static bool follow(const char *disk, const Options *options, uint64_t deadline_ns, GError **error)
{
    g_autoptr(GArray) curve = g_array_new(FALSE, FALSE, sizeof(double));
    bool terminal = isatty(STDOUT_FILENO) && !options->json;

    for (;;) {
        json_t *status = ask(disk, "status", NULL, error);
        if (!status) {
            return false;
        }
        double share = fut_cli_value(status, "share");
        g_array_append_val(curve, share);
        g_autofree char *line = fut_disk_line(status, (const double *)curve->data, curve->len);
        if (options->json) {
            show(status, options);
        } else {
            printf("%s%s%s", terminal ? "\r\033[K" : "", line, terminal ? "" : "\n");
        }
        fflush(stdout);
        bool over = is_over(status), good = strcmp(fut_cli_text(status, "state"), "failed") != 0;
        json_decref(status);
        if (over || fut_now_ns() > deadline_ns) {
            printf("%s", terminal ? "\n" : "");
            g_set_error(error, FUT_ERROR, over ? FUT_ERR_STATE : FUT_ERR_TIMEOUT,
                        over ? "disk '%s' cannot keep what it is given: look at its log"
                             : "disk '%s' is not complete yet: wait longer, or look at its status",
                        disk);
            if (over && good) {
                g_clear_error(error);
            }
            return over && good;
        }
        g_usleep(LOOK_EVERY_US);
    }
}

static bool list(const Options *options, GError **error)
{
    g_autoptr(GPtrArray) names = fut_control_list_disks();
    json_t *all = json_array();

    for (guint i = 0; i < names->len; i++) {
        json_t *status = ask(g_ptr_array_index(names, i), "status", NULL, NULL);
        if (status) {
            json_array_append_new(all, status);
        }
    }
    size_t at;
    json_t *status;
    if (options->json) {
        show(all, options);
    } else if (json_array_size(all) == 0) {
        printf("no relocating disk runs on this host\n");
    }
    json_array_foreach(all, at, status)
    {
        g_autofree char *line = options->json ? NULL : fut_disk_line(status, NULL, 0);
        printf("%s%s", line ? line : "", line ? "\n" : "");
    }
    json_decref(all);
    return true;
}

/* -- the curve as a picture -- */

static bool check_plot(const char *disk, const Options *options, GError **error)
{
    if (options->plot && !disk) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG, "--plot: say of which disk");
        return false;
    }
    if (options->plot && !g_str_has_suffix(options->plot, ".svg")) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--plot %s: it draws SVG: give a name that ends in .svg", options->plot);
        return false;
    }
    return true;
}

static bool draw(const char *disk, const Options *options, GError **error)
{
    json_t *curve = options->plot ? ask(disk, "curve", NULL, error) : NULL;
    g_autofree char *svg = curve ? fut_disk_plot(curve, error) : NULL;

    json_decref(curve);
    return !options->plot || (svg && g_file_set_contents(options->plot, svg, -1, error));
}

/* -- verbs -- */

static bool tell(const char *disk, const char *verb, json_t *take_args, const Options *options,
                 GError **error)
{
    json_t *status = ask(disk, verb, take_args, error);

    if (status && options->json) {
        show(status, options);
    }
    json_decref(status);
    return status != NULL;
}

static bool run_status(const char *disk, const char *value, const Options *options, GError **error)
{
    if (!check_plot(disk, options, error)) {
        return false;
    }
    if (!disk) {
        return list(options, error);
    }
    if (options->watch) {
        return follow(disk, options, UINT64_MAX, error) && draw(disk, options, error);
    }
    json_t *status = ask(disk, "status", NULL, error);
    if (status) {
        show(status, options);
        json_decref(status);
    }
    return status != NULL && draw(disk, options, error);
}

static bool run_rate(const char *disk, const char *value, const Options *options, GError **error)
{
    json_t *args = json_object();
    uint64_t rate = 0;

    if (strcmp(value, "none") != 0 && !fut_disk_parse_size(value, &rate)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "rate '%s': give bytes a second such as 50M, or none", value);
        json_decref(args);
        return false;
    }
    json_object_set_new(args, "rate", json_integer((json_int_t)rate));
    if (options->adaptive) {
        bool on = strcmp(options->adaptive, "on") == 0;
        if (!on && strcmp(options->adaptive, "off") != 0) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--adaptive %s: say on or off",
                        options->adaptive);
            json_decref(args);
            return false;
        }
        json_object_set_new(args, "adaptive", json_boolean(on));
    }
    return tell(disk, "rate", args, options, error);
}

static bool run_policy(const char *disk, const char *value, const Options *options, GError **error)
{
    return tell(disk, "policy", json_pack("{s:s}", "policy", value), options, error);
}

static bool run_pause(const char *disk, const char *value, const Options *options, GError **error)
{
    return tell(disk, "pause", NULL, options, error);
}

static bool run_resume(const char *disk, const char *value, const Options *options, GError **error)
{
    return tell(disk, "resume", NULL, options, error);
}

static bool run_detach(const char *disk, const char *value, const Options *options, GError **error)
{
    unsigned seconds = 0;

    if (options->wait && !fut_cli_number("wait", options->wait, 1, WAIT_MAX_S, &seconds, error)) {
        return false;
    }
    return tell(disk, "detach", NULL, options, error) &&
           (seconds == 0 || follow(disk, options, fut_now_ns() + seconds * FUT_NS_PER_S, error));
}

static const struct {
    const char *name;
    bool (*run)(const char *disk, const char *value, const Options *options, GError **error);
    bool needs_disk;
    const char *value; /* what else has to be said */
} verbs[] = {
    { "status", run_status, false, NULL },    { "rate", run_rate, true, "RATE" },
    { "policy", run_policy, true, "POLICY" }, { "pause", run_pause, true, NULL },
    { "resume", run_resume, true, NULL },     { "detach", run_detach, true, NULL },
};

static bool fail_verb(const char *verb, GError **error)
{
    const char *names[G_N_ELEMENTS(verbs)];

    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        names[i] = verbs[i].name;
    }
    const char *nearest = verb ? fut_cli_nearest(verb, names, G_N_ELEMENTS(names)) : NULL;
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "disk %s: %s%s%s", verb ? verb : "what",
                nearest ? "did you mean '" : "use status, rate, policy, pause, resume or detach",
                nearest ? nearest : "", nearest ? "'?" : "");
    return false;
}

static bool dispatch(int argc, char **argv, const Options *options, GError **error)
{
    size_t at = 0;

    while (argc > 1 && at < G_N_ELEMENTS(verbs) && strcmp(verbs[at].name, argv[1]) != 0) {
        at++;
    }
    if (argc < 2 || at == G_N_ELEMENTS(verbs)) {
        return fail_verb(argc < 2 ? NULL : argv[1], error);
    }
    int words = 3 + (verbs[at].value != NULL);
    if (argc > words) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "disk %s: unexpected word '%s'", argv[1],
                    argv[words]);
        return false;
    }
    if ((verbs[at].needs_disk && argc < 3) || (verbs[at].value && argc < 4)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "disk %s: give %s%s%s", argv[1],
                    argc < 3 ? "the disk's name" : "", argc < 3 && verbs[at].value ? " and " : "",
                    verbs[at].value ? verbs[at].value : "");
        return false;
    }
    const char *disk = argc > 2 ? argv[2] : NULL;
    return (!disk || fut_control_name_check(disk, error)) &&
           verbs[at].run(disk, verbs[at].value ? argv[3] : NULL, options, error);
}

static bool run(int argc, char **argv, GError **error)
{
    Options options = { 0 };
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &options.json, "As JSON", NULL },
        { "watch", 0, 0, G_OPTION_ARG_NONE, &options.watch,
          "status: anew until the disk is complete", NULL },
        { "plot", 0, 0, G_OPTION_ARG_FILENAME, &options.plot,
          "status: draw the curve of what is here over time", "FILE.svg" },
        { "wait", 0, 0, G_OPTION_ARG_FILENAME, &options.wait,
          "detach: until the disk is complete, so long", "SECONDS" },
        { "adaptive", 0, 0, G_OPTION_ARG_FILENAME, &options.adaptive,
          "rate: whether the copy makes way for the VM", "on|off" },
        { 0 },
    };

    bool good = fut_cli_parse(&fut_cmd_disk, entries, &argc, argv, error) &&
                dispatch(argc, argv, &options, error);
    g_free(options.wait);
    g_free(options.adaptive);
    g_free(options.plot);
    return good;
}

const FutCommand fut_cmd_disk = {
    .name = "disk",
    .usage = "status [DISK] | rate DISK RATE | policy DISK POLICY | pause|resume|detach DISK",
    .summary = "Look at relocating disks, and steer their copy",
    .run = run,
};
