/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Error domain of Futago: names and exit statuses of its codes. */
#include "fut_error.h"

GQuark fut_error_quark(void)
{
    return g_quark_from_static_string("futago-error");
}

static const char *const names[] = {
    [FUT_ERR_ARG] = "arg",         [FUT_ERR_IO] = "io",
    [FUT_ERR_PEER] = "peer",       [FUT_ERR_MISMATCH] = "mismatch",
    [FUT_ERR_REFUSED] = "refused", [FUT_ERR_BUSY] = "busy",
    [FUT_ERR_STATE] = "state",     [FUT_ERR_UNSUPPORTED] = "unsupported",
    [FUT_ERR_TIMEOUT] = "timeout",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FUT_ERR_COUNT);

const char *fut_err_name(FutErr code)
{
    g_assert((unsigned)code < FUT_ERR_COUNT);
    return names[code];
}

FutErr fut_err_from_name(const char *name)
{
    for (unsigned i = 0; i < FUT_ERR_COUNT; i++) {
        if (g_strcmp0(name, names[i]) == 0) {
            return (FutErr)i;
        }
    }
    return FUT_ERR_COUNT;
}

int fut_err_exit_status(FutErr code)
{
    return code == FUT_ERR_ARG ? 2 : 1;
}
