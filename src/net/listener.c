/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listeners: where peers come in. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fut_error.h"
#include "link_internal.h"

struct FutListener {
    const FutTransport *transport;
    FutAddress *address; /* owned */
    int fd;              /* owned */
    dev_t device;        /* unix: which file is ours, so that we remove no other's */
    ino_t inode;
};

FutListener *fut_listener_new(const FutAddress *address, GError **error)
{
    const FutTransport *transport = fut_transport_of(address->kind);
    int fd = transport->listen(address, error);
    if (fd < 0) {
        return NULL;
    }
    FutListener *listener = g_new0(FutListener, 1);
    listener->transport = transport;
    listener->fd = fd;
    listener->address = g_new0(FutAddress, 1);
    *listener->address = (FutAddress){ address->kind, g_strdup(address->host), address->port,
                                       g_strdup(address->path) };
    struct stat st;
    if (address->path && lstat(address->path, &st) == 0) {
        listener->device = st.st_dev;
        listener->inode = st.st_ino;
    }
    return listener;
}

static void remove_path(const FutListener *listener)
{
    const char *path = listener->address->path;
    struct stat st;
    if (path && lstat(path, &st) == 0 && st.st_dev == listener->device &&
        st.st_ino == listener->inode) {
        unlink(path);
    }
}

void fut_listener_free(FutListener *listener)
{
    if (listener) {
        remove_path(
            listener); /* while it still listens: nobody can take it for stale and replace it */
        close(listener->fd);
        fut_address_free(listener->address);
        g_free(listener);
    }
}

int fut_listener_fd(const FutListener *listener)
{
    return listener->fd;
}

/* The one who waited may have gone again: that is not an error of the listener. */
static bool nobody_waits(int status)
{
    return status == EAGAIN || status == EWOULDBLOCK || status == EINTR || status == ECONNABORTED ||
           status == EPROTO;
}

FutLink *fut_listener_accept(FutListener *listener, GError **error)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof(peer);
    int fd = accept4(listener->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        return fut_link_new(listener->transport, fd,
                            listener->transport->peer_name(listener->address, &peer, length));
    }
    if (!nobody_waits(errno)) {
        int status = errno;
        g_autofree char *name = fut_address_text(listener->address);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot accept on %s: %s", name,
                    g_strerror(status));
    }
    return NULL;
}
