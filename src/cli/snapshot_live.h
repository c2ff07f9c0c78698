/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words of "futago snapshot" that ask a running VM. argv[0] is the word itself. */
#ifndef FUT_SNAPSHOT_LIVE_H
#define FUT_SNAPSHOT_LIVE_H

#include "cli.h"

bool fut_snapshot_live_create(int argc, char **argv, GError **error);
bool fut_snapshot_live_auto(int argc, char **argv, GError **error);
bool fut_snapshot_live_status(int argc, char **argv, GError **error);

#endif
