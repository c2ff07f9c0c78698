/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections as bytes, as a snapshot keeps them. Little-endian: version u32 (1), count u32, then `count` records:
 * nic, tag u16; family u8, reserved u8 (0); MAC of guest, of peer; port of guest, of peer u16; address of guest, of peer
 * (4 or 16 bytes each, by family). */
#ifndef FUT_FLOW_LIST_H
#define FUT_FLOW_LIST_H

#include <glib.h>

#include "flow_table.h"
#include "fut_buf.h"

void fut_flow_list_encode(FutBuf *buf, const FutFlow *flows, unsigned count);
/* At most FUT_FLOWS_MAX into `ret`; *ret_count. FUT_ERR_UNSUPPORTED: a later version; FUT_ERR_IO: it does not hold. */
bool fut_flow_list_decode(const uint8_t *bytes, size_t length, FutFlow ret[FUT_FLOWS_MAX],
                          unsigned *ret_count, GError **error);

#endif
