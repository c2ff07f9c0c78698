/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago protect: gives a running VM a twin. */
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "cli.h"
#include "fut_error.h"

#define WAIT_MAX_S 86400

static FutWait judge(const json_t *status, char **ret_progress)
{
    const char *state = fut_cli_text(status, "state");

    *ret_progress = g_strdup_printf("%.0f %% copied", 100 * fut_cli_value(status, "copy_share"));
    if (strcmp(state, "protected") == 0) {
        return FUT_WAIT_DONE;
    }
    bool over = strcmp(state, "alone") == 0 || strcmp(state, "fenced") == 0 ||
                strcmp(fut_cli_text(status, "role"), "primary") != 0;
    return over ? FUT_WAIT_FAILED : FUT_WAIT_ON;
}

static bool protect(const char *vm, const char *to, unsigned wait_s, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);
    json_t *args = json_object();

    if (to) {
        json_object_set_new(args, "to", json_string(to));
    }
    if (!client) {
        json_decref(args);
        return false;
    }
    json_t *result = fut_control_call(client, "protect", args, FUT_CLI_ANSWER_MS, error);
    if (!result) {
        return false;
    }
    json_decref(result);
    if (wait_s == 0) {
        return true;
    }
    if (!fut_cli_wait(client, vm, "protected", wait_s, judge, error)) {
        return false;
    }
    printf("%s: protected\n", vm);
    return true;
}

/* The address is looked at before the VM is bothered; the text goes on as its canonical form. */
static bool protect_words(const char *vm, const char *to, const char *wait, GError **error)
{
    unsigned wait_s = 0;

    if (wait && !fut_cli_number("wait", wait, 1, WAIT_MAX_S, &wait_s, error)) {
        return false;
    }
    g_autoptr(FutAddress) address = to ? fut_address_parse(to, error) : NULL;
    if (to && !address) {
        g_prefix_error(error, "--to: ");
        return false;
    }
    g_autofree char *text = address ? fut_address_text(address) : NULL;
    return protect(vm, text, wait_s, error);
}

static bool run(int argc, char **argv, GError **error)
{
    g_autofree char *to = NULL;
    g_autofree char *wait = NULL;
    const GOptionEntry entries[] = {
        { "to", 0, 0, G_OPTION_ARG_FILENAME, &to, "Where the standby listens (default: as before)",
          "ADDR" },
        { "wait", 0, 0, G_OPTION_ARG_FILENAME, &wait, "Wait until the VM is protected, so long",
          "SECONDS" },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_protect, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_protect, argc, argv, false, error);
    return vm && protect_words(vm, to, wait, error);
}

const FutCommand fut_cmd_protect = {
    .name = "protect",
    .usage = "VM",
    .summary = "Give a running VM a twin on another host",
    .run = run,
};
