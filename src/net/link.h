/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connected byte stream (tcp, unix, and TLS over both: link_tls.h). Non-blocking, no thread of
 * its own: the engine's link thread polls fut_link_fd() for reading, and for writing while
 * fut_link_pending() > 0; while fut_link_unread() it reads without being told by poll.
 *
 * Threads: send may be called by any thread at any time (own mutex; order of calls = order on
 * the wire); flush, recv by the link thread; close by anybody, after which all calls fail with
 * FUT_ERR_IO. */
#ifndef FUT_LINK_H
#define FUT_LINK_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "address.h"

typedef struct FutLink FutLink;
typedef struct FutListener FutListener;

/* Connects, waiting timeout_ms at most. TCP: no delay, large buffers, user time-out left to
 * heartbeats. */
FutLink *fut_link_connect(const FutAddress *address, unsigned timeout_ms, GError **error);
/* Takes over a connected stream socket. Name: how errors call the peer. */
FutLink *fut_link_from_fd(int take_fd, const char *name);
/* Reference counted: senders hold a reference while they send. The last unref closes. */
FutLink *fut_link_ref(FutLink *link);
void fut_link_unref(FutLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutLink, fut_link_unref)

int fut_link_fd(const FutLink *link);
const char *fut_link_name(const FutLink *link);
/* What both ends have to say to each other before anything is sent: 1 = done (a plain link: at
 * once), 0 = call again when the descriptor is readable, or writable while something is pending,
 * -1 = failed (FUT_ERR_PEER), and the peer was told no more than TLS tells. One thread. */
int fut_link_handshake(FutLink *link, GError **error);
/* Who the peer has proved to be (name in its certificate, or of its key); "" for a plain link and
 * before the handshake is done. Borrowed. */
const char *fut_link_peer(const FutLink *link);
/* Sends as much as the socket takes and keeps the rest in order. Never blocks. FUT_ERR_IO when
 * the stream is broken, or when more than the queue's maximum (default 256 MiB) waits already; then
 * nothing of the message was sent. One message may be of any size. *ret_pending (may be NULL):
 * bytes waiting now. */
bool fut_link_send(FutLink *link, const struct iovec *iov, int count, size_t *ret_pending,
                   GError **error);
/* Writes what waits, or a good part of it: as long as something is pending, call again when the
 * descriptor is writable. */
bool fut_link_flush(FutLink *link, GError **error);
size_t fut_link_pending(FutLink *link);
/* Nothing waits for the socket, and nobody has closed the link; plain links only. For one who comes when the process is dead: takes no
 * lock. */
bool fut_link_is_clear(FutLink *link);
void fut_link_set_queue_max(FutLink *link, size_t bytes);
/* Bytes read, 0 = nothing there now, -1 = closed by the peer or broken (error set; the text says
 * which). */
ssize_t fut_link_recv(FutLink *link, void *buffer, size_t length, GError **error);
/* Something was received already that fut_link_recv() has not handed out: poll does not know. */
bool fut_link_unread(FutLink *link);
/* Shuts the stream down at once; the descriptor itself lives until the last unref. */
void fut_link_close(FutLink *link);
uint64_t fut_link_bytes_sent(FutLink *link);
uint64_t fut_link_bytes_received(FutLink *link);

/* Binds and listens; FUT_ERR_BUSY when the port is in use. A stale unix socket nobody listens on
 * is replaced; a live one is not. */
FutListener *fut_listener_new(const FutAddress *address, GError **error);
void fut_listener_free(FutListener *listener);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutListener, fut_listener_free)
int fut_listener_fd(const FutListener *listener);
/* NULL without error when nobody waits. */
FutLink *fut_listener_accept(FutListener *listener, GError **error);

#endif
