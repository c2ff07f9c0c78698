/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Epoch control: when to cut. */
#include "pace.h"

#include <sys/param.h>

/* More outputs a checkpoint than this is load: then waiting for company pays. */
#define LOAD_THRESHOLD 1.5
/* More bytes that come in for each output than this are a bulk transfer: its outputs are few, and the sender's window waits for
 * each. With two to a window it would stand still between one pair and the next. */
#define BULK_BYTES_PER_OUTPUT 16384
/* So many are under way at once in a bulk transfer into the guest: its sender's window waits for each acknowledgement. */
#define BULK_WINDOW 3
/* An acknowledgement never quicker than this: a long link. */
#define LONG_COMMIT_GAPS 4
/* Weight of the newest checkpoint in the moving mean. */
#define LOAD_WEIGHT 0.1

void fut_pace_start(FutPace *pace, uint64_t now_ns)
{
    pace->last_cut_ns = now_ns;
    pace->first_output_ns = 0;
    pace->outputs = 0;
    pace->load = 0;
    pace->input_bytes = 0;
    pace->input_load = 0;
    pace->quickest_ns = UINT64_MAX;
    pace->quickest_before_ns = 0;
    pace->commits = 0;
}

void fut_pace_output(FutPace *pace, uint64_t now_ns)
{
    if (pace->outputs++ == 0) {
        pace->first_output_ns = now_ns;
    }
}

void fut_pace_input(FutPace *pace, size_t bytes)
{
    pace->input_bytes += bytes;
}

void fut_pace_cut(FutPace *pace, uint64_t now_ns)
{
    pace->load += LOAD_WEIGHT * (pace->outputs - pace->load);
    pace->input_load += LOAD_WEIGHT * ((double)pace->input_bytes - pace->input_load);
    pace->input_bytes = 0;
    pace->last_cut_ns = now_ns;
    pace->first_output_ns = 0;
    pace->outputs = 0;
}

void fut_pace_commit(FutPace *pace, uint64_t took_ns)
{
    pace->quickest_ns = MIN(pace->quickest_ns, took_ns);
    if (++pace->commits == FUT_PACE_COMMITS) {
        pace->quickest_before_ns = pace->quickest_ns;
        pace->quickest_ns = UINT64_MAX;
        pace->commits = 0;
    }
}

void fut_pace_resume(FutPace *pace, uint64_t now_ns)
{
    pace->last_cut_ns = now_ns;
}

static bool bulk_input(const FutPace *pace)
{
    return pace->input_load > pace->load * BULK_BYTES_PER_OUTPUT;
}

/* Not the mean: a host with too little of a processor is slow at times, and more checkpoints would make that worse. */
static bool long_link(const FutPace *pace)
{
    return pace->gap_ns == 0 ||
           MIN(pace->quickest_ns, pace->quickest_before_ns) > pace->gap_ns * LONG_COMMIT_GAPS;
}

bool fut_pace_alone(const FutPace *pace)
{
    return pace->load <= LOAD_THRESHOLD && !bulk_input(pace);
}

bool fut_pace_busy(const FutPace *pace)
{
    return pace->load > LOAD_THRESHOLD && !bulk_input(pace);
}

bool fut_pace_may_cut(const FutPace *pace, uint64_t under_way)
{
    return under_way == 0 || long_link(pace) || (bulk_input(pace) && under_way < BULK_WINDOW);
}

/* Not before. */
static uint64_t earliest(const FutPace *pace, uint64_t under_way)
{
    bool at_once = bulk_input(pace) && under_way < BULK_WINDOW;
    return at_once ? 0 : pace->last_cut_ns + under_way * pace->gap_ns;
}

uint64_t fut_pace_deadline(const FutPace *pace, uint64_t under_way)
{
    uint64_t longest = pace->last_cut_ns + pace->epoch_max_ns;
    uint64_t company = fut_pace_busy(pace) ? pace->batch_max_ns : 0;
    uint64_t batch = pace->outputs > 0 ? pace->first_output_ns + company : UINT64_MAX;
    return MAX(MIN(batch, longest), earliest(pace, under_way));
}

bool fut_pace_due(const FutPace *pace, uint64_t under_way, bool idle, uint64_t now_ns)
{
    if (idle && pace->outputs > 0) {
        return now_ns >= earliest(pace, under_way);
    }
    return now_ns >= fut_pace_deadline(pace, under_way);
}
