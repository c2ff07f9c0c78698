/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The probes' records of a VM as other programs can map them: RUNDIR/VM.probes (/run/futago/web.probes), read only, by who may trace
 * QEMU's process (its user, root). This header needs nothing else of Futago; the layout is x86-64's, little-endian. Version 1.
 *
 * A head, then `slots` slots of `slot_bytes`: record n is in slot n % slots. Nobody waits for a reader: who is slow loses records.
 *
 *   count = load_acquire(&head->count);
 *   for (; place < count; place++) {
 *       slot = (const char *)head + head->head_bytes + place % head->slots * head->slot_bytes;
 *       if (load_acquire(&slot->sequence) != place + 1) { lost++; continue; }
 *       copy = *slot;
 *       fence_acquire();
 *       if (load_relaxed(&slot->sequence) != place + 1) { lost++; continue; }
 *       ... copy ...
 *   }
 *   futex(&head->wake, FUTEX_WAIT, (uint32_t)count, ...);     sleeps until there is one more
 */
#ifndef FUTAGO_RECORDS_H
#define FUTAGO_RECORDS_H

#include <stdint.h>

#define FUTAGO_RECORDS_MAGIC "FUTREC1" /* with its end: 8 bytes */
#define FUTAGO_RECORDS_VERSION 1u
#define FUTAGO_RECORD_FIELDS 16u

enum {
    FUTAGO_FIELD_NONE,     /* its memory was not there */
    FUTAGO_FIELD_UNSIGNED, /* number */
    FUTAGO_FIELD_SIGNED,   /* number, as int64_t */
    FUTAGO_FIELD_POINTER,  /* number */
    FUTAGO_FIELD_TEXT      /* text */
};

struct futago_records_head {
    char magic[8];
    uint32_t version;
    uint32_t head_bytes; /* where the slots begin */
    uint32_t slot_bytes;
    uint32_t slots;
    uint64_t count; /* records ever made */
    uint32_t wake;  /* its low half, for futex */
    uint32_t zero[7];
};

struct futago_record_field {
    char label[32]; /* cut there */
    uint32_t kind;
    uint32_t zero;
    uint64_t number;
    char text[64];
};

struct futago_record {
    uint64_t sequence;      /* the record's number plus 1; 0 while it is written */
    int64_t host_time_us;   /* since 1970 */
    uint64_t guest_time_ns; /* how long the guest has run */
    uint32_t vcpu;
    uint32_t field_count;
    char probe[64];
    struct futago_record_field fields[FUTAGO_RECORD_FIELDS];
    /* Hits of this probe since its record before that left none: there were too many. */
    uint64_t skipped;
};

#endif
