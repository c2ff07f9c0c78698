/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring of records. */
#include "record_ring.h"

#include "record_share.h"

#include <string.h>

struct FutRecordRing {
    GMutex lock;
    uint64_t count;        /* ever put */
    FutRecordShare *share; /* NULL: nobody else can read */
    FutProbeRecord records[FUT_RECORDS_KEPT];
};

FutRecordRing *fut_record_ring_new(void)
{
    FutRecordRing *ring = g_new0(FutRecordRing, 1);

    g_mutex_init(&ring->lock);
    return ring;
}

void fut_record_ring_free(FutRecordRing *ring)
{
    if (!ring) {
        return;
    }
    for (unsigned i = 0; i < FUT_RECORDS_KEPT; i++) {
        fut_probe_unref(ring->records[i].probe);
    }
    fut_record_share_free(ring->share);
    g_mutex_clear(&ring->lock);
    g_free(ring);
}

int fut_record_ring_share(FutRecordRing *ring, GError **error)
{
    FutRecordShare *share = fut_record_share_new(error);

    g_assert(!ring->share);
    g_mutex_lock(&ring->lock);
    ring->share = share;
    g_mutex_unlock(&ring->lock);
    return share ? fut_record_share_fd(share) : -1;
}

bool fut_record_ring_put(FutRecordRing *ring, FutProbe *probe, const FutProbeHit *hit,
                         const FutProbeValue *values, uint64_t now_ns)
{
    uint64_t kept_back, skipped;
    FutProbe *dropped = NULL;

    g_mutex_lock(&ring->lock);
    bool pass = fut_rate_pass(&probe->rate, now_ns, &kept_back);
    if (pass) {
        FutProbeRecord *record = &ring->records[ring->count % FUT_RECORDS_KEPT];
        dropped = record->probe;
        record->probe = fut_probe_ref(probe);
        record->sequence = ring->count++;
        record->host_time_us = g_get_real_time();
        record->guest_time_ns = hit->guest_time_ns;
        record->vcpu = hit->vcpu;
        skipped = atomic_load(&probe->skipped);
        record->skipped = skipped - probe->skipped_told;
        probe->skipped_told = skipped;
        memcpy(record->values, values, probe->field_count * sizeof(*values));
        if (ring->share) {
            fut_record_share_put(ring->share, record);
        }
    }
    g_mutex_unlock(&ring->lock);
    fut_probe_unref(dropped);
    atomic_fetch_add(pass ? &probe->records : &probe->skipped, 1);
    return pass;
}

bool fut_record_ring_next(FutRecordRing *ring, uint64_t *place, FutProbeRecord *ret,
                          uint64_t *ret_lost)
{
    bool found = false;

    *ret_lost = 0;
    g_mutex_lock(&ring->lock);
    uint64_t oldest = ring->count > FUT_RECORDS_KEPT ? ring->count - FUT_RECORDS_KEPT : 0;
    if (*place < oldest) {
        *ret_lost = oldest - *place;
        *place = oldest;
    }
    if (*place < ring->count) {
        *ret = ring->records[*place % FUT_RECORDS_KEPT];
        fut_probe_ref(ret->probe);
        (*place)++;
        found = true;
    }
    g_mutex_unlock(&ring->lock);
    return found;
}
