/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's TCP connections, learned from what passes its NICs: at most FUT_FLOWS_MAX, those used last. Who floods the guest from outside
 * does not push any out: only what the guest itself sends makes an entry. Constant time a packet, no allocation. Not locked. */
#ifndef FUT_FLOW_TABLE_H
#define FUT_FLOW_TABLE_H

#include "flow_frame.h"

#define FUT_FLOWS_MAX 1024

typedef struct FutFlowTable FutFlowTable;

FutFlowTable *fut_flow_table_new(void);
void fut_flow_table_free(FutFlowTable *table);
/* A segment passes. */
void fut_flow_table_see(FutFlowTable *table, FutEnd from, const FutFlow *flow,
                        const FutSegment *segment);
/* It is there, or is not any more, whatever was seen. */
void fut_flow_table_add(FutFlowTable *table, const FutFlow *flow);
void fut_flow_table_remove(FutFlowTable *table, const FutFlowKey *key);
/* Connections that are not known to be closed, used last first. Returns how many. */
unsigned fut_flow_table_list(const FutFlowTable *table, FutFlow ret[FUT_FLOWS_MAX]);

#endif
