/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the transports over plain sockets share. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "fut_clock.h"
#include "link_internal.h"

#define BUFFER_BYTES (4 << 20)

static ssize_t socket_sendv(FutStream *stream, const struct iovec *iov, int count)
{
    struct msghdr message = { .msg_iov = (struct iovec *)iov,
                              .msg_iovlen = (size_t)MIN(count, IOV_MAX) };
    ssize_t done;
    do {
        done = sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (done < 0 && errno == EINTR);
    return done;
}

static ssize_t socket_recv(FutStream *stream, void *buffer, size_t length)
{
    ssize_t done;
    do {
        done = recv(stream->fd, buffer, length, MSG_DONTWAIT);
    } while (done < 0 && errno == EINTR);
    return done;
}

static void socket_shutdown(FutStream *stream)
{
    shutdown(stream->fd, SHUT_RDWR);
}

static void socket_free(FutStream *stream)
{
    g_free(stream);
}

FutStream *fut_stream_socket_new(int fd)
{
    static const FutStreamOps ops = {
        .sendv = socket_sendv,
        .recv = socket_recv,
        .shutdown = socket_shutdown,
        .free = socket_free,
    };
    FutStream *stream = g_new(FutStream, 1);
    *stream = (FutStream){ &ops, fd };
    return stream;
}

const FutTransport *fut_transport_of(FutAddressKind kind)
{
    return kind == FUT_ADDRESS_UNIX ? &fut_transport_unix : &fut_transport_tcp;
}

const FutTransport *fut_transport_of_fd(int fd)
{
    struct sockaddr_storage local;
    socklen_t length = sizeof(local);
    if (getsockname(fd, (struct sockaddr *)&local, &length) < 0) {
        return NULL;
    }
    switch (local.ss_family) {
    case AF_UNIX:
        return &fut_transport_unix;
    case AF_INET:
    case AF_INET6:
        return &fut_transport_tcp;
    default:
        return NULL;
    }
}

/* Without the privilege to pass the system's limit, TCP's buffers are left to the kernel: it
 * lets them grow to several MiB by itself, while a size set by hand would be cut to the limit
 * and stay there. */
void fut_socket_buffers(int fd, int family)
{
    int bytes = BUFFER_BYTES;
    bool forced = setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) == 0 &&
                  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == 0;
    if (!forced && family == AF_UNIX) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    }
}

int fut_socket_new(int family, int extra_flags)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | extra_flags, 0);
    if (fd >= 0) {
        fut_socket_buffers(fd, family);
    }
    return fd;
}

int fut_deadline_left_ms(uint64_t deadline_ns)
{
    uint64_t now_ns = fut_now_ns();
    if (now_ns >= deadline_ns) {
        return 0;
    }
    return (int)MIN((deadline_ns - now_ns + FUT_NS_PER_MS - 1) / FUT_NS_PER_MS, INT_MAX);
}
