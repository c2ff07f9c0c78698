/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A folder of its own for a test that writes files. */
#ifndef FUT_TEST_TMP_H
#define FUT_TEST_TMP_H

#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <sys/stat.h>

/* Caller frees, after fut_test_tmp_remove(). */
static inline char *fut_test_tmp(void)
{
    GError *error = NULL;
    char *path = g_dir_make_tmp("futago-test-XXXXXX", &error);

    g_assert_no_error(error);
    return path;
}

static inline int fut_test_tmp_drop(const char *path, const struct stat *status, int kind,
                                    struct FTW *where)
{
    return remove(path);
}

static inline void fut_test_tmp_remove(const char *path)
{
    g_assert_cmpint(nftw(path, fut_test_tmp_drop, 8, FTW_DEPTH | FTW_PHYS), ==, 0);
}

#endif
