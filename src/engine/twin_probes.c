/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes travel to the twin as text: what they mean is found there in the image of the guest. */
#include <sys/uio.h>

#include "engine_internal.h"
#include "probe_definition.h"

G_STATIC_ASSERT(FUT_PROBE_SET_BYTES_MAX <= FUT_WIRE_PROBES_MAX);

void fut_probes_init(FutEngine *engine)
{
    g_mutex_init(&engine->probes.lock);
}

void fut_probes_done(FutEngine *engine)
{
    fut_buf_done(&engine->probes.body);
    g_mutex_clear(&engine->probes.lock);
}

/* Lock of the probes held. A link that is broken ends the session, and the next one gets them. */
static void send_probes(FutEngine *engine)
{
    struct iovec iov = { engine->probes.body.data, engine->probes.body.len };

    if (engine->probes.open && iov.iov_len > 0) {
        engine->host->send(engine->opaque, FUT_MSG_PROBES, 0, &iov, 1);
    }
}

void fut_engine_set_probes(FutEngine *engine, const uint8_t *body, size_t length)
{
    g_mutex_lock(&engine->probes.lock);
    fut_buf_clear(&engine->probes.body);
    fut_buf_append(&engine->probes.body, body, length);
    send_probes(engine);
    g_mutex_unlock(&engine->probes.lock);
}

void fut_probes_open(FutEngine *engine)
{
    g_mutex_lock(&engine->probes.lock);
    engine->probes.open = true;
    send_probes(engine);
    g_mutex_unlock(&engine->probes.lock);
}

void fut_probes_close(FutEngine *engine)
{
    g_mutex_lock(&engine->probes.lock);
    engine->probes.open = false;
    g_mutex_unlock(&engine->probes.lock);
}

/* -- backup -- */

bool fut_probes_check(const FutFrame *frame, GError **error)
{
    g_autoptr(FutProbeSet) set = fut_probe_set_decode(frame->body, frame->length, error);

    return set != NULL;
}

static void replace(FutEngine *engine, const uint8_t *body, size_t length)
{
    g_mutex_lock(&engine->probes.lock);
    fut_buf_clear(&engine->probes.body);
    fut_buf_append(&engine->probes.body, body, length);
    engine->probes.news = true;
    g_mutex_unlock(&engine->probes.lock);
    if (engine->host->probes) {
        engine->host->probes(engine->opaque);
    }
}

void fut_probes_keep(FutEngine *engine, const FutFrame *frame)
{
    replace(engine, frame->body, frame->length);
}

void fut_probes_discard(FutEngine *engine)
{
    replace(engine, NULL, 0);
}

bool fut_engine_take_probes(FutEngine *engine, FutBuf *out)
{
    g_mutex_lock(&engine->probes.lock);
    bool news = engine->probes.news;
    engine->probes.news = false;
    if (news) {
        fut_buf_clear(out);
        fut_buf_append(out, engine->probes.body.data, engine->probes.body.len);
    }
    g_mutex_unlock(&engine->probes.lock);
    return news;
}
