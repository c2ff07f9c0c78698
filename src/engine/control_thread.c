/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control thread: answers the clients of the control socket. */
#include <string.h>
#include <unistd.h>

#include "control_server.h"
#include "fut_error.h"
#include "health_verbs.h"
#include "restore_ready.h"
#include "service_internal.h"
#include "snapper.h"
#include "watch_service.h"
#include "watch_verbs.h"

/* What a client may follow. */
enum {
    STREAM_EVENTS = 1,
    STREAM_RECORDS
};

/* -- verbs -- */

typedef json_t *(*VerbRun)(FutService *service, unsigned *follow, json_t *args, GError **error);

static json_t *verb_status(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    return fut_service_status(service);
}

static bool set_peer(FutService *service, const char *text, GError **error)
{
    g_autoptr(FutAddress) address = fut_address_parse(text, error);
    if (!address || !fut_options_address_allowed(service->options, address, error)) {
        return false;
    }
    g_mutex_lock(&service->peer_lock);
    fut_address_free(service->peer);
    service->peer = g_steal_pointer(&address);
    g_mutex_unlock(&service->peer_lock);
    return true;
}

/* A twin would show itself with the guest's own addresses, which are another VM's. */
static bool may_have_twin(const FutService *service, GError **error)
{
    if (service->options->identities.count == 0) {
        return true;
    }
    g_set_error_literal(error, FUT_ERROR, FUT_ERR_UNSUPPORTED,
                        "a clone with an identity of its own (futago restore --identity) can be "
                        "neither protected nor moved: restore it without one");
    return false;
}

static json_t *verb_protect(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    FutEngineStatus status;
    bool move = json_is_true(json_object_get(args, "move"));
    if (!fut_restore_over(service, error) || !may_have_twin(service, error)) {
        return NULL;
    }
    fut_engine_status(service->engine, &status);
    if (status.state == FUT_STATE_CONNECTING && status.moving != move) {
        fut_engine_unprotect(service->engine, NULL); /* what nobody answered is wanted no more */
        fut_engine_status(service->engine, &status);
    }
    if (status.role != FUT_ROLE_PRIMARY || status.state != FUT_STATE_ALONE) {
        /* wanted already: another address may be given while nobody answers at the old one */
        if (status.state != FUT_STATE_CONNECTING) {
            return fut_engine_protect(service->engine, error) ? json_object() : NULL;
        }
    }
    const char *to = json_string_value(json_object_get(args, "to"));
    if (to && !set_peer(service, to, error)) {
        return NULL;
    }
    g_mutex_lock(&service->peer_lock);
    bool known = service->peer != NULL;
    g_mutex_unlock(&service->peer_lock);
    if (!known) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "no backup is known yet: say where it listens (--to ADDR)");
        return NULL;
    }
    if (status.state == FUT_STATE_CONNECTING) {
        return json_object();
    }
    bool ok =
        move ? fut_engine_move(service->engine, error) : fut_engine_protect(service->engine, error);
    return ok ? json_object() : NULL;
}

/* What a disk is made of, for who wants to move it: "image", or "fault", why it cannot be moved. */
static json_t *describe_disk(FutVmm *vmm, unsigned disk, const FutDiskInfo *info)
{
    g_autoptr(GError) fault = NULL;
    g_autofree char *image =
        vmm->ops->disk_image ? vmm->ops->disk_image(vmm, disk, &fault) : g_strdup("");
    g_autofree char *coded = image ? g_base64_encode((guchar *)image, strlen(image)) : NULL;
    json_t *object = json_pack("{s:s, s:I, s:b}", "name", info->name, "length",
                               (json_int_t)info->length, "shared", info->shared);
    json_object_set_new(object, image ? "image" : "fault",
                        json_string(image ? coded : fault->message));
    return object;
}

static json_t *verb_disks(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    unsigned count = 0;
    FutVmm *vmm = service->vmm;
    const FutDiskInfo *info = vmm->ops->disks ? vmm->ops->disks(vmm, &count) : NULL;
    json_t *disks = json_array();
    for (unsigned i = 0; i < count; i++) {
        json_array_append_new(disks, describe_disk(vmm, i, &info[i]));
    }
    return json_pack("{s:i, s:o}", "pid", (int)getpid(), "disks", disks);
}

static json_t *verb_unprotect(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    return fut_engine_unprotect(service->engine, error) ? json_object() : NULL;
}

static json_t *verb_failover(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    return fut_engine_failover(service->engine, error) ? json_object() : NULL;
}

/* A person's word, for arbiters that ask one. It is written down; the ask thread finds it there when
 * it asks again. */
static json_t *verb_grant(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    json_int_t generation = json_integer_value(json_object_get(args, "generation"));
    FutEngineStatus status;
    fut_engine_status(service->engine, &status);
    if (status.state != FUT_STATE_ASKING && status.state != FUT_STATE_CLAIMING) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "nothing waits for a grant here (state %s): see futago status",
                    fut_state_name(status.state));
        return NULL;
    }
    if (generation <= 0 || (uint64_t)generation != status.generation + 1) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "generation %" JSON_INTEGER_FORMAT
                    " is not waited for: this host asks for %" G_GUINT64_FORMAT,
                    generation, status.generation + 1);
        return NULL;
    }
    return fut_arbiter_grant(service->arbiter, (uint64_t)generation, service->options->node, error)
               ? json_object()
               : NULL;
}

static json_t *verb_restore_go(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    return fut_ready_verb_go(service, args, error);
}

static json_t *verb_stop(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    service->vmm->ops->quit(service->vmm, false);
    return json_object();
}

static json_t *verb_events(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    *follow = STREAM_EVENTS;
    return json_object();
}

static json_t *verb_probe_add(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    const char *text = json_string_value(json_object_get(args, "probe"));
    g_autoptr(FutProbeKeys) keys = text ? fut_probe_keys_parse(text, error) : NULL;

    if (text && (!keys || !fut_react_check(service->react, keys, error))) {
        return NULL;
    }
    return fut_watch_service_check(service, error) ? fut_watch_verb_add(service->watch, args, error)
                                                   : NULL;
}

static json_t *verb_probe_functions(FutService *service, unsigned *follow, json_t *args,
                                    GError **error)
{
    return fut_watch_service_check(service, error)
               ? fut_watch_verb_functions(service->watch, args, error)
               : NULL;
}

static json_t *verb_probe_enable(FutService *service, unsigned *follow, json_t *args,
                                 GError **error)
{
    return fut_watch_service_check(service, error)
               ? fut_watch_verb_enable(service->watch, args, true, error)
               : NULL;
}

static json_t *verb_probe_disable(FutService *service, unsigned *follow, json_t *args,
                                  GError **error)
{
    return fut_watch_service_check(service, error)
               ? fut_watch_verb_enable(service->watch, args, false, error)
               : NULL;
}

static json_t *verb_probe_list(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    return fut_watch_verb_list(service->watch);
}

static json_t *verb_probe_remove(FutService *service, unsigned *follow, json_t *args,
                                 GError **error)
{
    return fut_watch_service_check(service, error)
               ? fut_watch_verb_remove(service->watch, args, error)
               : NULL;
}

static json_t *verb_probe_watch(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    *follow = STREAM_RECORDS;
    return json_object();
}

static json_t *verb_snapshot_create(FutService *service, unsigned *follow, json_t *args,
                                    GError **error)
{
    return fut_snapper_create(service->snapper, args, error);
}

static json_t *verb_snapshot_auto(FutService *service, unsigned *follow, json_t *args,
                                  GError **error)
{
    return fut_snapper_auto(service->snapper, args, error);
}

static json_t *verb_snapshot_stop(FutService *service, unsigned *follow, json_t *args,
                                  GError **error)
{
    return fut_snapper_stop(service->snapper, error);
}

static json_t *verb_snapshot_status(FutService *service, unsigned *follow, json_t *args,
                                    GError **error)
{
    return fut_snapper_status(service->snapper);
}

static json_t *verb_health(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    return fut_health_verb(service->react, service->watch);
}

static json_t *verb_health_clear(FutService *service, unsigned *follow, json_t *args,
                                 GError **error)
{
    return fut_health_verb_clear(service->react, args);
}

static json_t *verb_reset_stats(FutService *service, unsigned *follow, json_t *args, GError **error)
{
    fut_engine_status_reset(service->engine);
    return json_object();
}

static const struct {
    const char *name;
    VerbRun run;
} verbs[] = {
    { "status", verb_status },
    { "protect", verb_protect },
    { "unprotect", verb_unprotect },
    { "failover", verb_failover },
    { "grant", verb_grant },
    { "disks", verb_disks },
    { "restore-go", verb_restore_go },
    { "stop", verb_stop },
    { "events", verb_events },
    { "reset-stats", verb_reset_stats },
    { "snapshot-create", verb_snapshot_create },
    { "snapshot-auto", verb_snapshot_auto },
    { "snapshot-stop", verb_snapshot_stop },
    { "snapshot-status", verb_snapshot_status },
    { "probe-add", verb_probe_add },
    { "probe-list", verb_probe_list },
    { "probe-functions", verb_probe_functions },
    { "probe-remove", verb_probe_remove },
    { "probe-enable", verb_probe_enable },
    { "probe-disable", verb_probe_disable },
    { "probe-watch", verb_probe_watch },
    { "health", verb_health },
    { "health-clear", verb_health_clear },
};

static json_t *run_verb(void *opaque, const char *name, json_t *args, unsigned *follow,
                        GError **error)
{
    FutService *service = opaque;

    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (g_str_equal(verbs[i].name, name)) {
            return fut_ready_allows(service, name, error)
                       ? verbs[i].run(service, follow, args, error)
                       : NULL;
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%.64s': this VM's module does not know that verb",
                name);
    return NULL;
}

static void add_events(FutService *service, uint64_t *next, GString *out)
{
    g_mutex_lock(&service->events_lock);
    uint64_t oldest =
        service->event_count > FUT_EVENTS_KEPT ? service->event_count - FUT_EVENTS_KEPT : 0;
    *next = MAX(*next, oldest);
    for (; *next < service->event_count; (*next)++) {
        const FutEvent *event = &service->events[*next % FUT_EVENTS_KEPT];
        g_autofree char *line = fut_control_event(event->id, event->time_s, event->text);
        g_string_append(out, line);
    }
    g_mutex_unlock(&service->events_lock);
}

/* Those that do not fit stay in the ring: who reads slowly loses records there, and is told. */
static bool add_records(FutService *service, uint64_t *next, GString *out)
{
    while (out->len < FUT_CONTROL_LINE_MAX) {
        g_autofree char *line = fut_watch_next_line(service->watch, next);
        if (!line) {
            return false;
        }
        g_string_append(out, line);
    }
    return true;
}

static bool add_lines(void *opaque, unsigned stream, uint64_t *next, GString *out)
{
    if (stream == STREAM_RECORDS) {
        return add_records(opaque, next, out);
    }
    add_events(opaque, next, out);
    return false;
}

void *fut_control_thread(void *opaque)
{
    static const FutControlServerOps ops = { .run = run_verb, .lines = add_lines };
    FutService *service = opaque;
    FutControlServer *server =
        fut_control_server_new(service->control_fd, service->control_wake_fd, &ops, service);
    for (;;) {
        fut_control_server_round(server, fut_watch_service_round(service));
    }
    return NULL;
}
