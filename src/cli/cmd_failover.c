/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago failover: hands the VM over to the twin, asked of either host. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "fut_error.h"

#define WAIT_S 30

static bool state_is(const json_t *status, const char *state)
{
    return strcmp(fut_cli_text(status, "state"), state) == 0;
}

/* Asked of the primary: it is done when the twin has the VM. */
static FutWait judge_giving(const json_t *status, char **ret_progress)
{
    if (state_is(status, "fenced")) {
        return FUT_WAIT_DONE;
    }
    bool under_way = state_is(status, "handing") || state_is(status, "asking");
    return under_way ? FUT_WAIT_ON : FUT_WAIT_FAILED;
}

/* Asked of the backup: it is done when the VM runs here. */
static FutWait judge_taking(const json_t *status, char **ret_progress)
{
    bool primary = strcmp(fut_cli_text(status, "role"), "primary") == 0;

    if (primary && json_is_true(json_object_get(status, "running"))) {
        return FUT_WAIT_DONE;
    }
    bool over = state_is(status, "failed") || state_is(status, "waiting");
    return over ? FUT_WAIT_FAILED : FUT_WAIT_ON;
}

static bool failover(const char *vm, bool wait, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *status =
        client ? fut_control_call(client, "status", NULL, FUT_CLI_ANSWER_MS, error) : NULL;

    if (!status) {
        return false;
    }
    bool giving = strcmp(fut_cli_text(status, "role"), "primary") == 0;
    json_decref(status);
    json_t *result = fut_control_call(client, "failover", NULL, FUT_CLI_ANSWER_MS, error);
    if (!result) {
        return false;
    }
    json_decref(result);
    return !wait || fut_cli_wait(client, vm, giving ? "handed over" : "taken over", WAIT_S,
                                 giving ? judge_giving : judge_taking, error);
}

static bool run(int argc, char **argv, GError **error)
{
    gboolean wait = FALSE;
    const GOptionEntry entries[] = {
        { "wait", 0, 0, G_OPTION_ARG_NONE, &wait, "Wait until it is done, 30 seconds at most",
          NULL },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_failover, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_failover, argc, argv, false, error);
    return vm && failover(vm, wait, error);
}

const FutCommand fut_cmd_failover = {
    .name = "failover",
    .usage = "VM",
    .summary = "Hand a VM over to its twin; nothing is lost",
    .run = run,
};
