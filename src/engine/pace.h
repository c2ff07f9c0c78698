/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Epoch control: when to cut. A lone output is cut at once; under load outputs wait for company, at most batch_max, unless
 * they are the acknowledgements of a bulk transfer into the guest; no epoch is longer than epoch_max. While checkpoints are under way
 * the next waits for their acknowledgement, or over a long link for gap_ns after the last cut for each of them: many are under way then, and over
 * a short link the acknowledgement is quicker. Pure: time is handed in. Not locked: the engine's lock
 * covers it. */
#ifndef FUT_PACE_H
#define FUT_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The quickest of so many acknowledgements, and of up to as many again, says how long the link is. */
#define FUT_PACE_COMMITS 16

typedef struct {
    uint64_t epoch_max_ns, batch_max_ns, gap_ns;
    uint64_t last_cut_ns;     /* when the guest began to run in this epoch */
    uint64_t first_output_ns; /* when the oldest output of the running epoch was made; 0 = none */
    unsigned outputs;         /* made in the running epoch */
    double load;              /* outputs a checkpoint, moving mean */
    uint64_t input_bytes;     /* came in during the running epoch */
    double input_load;        /* bytes that came in a checkpoint, moving mean */
    /* From a cut to its acknowledgement: the quickest of those counted now, and of the FUT_PACE_COMMITS before; 0: none yet. */
    uint64_t quickest_ns, quickest_before_ns;
    unsigned commits; /* counted now */
} FutPace;

void fut_pace_start(FutPace *pace, uint64_t now_ns);
/* An output was made. */
void fut_pace_output(FutPace *pace, uint64_t now_ns);
/* A packet of so many bytes came in. */
void fut_pace_input(FutPace *pace, size_t bytes);
/* The epoch was cut. */
void fut_pace_cut(FutPace *pace, uint64_t now_ns);
/* A checkpoint was acknowledged so long after its cut. */
void fut_pace_commit(FutPace *pace, uint64_t took_ns);
/* The guest goes on after it was left stopped: only what it runs counts as the epoch's length. */
void fut_pace_resume(FutPace *pace, uint64_t now_ns);
/* May one be cut while so many are under way? fut_pace_due() says when. */
bool fut_pace_may_cut(const FutPace *pace, uint64_t under_way);
/* Should a checkpoint be cut now? `idle`: the guest has nothing else to do. */
bool fut_pace_due(const FutPace *pace, uint64_t under_way, bool idle, uint64_t now_ns);
/* Outputs come one at a time, and nothing else comes in much: somebody waits for each. */
bool fut_pace_alone(const FutPace *pace);
/* Many outputs share a checkpoint, and each waits for company. */
bool fut_pace_busy(const FutPace *pace);
/* When fut_pace_due() becomes true by itself. */
uint64_t fut_pace_deadline(const FutPace *pace, uint64_t under_way);

#endif
