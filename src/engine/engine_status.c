/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a person or a benchmark sees of the engine. */
#include "engine_internal.h"
#include "fut_clock.h"

#include <string.h>

void fut_stats_tick(FutEngineStats *stats, uint64_t now_ns)
{
    uint64_t span_ns = now_ns - stats->sample_ns;
    if (span_ns < FUT_NS_PER_S) {
        return;
    }
    double span_s = (double)span_ns / FUT_NS_PER_S;
    stats->checkpoints_per_s = (double)(stats->checkpoints - stats->sample_checkpoints) / span_s;
    stats->bytes_per_s = (double)(stats->bytes - stats->sample_bytes) / span_s;
    stats->sample_ns = now_ns;
    stats->sample_checkpoints = stats->checkpoints;
    stats->sample_bytes = stats->bytes;
}

void fut_engine_status_reset(FutEngine *engine)
{
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    FutEngineStats *stats = &engine->stats;
    fut_histogram_clear(&stats->pause_ns);
    fut_histogram_clear(&stats->commit_ns);
    for (unsigned i = 0; i < FUT_PAUSE_PARTS; i++) {
        fut_histogram_clear(&stats->part_ns[i]);
    }
    stats->checkpoints = stats->pages = stats->bytes = 0;
    memset(stats->events, 0, sizeof(stats->events));
    stats->sample_ns = now_ns;
    stats->sample_checkpoints = stats->sample_bytes = 0;
    g_mutex_unlock(&engine->lock);
}

static double microseconds(const FutHistogram *histogram, double percent)
{
    return (double)fut_histogram_percentile(histogram, percent) / FUT_NS_PER_US;
}

/* What does not fit is cut, between two characters. */
static void copy_text(char *ret, size_t size, const char *text)
{
    const char *end;
    g_strlcpy(ret, text, size);
    if (!g_utf8_validate(ret, -1, &end)) {
        ret[end - ret] = '\0';
    }
}

static void pair_status(const FutPairStatus *pair, FutEngineStatus *ret)
{
    ret->role = pair->role;
    ret->state = pair->state;
    ret->linked = pair->linked;
    ret->generation = pair->generation;
    ret->epoch = pair->epoch;
    ret->committed = pair->committed;
    ret->in_flight = pair->in_flight;
    g_strlcpy(ret->peer_node, pair->peer_node, sizeof(ret->peer_node));
    copy_text(ret->reason, sizeof(ret->reason), pair->last_reason);
}

static void stats_status(const FutEngineStats *stats, uint64_t now_ns, FutEngineStatus *ret)
{
    double count = stats->checkpoints ? (double)stats->checkpoints : 1;
    ret->checkpoints = stats->checkpoints;
    ret->checkpoints_per_s = stats->checkpoints_per_s;
    ret->bytes_per_s = stats->bytes_per_s;
    if (stats->sample_checkpoints == 0 && now_ns > stats->sample_ns) {
        /* the first second is not over yet */
        double span_s = (double)(now_ns - stats->sample_ns) / FUT_NS_PER_S;
        ret->checkpoints_per_s = (double)stats->checkpoints / span_s;
        ret->bytes_per_s = (double)stats->bytes / span_s;
    }
    ret->pause_us_p50 = microseconds(&stats->pause_ns, 50);
    ret->pause_us_p99 = microseconds(&stats->pause_ns, 99);
    ret->commit_us_p50 = microseconds(&stats->commit_ns, 50);
    ret->commit_us_p99 = microseconds(&stats->commit_ns, 99);
    for (unsigned i = 0; i < FUT_PAUSE_PARTS; i++) {
        ret->part_us[i].p50 = microseconds(&stats->part_ns[i], 50);
        ret->part_us[i].p99 = microseconds(&stats->part_ns[i], 99);
    }
    memcpy(ret->events, stats->events, sizeof(ret->events));
    ret->pages_per_checkpoint = (double)stats->pages / count;
    ret->bytes_per_checkpoint = (double)stats->bytes / count;
}

static double disk_share(const FutEngine *engine)
{
    uint64_t total, synced;
    fut_disks_share(engine, &total, &synced);
    return total > 0 ? (double)synced / (double)total : 1;
}

static double copy_share(const FutEngine *engine, FutPairState state)
{
    const FutCopy *copy = &engine->copy;
    if (state == FUT_STATE_COPYING) {
        /* later passes are short: the first one is what a person waits for */
        uint64_t total, synced;
        fut_disks_share(engine, &total, &synced);
        uint64_t pages = copy->pass > 0 ? copy->total_pages : copy->done_pages;
        total += copy->total_pages << FUT_PAGE_SHIFT;
        synced += pages << FUT_PAGE_SHIFT;
        return total > 0 ? (double)synced / (double)total : 1;
    }
    return state == FUT_STATE_SETTLING || state == FUT_STATE_PROTECTING ||
           state == FUT_STATE_PROTECTED;
}

static uint64_t oldest_uncommitted_ns(const FutEngine *engine, const FutPairStatus *pair)
{
    uint64_t next = pair->committed + 1;
    const FutFlight *flight = &engine->flights[next % FUT_FLIGHTS_MAX];
    if (pair->in_flight > 0 && flight->epoch == next) {
        return flight->begin_ns;
    }
    return engine->pace.last_cut_ns;
}

unsigned fut_engine_state_check_every(const FutEngine *engine)
{
    return engine->config.state_check_every;
}

FutPanic fut_engine_on_panic(const FutEngine *engine)
{
    return engine->config.on_panic;
}

void fut_engine_panicked(FutEngine *engine, const char *outcome)
{
    g_autofree char *text = g_strdup_printf("the guest has panicked: %s", outcome);

    g_mutex_lock(&engine->lock);
    engine->panics++;
    g_mutex_unlock(&engine->lock);
    engine->host->report(engine->opaque, "FUT-192", text);
}

FutTracker fut_engine_tracker(const FutEngine *engine)
{
    return engine->config.tracker;
}

unsigned fut_engine_tracker_check_every(const FutEngine *engine)
{
    return engine->config.tracker_check_every;
}

void fut_engine_status(FutEngine *engine, FutEngineStatus *ret)
{
    *ret = (FutEngineStatus){ .mode = engine->config.mode,
                              .running = engine->vmm->ops->running(engine->vmm) };
    if (engine->vmm->ops->state_stats) {
        engine->vmm->ops->state_stats(engine->vmm, &ret->device_state);
    }
    if (engine->vmm->ops->dirty_stats) {
        engine->vmm->ops->dirty_stats(engine->vmm, &ret->dirty);
    }
    uint64_t now_ns = fut_engine_now(engine);
    g_mutex_lock(&engine->lock);
    FutPairStatus pair;
    fut_pair_status(engine->pair, &pair);
    pair_status(&pair, ret);
    fut_stats_tick(&engine->stats, now_ns); /* under load no timer may have run for long */
    stats_status(&engine->stats, now_ns, ret);
    if (pair.role == FUT_ROLE_PRIMARY && fut_pair_output_epoch(engine->pair) != 0) {
        uint64_t oldest_ns = oldest_uncommitted_ns(engine, &pair);
        ret->lag_us = now_ns > oldest_ns ? (now_ns - oldest_ns) / FUT_NS_PER_US : 0;
    }
    ret->event_set = engine->config.events;
    ret->outputs_held = engine->held.count;
    ret->outputs_released = engine->released;
    ret->outputs_dropped = engine->dropped;
    ret->copy_share = copy_share(engine, pair.state);
    ret->disk_share = disk_share(engine);
    ret->disks = engine->disks.count;
    ret->moving = fut_pair_moving(engine->pair);
    ret->disk_copied_bytes = engine->disks.copied_bytes;
    ret->disk_unacked_bytes = engine->disks.sent_bytes - engine->disks.acked_bytes;
    ret->disk_queue_bytes = fut_disk_queue_bytes(&engine->disks.queue);
    ret->shared_disks = engine->shared.count;
    ret->shared_held_bytes = fut_disk_queue_bytes(&engine->shared.writes);
    ret->copy_passes = engine->copy.pass;
    ret->panics = engine->panics;
    ret->applied = engine->applied;
    ret->verified = engine->verified;
    ret->verify_failed = engine->verify_failed;
    ret->inbound_logged = engine->standby.log.count;
    ret->reinjected = engine->reinjected;
    ret->resent = engine->resent;
    ret->takeover = engine->takeover;
    ret->takeover_us =
        (double)(engine->takeover.running_ns - engine->takeover.granted_ns) / FUT_NS_PER_US;
    ret->memory_hash = engine->taken_hash;
    ret->committed_hash = engine->taken_committed_hash;
    g_mutex_unlock(&engine->lock);
}
