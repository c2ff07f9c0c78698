/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's TCP connections: learned from all that passes its NICs, kept in each snapshot, checked when the guest runs from one
 * (flow/flow_check.h). One lock, the last of all: it is held for a look at a packet, never while the VMM is called. */
#ifndef FUT_FLOWS_H
#define FUT_FLOWS_H

#include "flow_check.h"
#include "frame.h"
#include "vmm.h"

/* After a restore. */
typedef enum {
    FUT_CONNECTIONS_CHECK, /* those that cannot go on are reset */
    FUT_CONNECTIONS_KEEP,  /* nothing is done */
    FUT_CONNECTIONS_END    /* the guest's ends are reset; nothing is sent to its peers */
} FutConnections;

typedef struct {
    GMutex lock;
    GCond changed; /* the check may have something to send, or is to end */
    FutFlowTable *table;
    FutFlowCheck *check; /* NULL: none is under way */
} FutFlows;

void fut_flows_init(FutFlows *flows);
void fut_flows_done(FutFlows *flows);
/* As fut_flow_table_list(). Any thread. */
unsigned fut_flows_list(FutFlows *flows, FutFlow ret[FUT_FLOWS_MAX]);

/* Backup: a packet that the primary's guest received, or sent (records that were checked, resend.h), so that the twin knows of its connections. The link
 * thread. */
void fut_flows_learn(FutEngine *engine, uint32_t nic, bool out, const uint8_t *packet,
                     size_t length);
void fut_flows_learn_outputs(FutEngine *engine, const uint8_t *records, size_t length);

/* Primary, when the first epoch of a session begins: the backup gets the list of them. The thread that carries out actions. */
void fut_flows_share(FutEngine *engine);
/* Backup: such a list, checked and then taken in place of what was known. */
bool fut_flows_check(const FutFrame *frame, GError **error);
void fut_flows_keep(FutEngine *engine, const FutFrame *frame);

/* Before the guest runs from a snapshot with these connections (as it has them; NULL: it knows of none). From then on none of their
 * segments passes until fut_flows_work() has judged it. Error: there is nothing to go by, and nothing is done. */
bool fut_flows_begin(FutEngine *engine, GBytes *bytes, FutConnections what, GError **error);
typedef struct {
    unsigned count[FUT_FLOW_VERDICTS];
} FutFlowCounts;
/* The guest runs: asks, judges and resets; returns when all are judged. A thread of its own, without locks. False: there was nothing to do. */
bool fut_flows_work(FutEngine *engine, FutFlowCounts *ret);

#endif
