/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests: an error is right when its code and its whole text are. */
#ifndef FUT_TESTS_EXPECT_H
#define FUT_TESTS_EXPECT_H

#include <glib.h>

#include "fut_error.h"

/* Clears the error for the next use. */
#define expect_error(error, wanted_code, wanted_text)                                              \
    do {                                                                                           \
        g_assert_error((error), FUT_ERROR, (wanted_code));                                         \
        g_assert_cmpstr((error)->message, ==, (wanted_text));                                      \
        g_clear_error(&(error));                                                                   \
    } while (0)

#endif
