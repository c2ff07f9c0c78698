/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may be done about a finding. */
#include "policy.h"

#include <glib.h>

static FutVerdict judge_failover(bool anyway, FutScope scope, FutSituation situation)
{
    if (!situation.primary) {
        return (FutVerdict){ false, "no hand-over: the VM does not run here" };
    }
    if (!situation.is_protected) {
        return (FutVerdict){
            false, "no hand-over: there is no twin that is ready: futago protect gives it one"
        };
    }
    if (scope == FUT_SCOPE_HOST) {
        return (FutVerdict){ true, "" };
    }
    if (anyway) {
        return (FutVerdict){ true,
                             "the twin holds the same failed state: the failure goes with the VM" };
    }
    return (FutVerdict){
        false,
        scope == FUT_SCOPE_SERVICE
            ? "no hand-over: the twin holds the same failed service: restart the service, or go back to a snapshot from before"
            : "no hand-over: the twin holds the same failed system: restart the guest, or go back to a snapshot from before"
    };
}

FutVerdict fut_policy_judge(FutDeed deed, FutScope scope, FutSituation situation)
{
    switch (deed) {
    case FUT_DO_FAILOVER:
    case FUT_DO_FAILOVER_ANYWAY:
        return judge_failover(deed == FUT_DO_FAILOVER_ANYWAY, scope, situation);
    case FUT_DO_SNAPSHOT:
    case FUT_DO_STOP:
        return situation.primary ? (FutVerdict){ true, "" }
                                 : (FutVerdict){ false, "nothing done: the VM does not run here" };
    case FUT_DO_REPORT:
    case FUT_DO_COMMAND:
    case FUT_DO_ASK:
        return (FutVerdict){ true, "" };
    }
    g_assert_not_reached();
}

bool fut_policy_answer(int exit_status, FutDeed *ret_deed)
{
    static const struct {
        int status;
        FutDeed deed;
    } answers[] = {
        { 0, FUT_DO_REPORT },    { 10, FUT_DO_FAILOVER }, { 11, FUT_DO_FAILOVER_ANYWAY },
        { 12, FUT_DO_SNAPSHOT }, { 13, FUT_DO_STOP },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        if (answers[i].status == exit_status) {
            *ret_deed = answers[i].deed;
            return true;
        }
    }
    return false;
}
