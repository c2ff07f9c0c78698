/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the probes have found wrong with a guest, and what that makes of its health. Pure; the caller's lock. */
#ifndef FUT_HEALTH_H
#define FUT_HEALTH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "probe_keys.h"

#define FUT_FINDINGS_KEPT 64u

/* From good to bad. */
typedef enum {
    FUT_HEALTH_UNKNOWN, /* nothing was found, and no probe looks */
    FUT_HEALTH_GOOD,
    FUT_HEALTH_WARNING,
    FUT_HEALTH_SERVICE_FAILED,
    FUT_HEALTH_SYSTEM_FAILED
} FutHealthLevel;
extern const char *const fut_health_names[];

/* Equal causes of one probe are one finding. */
typedef struct {
    char *probe, *cause, *means; /* owned */
    char *outcome;               /* owned; of the actions: "", or what came of the last */
    FutSeverity severity;
    FutScope scope;
    int64_t first_us, last_us; /* since 1970 */
    int64_t until_us;          /* counts until then; 0: until cleared */
    uint64_t guest_time_ns;    /* of the last */
    uint64_t sequence;
    unsigned vcpu;
    uint64_t count;
} FutFinding;

typedef struct {
    GQueue findings;    /* FutFinding *, the newest last */
    uint64_t forgotten; /* for want of room */
} FutHealth;

void fut_health_init(FutHealth *health);
void fut_health_done(FutHealth *health);

/* Strings of `found` are copied; its outcome and count are not looked at. The finding it has become part of is returned, borrowed until
 * the next call. Findings that say nothing bad go first when there is no room. */
FutFinding *fut_health_add(FutHealth *health, const FutFinding *found);
/* A finding with that cause of that probe; NULL: it is gone. */
FutFinding *fut_health_find(FutHealth *health, const char *probe, const char *cause);
/* Forgets the findings of a probe; NULL: of all. How many there were. */
unsigned fut_health_clear(FutHealth *health, const char *probe);
bool fut_finding_counts(const FutFinding *finding, int64_t now_us);
/* What one finding makes of the VM. */
FutHealthLevel fut_finding_level(const FutFinding *finding);
FutHealthLevel fut_health_level(const FutHealth *health, bool watched, int64_t now_us);

#endif
