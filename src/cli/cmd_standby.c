/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago standby: starts QEMU with the module as a backup, its guest stopped. */
#include "cli_start.h"

static bool run(int argc, char **argv, GError **error)
{
    return fut_start_run(&fut_cmd_standby, true, argc, argv, error);
}

const FutCommand fut_cmd_standby = {
    .name = "standby",
    .usage = "-- QEMU-PROGRAM [QEMU-OPTION…]",
    .summary = "Wait for a VM on another host, to take over when that host is lost",
    .run = run,
};
