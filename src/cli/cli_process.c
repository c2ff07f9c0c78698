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
#define IMAGE_FD 4
/* Out of the way of these. */
#define FREE_FD 10
/* Of a log, for its last line. */
#define TAIL_BYTES 4096
/* Of /proc/PID/stat, counted from behind the name, where the first is empty. */
#define BIRTH_FIELD 20

/* In the child. `fd` (may be -1) becomes `place`; `fd` itself lies beyond all places. */
static bool put_at(int fd, int place)
{
    return fd < 0 || dup2(fd, place) >= 0;
}

/* In the child. Only its last descriptor tells of errors. */
static void become(char *const *argv, const char *log, int socket, int image)
{
    int null = open("/dev/null", O_RDONLY);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int far_socket = socket >= 0 ? fcntl(socket, F_DUPFD_CLOEXEC, FREE_FD) : -1;
    int far_image = image >= 0 ? fcntl(image, F_DUPFD_CLOEXEC, FREE_FD) : -1;
    g_autofree char *self = g_strdup_printf("%d", (int)getpid());

    if (null < 0 || out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        (socket >= 0 && far_socket < 0) || (image >= 0 && far_image < 0) ||
        !put_at(far_socket, SOCKET_FD) || !put_at(far_image, IMAGE_FD)) {
        return;
    }
    setsid();
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (socket >= 0) {
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

/* In the child: goes on in a child of its own once that has lost its parent. nbdkit, for one, ends with the parent that it finds. */
static void leave_parent(void)
{
    pid_t parent = getpid();

    if (fork() != 0) {
        _exit(0);
    }
    while (getppid() == parent) {
        g_usleep(1000);
    }
}

static void be_child(char *const *argv, const char *log, int socket, int image, bool apart, int out)
{
    if (apart) {
        leave_parent();
    }
    pid_t self = getpid();
    close_on_exec_from(SOCKET_FD);
    int code = write(out, &self, sizeof(self)) == sizeof(self) ? 0 : EIO;
    if (code == 0) {
        become(argv, log, socket, image);
        code = errno;
    }
    _exit(write(out, &code, sizeof(code)) == sizeof(code) ? 127 : 126);
}

/* What it tells: its number, and why it could not begin, where it could not. */
static int hear_of(int report, pid_t *ret_pid)
{
    int code = 0;

    if (read(report, ret_pid, sizeof(*ret_pid)) != sizeof(*ret_pid)) {
        return ECHILD;
    }
    return read(report, &code, sizeof(code)) == sizeof(code) ? code : 0;
}

pid_t fut_process_start(char *const *argv, const char *log, const FutProcessHow *how,
                        GError **error)
{
    int report[2];
    pid_t started = 0;

    if (pipe2(report, O_CLOEXEC) < 0) {
        g_error("pipe: %s", g_strerror(errno));
    }
    /* Out of the way of the places that descriptors get. */
    int out = fcntl(report[1], F_DUPFD_CLOEXEC, FREE_FD);
    close(report[1]);
    pid_t pid = fork();
    if (pid == 0) {
        be_child(argv, log, how->socket, how->image, how->apart, out);
    }
    int code = pid < 0 ? errno : 0;
    close(out);
    code = code ? code : hear_of(report[0], &started);
    close(report[0]);
    if (pid > 0 && (code || how->apart)) {
        waitpid(pid, NULL, 0);
    }
    if (code) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot start '%s' with its output in %s: %s",
                    argv[0], log, g_strerror(code));
        return 0;
    }
    return started;
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

uint64_t fut_process_birth(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = NULL;

    if (pid <= 0 || !g_file_get_contents(path, &text, NULL, NULL)) {
        return 0;
    }
    /* Behind the name, which may hold anything: state, 18 more, and the time. */
    const char *at = strrchr(text, ')');
    g_auto(GStrv) fields = g_strsplit(at ? at + 1 : "", " ", BIRTH_FIELD + 2);
    bool dead = g_strv_length(fields) <= BIRTH_FIELD || strchr("ZX", fields[1][0]);

    return dead ? 0 : g_ascii_strtoull(fields[BIRTH_FIELD], NULL, 10);
}

void fut_process_end_one(pid_t pid, uint64_t birth, unsigned patience_ms)
{
    for (unsigned ms = 0; birth && fut_process_birth(pid) == birth; ms += LOOK_EVERY_US / 1000) {
        if (ms == 0 || ms >= patience_ms) {
            kill(pid, ms == 0 ? SIGTERM : SIGKILL);
        }
        g_usleep(LOOK_EVERY_US);
    }
    if (pid > 0) {
        waitpid(pid, NULL, WNOHANG); /* where it is our child */
    }
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
