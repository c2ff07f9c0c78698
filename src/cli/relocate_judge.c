/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_judge.h"

#include <string.h>

#include "cli.h"
#include "fut_clock.h"

/* A receiver that lives has put away by then what is of no use. */
#define STUCK_NS (60 * FUT_NS_PER_S)

static bool state_is(const json_t *status, const char *state)
{
    return strcmp(fut_cli_text(status, "state"), state) == 0;
}

bool fut_judge_is_primary(const json_t *status)
{
    return strcmp(fut_cli_text(status, "role"), "primary") == 0;
}

bool fut_judge_is_handing(const json_t *status)
{
    static const char *const states[] = { "handing", "asking", "fenced", NULL };

    return fut_judge_is_primary(status) && json_is_true(json_object_get(status, "moving")) &&
           g_strv_contains(states, fut_cli_text(status, "state"));
}

bool fut_judge_all_whole(const json_t *said)
{
    json_int_t images = json_integer_value(json_object_get(said, "images"));

    return images > 0 && json_integer_value(json_object_get(said, "whole")) == images;
}

bool fut_judge_is_staying(const json_t *here)
{
    static const char *const staying[] = { "alone",    "connecting", "greeting",  "copying",
                                           "settling", "protecting", "protected", NULL };

    return fut_judge_is_primary(here) && json_is_true(json_object_get(here, "running")) &&
           g_strv_contains(staying, fut_cli_text(here, "state"));
}

/* Its QEMU has ended here, and there is none there: what is left of its disks there tells where it was last. */
static FutOutcome judge_ended(const json_t *said, uint64_t *stuck_ns, uint64_t now_ns)
{
    const json_t *disks = json_object_get(said, "disks"), *images = json_object_get(said, "images");
    size_t asleep = 0, silent = 0, i;
    json_t *disk;

    json_array_foreach(disks, i, disk)
    {
        asleep += state_is(disk, "asleep");
        silent += state_is(disk, "");
    }
    if (fut_judge_all_whole(said) || json_array_size(disks) > asleep + silent) {
        return FUT_OUTCOME_MOVED;
    }
    if (json_is_integer(images) && json_integer_value(images) == 0 && json_array_size(disks) == 0) {
        return FUT_OUTCOME_ENDED;
    }
    /* Its receiver removes what the guest has not written to, or was killed before it could. */
    bool stuck = asleep > 0 && silent == 0;
    *stuck_ns = !stuck ? 0 : *stuck_ns ? *stuck_ns : now_ns;
    return stuck && now_ns - *stuck_ns > STUCK_NS ? FUT_OUTCOME_ENDED : FUT_OUTCOME_OPEN;
}

FutOutcome fut_judge(const json_t *here, bool ended, const json_t *said, uint64_t *stuck_ns,
                     uint64_t now_ns)
{
    const json_t *there = json_object_get(said, "vm");

    if (fut_judge_is_primary(there)) {
        return FUT_OUTCOME_MOVED;
    }
    if (fut_judge_is_staying(here)) {
        return FUT_OUTCOME_STAYED;
    }
    if (ended && json_is_null(there)) {
        return judge_ended(said, stuck_ns, now_ns);
    }
    *stuck_ns = 0;
    bool idle = state_is(there, "waiting") || state_is(there, "failed");
    return ended && idle ? FUT_OUTCOME_ENDED : FUT_OUTCOME_OPEN;
}
