/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a snapshot's TCP connections when the guest runs from it again. The guest is as old as the snapshot, its peers went on or
 * are gone.
 *
 * Each end is asked where it stands: a SYN in an established connection is answered by an acknowledgement with the sender's next sequence
 * number and the next that it expects (RFC 5961, section 4), which changes nothing. The guest is asked as if by its peer, the peer as if by the
 * guest. Until a connection is judged none of its segments passes.
 * - The peer has not received more than the guest has sent, and has sent no more than the guest has received: it goes on. What the peer misses
 *   the guest still has, for it cannot be acknowledged.
 * - The peer has sent more: it goes on if the peer sends that again, which is watched for; else it had been acknowledged, and is lost.
 * - Otherwise, and when one end does not know the connection or the peer does not answer: both are reset with exactly the sequence number
 *   that each expects.
 * Nothing is sent that is not of a connection of the list. Numbers wrap: RFC 1982. Not locked. */
#ifndef FUT_FLOW_CHECK_H
#define FUT_FLOW_CHECK_H

#include <glib.h>

#include "flow_table.h"

/* Frames that leave at a time, and how long after that the next may. */
#define FUT_FLOW_BURST 64u
#define FUT_FLOW_PAUSE_NS (10u * 1000 * 1000)

typedef struct FutFlowCheck FutFlowCheck;

typedef struct {
    FutEnd to;
    uint16_t nic;
    size_t length;
    uint8_t bytes[FUT_FLOW_FRAME_MAX];
} FutFlowFrame;

typedef enum {
    FUT_FLOW_KEPT,
    FUT_FLOW_RESET,  /* they do not agree, or one end does not know it */
    FUT_FLOW_SILENT, /* the peer does not answer: the guest's end was reset */
    FUT_FLOW_LEFT,   /* the guest does not answer: nothing was done */
    FUT_FLOW_VERDICTS
} FutFlowVerdict;

/* `alone`: only the guest is asked, and reset; nothing is sent to a peer. */
FutFlowCheck *fut_flow_check_new(const FutFlow *flows, unsigned count, bool alone, uint64_t now_ns);
void fut_flow_check_free(FutFlowCheck *check);
/* A segment is on its way. True: it must not arrive. */
bool fut_flow_check_see(FutFlowCheck *check, FutEnd from, const FutFlow *flow,
                        const FutSegment *segment, uint64_t now_ns);
/* What is to be sent now; false: nothing. To be asked until then after each segment that was seen, and at the deadline. */
bool fut_flow_check_next(FutFlowCheck *check, uint64_t now_ns, FutFlowFrame *ret);
/* UINT64_MAX: all is over. */
uint64_t fut_flow_check_deadline(const FutFlowCheck *check);
/* How many came to that end so far. */
unsigned fut_flow_check_count(const FutFlowCheck *check, FutFlowVerdict verdict);
/* The next connection that was judged and not told yet; false: none. */
bool fut_flow_check_judged(FutFlowCheck *check, FutFlowKey *ret, FutFlowVerdict *ret_verdict);

typedef enum {
    FUT_FLOW_GO_ON,
    FUT_FLOW_WATCH,
    FUT_FLOW_BREAK
} FutFlowJudgement;
/* Each end's next sequence number, and the next it expects. Pure. */
FutFlowJudgement fut_flow_judge(const uint32_t sends[2], const uint32_t expects[2]);

#endif
