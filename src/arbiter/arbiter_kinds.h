/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kinds of arbiter there are; arbiter.c has the table. */
#ifndef FUT_ARBITER_KINDS_H
#define FUT_ARBITER_KINDS_H

#include "arbiter.h"

extern const FutArbiterOps fut_arbiter_file, fut_arbiter_etcd, fut_arbiter_command,
    fut_arbiter_manual;

#endif
