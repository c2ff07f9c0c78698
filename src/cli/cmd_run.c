/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago run: starts QEMU with the module as a primary. */
#include "cli_start.h"

static bool run(int argc, char **argv, GError **error)
{
    return fut_start_run(&fut_cmd_run, false, argc, argv, error);
}

const FutCommand fut_cmd_run = {
    .name = "run",
    .usage = "-- QEMU-PROGRAM [QEMU-OPTION…]",
    .summary = "Start a VM that can be protected",
    .run = run,
};
