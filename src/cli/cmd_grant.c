/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago grant: a person's word, where the arbiter is manual. Given to the VM's module, or, before
 * the VM is started, straight into the arbiter's folder. */
#include "arbiter.h"
#include "cli.h"
#include "fut_error.h"

typedef struct {
    char *generation, *arbiter, *node; /* owned; as given */
} GrantWords;

static bool grant_to_module(const char *vm, uint64_t generation, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, error);

    if (!client) {
        return false;
    }
    json_t *args = json_object();
    json_object_set_new(args, "generation", json_integer((json_int_t)generation));
    json_t *result = fut_control_call(client, "grant", args, FUT_CLI_ANSWER_MS, error);
    json_decref(result);
    return result != NULL;
}

static bool grant_before_start(const char *vm, uint64_t generation, const GrantWords *words,
                               GError **error)
{
    const char *node = words->node ? words->node : g_get_host_name();

    if (!fut_control_name_check(node, error)) {
        g_prefix_error(error, "--node: ");
        return false;
    }
    g_autoptr(FutArbiter) arbiter = fut_arbiter_open(words->arbiter, vm, error);
    return arbiter && fut_arbiter_grant(arbiter, generation, node, error);
}

static bool grant(const char *vm, const GrantWords *words, GError **error)
{
    guint64 generation = 0;

    if (!words->generation) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "grant: --generation is missing: futago status %s says which one is waited for",
                    vm);
        return false;
    }
    if (!g_ascii_string_to_unsigned(words->generation, 10, 1, G_MAXINT64 - 1, &generation, NULL)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--generation %s: give the number that futago status shows", words->generation);
        return false;
    }
    if (words->node && !words->arbiter) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "--node %s: only with --arbiter: a VM that runs knows its node", words->node);
        return false;
    }
    return words->arbiter ? grant_before_start(vm, generation, words, error)
                          : grant_to_module(vm, generation, error);
}

static bool parse_and_grant(int argc, char **argv, GrantWords *words, GError **error)
{
    const GOptionEntry entries[] = {
        { "generation", 0, 0, G_OPTION_ARG_FILENAME, &words->generation,
          "The generation that is waited for", "N" },
        { "arbiter", 0, 0, G_OPTION_ARG_FILENAME, &words->arbiter,
          "Before the VM is started: its arbiter", "manual:DIR" },
        { "node", 0, 0, G_OPTION_ARG_FILENAME, &words->node,
          "Before the VM is started: its node (default: this host's name)", "NODE" },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_grant, entries, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_grant, argc, argv, false, error);
    return vm && grant(vm, words, error);
}

static bool run(int argc, char **argv, GError **error)
{
    GrantWords words = { 0 };
    bool ok = parse_and_grant(argc, argv, &words, error);

    g_free(words.generation);
    g_free(words.arbiter);
    g_free(words.node);
    return ok;
}

const FutCommand fut_cmd_grant = {
    .name = "grant",
    .usage = "VM",
    .summary = "Let a VM go on here, where a person is the arbiter",
    .run = run,
};
