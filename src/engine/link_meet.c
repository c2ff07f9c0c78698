/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a link comes up: we call, or somebody comes in; both ends prove who they are; the engine takes it. Link thread. */
#include <sys/uio.h>

#include "fut_clock.h"
#include "service_internal.h"
#include "wire.h"

/* A backup that does not answer the phone is tried again; nothing else waits for this thread meanwhile. */
#define CONNECT_TIMEOUT_MS 1000
/* How long the files of TLS count as read just now. */
#define TLS_FRESH_NS (10 * FUT_NS_PER_S)

static void adopt_link(FutService *service, FutLink *take_link)
{
    g_mutex_lock(&service->send_lock);
    g_assert(!service->link);
    g_atomic_pointer_set(&service->link, take_link);
    g_atomic_int_set((gint *)&service->session, 0);
    service->sequence = 0;
    fut_pack_choice_start(&service->pack_choice);
    g_mutex_unlock(&service->send_lock);
    uint64_t nonce = ((uint64_t)g_random_int() << 32) | g_random_int();
    fut_engine_link_up(service->engine, nonce, fut_now_ns());
}

/* The files are read again now and then: certificates are renewed while a VM runs for years. What
 * cannot be read, or is no good, leaves what was read before in force. */
static FutTls *fresh_tls(FutService *service)
{
    const FutOptions *options = service->options;
    uint64_t now_ns = fut_now_ns();
    if (!service->tls || now_ns < service->tls_read_ns + TLS_FRESH_NS) {
        return service->tls;
    }
    g_autoptr(GError) error = NULL;
    FutTls *tls = fut_tls_new(options->tls, options->tls_name, &error);
    service->tls_read_ns = now_ns;
    if (tls) {
        fut_tls_unref(service->tls);
        service->tls = tls;
    } else if (g_strcmp0(service->tls_fault, error->message) != 0) {
        g_autofree char *text =
            g_strdup_printf("TLS goes on with the files as they were before: %s", error->message);
        fut_service_report(service, "FUT-182", text);
    }
    g_free(service->tls_fault);
    service->tls_fault = error ? g_strdup(error->message) : NULL;
    return service->tls;
}

static void greet(FutService *service, FutLink *take_link, bool called)
{
    FutTls *tls = fresh_tls(service);
    if (tls) {
        fut_link_start_tls(take_link, tls, !called);
    }
    fut_greetings_add(&service->greetings, take_link, called, fut_now_ns());
}

void fut_meet_connect(FutService *service)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&service->peer_lock);
    g_autofree char *text = service->peer ? fut_address_text(service->peer) : NULL;
    g_mutex_unlock(&service->peer_lock);
    g_autoptr(FutAddress) peer = text ? fut_address_parse(text, NULL) : NULL;
    FutLink *link = peer ? fut_link_connect(peer, CONNECT_TIMEOUT_MS, &error) : NULL;
    if (link) {
        greet(service, link, true);
    } else {
        fut_engine_link_down(service->engine,
                             error ? error->message : "no address of a backup is known",
                             fut_now_ns());
    }
}

static void turn_away(FutLink *link, const FutBuf *bye)
{
    uint8_t head[FUT_FRAME_HEADER_SIZE];
    fut_frame_header_encode(head, FUT_MSG_BYE, FUT_BYE_BUSY, 0, 0, bye->data, (uint32_t)bye->len);
    struct iovec out[2] = { { head, sizeof(head) }, { bye->data, bye->len } };
    fut_link_send(link, out, 2, NULL, NULL);
    fut_link_close(link);
}

static void receive_peer(FutService *service, FutLink *take_link)
{
    g_autoptr(FutLink) link = take_link;
    FutBuf bye = { 0 };
    if (fut_engine_accepts(service->engine, &bye)) {
        /* a link just closed by the engine may not have been let go of yet */
        fut_link_host_close(service, "replaced");
        adopt_link(service, g_steal_pointer(&link));
    } else {
        g_autofree char *text =
            g_strdup_printf("connection from %s turned away: this backup has its primary",
                            fut_link_name(link));
        fut_service_turned_away(service, "FUT-180", text);
        turn_away(link, &bye);
    }
    fut_buf_done(&bye);
}

void fut_meet_accept(FutService *service)
{
    FutLink *link = fut_listener_accept(service->listener, NULL);
    if (link) {
        greet(service, link, false);
    }
}

static void peer_greeted(void *opaque, FutLink *take_link, bool called)
{
    if (called) {
        adopt_link(opaque, take_link);
    } else {
        receive_peer(opaque, take_link);
    }
}

static void peer_failed(void *opaque, bool called, const char *why)
{
    FutService *service = opaque;
    if (called) {
        fut_engine_link_down(service->engine, why, fut_now_ns());
    } else {
        g_autofree char *text = g_strdup_printf("connection turned away: %s", why);
        fut_service_turned_away(service, "FUT-181", text);
    }
}

void fut_meet_init(FutService *service)
{
    service->greetings.greeted = peer_greeted;
    service->greetings.failed = peer_failed;
    service->greetings.opaque = service;
}
