/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Outputs inside a checkpoint. An epoch's outputs leave when it is committed; a primary that dies just then takes them
 * with it, and the peers wait for a retransmission timer (200 ms and more). So a checkpoint carries its epoch's first
 * outputs along, and a twin keeps those of its committed epochs until it is told, by a later checkpoint, that they have left. What it
 * still has when it takes over it sends again, in order. Seen twice they do no harm (NTT 2007: double transmission after failover).
 *
 * A sequence of records, little-endian: u32 length, u32 nic, u32 flags, then the packet. */
#ifndef FUT_RESEND_H
#define FUT_RESEND_H

#include <glib.h>

#include "fut_buf.h"
#include "pair.h"
#include "vmm.h"

#define FUT_RESEND_HEAD 12
/* All records of a checkpoint; a busy guest's further outputs are left to the peers' retransmission. */
#define FUT_RESEND_MAX (16u << 10)

/* Appends a record. False when `used` bytes of records leave no room for it. */
bool fut_resend_put(FutBuf *out, size_t used, const FutPacket *packet);
/* FUT_ERR_PEER for anything that is not a sequence of whole records of FUT_RESEND_MAX bytes at most. */
bool fut_resend_check(const uint8_t *records, size_t length, GError **error);
/* The packets of records that were checked, in order. The caller owns the list. */
FutPacket *fut_resend_packets(const uint8_t *records, size_t length);

/* -- what a twin keeps -- */

/* Of so many epochs at most; of a primary that tells of none the oldest go. */
#define FUT_KEPT_MAX FUT_PAIR_WINDOW_MAX

/* All zero: nothing. Not locked. */
typedef struct {
    FutBuf records; /* of all epochs, in order */
    struct {
        uint64_t epoch;
        size_t length;
    } part[FUT_KEPT_MAX];
    unsigned count;
} FutKept;

/* The records, which were checked, of an epoch above all that are kept. */
void fut_kept_add(FutKept *kept, uint64_t epoch, const uint8_t *records, size_t length);
/* Those of epochs <= upto are not needed any more. */
void fut_kept_drop(FutKept *kept, uint64_t upto);
void fut_kept_clear(FutKept *kept);
void fut_kept_done(FutKept *kept);

#endif
