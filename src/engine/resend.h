/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Outputs inside a checkpoint. An epoch's outputs leave when it is committed; a primary that dies just then takes them
 * with it, and the peers wait for a retransmission timer (200 ms and more). So a checkpoint carries its epoch's first
 * outputs along, and a twin sends those of its last committed epoch again. Seen twice they do no harm (NTT 2007: double
 * transmission after failover).
 *
 * A sequence of records, little-endian: u32 length, u32 nic, u32 flags, then the packet. */
#ifndef FUT_RESEND_H
#define FUT_RESEND_H

#include <glib.h>

#include "fut_buf.h"
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

#endif
