/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago stop: ends a VM in an orderly way and waits until it has ended. */
#include "cli.h"
#include "fut_clock.h"
#include "fut_error.h"

#define END_MS 15000

/* The socket closes when the process ends. */
static bool await_end(FutControlClient *client, const char *vm, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + END_MS * FUT_NS_PER_MS;
    g_autoptr(GError) gone = NULL;

    while (!gone && fut_now_ns() < deadline_ns) {
        json_decref(fut_control_next_event(client, 100, &gone));
    }
    if (!gone) {
        g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                    "VM '%s' was told to end but still runs: look at its QEMU process", vm);
    }
    return gone != NULL;
}

static bool stop(const char *vm, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    g_autoptr(GError) fault = NULL;

    if (!client) {
        return false;
    }
    json_t *result = fut_control_call(client, "stop", NULL, FUT_CLI_ANSWER_MS, &fault);
    if (result) {
        json_decref(result);
        return await_end(client, vm, error);
    }
    /* It may be gone before it has answered. */
    if (g_error_matches(fault, FUT_ERROR, FUT_ERR_IO)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&fault));
    return false;
}

static bool run(int argc, char **argv, GError **error)
{
    if (!fut_cli_parse(&fut_cmd_stop, NULL, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_stop, argc, argv, false, error);
    return vm && stop(vm, error);
}

const FutCommand fut_cmd_stop = {
    .name = "stop",
    .usage = "VM",
    .summary = "End a VM here in an orderly way; its twin stands down",
    .run = run,
};
