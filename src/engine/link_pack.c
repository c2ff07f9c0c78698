/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compression of what is sent, by the thread that sends it, before it takes its place in the stream. */
#include "fut_clock.h"
#include "service_internal.h"
#include "wire.h"

/* Of the thread that sends: kept for its next message, up to a whole one. */
typedef struct {
    FutBuf whole, packed;
} Buffers;

static void buffers_free(void *opaque)
{
    Buffers *buffers = opaque;
    fut_buf_done(&buffers->whole);
    fut_buf_done(&buffers->packed);
    g_free(buffers);
}

static GPrivate thread_buffers = G_PRIVATE_INIT(buffers_free);

static Buffers *own_buffers(void)
{
    Buffers *buffers = g_private_get(&thread_buffers);
    if (!buffers) {
        buffers = g_new0(Buffers, 1);
        g_private_set(&thread_buffers, buffers);
    }
    return buffers;
}

static FutPackKind kind_now(FutService *service)
{
    if (service->options->compress != FUT_COMPRESS_AUTO) {
        return (FutPackKind)service->options->compress;
    }
    FutPackKind kind = FUT_PACK_NONE;
    g_mutex_lock(&service->send_lock);
    if (service->link) {
        kind = fut_pack_choice_next(&service->pack_choice, fut_link_bytes_sent(service->link),
                                    fut_link_pending(service->link), fut_now_ns());
    }
    g_mutex_unlock(&service->send_lock);
    return kind;
}

static void tell_result(FutService *service, bool vain)
{
    g_mutex_lock(&service->send_lock);
    fut_pack_choice_result(&service->pack_choice, vain);
    g_mutex_unlock(&service->send_lock);
}

bool fut_link_pack(FutService *service, uint16_t type, uint16_t flags, const struct iovec *iov,
                   int count, struct iovec *ret)
{
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += iov[i].iov_len;
    }
    if (length < FUT_PACK_MIN || !fut_pack_allowed(type)) {
        return false;
    }
    FutPackKind kind = kind_now(service);
    if (kind == FUT_PACK_NONE) {
        return false;
    }
    Buffers *buffers = own_buffers();
    const uint8_t *body = iov[0].iov_base;
    if (count > 1) {
        fut_buf_clear(&buffers->whole);
        for (int i = 0; i < count; i++) {
            fut_buf_append(&buffers->whole, iov[i].iov_base, iov[i].iov_len);
        }
        body = buffers->whole.data;
    }
    fut_buf_clear(&buffers->packed);
    bool packed = fut_pack(&buffers->packed, kind, type, flags, body, length);
    tell_result(service, !packed || buffers->packed.len > length - length / 10);
    if (!packed) {
        return false;
    }
    *ret = (struct iovec){ buffers->packed.data, buffers->packed.len };
    g_mutex_lock(&service->send_lock);
    service->pack_spared += length - buffers->packed.len;
    g_mutex_unlock(&service->send_lock);
    return true;
}
