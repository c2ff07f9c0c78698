/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside TLS: a session as a stream (tls_stream.c), and its socket side (tls_socket.c). */
#ifndef FUT_TLS_STREAM_H
#define FUT_TLS_STREAM_H

#include "fut_buf.h"
#include "tls_internal.h"

#define FUT_TLS_IN_SIZE (128u << 10)

typedef struct {
    FutStream base;
    FutTls *tls; /* owned reference */
    bool server;
    GMutex lock; /* over the session and all that follows, but for what says otherwise */
    gnutls_session_t session;
    uint8_t *in; /* owned, FUT_TLS_IN_SIZE; bytes from in_done to in_end are GnuTLS's next */
    size_t in_done, in_end;
    bool drained;    /* the socket gave less than asked: do not ask again in this call */
    bool dry;        /* GnuTLS asked for more than there is now */
    int status;      /* the socket's last errno */
    bool eof;        /* the socket ended */
    int more;        /* atomic: recv stopped before it was dry */
    uint64_t pushed; /* times GnuTLS had something to send */
    GMutex out_lock; /* inside `lock`, or alone: who writes must not keep a reader waiting */
    FutBuf out;      /* out_lock; bytes from out_done on wait for the socket */
    size_t out_done; /* out_lock */
    bool ready;      /* the handshake is done */
    int ended;       /* 0, or what every further recv says: 1 = farewell, -1 = broken */
    char *peer;      /* owned; set once, before `ready` */
    char *why;       /* owned; set once, atomic: readers have no lock */
} FutTlsStream;

void fut_tls_socket_attach(FutTlsStream *stream);
size_t fut_tls_out_waiting(FutTlsStream *stream);
/* 0 = as far as the socket took it, -1 with errno. */
int fut_tls_write_out(FutTlsStream *stream);

#endif
