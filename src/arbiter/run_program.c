/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a program to its end, in bounded time. */
#include "run_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"

/* After SIGKILL a process may still sit in the kernel, waiting for a dead disk. */
#define LAST_WAIT_MS 500
#define READS_MAX 16

typedef struct {
    int fd;     /* reading end; -1: closed */
    int far_fd; /* the program's end; -1 once it runs */
    char *text; /* FUT_RUN_TEXT_MAX + 1 bytes */
    size_t length;
} Stream;

typedef struct {
    pid_t pid;
    int pid_fd;
    Stream out, err;
} Child;

static bool fail(GError **error, const char *path, int code)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot run %s: %s", path, g_strerror(code));
    return false;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void child_done(Child *child)
{
    close_fd(&child->pid_fd);
    close_fd(&child->out.fd);
    close_fd(&child->out.far_fd);
    close_fd(&child->err.fd);
    close_fd(&child->err.far_fd);
}

static bool stream_open(Stream *stream, char *text)
{
    int fds[2];

    stream->text = text;
    text[0] = '\0';
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return false;
    }
    stream->fd = fds[0];
    stream->far_fd = fds[1];
    return fcntl(stream->fd, F_SETFL, O_NONBLOCK) == 0;
}

/* Takes what is there, but no more than a pipe holds: who writes without end is not listened to for ever. */
static void stream_read(Stream *stream)
{
    char bytes[4096];

    for (int i = 0; stream->fd >= 0 && i < READS_MAX; i++) {
        ssize_t got = read(stream->fd, bytes, sizeof(bytes));
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (got <= 0) {
            close_fd(&stream->fd);
            return;
        }
        for (ssize_t j = 0; j < got && stream->length < FUT_RUN_TEXT_MAX; j++) {
            stream->text[stream->length++] = bytes[j] ? bytes[j] : ' ';
        }
        stream->text[stream->length] = '\0';
    }
}

static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    int code = posix_spawnattr_setpgroup(attributes, 0);
    code = code ? code : posix_spawnattr_setsigmask(attributes, &none);
    code = code ? code : posix_spawnattr_setsigdefault(attributes, &all);
    return code ? code
                : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP |
                                                           POSIX_SPAWN_SETSIGMASK |
                                                           POSIX_SPAWN_SETSIGDEF);
}

static int set_files(posix_spawn_file_actions_t *files, const Child *child)
{
    int code = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);

    code = code ? code : posix_spawn_file_actions_adddup2(files, child->out.far_fd, 1);
    code = code ? code : posix_spawn_file_actions_adddup2(files, child->err.far_fd, 2);
    code = code ? code : posix_spawn_file_actions_addclosefrom_np(files, 3);
    return code ? code : posix_spawn_file_actions_addchdir_np(files, "/");
}

/* Returns an errno. */
static int spawn(Child *child, char *const *argv, char *const *env)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;

    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&files);
    int code = set_attributes(&attributes);
    code = code ? code : set_files(&files, child);
    code = code ? code : posix_spawn(&child->pid, argv[0], &files, &attributes, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return code;
}

static int ms_until(uint64_t deadline_ns)
{
    uint64_t now_ns = fut_now_ns();

    return now_ns >= deadline_ns ? 0 : (int)MIN((deadline_ns - now_ns) / FUT_NS_PER_MS + 1, 60000);
}

/* True when it has ended; it is not reaped yet. */
static bool await_end(Child *child, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd fds[] = {
            { child->pid_fd, POLLIN, 0 },
            { child->out.fd, POLLIN, 0 }, /* -1 is left out */
            { child->err.fd, POLLIN, 0 },
        };
        int wait_ms = ms_until(deadline_ns);
        int count = poll(fds, G_N_ELEMENTS(fds), wait_ms);
        g_assert(count >= 0 || errno == EINTR);
        stream_read(&child->out);
        stream_read(&child->err);
        if (count > 0 && fds[0].revents) {
            return true;
        }
        if (wait_ms == 0) {
            return false;
        }
    }
}

/* The number of a process that is not reaped stays taken, so the group is the right one. */
static bool finish(Child *child, uint64_t deadline_ns, FutRunResult *ret, const char *path,
                   GError **error)
{
    int status;

    ret->late = !await_end(child, deadline_ns);
    kill(-child->pid, SIGKILL);
    if (ret->late && !await_end(child, fut_now_ns() + LAST_WAIT_MS * FUT_NS_PER_MS)) {
        return true;
    }
    if (waitpid(child->pid, &status, 0) != child->pid) {
        return fail(error, path, errno);
    }
    stream_read(&child->out);
    stream_read(&child->err);
    ret->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return true;
}

bool fut_run_program(char *const *argv, char *const *env, uint64_t deadline_ns, FutRunResult *ret,
                     GError **error)
{
    Child child = { .pid_fd = -1, .out = { -1, -1, NULL, 0 }, .err = { -1, -1, NULL, 0 } };
    FutRunResult result = { .status = -1 };

    bool open = stream_open(&child.out, result.output) && stream_open(&child.err, result.errors);
    int code = open ? spawn(&child, argv, env) : errno;
    if (code != 0) {
        child_done(&child);
        return fail(error, argv[0], code);
    }
    close_fd(&child.out.far_fd);
    close_fd(&child.err.far_fd);
    child.pid_fd = pidfd_open(child.pid, 0);
    if (child.pid_fd < 0) {
        code = errno;
        kill(-child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        child_done(&child);
        return fail(error, argv[0], code);
    }
    bool ok = finish(&child, deadline_ns, &result, argv[0], error);
    child_done(&child);
    if (ok) {
        *ret = result;
    }
    return ok;
}
