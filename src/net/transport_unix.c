/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix sockets: connecting with a time limit; listening, where a path left behind by a dead
 * listener is replaced. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "fut_error.h"
#include "link_internal.h"

#define BACKLOG 16
#define LOCK_TRIES 200
#define LOCK_STEP_US 5000

static struct sockaddr_un socket_name(const FutAddress *address)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    g_assert(strlen(address->path) < sizeof(name.sun_path)); /* fut_address_parse() saw to it */
    memcpy(name.sun_path, address->path, strlen(address->path) + 1);
    return name;
}

/* 0 or an errno. A full backlog makes connect() wait, at most the socket's send time-out. */
static int connect_within(int fd, const FutAddress *address, unsigned timeout_ms)
{
    struct sockaddr_un name = socket_name(address);
    struct timeval limit = { .tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000 };
    if (timeout_ms == 0) {
        limit.tv_usec = 1000; /* 0 would mean for ever */
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0) {
        return errno;
    }
    int status;
    do {
        status = connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? errno : 0;
    } while (status == EINTR);
    return status;
}

static int unix_connect(const FutAddress *address, unsigned timeout_ms, GError **error)
{
    int fd = fut_socket_new(AF_UNIX, 0);
    int status = fd < 0 ? errno : connect_within(fd, address, timeout_ms);
    if (status == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        status = errno;
    }
    if (status == 0) {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    bool nobody = status == ECONNREFUSED || status == ENOENT, late = status == EAGAIN;
    g_set_error(error, FUT_ERROR, late ? FUT_ERR_TIMEOUT : FUT_ERR_IO,
                "cannot connect to unix:%s: %s; %s", address->path,
                nobody ? "nobody listens there"
                : late ? "no answer in time"
                       : g_strerror(status),
                nobody ? "start the peer first"
                : late ? "is the peer stuck?"
                       : "check the path");
    return -1;
}

/* Does somebody listen on this socket? In doubt yes. */
static bool is_live(const FutAddress *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return true;
    }
    struct sockaddr_un name = socket_name(address);
    bool refused = connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return !refused;
}

static bool is_socket(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* 0 or an errno. Only the owner may connect: the mode is set before anybody can. */
static int bind_and_listen(int fd, const FutAddress *address)
{
    struct sockaddr_un name = socket_name(address);
    int status = bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? errno : 0;
    if (status == EADDRINUSE && is_socket(address->path) && !is_live(address)) {
        unlink(address->path);
        status = bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? errno : 0;
    }
    if (status != 0) {
        return status;
    }
    if (chmod(address->path, 0600) < 0 || listen(fd, BACKLOG) < 0) {
        status = errno;
        unlink(address->path);
    }
    return status;
}

/* Two that find the same stale socket must not replace each other's: the directory's lock lets
 * one through at a time. The descriptor that holds it, or -1: then we go on without, because
 * anybody who may read the directory could keep the lock for ever, and because bind() says best
 * what is wrong with a directory. */
static int lock_directory(const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return fd;
        }
        g_usleep(LOCK_STEP_US);
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static void listen_failed(const FutAddress *address, int status, GError **error)
{
    if (status == EADDRINUSE) {
        bool live = is_socket(address->path);
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "cannot listen on unix:%s: %s; choose another path", address->path,
                    live ? "somebody listens there" : "a file that is no socket is there");
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "cannot listen on unix:%s: %s; check the directory", address->path,
                    g_strerror(status));
    }
}

static int unix_listen(const FutAddress *address, GError **error)
{
    int fd = fut_socket_new(AF_UNIX, SOCK_NONBLOCK);
    int status = errno;
    if (fd >= 0) {
        int lock = lock_directory(address->path);
        status = bind_and_listen(fd, address);
        if (lock >= 0) {
            close(lock);
        }
    }
    if (fd >= 0 && status == 0) {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    listen_failed(address, status, error);
    return -1;
}

static void unix_tune(int fd)
{
    fut_socket_buffers(fd, AF_UNIX); /* not inherited from the listener */
}

static char *unix_peer_name(const FutAddress *local, const struct sockaddr_storage *peer,
                            socklen_t length)
{
    return fut_address_text(local); /* who connects has no name of its own */
}

const FutTransport fut_transport_unix = {
    .stream = fut_stream_socket_new,
    .connect = unix_connect,
    .listen = unix_listen,
    .tune = unix_tune,
    .peer_name = unix_peer_name,
};
