/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The listening socket of a VM. Two processes that start the same VM at once must not take each
 * other's socket away, so looking whether the old one lives, removing it and binding the new one
 * happen under a lock on the folder. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "control_internal.h"
#include "fut_error.h"

#define BACKLOG 16

static int fail_system(GError **error, const char *what, const char *path)
{
    int code = errno;

    g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                "cannot %s %s: %s: set FUTAGO_RUNDIR to a folder of your own", what, path,
                g_strerror(code));
    return -1;
}

/* Makes the folder if need be; returns it open and locked. A folder that somebody else owns is not
 * trusted: whoever owns it could put another socket in our place. */
static int lock_folder(const char *folder, GError **error)
{
    struct stat status;

    if (g_mkdir_with_parents(folder, 0700) < 0) {
        return fail_system(error, "create", folder);
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail_system(error, "open", folder);
    }
    if (fstat(fd, &status) < 0 || (status.st_uid != geteuid() && status.st_uid != 0)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s belongs to another user: set FUTAGO_RUNDIR to a folder of your own",
                    folder);
        close(fd);
        return -1;
    }
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            fail_system(error, "lock", folder);
            close(fd);
            return -1;
        }
    }
    return fd;
}

/* Removes a socket that nobody listens on. FUT_ERR_BUSY if somebody does. */
static bool clear_stale(const char *path, const struct sockaddr_un *address, GError **error)
{
    struct stat status;

    if (lstat(path, &status) < 0 && errno == ENOENT) {
        return true;
    }
    if (!S_ISSOCK(status.st_mode)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY, "%s is not a socket: remove it", path);
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* A full backlog (EAGAIN) is a sign of life, too. */
    bool lives = fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
                             errno == EAGAIN);
    if (fd >= 0) {
        close(fd);
    }
    if (lives) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "%s is in use by a running process: end that one or choose another name", path);
        return false;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        fail_system(error, "replace", path);
        return false;
    }
    return true;
}

static int bind_new(const char *path, const struct sockaddr_un *address, GError **error)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* The mode given before bind() is the mode of the file that bind() makes: there is no moment
     * with a wider one. */
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, BACKLOG) < 0) {
        fail_system(error, "listen on", path);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

int fut_control_listen(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    struct sockaddr_un address;

    if (!fut_control_address(path, &address, error)) {
        return -1;
    }
    int lock = lock_folder(folder, error);
    if (lock < 0) {
        return -1;
    }
    int fd = clear_stale(path, &address, error) ? bind_new(path, &address, error) : -1;
    close(lock);
    return fd;
}
