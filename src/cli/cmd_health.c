/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago health: how a guest is, as its probes see it; for people and for monitors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "fut_error.h"

/* Exit status of each; 1 and 2 are what they are everywhere. */
static const struct {
    const char *name, *text;
    int status;
} levels[] = {
    { "good", "good", 0 },
    { "unknown", "unknown: no probe sees anything (futago probe add)", 3 },
    { "warning", "warning", 4 },
    { "service-failed", "a service has failed", 5 },
    { "system-failed", "the system has failed", 6 },
};

static const char *level_text(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (strcmp(levels[i].name, name) == 0) {
            return levels[i].text;
        }
    }
    return name;
}

/* What this futago does not know counts as unknown. */
static int level_status(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (strcmp(levels[i].name, name) == 0) {
            return levels[i].status;
        }
    }
    return 3;
}

static void print_finding(const json_t *finding)
{
    time_t whole_s = (time_t)fut_cli_value(finding, "last");
    double count = fut_cli_value(finding, "count");
    const char *means = fut_cli_text(finding, "means");
    const char *outcome = fut_cli_text(finding, "outcome");
    struct tm local;
    char clock[32] = "";

    localtime_r(&whole_s, &local);
    strftime(clock, sizeof(clock), "%F %T", &local);
    printf("%s %s %s: %s", clock, fut_cli_text(finding, "severity"), fut_cli_text(finding, "probe"),
           fut_cli_text(finding, "cause"));
    if (count > 1) {
        printf(" (%.0f times)", count);
    }
    printf("%s\n", json_is_true(json_object_get(finding, "counts")) ? "" : " (over)");
    if (*outcome) {
        printf("    %s\n", outcome);
    }
    if (*means) {
        printf("    %s\n", means);
    }
}

static void print_health(const char *vm, const json_t *result)
{
    const json_t *finding;
    size_t i;

    printf("%s: %s\n", vm, level_text(fut_cli_text(result, "health")));
    json_array_foreach(json_object_get(result, "findings"), i, finding)
    {
        print_finding(finding);
    }
    if (fut_cli_value(result, "lost") > 0) {
        printf("%.0f records were lost: they came faster than they were read\n",
               fut_cli_value(result, "lost"));
    }
}

/* Returns the exit status, -1 with an error. */
static int show(const char *vm, bool as_json, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *result =
        client ? fut_control_call(client, "health", NULL, FUT_CLI_ANSWER_MS, error) : NULL;

    if (!result) {
        return -1;
    }
    int status = level_status(fut_cli_text(result, "health"));
    if (as_json) {
        json_object_set_new(result, "vm", json_string(vm));
        json_dumpf(result, stdout, JSON_COMPACT);
        printf("\n");
    } else {
        print_health(vm, result);
    }
    json_decref(result);
    return status;
}

static bool clear(const char *vm, const char *probe, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *result =
        client ? fut_control_call(client, "health-clear", json_pack("{s:s*}", "probe", probe),
                                  FUT_CLI_ANSWER_MS, error)
               : NULL;
    bool ok = result != NULL;

    if (ok && probe && fut_cli_value(result, "cleared") == 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "probe '%s' has found nothing: see futago health %s", probe, vm);
        ok = false;
    }
    json_decref(result);
    return ok;
}

static bool run(int argc, char **argv, GError **error)
{
    gboolean as_json = FALSE, clear_all = FALSE;
    g_autofree char *probe = NULL;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "As JSON", NULL },
        { "clear", 0, 0, G_OPTION_ARG_NONE, &clear_all, "Forget all that was found", NULL },
        { "clear-probe", 0, 0, G_OPTION_ARG_STRING, &probe, "Forget what this probe has found",
          "NAME" },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_health, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_health, argc, argv, false, error);
    if (!vm) {
        return false;
    }
    if (clear_all || probe) {
        return clear(vm, probe, error);
    }
    int status = show(vm, as_json, error);
    if (status > 0) {
        /* A monitor reads it, not a person: no line on the error output. */
        exit(fflush(stdout) == 0 ? status : 1);
    }
    return status == 0;
}

const FutCommand fut_cmd_health = {
    .name = "health",
    .usage = "VM",
    .summary = "Say how a guest is, as its probes see it",
    .run = run,
};
