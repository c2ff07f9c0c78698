/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A TLS session as a stream of a link.
 *
 * GnuTLS never meets a full socket here: its output goes into `out`, which is written as far as
 * the socket takes it, and nothing new is encrypted while more than that waits. Its input comes
 * from `in`, filled by large reads. One lock serves both directions, because reading may answer
 * (a new key, an alert); it is held for a few records at a time, and not while the socket is
 * written: the writer wakes the peer, may have to wait for a processor then, and would keep the
 * reader from the peer's answer. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tls_stream.h"

#define RECORD_SIZE 16384          /* what TLS allows */
#define BATCH_RECORDS 4            /* encrypted, then written, under the lock once */
#define SEND_MAX ((size_t)2 << 20) /* taken in one call: see WRITE_MAX in link.c */
/* Records without content (keys, alerts) before others get their turn. */
#define STEPS_MAX 256

/* -- what went wrong -- */

/* The first reason counts. Takes over the text. */
static int broken(FutTlsStream *stream, char *take_why)
{
    if (!g_atomic_pointer_compare_and_exchange(&stream->why, NULL, take_why)) {
        g_free(take_why);
    }
    stream->ended = -1;
    errno = EPROTO;
    return -1;
}

static char *why_of(const FutTlsStream *stream, int status)
{
    bool psk = stream->tls->kind == &fut_tls_psk;
    if (stream->eof) { /* inside of a record it is called by other names */
        status = GNUTLS_E_PREMATURE_TERMINATION;
    }
    switch (status) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
        return g_strdup_printf("the peer refused our %s (\"%s\"); its log says why",
                               psk ? "key" : "certificate",
                               gnutls_alert_get_name(gnutls_alert_get(stream->session)));
    case GNUTLS_E_PREMATURE_TERMINATION:
        return g_strdup(stream->ready
                            ? "it was cut off without TLS's farewell"
                            : "it hung up during TLS's greeting: is tls given on both hosts?");
    case GNUTLS_E_UNEXPECTED_PACKET:
    case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
    case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
    case GNUTLS_E_RECORD_OVERFLOW:
        if (!stream->ready) {
            return g_strdup("it does not speak TLS 1.3: is tls given on both hosts?");
        }
        break;
    case GNUTLS_E_CERTIFICATE_REQUIRED:
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
        return g_strdup("it showed no certificate");
    case GNUTLS_E_NO_CIPHER_SUITES:
    case GNUTLS_E_INSUFFICIENT_CREDENTIALS:
        return g_strdup(
            "it offers no TLS 1.3 with our kind of key: give the same tls on both hosts");
    case GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER:
    case GNUTLS_E_DECRYPTION_FAILED:
        if (psk && !stream->ready) {
            return g_strdup("its key, or its name for it, is not ours");
        }
        break;
    default:
        break;
    }
    return g_strdup(gnutls_strerror(status));
}

/* Tells the peer what TLS lets us tell, remembers the reason. */
static int give_up(FutTlsStream *stream, int status)
{
    char *why = status == GNUTLS_E_PULL_ERROR ? g_strdup(g_strerror(stream->status))
                                              : why_of(stream, status);
    if (status != GNUTLS_E_PULL_ERROR && status != GNUTLS_E_PREMATURE_TERMINATION &&
        status != GNUTLS_E_FATAL_ALERT_RECEIVED) {
        gnutls_alert_send_appropriate(stream->session, status);
        fut_tls_write_out(stream);
    }
    return broken(stream, why);
}

/* -- handshake -- */

/* In the handshake, so that the peer hears of it in TLS's own words. */
static int judge_peer(gnutls_session_t session)
{
    FutTlsStream *stream = gnutls_transport_get_ptr(session);
    char *why = NULL;
    char *peer = stream->tls->kind->judge(stream->tls, session, stream->server, &why);
    if (!peer) {
        broken(stream, why);
        return GNUTLS_E_CERTIFICATE_ERROR;
    }
    g_free(stream->peer);
    stream->peer = peer;
    return 0;
}

static int handshake_step(FutTlsStream *stream)
{
    int status = GNUTLS_E_AGAIN;
    stream->drained = false;
    for (int i = 0; i < STEPS_MAX; i++) {
        stream->dry = false;
        status = gnutls_handshake(stream->session);
        if (status == GNUTLS_E_SUCCESS || gnutls_error_is_fatal(status) || stream->dry) {
            break;
        }
    }
    if (status == GNUTLS_E_SUCCESS && !stream->peer && judge_peer(stream->session) != 0) {
        status = GNUTLS_E_CERTIFICATE_ERROR;
    }
    if (status != GNUTLS_E_SUCCESS && gnutls_error_is_fatal(status)) {
        return give_up(stream, status);
    }
    if (fut_tls_write_out(stream) < 0) {
        return -1;
    }
    stream->ready = status == GNUTLS_E_SUCCESS;
    g_atomic_int_set(&stream->more, stream->ready && stream->in_end > stream->in_done);
    return stream->ready;
}

static int tls_handshake(FutStream *base)
{
    FutTlsStream *stream = (FutTlsStream *)base;
    g_mutex_lock(&stream->lock);
    int done = stream->ready ? 1 : stream->ended ? broken(stream, NULL) : handshake_step(stream);
    g_mutex_unlock(&stream->lock);
    return done;
}

/* -- sending -- */

/* Where we are in the pieces of a message. */
typedef struct {
    const struct iovec *iov;
    int left;    /* pieces, the one under way included */
    size_t done; /* bytes of the one under way */
} Cursor;

/* Next bytes for one record: a large piece as it lies, small ones gathered in `room`. */
static size_t next_record(Cursor *cursor, uint8_t *room, const uint8_t **ret_bytes)
{
    size_t length = 0;
    *ret_bytes = room;
    while (cursor->left > 0 && length < RECORD_SIZE) {
        const uint8_t *at = (const uint8_t *)cursor->iov->iov_base + cursor->done;
        size_t part = MIN(cursor->iov->iov_len - cursor->done, RECORD_SIZE - length);
        if (part == RECORD_SIZE) {
            *ret_bytes = at;
        } else if (part > 0) {
            memcpy(room + length, at, part);
        }
        length += part;
        cursor->done += part;
        if (cursor->done == cursor->iov->iov_len) {
            cursor->iov++;
            cursor->left--;
            cursor->done = 0;
        }
    }
    return length;
}

/* A few records into `out`. Lock held. */
static int encrypt_batch(FutTlsStream *stream, Cursor *cursor, size_t *done)
{
    uint8_t room[RECORD_SIZE];
    for (int i = 0; i < BATCH_RECORDS; i++) {
        const uint8_t *bytes;
        size_t length = next_record(cursor, room, &bytes);
        if (length == 0) {
            break;
        }
        ssize_t taken = gnutls_record_send(stream->session, bytes, length);
        if (taken < 0) {
            return broken(stream, g_strdup(gnutls_strerror((int)taken)));
        }
        g_assert((size_t)taken == length); /* push() takes everything */
        *done += length;
    }
    return 0;
}

/* Encrypts and writes a few records. 1 = go on, 0 = socket full or all done, -1 = broken. */
static int send_batch(FutTlsStream *stream, Cursor *cursor, size_t *done)
{
    if (fut_tls_write_out(stream) < 0) {
        return -1;
    }
    if (fut_tls_out_waiting(stream) > 0) {
        return 0;
    }
    g_mutex_lock(&stream->lock);
    g_assert(stream->ready);
    int status = encrypt_batch(stream, cursor, done);
    g_mutex_unlock(&stream->lock);
    if (status < 0 || fut_tls_write_out(stream) < 0) {
        return -1;
    }
    return cursor->left > 0 && fut_tls_out_waiting(stream) == 0;
}

static ssize_t tls_sendv(FutStream *base, const struct iovec *iov, int count)
{
    FutTlsStream *stream = (FutTlsStream *)base;
    Cursor cursor = { iov, count, 0 };
    size_t done = 0;
    int state;
    do {
        state = send_batch(stream, &cursor, &done);
    } while (state > 0 && done < SEND_MAX);
    if (state < 0) {
        return -1;
    }
    errno = EAGAIN;
    return done > 0 ? (ssize_t)done : -1;
}

static size_t tls_pending(FutStream *base)
{
    return fut_tls_out_waiting((FutTlsStream *)base);
}

static int tls_flush(FutStream *base)
{
    return fut_tls_write_out((FutTlsStream *)base);
}

/* -- receiving -- */

/* Bytes received, as many as there are and fit. Sets `ended` where the stream ends behind them. */
static size_t receive(FutTlsStream *stream, uint8_t *to, size_t length)
{
    size_t done = 0;
    stream->drained = false;
    g_atomic_int_set(&stream->more, true);
    for (int i = 0; done < length && i < STEPS_MAX; i++) {
        stream->dry = false;
        ssize_t got = gnutls_record_recv(stream->session, to + done, length - done);
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            stream->ended = 1;
            break;
        } else if (gnutls_error_is_fatal((int)got)) {
            give_up(stream, (int)got);
            break;
        } else if (stream->dry) {
            g_atomic_int_set(&stream->more, false);
            break;
        }
    }
    return done;
}

static ssize_t tls_recv(FutStream *base, void *buffer, size_t length)
{
    FutTlsStream *stream = (FutTlsStream *)base;
    ssize_t result;
    g_mutex_lock(&stream->lock);
    g_assert(stream->ready);
    uint64_t pushed = stream->pushed;
    size_t done = stream->ended ? 0 : receive(stream, buffer, length);
    if (stream->pushed != pushed) {
        fut_tls_write_out(stream); /* what reading had to answer */
    }
    if (done > 0) {
        result = (ssize_t)done;
    } else if (stream->ended == 1) {
        result = 0;
    } else {
        errno = stream->ended ? EPROTO : EAGAIN;
        result = -1;
    }
    g_mutex_unlock(&stream->lock);
    return result;
}

static bool tls_unread(FutStream *base)
{
    return g_atomic_int_get(&((FutTlsStream *)base)->more);
}

/* -- the rest -- */

static void tls_shutdown(FutStream *base)
{
    FutTlsStream *stream = (FutTlsStream *)base;
    g_mutex_lock(&stream->lock);
    if (stream->ready && stream->ended >= 0) {
        gnutls_bye(stream->session, GNUTLS_SHUT_WR);
        fut_tls_write_out(stream);
    }
    shutdown(base->fd, SHUT_RDWR);
    g_mutex_unlock(&stream->lock);
}

static void tls_free(FutStream *base)
{
    FutTlsStream *stream = (FutTlsStream *)base;
    gnutls_deinit(stream->session);
    fut_tls_unref(stream->tls);
    gnutls_memset(stream->in, 0, FUT_TLS_IN_SIZE);
    g_free(stream->in);
    fut_buf_done(&stream->out);
    g_mutex_clear(&stream->lock);
    g_mutex_clear(&stream->out_lock);
    g_free(stream->peer);
    g_free(stream->why);
    g_free(stream);
}

static const char *tls_fault(FutStream *base)
{
    return g_atomic_pointer_get(&((FutTlsStream *)base)->why);
}

static const char *tls_peer(FutStream *base)
{
    const FutTlsStream *stream = (const FutTlsStream *)base;
    return stream->ready ? stream->peer : "";
}

static const FutStreamOps tls_ops = {
    .sendv = tls_sendv,
    .recv = tls_recv,
    .shutdown = tls_shutdown,
    .free = tls_free,
    .handshake = tls_handshake,
    .pending = tls_pending,
    .flush = tls_flush,
    .unread = tls_unread,
    .fault = tls_fault,
    .peer = tls_peer,
};

static void open_session(FutTlsStream *stream)
{
    unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS |
                     (stream->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    int status = gnutls_init(&stream->session, flags);
    g_assert(status == 0);
    status = gnutls_priority_set_direct(stream->session, stream->tls->kind->priority, NULL);
    g_assert(status == 0);
    gnutls_session_set_ptr(stream->session, stream->tls);
    stream->tls->kind->use(stream->tls, stream->session, stream->server);
    fut_tls_socket_attach(stream);
    gnutls_handshake_set_timeout(stream->session, 0); /* whoever polls has the clock */
    gnutls_session_set_verify_function(stream->session, judge_peer);
}

FutStream *fut_stream_tls_new(int fd, FutTls *tls, bool server)
{
    FutTlsStream *stream = g_new0(FutTlsStream, 1);
    stream->base = (FutStream){ &tls_ops, fd };
    stream->tls = fut_tls_ref(tls);
    stream->server = server;
    stream->in = g_malloc(FUT_TLS_IN_SIZE);
    g_mutex_init(&stream->lock);
    g_mutex_init(&stream->out_lock);
    open_session(stream);
    return &stream->base;
}
