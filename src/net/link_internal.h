/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside links: what a kind of transport provides, and what a kind of stream. */
#ifndef FUT_LINK_INTERNAL_H
#define FUT_LINK_INTERNAL_H

#include <sys/socket.h>

#include "link.h"

typedef struct FutStream FutStream;

/* Bytes of a connected stream. Each returns -1 with errno like the system call it is named
 * after. Those marked optional are NULL where the socket's bytes are the stream's. */
typedef struct {
    /* Never blocks, never raises SIGPIPE; may take less than there is. */
    ssize_t (*sendv)(FutStream *stream, const struct iovec *iov, int count);
    /* Never blocks; 0 = end of stream. Less than `length` came: nothing more is there now. */
    ssize_t (*recv)(FutStream *stream, void *buffer, size_t length);
    /* From any thread. */
    void (*shutdown)(FutStream *stream);
    /* Does not close the descriptor. */
    void (*free)(FutStream *stream);

    /* Optional: 1 = done, 0 = waits for the peer. Nothing is sent or received before it is done. */
    int (*handshake)(FutStream *stream);
    /* Optional: what sendv took and the socket did not yet, and writing it: 0 unless broken. */
    size_t (*pending)(FutStream *stream);
    int (*flush)(FutStream *stream);
    /* Optional: recv would return at once, be the socket silent or not. */
    bool (*unread)(FutStream *stream);
    /* Optional: what broke the stream, where errno does not tell; NULL = errno does. Lives as
     * long as the stream. */
    const char *(*fault)(FutStream *stream);
    /* Optional: who the peer has proved to be; "" before. Lives as long as the stream. */
    const char *(*peer)(FutStream *stream);
} FutStreamOps;

/* First member of every kind's own structure. */
struct FutStream {
    const FutStreamOps *ops;
    int fd; /* borrowed from the link */
};

/* How streams of one address kind come to be. All members are mandatory. */
typedef struct {
    FutStream *(*stream)(int fd);
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
FutStream *fut_stream_socket_new(int fd);

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
/* Puts another stream over the same descriptor in place of the plain one. Before the link is used
 * or shared. */
void fut_link_take_stream(FutLink *link, FutStream *take_stream);

#endif
