/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What commands do with a running VM: ask it something, and wait for it. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "fut_clock.h"
#include "fut_error.h"

#define LOOK_EVERY_US 100000

const char *fut_cli_text(const json_t *status, const char *key)
{
    const char *text = json_string_value(json_object_get(status, key));

    return text ? text : "";
}

double fut_cli_value(const json_t *status, const char *key)
{
    return json_number_value(json_object_get(status, key));
}

bool fut_cli_request(const char *vm, const char *verb, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);

    if (!client) {
        return false;
    }
    json_t *result = fut_control_call(client, verb, NULL, FUT_CLI_ANSWER_MS, error);
    json_decref(result);
    return result != NULL;
}

/* One line that is written over, on a terminal only. */
static void show_progress(const char *vm, const json_t *status, const char *words)
{
    if (isatty(STDOUT_FILENO)) {
        printf("\r\033[K%s: %s%s%s", vm, fut_cli_text(status, "state"), words ? ", " : "",
               words ? words : "");
        fflush(stdout);
    }
}

static void end_progress(void)
{
    if (isatty(STDOUT_FILENO)) {
        printf("\r\033[K");
        fflush(stdout);
    }
}

static void set_wait_error(const char *vm, const char *wanted, unsigned seconds,
                           const json_t *status, FutWait end, GError **error)
{
    const char *reason = fut_cli_text(status, "reason");
    bool late = end == FUT_WAIT_ON;
    g_autofree char *when = late ? g_strdup_printf(" after %u s", seconds) : g_strdup("");

    g_set_error(error, FUT_ERROR, late ? FUT_ERR_TIMEOUT : FUT_ERR_STATE,
                "VM '%s' is not %s%s (state %s): %s", vm, wanted, when,
                fut_cli_text(status, "state"),
                *reason ? reason : "see futago events for what happened");
}

/* One look. True: this was the last one, *ret_end says how it ended. */
static bool look(FutControlClient *client, const char *vm, FutWaitJudge judge, json_t **status,
                 FutWait *ret_end, GError **error)
{
    g_autofree char *progress = NULL;
    json_t *now = fut_control_call(client, "status", NULL, FUT_CLI_ANSWER_MS, error);

    *ret_end = FUT_WAIT_FAILED;
    if (!now) {
        return true;
    }
    json_decref(*status);
    *status = now;
    *ret_end = judge(now, &progress);
    show_progress(vm, now, progress);
    return *ret_end != FUT_WAIT_ON;
}

bool fut_cli_wait(FutControlClient *client, const char *vm, const char *wanted, unsigned seconds,
                  FutWaitJudge judge, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + seconds * FUT_NS_PER_S;
    g_autoptr(GError) fault = NULL;
    json_t *status = NULL;
    FutWait end;

    while (!look(client, vm, judge, &status, &end, &fault) && fut_now_ns() < deadline_ns) {
        g_usleep(LOOK_EVERY_US);
    }
    end_progress();
    if (fault) {
        g_propagate_error(error, g_steal_pointer(&fault));
    } else if (end != FUT_WAIT_DONE) {
        set_wait_error(vm, wanted, seconds, status, end, error);
    }
    json_decref(status);
    return end == FUT_WAIT_DONE;
}
