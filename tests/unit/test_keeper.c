/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper outlives its parent for a moment, holds none of its files, and ends by itself. */
#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keeper.h"

/* A child with a keeper that waits to be killed; returns when it is ready. */
static pid_t child_with_keeper(int *ret_fd)
{
    int pair[2];
    char ready;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        close(pair[0]);
        fut_keeper_start();
        g_usleep(50 * 1000); /* lets the keeper close its copies */
        g_assert_cmpint(write(pair[1], "r", 1), ==, 1);
        for (;;) {
            pause();
        }
    }
    close(pair[1]);
    g_assert_cmpint(read(pair[0], &ready, 1), ==, 1);
    *ret_fd = pair[0];
    return pid;
}

static void test_files_close_before_memory_goes(void)
{
    int fd, status;
    char byte;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = child_with_keeper(&fd);
    kill(child, SIGKILL);
    g_assert_cmpint(read(fd, &byte, 1), ==, 0); /* the end of the stream, with the keeper alive */
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(waitpid(-1, &status, WNOHANG | __WALL), ==, 0);
    pid_t keeper = waitpid(-1, &status, __WALL);
    g_assert_cmpint(keeper, >, 0);
    g_assert_cmpint(keeper, !=, child);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keeper/files-close-before-memory-goes", test_files_close_before_memory_goes);
    return g_test_run();
}
