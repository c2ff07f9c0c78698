/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Error domain of Futago: every operating error is a GError of this domain, with one line of
 * text. */
#ifndef FUT_ERROR_H
#define FUT_ERROR_H

#include <glib.h>

typedef enum {
    FUT_ERR_ARG,         /* the user gave a wrong option or value */
    FUT_ERR_IO,          /* the operating system refused an operation */
    FUT_ERR_PEER,        /* the peer sent something wrong: the link is dropped */
    FUT_ERR_MISMATCH,    /* the peers differ in something that must be equal */
    FUT_ERR_REFUSED,     /* the peer or the arbiter said no */
    FUT_ERR_BUSY,        /* the thing is in use by somebody else */
    FUT_ERR_STATE,       /* not possible in the present state */
    FUT_ERR_UNSUPPORTED, /* this machine or configuration cannot be protected */
    FUT_ERR_TIMEOUT,     /* no answer in time */
    FUT_ERR_COUNT
} FutErr;

#define FUT_ERROR (fut_error_quark())
GQuark fut_error_quark(void);

/* Stable lower-case name of a code ("arg", "io", ...), for JSON; and back (FUT_ERR_COUNT if
 * unknown). */
const char *fut_err_name(FutErr code);
FutErr fut_err_from_name(const char *name);
/* Exit status of a command that ends with this error: 2 for FUT_ERR_ARG, 1 otherwise. */
int fut_err_exit_status(FutErr code);

#endif
