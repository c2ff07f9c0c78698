/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The newest records of all probes. Written by vCPU threads, read by any number of readers, each at its own place: who is too slow learns how many records he lost. */
#ifndef FUT_RECORD_RING_H
#define FUT_RECORD_RING_H

#include "probe.h"

#define FUT_RECORDS_KEPT 1024u

typedef struct {
    FutProbe *probe;      /* a reference */
    uint64_t sequence;    /* from 0, without gaps, over all probes */
    int64_t host_time_us; /* since 1970 */
    uint64_t guest_time_ns;
    unsigned vcpu;
    uint64_t
        skipped; /* hits of its probe since the record before it that left none: there were too many */
    FutProbeValue values[FUT_PROBE_FIELDS_MAX]; /* the probe's fields */
} FutProbeRecord;

typedef struct FutRecordRing FutRecordRing;

FutRecordRing *fut_record_ring_new(void);
void fut_record_ring_free(FutRecordRing *ring);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutRecordRing, fut_record_ring_free)
/* From now on each record goes to memory that other programs can map, too (futago_records.h). Once. The file of that memory, which stays the
 * ring's; -1 with FUT_ERR_IO. */
int fut_record_ring_share(FutRecordRing *ring, GError **error);
/*
 * Any thread. False: this probe has recorded too much lately; it was counted as skipped. `now_ns` of fut_now_ns().
 */
bool fut_record_ring_put(FutRecordRing *ring, FutProbe *probe, const FutProbeHit *hit,
                         const FutProbeValue *values, uint64_t now_ns);
/*
 * The record at *place or the oldest there is after it; *place goes on behind it, *ret_lost says how many are gone.
 * False: none yet. The caller drops the reference to its probe.
 */
bool fut_record_ring_next(FutRecordRing *ring, uint64_t *place, FutProbeRecord *ret,
                          uint64_t *ret_lost);

#endif
