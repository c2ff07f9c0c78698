/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where is a VM that was being handed over? From what both hosts say of it; NULL and {} are those that say nothing. Pure. */
#ifndef FUT_RELOCATE_JUDGE_H
#define FUT_RELOCATE_JUDGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FUT_OUTCOME_OPEN,  /* cannot be told yet */
    FUT_OUTCOME_MOVED, /* there: it runs, or its disks do */
    FUT_OUTCOME_STAYED,
    FUT_OUTCOME_ENDED /* nowhere, and its disks are whole here */
} FutOutcome;

/* Of a VM's status. */
bool fut_judge_is_primary(const json_t *status);
/* It is here, and nothing is under way. */
bool fut_judge_is_staying(const json_t *here);
/* A hand-over is under way or done, whoever ordered it. */
bool fut_judge_is_handing(const json_t *status);
/* Of what the receiver says: all images of the VM lie there, complete, and nobody serves them any more. */
bool fut_judge_all_whole(const json_t *said);
/* Only what one of the two says of itself counts; that nobody answers says nothing. `here`: status of the VM; `ended`: its QEMU is known to have
 * ended here; `said`: the receiver's answer. *stuck_ns: 0 at first, kept for the next call. */
FutOutcome fut_judge(const json_t *here, bool ended, const json_t *said, uint64_t *stuck_ns,
                     uint64_t now_ns);

#endif
