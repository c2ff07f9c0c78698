/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago unprotect: the VM goes on without its twin. */
#include "cli.h"

static bool run(int argc, char **argv, GError **error)
{
    if (!fut_cli_parse(&fut_cmd_unprotect, NULL, &argc, argv, error)) {
        return false;
    }
    const char *vm = fut_cli_vm(&fut_cmd_unprotect, argc, argv, false, error);
    return vm && fut_cli_request(vm, "unprotect", error);
}

const FutCommand fut_cmd_unprotect = {
    .name = "unprotect",
    .usage = "VM",
    .summary = "End the protection of a VM; it runs on here, without its twin",
    .run = run,
};
