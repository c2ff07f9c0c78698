/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The "status" verb: the engine's status as JSON. */
#include <string.h>

#include "cover.h"
#include "fut_clock.h"
#include "restore_ready.h"
#include "service_internal.h"

static char *peer_address(FutService *service)
{
    g_mutex_lock(&service->peer_lock);
    char *text = service->peer ? fut_address_text(service->peer) : g_strdup("");
    g_mutex_unlock(&service->peer_lock);
    return text;
}

/* Who the peer has proved to be; "" without TLS or link. */
static char *tls_peer(FutService *service)
{
    g_mutex_lock(&service->send_lock);
    char *text = g_strdup(service->link ? fut_link_peer(service->link) : "");
    g_mutex_unlock(&service->send_lock);
    return text;
}

static const char *pack_now(FutService *service)
{
    if (service->options->compress != FUT_COMPRESS_AUTO) {
        return fut_compress_names[service->options->compress];
    }
    g_mutex_lock(&service->send_lock);
    const char *name = fut_pack_kind_name(service->pack_choice.kind);
    g_mutex_unlock(&service->send_lock);
    return name;
}

static void set_link_counts(json_t *object, FutService *service)
{
    g_mutex_lock(&service->send_lock);
    uint64_t sent = service->link ? fut_link_bytes_sent(service->link) : 0;
    uint64_t spared = service->pack_spared;
    g_mutex_unlock(&service->send_lock);
    json_object_set_new(object, "link_sent_bytes", json_integer((json_int_t)sent));
    json_object_set_new(object, "compress_spared_bytes", json_integer((json_int_t)spared));
}

static char *turned_away(FutService *service, uint64_t *ret_count)
{
    g_mutex_lock(&service->events_lock);
    char *text = g_strdup(service->turned_away ? service->turned_away : "");
    *ret_count = service->turned_away_count;
    g_mutex_unlock(&service->events_lock);
    return text;
}

/* The part before the colon. */
static char *tls_kind(const FutOptions *options)
{
    return options->tls ? g_strndup(options->tls, strcspn(options->tls, ":")) : g_strdup("none");
}

static void set_hex(json_t *object, const char *key, uint64_t value)
{
    g_autofree char *text = g_strdup_printf("%016" G_GINT64_MODIFIER "x", value);
    json_object_set_new(object, key, json_string(text));
}

static void set_counts(json_t *object, const FutEngineStatus *status)
{
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        { "generation", status->generation },
        { "epoch", status->epoch },
        { "committed", status->committed },
        { "in_flight", status->in_flight },
        { "checkpoints", status->checkpoints },
        { "outputs_held", status->outputs_held },
        { "outputs_released", status->outputs_released },
        { "outputs_dropped", status->outputs_dropped },
        { "lag_us", status->lag_us },
        { "disk_copied_bytes", status->disk_copied_bytes },
        { "disk_unacked_bytes", status->disk_unacked_bytes },
        { "disk_queue_bytes", status->disk_queue_bytes },
        { "shared_disks", status->shared_disks },
        { "shared_held_bytes", status->shared_held_bytes },
        { "copy_passes", status->copy_passes },
        { "panics", status->panics },
        { "applied", status->applied },
        { "verified", status->verified },
        { "verify_failed", status->verify_failed },
        { "state_sections", status->device_state.sections },
        { "state_sections_stock", status->device_state.stock },
        { "state_checks", status->device_state.checks },
        { "state_mismatches", status->device_state.mismatches },
        { "tracker_scans", status->dirty.scans },
        { "tracker_checks", status->dirty.checks },
        { "tracker_mismatches", status->dirty.mismatches },
        { "inbound_logged", status->inbound_logged },
        { "reinjected", status->reinjected },
        { "resent", status->resent },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
        json_object_set_new(object, counts[i].key, json_integer((json_int_t)counts[i].value));
    }
    set_hex(object, "memory_hash", status->memory_hash);
    set_hex(object, "committed_hash", status->committed_hash);
}

/* What the pause is made of; finding the pages also under the name that it has had. */
static void set_parts(json_t *object, const FutEngineStatus *status)
{
    static const char *const names[FUT_PAUSE_PARTS] = { "stop", "save",  "collect",
                                                        "copy", "go_on", "send" };
    json_t *parts = json_object();
    for (unsigned i = 0; i < FUT_PAUSE_PARTS; i++) {
        json_object_set_new(parts, names[i],
                            json_pack("{s:f,s:f}", "p50", status->part_us[i].p50, "p99",
                                      status->part_us[i].p99));
    }
    json_object_set(object, "collect_us", json_object_get(parts, "collect"));
    json_object_set_new(object, "pause_parts_us", parts);
}

static void set_measures(json_t *object, const FutEngineStatus *status)
{
    json_object_set_new(object, "checkpoints_per_s", json_real(status->checkpoints_per_s));
    json_object_set_new(object, "bytes_per_s", json_real(status->bytes_per_s));
    json_object_set_new(object, "pause_us",
                        json_pack("{s:f,s:f}", "p50", status->pause_us_p50, "p99",
                                  status->pause_us_p99));
    json_object_set_new(object, "commit_us",
                        json_pack("{s:f,s:f}", "p50", status->commit_us_p50, "p99",
                                  status->commit_us_p99));
    set_parts(object, status);
    json_object_set_new(object, "pages_per_checkpoint", json_real(status->pages_per_checkpoint));
    json_object_set_new(object, "bytes_per_checkpoint", json_real(status->bytes_per_checkpoint));
    json_object_set_new(object, "copy_share", json_real(status->copy_share));
    json_object_set_new(object, "disk_share", json_real(status->disk_share));
    json_object_set_new(object, "takeover_us", json_real(status->takeover_us));
}

static bool same_machine(FutService *service)
{
    g_mutex_lock(&service->peer_lock);
    const FutAddress *where = service->peer ? service->peer : service->options->listen;
    bool same = where && fut_address_is_local(where);
    g_mutex_unlock(&service->peer_lock);
    return same;
}

static void set_cover(json_t *object, FutService *service, const FutEngineStatus *status)
{
    const FutOptions *options = service->options;
    fut_cover_describe(object, &(FutCoverFacts){
                                   .role = status->role,
                                   .state = status->moving ? FUT_STATE_ALONE : status->state,
                                   .arbiter = options->arbiter,
                                   .arbiter_private = service->arbiter_private,
                                   .encrypted = options->tls != NULL,
                                   .same_machine = same_machine(service),
                                   .disks = status->disks - (unsigned)status->shared_disks,
                                   .shared_disks = (unsigned)status->shared_disks,
                                   .flush_both = options->engine.flush_both,
                               });
}

static void set_events(json_t *object, const FutEngineStatus *status)
{
    g_autofree char *text = fut_event_set_text(status->event_set);
    json_t *counts = json_object();
    for (unsigned i = 0; i < FUT_EVENT_KINDS; i++) {
        if (status->event_set & FUT_EVENT_SET(i)) {
            json_object_set_new(counts, fut_event_name(i),
                                json_integer((json_int_t)status->events[i]));
        }
    }
    json_object_set_new(object, "events", json_string(text));
    json_object_set_new(object, "event_counts", counts);
}

/* The steps of a takeover, in seconds of CLOCK_BOOTTIME. */
static void set_takeover(json_t *object, const FutTakeover *takeover)
{
    const struct {
        const char *key;
        uint64_t at_ns;
    } steps[] = {
        { "lost", takeover->lost_ns },     { "granted", takeover->granted_ns },
        { "loaded", takeover->loaded_ns }, { "running", takeover->running_ns },
        { "done", takeover->done_ns },
    };
    if (takeover->done_ns == 0) {
        return;
    }
    json_t *times = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        json_object_set_new(times, steps[i].key, json_real((double)steps[i].at_ns / FUT_NS_PER_S));
    }
    json_object_set_new(object, "takeover", times);
}

json_t *fut_service_status(FutService *service)
{
    FutEngineStatus status;
    fut_engine_status(service->engine, &status);
    const FutOptions *options = service->options;
    const char *waits = fut_ready_state(service->ready);
    g_autofree char *peer = peer_address(service);
    g_autofree char *kind = tls_kind(options);
    g_autofree char *proved = tls_peer(service);
    uint64_t away_count;
    g_autofree char *away = turned_away(service, &away_count);
    json_t *object = json_object();
    const struct {
        const char *key, *value;
    } texts[] = {
        { "vm", options->vm },
        { "node", options->node },
        { "role", waits ? "spare" : fut_role_name(status.role) },
        { "state", waits ? waits : fut_state_name(status.state) },
        { "mode", status.mode == FUT_MODE_STOP ? "stop" : "pipeline" },
        { "tracker", fut_tracker_names[status.dirty.tracker] },
        { "compress", fut_compress_names[options->compress] },
        { "compress_now", pack_now(service) },
        { "peer", status.peer_node },
        { "peer_address", peer },
        { "reason", status.reason },
        { "arbiter", options->arbiter },
        { "tls", kind },
        { "tls_peer", proved },
        { "turned_away", away },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        json_object_set_new(object, texts[i].key, json_string(texts[i].value));
    }
    json_object_set_new(object, "turned_away_count", json_integer((json_int_t)away_count));
    json_object_set_new(object, "linked", json_boolean(status.linked));
    json_object_set_new(object, "running", json_boolean(status.running));
    json_object_set_new(object, "moving", json_boolean(status.moving));
    json_object_set_new(object, "uptime_s",
                        json_real((double)(fut_now_ns() - service->started_ns) / FUT_NS_PER_S));
    set_cover(object, service, &status);
    set_link_counts(object, service);
    set_counts(object, &status);
    set_measures(object, &status);
    set_events(object, &status);
    set_takeover(object, &status.takeover);
    json_t *restore = fut_restore_status(service);
    if (restore) {
        json_object_set_new(object, "restore", restore);
    }
    if (waits) {
        fut_ready_describe(service, object);
    }
    return object;
}
