/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What follows from a probe's record: a finding in the VM's health, a line among its events, and the probe's actions. Programs run in
 * threads of their own, FUT_REACT_PROGRAMS at a time; neither the guest, nor the control socket, nor a deed on the VM waits for one. What
 * stands behind a snapshot begins when that has ended, well or not: it may end the VM. Nothing else waits for a snapshot. Of one probe
 * so many records have actions at once and then one every FUT_REACT_EVERY_S; the others are counted and told of.
 *
 * A program gets "PATH PROBE VM", and in its environment FUTAGO_VM, _NODE, _PROBE, _SEVERITY, _SCOPE, _CAUSE, _TIME (seconds since 1970),
 * _GUEST_TIME (seconds), _SEQUENCE, _VCPU, and FUTAGO_FIELD_LABEL for each field. What the guest has put into these is not to be trusted.
 */
#ifndef FUT_REACT_H
#define FUT_REACT_H

#include "health.h"
#include "policy.h"
#include "record_ring.h"

#define FUT_REACT_PROGRAMS 4
#define FUT_REACT_WAITING 16u     /* programs that wait for their turn; more are not run */
#define FUT_REACT_SNAPSHOT_S 600u /* longest wait for a snapshot before what follows it */
#define FUT_REACT_BURST 5u
#define FUT_REACT_EVERY_S 10u

/* What it does with the VM; any thread, may block for some milliseconds. */
typedef struct {
    void (*report)(void *opaque, const char *id, const char *text);
    FutSituation (*situation)(void *opaque);
    bool (*failover)(void *opaque, GError **error);
    /* Takes one and waits for its end, up to FUT_REACT_SNAPSHOT_S; its number in the store is returned. `store` may be NULL: where the last
     * one went. NULL: there are none here. */
    bool (*snapshot)(void *opaque, const char *store, const char *reason, uint64_t *ret_id,
                     GError **error);
    void (*stop)(void *opaque);
} FutReactOps;

typedef struct FutReact FutReact;

/* vm, node: copied. */
FutReact *fut_react_new(const FutReactOps *ops, void *opaque, const char *vm, const char *node);
/* Waits for what is under way. */
void fut_react_free(FutReact *react);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FutReact, fut_react_free)

/* May a probe with these keys be put in: can its programs be run, and its actions be carried out here? Any thread. */
bool fut_react_check(const FutReact *react, const FutProbeKeys *keys, GError **error);
/* One thread. `lost`: records before this one that are gone. A probe that says neither severity= nor on= has no consequences. */
void fut_react_take(FutReact *react, const FutProbeRecord *record, uint64_t lost);

/* -- the health; hold it as shortly as possible; any thread -- */
FutHealth *fut_react_lock(FutReact *react, uint64_t *ret_lost);
void fut_react_unlock(FutReact *react);

#endif
