/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may be done about a finding. Pure. The twin of a protected VM holds the guest's memory as it was a moment ago: a service or a kernel
 * that has failed is, or is about to be, just as dead there. So a hand-over is only a remedy where the host is at fault, and is refused
 * elsewhere, with what would help instead, unless it was asked for all the same.
 */
#ifndef FUT_POLICY_H
#define FUT_POLICY_H

#include <stdbool.h>

#include "probe_keys.h"

typedef struct {
    bool primary;
    bool is_protected; /* a twin is ready */
} FutSituation;

typedef struct {
    bool act;
    const char
        *text; /* static: why not; or, with `act`, what has to be said with it ("": nothing) */
} FutVerdict;

FutVerdict fut_policy_judge(FutDeed deed, FutScope scope, FutSituation situation);

/* What a program asked by ask:PATH wants done. False: this exit status means nothing. *ret_deed is FUT_DO_REPORT for "nothing". */
bool fut_policy_answer(int exit_status, FutDeed *ret_deed);

#endif
