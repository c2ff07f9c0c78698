/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago events: what happens to a VM, as it happens. */
#include <stdio.h>
#include <time.h>

#include "cli.h"
#include "fut_error.h"

static void print_event(const json_t *event)
{
    double time_s = fut_cli_value(event, "time");
    time_t whole_s = (time_t)time_s;
    struct tm local;
    char clock[32] = "";

    localtime_r(&whole_s, &local);
    strftime(clock, sizeof(clock), "%F %T", &local);
    printf("%s.%03d %s %s\n", clock, (int)((time_s - (double)whole_s) * 1000),
           fut_cli_text(event, "event"), fut_cli_text(event, "text"));
}

/* Ends only with the VM, or when nobody reads any more. */
static bool follow(FutControlClient *client, bool as_json, GError **error)
{
    json_t *event;

    while ((event = fut_control_next_event(client, -1, error))) {
        if (as_json) {
            json_dumpf(event, stdout, JSON_COMPACT);
            printf("\n");
        } else {
            print_event(event);
        }
        fflush(stdout);
        json_decref(event);
    }
    return false;
}

static bool events(const char *vm, bool as_json, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *result =
        client ? fut_control_call(client, "events", NULL, FUT_CLI_ANSWER_MS, error) : NULL;

    if (!result) {
        return false;
    }
    json_decref(result);
    return follow(client, as_json, error);
}

static bool run(int argc, char **argv, GError **error)
{
    gboolean as_json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "One JSON object a line", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_events, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_events, argc, argv, false, error);
    return vm && events(vm, as_json, error);
}

const FutCommand fut_cmd_events = {
    .name = "events",
    .usage = "VM",
    .summary = "Show what happens to a VM, as it happens",
    .run = run,
};
