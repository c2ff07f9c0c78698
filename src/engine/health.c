/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's health. */
#include "health.h"

#include <string.h>

const char *const fut_health_names[] = { "unknown", "good", "warning", "service-failed",
                                         "system-failed" };

static void finding_free(gpointer data)
{
    FutFinding *finding = data;

    g_free(finding->probe);
    g_free(finding->cause);
    g_free(finding->means);
    g_free(finding->outcome);
    g_free(finding);
}

void fut_health_init(FutHealth *health)
{
    *health = (FutHealth){ .findings = G_QUEUE_INIT };
}

void fut_health_done(FutHealth *health)
{
    g_queue_clear_full(&health->findings, finding_free);
}

FutFinding *fut_health_find(FutHealth *health, const char *probe, const char *cause)
{
    for (GList *at = health->findings.tail; at; at = at->prev) {
        FutFinding *finding = at->data;
        if (strcmp(finding->probe, probe) == 0 && strcmp(finding->cause, cause) == 0) {
            return finding;
        }
    }
    return NULL;
}

static FutFinding *finding_new(const FutFinding *found)
{
    FutFinding *finding = g_memdup2(found, sizeof(*found));

    finding->probe = g_strdup(found->probe);
    finding->cause = g_strdup(found->cause);
    finding->means = g_strdup(found->means);
    finding->outcome = g_strdup("");
    finding->first_us = found->last_us;
    finding->count = 0;
    return finding;
}

/* Of the least bad ones the oldest. */
static GList *least(const FutHealth *health)
{
    GList *worst = health->findings.head;

    for (GList *at = worst; at; at = at->next) {
        if (fut_finding_level(at->data) < fut_finding_level(worst->data)) {
            worst = at;
        }
    }
    return worst;
}

static void make_room(FutHealth *health)
{
    while (health->findings.length >= FUT_FINDINGS_KEPT) {
        GList *gone = least(health);
        finding_free(gone->data);
        g_queue_delete_link(&health->findings, gone);
        health->forgotten++;
    }
}

FutFinding *fut_health_add(FutHealth *health, const FutFinding *found)
{
    FutFinding *finding = fut_health_find(health, found->probe, found->cause);

    if (finding) {
        g_queue_remove(&health->findings, finding);
    } else {
        make_room(health);
        finding = finding_new(found);
    }
    finding->severity = found->severity;
    finding->scope = found->scope;
    finding->last_us = found->last_us;
    finding->until_us = found->until_us;
    finding->guest_time_ns = found->guest_time_ns;
    finding->sequence = found->sequence;
    finding->vcpu = found->vcpu;
    finding->count++;
    g_queue_push_tail(&health->findings, finding);
    return finding;
}

unsigned fut_health_clear(FutHealth *health, const char *probe)
{
    unsigned count = 0;

    for (GList *at = health->findings.head, *next; at; at = next) {
        FutFinding *finding = at->data;
        next = at->next;
        if (!probe || strcmp(finding->probe, probe) == 0) {
            finding_free(finding);
            g_queue_delete_link(&health->findings, at);
            count++;
        }
    }
    return count;
}

bool fut_finding_counts(const FutFinding *finding, int64_t now_us)
{
    return finding->until_us == 0 || now_us < finding->until_us;
}

FutHealthLevel fut_finding_level(const FutFinding *finding)
{
    switch (finding->severity) {
    case FUT_SEVERITY_INFO:
        return FUT_HEALTH_GOOD;
    case FUT_SEVERITY_WARNING:
        return FUT_HEALTH_WARNING;
    case FUT_SEVERITY_ERROR:
    case FUT_SEVERITY_CRITICAL:
        return finding->scope == FUT_SCOPE_SERVICE ? FUT_HEALTH_SERVICE_FAILED
                                                   : FUT_HEALTH_SYSTEM_FAILED;
    }
    g_assert_not_reached();
}

FutHealthLevel fut_health_level(const FutHealth *health, bool watched, int64_t now_us)
{
    FutHealthLevel level = watched ? FUT_HEALTH_GOOD : FUT_HEALTH_UNKNOWN;

    for (GList *at = health->findings.head; at; at = at->next) {
        if (fut_finding_counts(at->data, now_us)) {
            FutHealthLevel own = fut_finding_level(at->data);
            level = own == FUT_HEALTH_GOOD ? level : MAX(level, own);
        }
    }
    return level;
}
