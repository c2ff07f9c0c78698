/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside links: what a kind of transport provides. */
#ifndef FUT_LINK_INTERNAL_H
#define FUT_LINK_INTERNAL_H

#include <sys/socket.h>

#include "link.h"

/* Bytes of a connected stream. Each returns -1 with errno like the system call it is named
 * after. */
typedef struct {
    /* Never blocks, never raises SIGPIPE; may take less than there is. */
    ssize_t (*sendv)(int fd, const struct iovec *iov, int count);
    /* Never blocks; 0 = end of stream. */
    ssize_t (*recv)(int fd, void *buffer, size_t length);
    /* From any thread. */
    void (*shutdown)(int fd);
} FutStreamOps;

/* How streams of one address kind come to be. All members are mandatory. */
typedef struct {
    const FutStreamOps *stream;
    /* Connected, non-blocking descriptor, or -1. */
    int (*connect)(const FutAddress *address, unsigned timeout_ms, GError **error);
    /* Listening, non-blocking descriptor, or -1. */
    int (*listen)(const FutAddress *address, GError **error);
    /* Options of a connected descriptor. */
    void (*tune)(int fd);
    /* How errors call the peer of an accepted connection; caller frees. */
    char *(*peer_name)(const FutAddress *local, const struct sockaddr_storage *peer,
                       socklen_t length);
} FutTransport;

extern const FutTransport fut_transport_tcp;
extern const FutTransport fut_transport_unix;
/* Plain sockets: what tcp and unix streams share. */
extern const FutStreamOps fut_stream_socket;

const FutTransport *fut_transport_of(FutAddressKind kind);
/* The transport of a socket somebody else made; NULL when it is neither tcp nor unix. */
const FutTransport *fut_transport_of_fd(int fd);

/* Socket with close-on-exec and large buffers (where allowed: see transport.c); -1 with errno. */
int fut_socket_new(int family, int extra_flags);
void fut_socket_buffers(int fd, int family);
/* Milliseconds left until `deadline_ns`, rounded up, for poll(). */
int fut_deadline_left_ms(uint64_t deadline_ns);

/* Takes over `take_fd` and `take_name`. */
FutLink *fut_link_new(const FutTransport *transport, int take_fd, char *take_name);

#endif
