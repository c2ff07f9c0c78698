/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fut_error.h"

#define LOOK_EVERY_US 20000
#define SOCKET_FD 3
/* Of a log, for its last line. */
#define TAIL_BYTES 4096

/* In the child. Only its last descriptor tells of errors. */
static void become(char *const *argv, const char *log, int socket)
{
    int null = open("/dev/null", O_RDONLY);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    g_autofree char *self = g_strdup_printf("%d", (int)getpid());

    if (null < 0 || out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
        return;
    }
    setsid();
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (socket >= 0) {
        if (socket == SOCKET_FD ? fcntl(socket, F_SETFD, 0) < 0 : dup2(socket, SOCKET_FD) < 0) {
            return;
        }
        g_setenv("LISTEN_PID", self, TRUE);
        g_setenv("LISTEN_FDS", "1", TRUE);
    }
    execvp(argv[0], argv);
}

static void close_on_exec_from(int first)
{
    for (int fd = first; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0) {
            fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
        }
    }
}

pid_t fut_process_start(char *const *argv, const char *log, int take_socket, GError **error)
{
    int report[2], code = 0;

    if (pipe2(report, O_CLOEXEC) < 0) {
        g_error("pipe: %s", g_strerror(errno));
    }
    /* Out of the way of the place that the socket gets. */
    int out = fcntl(report[1], F_DUPFD_CLOEXEC, 10);
    close(report[1]);
    pid_t pid = fork();
    if (pid == 0) {
        close_on_exec_from(SOCKET_FD);
        become(argv, log, take_socket);
        code = errno;
        _exit(write(out, &code, sizeof(code)) == sizeof(code) ? 127 : 126);
    }
    code = pid < 0 ? errno : 0;
    close(out);
    bool failed = pid < 0 || read(report[0], &code, sizeof(code)) == sizeof(code);
    close(report[0]);
    if (take_socket >= 0) {
        close(take_socket);
    }
    if (failed) {
        waitpid(pid, NULL, 0);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot start '%s' with its output in %s: %s",
                    argv[0], log, g_strerror(code));
        return 0;
    }
    return pid;
}

bool fut_process_runs(pid_t pid)
{
    return pid > 0 && waitpid(pid, NULL, WNOHANG) == 0;
}

void fut_process_end(pid_t pid, unsigned patience_ms)
{
    if (!fut_process_runs(pid)) {
        return;
    }
    kill(pid, SIGTERM);
    for (unsigned ms = 0; ms < patience_ms; ms += LOOK_EVERY_US / 1000) {
        if (!fut_process_runs(pid)) {
            return;
        }
        g_usleep(LOOK_EVERY_US);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

char *fut_process_last_words(const char *log)
{
    char text[TAIL_BYTES + 1];
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    ssize_t length = -1;

    if (fd >= 0) {
        off_t size = lseek(fd, 0, SEEK_END);
        length = pread(fd, text, TAIL_BYTES, MAX(0, size - TAIL_BYTES));
        close(fd);
    }
    text[MAX(length, 0)] = '\0';
    g_strchomp(text);
    char *newline = strrchr(text, '\n');
    return g_utf8_make_valid(newline ? newline + 1 : text, -1);
}

char *fut_process_find(const char *built, const char *installed)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *path = folder ? g_canonicalize_filename(built, folder) : NULL;

    return path && access(path, R_OK) == 0 ? g_steal_pointer(&path) : g_strdup(installed);
}
