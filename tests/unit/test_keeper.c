/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper outlives its parent for a moment, holds only what it was given, has the last word, and ends by itself. */
#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <string.h>
#include <unistd.h>

#include "keeper.h"
#include "plain_syscall.h"

static char last_word[4] = "old";

static void speak(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fut_plain_syscall(SYS_write, fds[i], (long)last_word, 3, 0);
    }
}

typedef enum {
    GIVE_NOTHING,
    GIVE,
    GIVE_AND_TAKE_BACK
} Giving;

/* A child with a keeper that waits to be killed; returns when it is ready. */
static pid_t child_with_keeper(Giving giving, int *ret_fd)
{
    int pair[2];
    char ready;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        fut_keeper_start();
        g_usleep(50 * 1000); /* lets the keeper close its copies */
        if (giving != GIVE_NOTHING) {
            fut_keeper_give(pair, 1, speak); /* closed here, and in place of it the other: */
            fut_keeper_give(pair + 1, 1, speak);
        }
        if (giving == GIVE_AND_TAKE_BACK) {
            fut_keeper_take_back();
        }
        memcpy(last_word, "bye", 3); /* memory is as it is at the end */
        close(pair[0]);
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

/* The child is killed: what comes out of the socket until its end, and the keeper ends. */
static void check_end(Giving giving, const char *expected)
{
    int fd, status;
    char got[8] = { 0 };
    size_t length = 0;
    ssize_t some;

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = child_with_keeper(giving, &fd);
    kill(child, SIGKILL);
    while ((some = read(fd, got + length, sizeof(got) - 1 - length)) > 0) {
        length += (size_t)some;
    }
    g_assert_cmpint(some, ==, 0); /* the end of the stream, with the keeper alive */
    g_assert_cmpstr(got, ==, expected);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(waitpid(-1, &status, WNOHANG | __WALL), ==, 0);
    pid_t keeper = waitpid(-1, &status, __WALL);
    g_assert_cmpint(keeper, >, 0);
    g_assert_cmpint(keeper, !=, child);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(fd);
}

static void test_files_close_before_memory_goes(void)
{
    check_end(GIVE_NOTHING, "");
}

static void test_last_word(void)
{
    check_end(GIVE, "bye");
}

static void test_taken_back(void)
{
    check_end(GIVE_AND_TAKE_BACK, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keeper/files-close-before-memory-goes", test_files_close_before_memory_goes);
    g_test_add_func("/keeper/last-word", test_last_word);
    g_test_add_func("/keeper/taken-back", test_taken_back);
    return g_test_run();
}
