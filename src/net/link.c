/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links: a connected stream, and the queue of what its socket did not take yet. */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fut_buf.h"
#include "fut_error.h"
#include "link_internal.h"

#define QUEUE_MAX_DEFAULT ((size_t)256 << 20)
/* An emptied queue gives memory beyond this back. */
#define QUEUE_KEEP ((size_t)4 << 20)
/* Written from the queue in one go: a peer that reads as fast as a stream can be written must not
 * keep the link's lock with the writer, and the link thread from its clock. */
#define WRITE_MAX ((size_t)4 << 20)

struct FutLink {
    gatomicrefcount refs;
    FutStream *stream; /* owned */
    int fd;            /* owned */
    char *name;        /* owned */
    GMutex lock;       /* over queue, queue_done, queue_max; order on the wire */
    FutBuf queue;      /* bytes from queue_done on wait for the socket */
    size_t queue_done;
    size_t queue_max;
    int status;     /* atomic: errno that broke the stream, or 0 */
    int closed;     /* atomic: fut_link_close() was called */
    size_t pending; /* atomic: what queue and stream held when the lock was last let go */
    uint64_t sent;  /* atomic: bytes the socket took */
    uint64_t received;
};

FutLink *fut_link_new(const FutTransport *transport, int take_fd, char *take_name)
{
    FutLink *link = g_new0(FutLink, 1);
    g_atomic_ref_count_init(&link->refs);
    g_mutex_init(&link->lock);
    link->stream = transport->stream(take_fd);
    link->fd = take_fd;
    link->name = take_name;
    link->queue_max = QUEUE_MAX_DEFAULT;
    transport->tune(take_fd);
    return link;
}

FutLink *fut_link_connect(const FutAddress *address, unsigned timeout_ms, GError **error)
{
    const FutTransport *transport = fut_transport_of(address->kind);
    int fd = transport->connect(address, timeout_ms, error);
    return fd < 0 ? NULL : fut_link_new(transport, fd, fut_address_text(address));
}

FutLink *fut_link_from_fd(int take_fd, const char *name)
{
    const FutTransport *transport = fut_transport_of_fd(take_fd);
    g_assert(transport);
    int failed = fcntl(take_fd, F_SETFL, O_NONBLOCK) | fcntl(take_fd, F_SETFD, FD_CLOEXEC);
    g_assert(!failed);
    return fut_link_new(transport, take_fd, g_strdup(name));
}

FutLink *fut_link_ref(FutLink *link)
{
    g_atomic_ref_count_inc(&link->refs);
    return link;
}

void fut_link_unref(FutLink *link)
{
    if (!link || !g_atomic_ref_count_dec(&link->refs)) {
        return;
    }
    link->stream->ops->free(link->stream);
    close(link->fd);
    fut_buf_done(&link->queue);
    g_mutex_clear(&link->lock);
    g_free(link->name);
    g_free(link);
}

int fut_link_fd(const FutLink *link)
{
    return link->fd;
}

void fut_link_take_stream(FutLink *link, FutStream *take_stream)
{
    link->stream->ops->free(link->stream);
    link->stream = take_stream;
}

const char *fut_link_name(const FutLink *link)
{
    return link->name;
}

const char *fut_link_peer(const FutLink *link)
{
    const FutStreamOps *ops = link->stream->ops;
    return ops->peer ? ops->peer(link->stream) : "";
}

static const char *fault_text(const FutLink *link, int status)
{
    const FutStreamOps *ops = link->stream->ops;
    const char *text = ops->fault ? ops->fault(link->stream) : NULL;
    return text ? text : g_strerror(status);
}

/* False and the reason when this side ended the stream. */
static bool check_open(FutLink *link, GError **error)
{
    if (g_atomic_int_get(&link->closed)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "connection to %s was closed by this side",
                    link->name);
        return false;
    }
    return true;
}

/* False and the reason when nothing can be sent any more. */
static bool check_usable(FutLink *link, GError **error)
{
    if (!check_open(link, error)) {
        return false;
    }
    int status = g_atomic_int_get(&link->status);
    if (status) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "connection to %s lost: %s", link->name,
                    fault_text(link, status));
        return false;
    }
    return true;
}

/* Remembers what broke the stream (the first one counts) and says so. */
static void break_link(FutLink *link, int status, GError **error)
{
    g_atomic_int_compare_and_exchange(&link->status, 0, status);
    check_usable(link, error);
}

/* Bytes the socket took (0 = none now), or -1 when the stream broke. */
static ssize_t write_some(FutLink *link, const struct iovec *iov, int count, GError **error)
{
    ssize_t done = link->stream->ops->sendv(link->stream, iov, count);
    if (done < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
            return 0;
        }
        break_link(link, errno, error);
        return -1;
    }
    __atomic_fetch_add(&link->sent, (uint64_t)done, __ATOMIC_RELAXED);
    return done;
}

/* In our queue. */
static size_t waiting(const FutLink *link)
{
    return link->queue.len - link->queue_done;
}

/* There, and in the stream. */
static size_t note_pending(FutLink *link)
{
    const FutStreamOps *ops = link->stream->ops;
    size_t bytes = waiting(link) + (ops->pending ? ops->pending(link->stream) : 0);

    __atomic_store_n(&link->pending, bytes, __ATOMIC_RELAXED);
    return bytes;
}

/* Writes what the stream holds back, then from the queue until it is empty or the socket is
 * full, or enough was written. */
static bool write_queue(FutLink *link, GError **error)
{
    const FutStreamOps *ops = link->stream->ops;
    if (ops->flush && ops->flush(link->stream) < 0) {
        break_link(link, errno, error);
        return false;
    }
    for (size_t left = WRITE_MAX; waiting(link) > 0;) {
        if (left == 0) {
            return true;
        }
        struct iovec rest = { link->queue.data + link->queue_done, MIN(waiting(link), left) };
        ssize_t done = write_some(link, &rest, 1, error);
        if (done < 0) {
            return false;
        }
        if (done == 0) {
            return true;
        }
        link->queue_done += (size_t)done;
        left -= (size_t)done;
    }
    fut_buf_clear(&link->queue);
    link->queue_done = 0;
    fut_buf_trim(&link->queue, QUEUE_KEEP);
    return true;
}

/* Moves the rest of the queue to its front when at least half of it is gone: each byte moves
 * once on average. */
static void compact_queue(FutLink *link)
{
    if (link->queue_done > 0 && link->queue_done >= link->queue.len / 2) {
        memmove(link->queue.data, link->queue.data + link->queue_done, waiting(link));
        link->queue.len -= link->queue_done;
        link->queue_done = 0;
    }
}

/* Queues a message without its first `skip` bytes. */
static void enqueue(FutLink *link, const struct iovec *iov, int count, size_t skip)
{
    compact_queue(link);
    for (int i = 0; i < count; i++) {
        size_t gone = MIN(skip, iov[i].iov_len);
        skip -= gone;
        if (gone < iov[i].iov_len) {
            fut_buf_append(&link->queue, (const uint8_t *)iov[i].iov_base + gone,
                           iov[i].iov_len - gone);
        }
    }
}

/* Sends past the queue, which is empty, as much as the socket takes. False when the stream
 * broke. */
static bool write_direct(FutLink *link, const struct iovec *iov, int count, size_t *ret_done,
                         GError **error)
{
    ssize_t done = write_some(link, iov, count, error);
    if (done < 0) {
        return false;
    }
    *ret_done = (size_t)done;
    return true;
}

static bool send_locked(FutLink *link, const struct iovec *iov, int count, GError **error)
{
    size_t done = 0;
    if (!check_usable(link, error)) {
        return false;
    }
    if (waiting(link) > link->queue_max) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s does not read: %zu MiB wait for it; check the peer and the network",
                    link->name, waiting(link) >> 20);
        return false;
    }
    if (waiting(link) == 0 && !write_direct(link, iov, count, &done, error)) {
        return false;
    }
    enqueue(link, iov, count, done);
    /* One call takes as much as the socket has room for, unless there were more pieces than it
     * accepts at once. */
    return done == 0 || write_queue(link, error);
}

bool fut_link_send(FutLink *link, const struct iovec *iov, int count, size_t *ret_pending,
                   GError **error)
{
    g_mutex_lock(&link->lock);
    bool ok = send_locked(link, iov, count, error);
    size_t bytes = note_pending(link);
    if (ok && ret_pending) {
        *ret_pending = bytes;
    }
    g_mutex_unlock(&link->lock);
    return ok;
}

bool fut_link_flush(FutLink *link, GError **error)
{
    g_mutex_lock(&link->lock);
    bool ok = check_usable(link, error) && write_queue(link, error);
    note_pending(link);
    g_mutex_unlock(&link->lock);
    return ok;
}

/* Without the lock: who sends has it in the system call that wakes the peer. */
size_t fut_link_pending(FutLink *link)
{
    return __atomic_load_n(&link->pending, __ATOMIC_RELAXED);
}

bool fut_link_is_clear(FutLink *link)
{
    return !g_atomic_int_get(&link->closed) && !link->stream->ops->pending && waiting(link) == 0;
}

void fut_link_set_queue_max(FutLink *link, size_t bytes)
{
    g_mutex_lock(&link->lock);
    link->queue_max = bytes;
    g_mutex_unlock(&link->lock);
}

/* A stream may have something to say by itself, whoever called it. */
static void note_stream(FutLink *link)
{
    int status = errno;

    if (link->stream->ops->pending) {
        g_mutex_lock(&link->lock);
        note_pending(link);
        g_mutex_unlock(&link->lock);
        errno = status;
    }
}

/* Goes on after sending has failed: the peer's last words may still be there to read. */
ssize_t fut_link_recv(FutLink *link, void *buffer, size_t length, GError **error)
{
    g_assert(length > 0);
    if (!check_open(link, error)) {
        return -1;
    }
    ssize_t done = link->stream->ops->recv(link->stream, buffer, length);
    note_stream(link);
    if (done > 0) {
        __atomic_fetch_add(&link->received, (uint64_t)done, __ATOMIC_RELAXED);
        return done;
    }
    if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (done < 0) {
        break_link(link, errno, error);
    } else if (check_open(link,
                          error)) { /* else closed by this side meanwhile, and the error is set */
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s closed the connection", link->name);
    }
    return -1;
}

bool fut_link_unread(FutLink *link)
{
    const FutStreamOps *ops = link->stream->ops;
    return ops->unread && ops->unread(link->stream);
}

int fut_link_handshake(FutLink *link, GError **error)
{
    const FutStreamOps *ops = link->stream->ops;
    int done = ops->handshake ? ops->handshake(link->stream) : 1;
    note_stream(link);
    if (done < 0) {
        int status = errno;
        g_set_error(error, FUT_ERROR, FUT_ERR_PEER, "no TLS with %s: %s", link->name,
                    fault_text(link, status));
    }
    return done;
}

void fut_link_close(FutLink *link)
{
    g_atomic_int_set(&link->closed, 1);
    link->stream->ops->shutdown(link->stream);
}

uint64_t fut_link_bytes_sent(FutLink *link)
{
    return __atomic_load_n(&link->sent, __ATOMIC_RELAXED);
}

uint64_t fut_link_bytes_received(FutLink *link)
{
    return __atomic_load_n(&link->received, __ATOMIC_RELAXED);
}
