/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between GnuTLS and the socket: buffers on both ways, so that a session never waits. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tls_stream.h"

static ssize_t fill_in(FutTlsStream *stream)
{
    ssize_t got;
    do {
        got = recv(stream->base.fd, stream->in, FUT_TLS_IN_SIZE, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        stream->in_done = 0;
        stream->in_end = (size_t)got;
        stream->drained = got < (ssize_t)FUT_TLS_IN_SIZE;
    }
    return got;
}

static ssize_t pull(gnutls_transport_ptr_t opaque, void *to, size_t length)
{
    FutTlsStream *stream = opaque;
    if (stream->in_done == stream->in_end) {
        ssize_t got = -1;
        errno = EAGAIN;
        if (!stream->drained) {
            got = fill_in(stream);
        }
        if (got <= 0) {
            stream->dry = true;
            stream->eof = got == 0;
            stream->status = got < 0 ? errno : 0;
            gnutls_transport_set_errno(stream->session, stream->status);
            return got;
        }
    }
    size_t part = MIN(length, stream->in_end - stream->in_done);
    memcpy(to, stream->in + stream->in_done, part);
    stream->in_done += part;
    return (ssize_t)part;
}

static int pull_timeout(gnutls_transport_ptr_t opaque, unsigned ms)
{
    const FutTlsStream *stream = opaque;
    return stream->in_end > stream->in_done;
}

static ssize_t push(gnutls_transport_ptr_t opaque, const giovec_t *iov, int count)
{
    FutTlsStream *stream = opaque;
    size_t all = 0;
    stream->pushed++;
    g_mutex_lock(&stream->out_lock);
    for (int i = 0; i < count; i++) {
        fut_buf_append(&stream->out, iov[i].iov_base, iov[i].iov_len);
        all += iov[i].iov_len;
    }
    g_mutex_unlock(&stream->out_lock);
    return (ssize_t)all;
}

static size_t waiting(const FutTlsStream *stream)
{
    return stream->out.len - stream->out_done;
}

size_t fut_tls_out_waiting(FutTlsStream *stream)
{
    g_mutex_lock(&stream->out_lock);
    size_t bytes = waiting(stream);
    g_mutex_unlock(&stream->out_lock);
    return bytes;
}

static int write_locked(FutTlsStream *stream)
{
    while (waiting(stream) > 0) {
        ssize_t done = send(stream->base.fd, stream->out.data + stream->out_done, waiting(stream),
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -1;
        }
        stream->out_done += (size_t)done;
    }
    fut_buf_clear(&stream->out);
    stream->out_done = 0;
    return 0;
}

int fut_tls_write_out(FutTlsStream *stream)
{
    g_mutex_lock(&stream->out_lock);
    int status = write_locked(stream);
    g_mutex_unlock(&stream->out_lock);
    return status;
}

void fut_tls_socket_attach(FutTlsStream *stream)
{
    gnutls_transport_set_ptr(stream->session, stream);
    gnutls_transport_set_pull_function(stream->session, pull);
    gnutls_transport_set_pull_timeout_function(stream->session, pull_timeout);
    gnutls_transport_set_vec_push_function(stream->session, push);
}
