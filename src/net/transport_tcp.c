/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP: connecting with a time limit, listening. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "fut_clock.h"
#include "fut_error.h"
#include "link_internal.h"

#define BACKLOG 16

/* The host's addresses, or NULL; free with freeaddrinfo(). The name service is not under our
 * time limit. */
static struct addrinfo *resolve(const FutAddress *address, int flags, GError **error)
{
    char port[8];
    g_snprintf(port, sizeof(port), "%u", address->port);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    int status = getaddrinfo(address->host, port, &hints, &found);
    if (status != 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "host \"%s\" not found: %s; check the name or give its number", address->host,
                    status == EAI_SYSTEM ? g_strerror(errno) : gai_strerror(status));
        return NULL;
    }
    return found;
}

/* Connecting to a free port of the own host can meet itself (both ends the same socket): nobody
 * is there. */
static bool met_itself(int fd)
{
    struct sockaddr_storage local = { 0 }, peer = { 0 };
    socklen_t local_length = sizeof(local), peer_length = sizeof(peer);
    return getsockname(fd, (struct sockaddr *)&local, &local_length) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_length) == 0 &&
           local_length == peer_length && memcmp(&local, &peer, local_length) == 0;
}

/* 0 or an errno. */
static int finish_connect(int fd, uint64_t deadline_ns)
{
    struct pollfd wait = { .fd = fd, .events = POLLOUT };
    int ready;
    do {
        ready = poll(&wait, 1, fut_deadline_left_ms(deadline_ns));
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0) {
        return ready < 0 ? errno : ETIMEDOUT;
    }
    int status = 0;
    socklen_t length = sizeof(status);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &status, &length) < 0) {
        return errno;
    }
    return status;
}

/* Descriptor, or -1 with errno. */
static int connect_one(const struct addrinfo *to, uint64_t deadline_ns)
{
    int fd = fut_socket_new(to->ai_family, SOCK_NONBLOCK);
    if (fd < 0) {
        return -1;
    }
    int status = connect(fd, to->ai_addr, to->ai_addrlen) == 0 ? 0 : errno;
    if (status == EINPROGRESS || status == EINTR) {
        status = finish_connect(fd, deadline_ns);
    }
    if (status == 0 && met_itself(fd)) {
        status = ECONNREFUSED;
    }
    if (status != 0) {
        close(fd);
        errno = status;
        return -1;
    }
    return fd;
}

static void connect_failed(const FutAddress *address, int status, unsigned timeout_ms,
                           GError **error)
{
    g_autofree char *name = fut_address_text(address);
    if (status == ETIMEDOUT) {
        g_set_error(
            error, FUT_ERROR, FUT_ERR_TIMEOUT,
            "cannot connect to %s: no answer within %u ms; check the host and the firewalls", name,
            timeout_ms);
    } else if (status == ECONNREFUSED) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "cannot connect to %s: nobody listens there; start the peer first", name);
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot connect to %s: %s; check the network",
                    name, g_strerror(status));
    }
}

/* Tries the host's addresses in turn; each gets its share of the time that is left. */
static int tcp_connect(const FutAddress *address, unsigned timeout_ms, GError **error)
{
    struct addrinfo *all = resolve(address, 0, error);
    if (!all) {
        return -1;
    }
    unsigned left = 0;
    for (struct addrinfo *one = all; one; one = one->ai_next) {
        left++;
    }
    uint64_t end_ns = fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    int fd = -1, status = 0;
    for (struct addrinfo *one = all; one && fd < 0; one = one->ai_next, left--) {
        uint64_t now_ns = fut_now_ns();
        fd = connect_one(one, now_ns < end_ns ? now_ns + (end_ns - now_ns) / left : end_ns);
        status = errno;
    }
    freeaddrinfo(all);
    if (fd < 0) {
        connect_failed(address, status, timeout_ms, error);
    }
    return fd;
}

/* Descriptor, or -1 with errno. */
static int listen_one(const struct addrinfo *at)
{
    int fd = fut_socket_new(at->ai_family, SOCK_NONBLOCK);
    if (fd < 0) {
        return -1;
    }
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (at->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)); /* [::] means IPv4 as well */
    }
    if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int status = errno;
        close(fd);
        errno = status;
        return -1;
    }
    return fd;
}

static int tcp_listen(const FutAddress *address, GError **error)
{
    struct addrinfo *all = resolve(address, AI_PASSIVE, error);
    if (!all) {
        return -1;
    }
    int fd = -1, status = 0;
    for (struct addrinfo *one = all; one && fd < 0; one = one->ai_next) {
        fd = listen_one(one);
        status = status == EADDRINUSE ? status : errno; /* the most telling */
    }
    freeaddrinfo(all);
    if (fd < 0) {
        g_autofree char *name = fut_address_text(address);
        bool busy = status == EADDRINUSE;
        g_set_error(error, FUT_ERROR, busy ? FUT_ERR_BUSY : FUT_ERR_IO,
                    "cannot listen on %s: %s; %s", name,
                    busy ? "the port is in use" : g_strerror(status),
                    busy ? "choose another port" : "give an address of this host");
    }
    return fd;
}

static void tcp_tune(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static char *tcp_peer_name(const FutAddress *local, const struct sockaddr_storage *peer,
                           socklen_t length)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)peer, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return g_strdup("tcp:unknown");
    }
    return g_strdup_printf(strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
}

const FutTransport fut_transport_tcp = {
    .stream = fut_stream_socket_new,
    .connect = tcp_connect,
    .listen = tcp_listen,
    .tune = tcp_tune,
    .peer_name = tcp_peer_name,
};
