/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "early_flush.h"

#define PIECE (1u << 20)

/* Begun again and again while the file grows; where there is no such thing nothing is under way, and nothing went wrong. */
static void test_file(void)
{
    g_autofree char *name = NULL;
    g_autofree uint8_t *bytes = g_malloc(PIECE);
    FutEarlyFlush flush = { 0 };
    int fd = g_file_open_tmp("flush-XXXXXX", &name, NULL);

    g_assert_cmpint(fd, >=, 0);
    memset(bytes, 5, PIECE);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_cmpint(pwrite(fd, bytes, PIECE, (off_t)i * PIECE), ==, PIECE);
        bool begun = fut_early_flush_begin(&flush, fd);
        g_assert_true(flush.pending || !begun);
    }
    g_assert_cmpint(fut_early_flush_end(&flush), ==, 0);
    g_assert_false(flush.pending);
    bool begun = fut_early_flush_begin(&flush, fd);
    g_assert_true(begun == flush.pending && !(begun && flush.impossible));
    close(fd);
    fut_early_flush_done(&flush); /* one that nobody has waited for */
    g_assert_cmpuint(flush.context, ==, 0);
    g_unlink(name);
}

static void test_what_cannot(void)
{
    FutEarlyFlush flush = { 0 };
    int fd[2];

    g_assert_cmpint(pipe(fd), ==, 0);
    g_assert_false(fut_early_flush_begin(&flush, fd[1]));
    g_assert_cmpint(fut_early_flush_end(&flush), ==, 0);
    close(fd[0]);
    close(fd[1]);
    g_assert_false(fut_early_flush_begin(&flush, fd[0]));
    fut_early_flush_done(&flush);
    FutEarlyFlush never = { 0 };
    fut_early_flush_done(&never);
}

/* What one has found out is told once. */
static void test_error(void)
{
    FutEarlyFlush flush = { .code = 5 };

    g_assert_cmpint(fut_early_flush_end(&flush), ==, 5);
    g_assert_cmpint(fut_early_flush_end(&flush), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/early-flush/file", test_file);
    g_test_add_func("/early-flush/what-cannot", test_what_cannot);
    g_test_add_func("/early-flush/error", test_error);
    return g_test_run();
}
