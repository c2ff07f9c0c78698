/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a move ends: where is the VM, and what is to be done for that. */
#include "relocate_move.h"

#include <string.h>

#include "cli.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "relocate_judge.h"

#define ABANDON_MS 60000
/* A hand-over that is not decided by then is told of as unknown. */
#define UNKNOWN_NS (45 * FUT_NS_PER_S)
/* A VM that has ended there, and no server of its disks: one that died has been started anew by then. */
#define GONE_NS (60 * FUT_NS_PER_S)

/* -- where it is -- */

void fut_move_sync(const FutMove *move)
{
    for (size_t i = 0; i < move->count; i++) {
        g_autoptr(GError) error = NULL;
        if (!fut_export_sync(&move->disks[i], &error)) {
            fut_move_tell(move, "switching", 1, 0, error->message);
        }
    }
}

/* NULL: it cannot be asked now; it is called again for the next time. */
static json_t *ask_receiver(FutMove *move)
{
    json_t *result = move->talk ? fut_talk_call(move->talk, "status",
                                                json_pack("{s:s, s:I}", "vm", move->vm, "disks",
                                                          (json_int_t)move->count),
                                                FUT_MOVE_STATUS_MS, NULL)
                                : NULL;

    if (!result) {
        fut_move_call(move, NULL);
    }
    return result;
}

static FutOutcome look_once(FutMove *move)
{
    g_autoptr(GError) fault = NULL;
    json_t *here = fut_move_ask(move, "status", NULL, &fault);
    json_t *said = ask_receiver(move);
    bool ended = g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE);
    FutOutcome outcome = fut_judge(here, ended, said, &move->stuck_ns, fut_now_ns());

    json_decref(here);
    json_decref(said);
    return outcome;
}

/* Does not give up: somebody has to end the exports. */
int fut_move_await_outcome(FutMove *move)
{
    uint64_t begin_ns = fut_now_ns();
    bool told = false;
    FutOutcome outcome;

    while ((outcome = look_once(move)) == FUT_OUTCOME_OPEN) {
        if (!told && fut_now_ns() - begin_ns > UNKNOWN_NS) {
            told = true;
            fut_move_tell_end(
                move, "unknown",
                "neither host says that it runs the VM: look with futago status on both; its "
                "disks stay exported here until one does. Images of it that nobody serves at "
                "the other host have what it wrote last: start their servers anew");
        }
        g_usleep(FUT_MOVE_LOOK_EVERY_US / 4);
    }
    return outcome;
}

/* -- it is there -- */

static bool all_complete(const json_t *disks, double *ret_share, double *ret_rate,
                         const char **ret_text)
{
    double here = 0, size = 0;
    bool complete = true;
    size_t i;
    json_t *disk;

    *ret_rate = 0;
    *ret_text = "";
    json_array_foreach(disks, i, disk)
    {
        here += fut_cli_value(disk, "here");
        size += fut_cli_value(disk, "size");
        *ret_rate += fut_cli_value(disk, "rate");
        bool this = fut_move_state_is(disk, "complete");
        *ret_text = this ? *ret_text : fut_cli_text(disk, "state");
        complete = complete && this;
    }
    *ret_share = size > 0 ? here / size : 1;
    return complete;
}

/* False: the VM ended there before they were seen to be complete. */
static bool follow_disks(FutMove *move)
{
    uint64_t there_ns = fut_now_ns();

    for (;;) {
        json_t *said = ask_receiver(move);
        const json_t *disks = json_object_get(said, "disks");
        double share = 0, rate = 0;
        const char *text = said ? "" : "the other host does not answer";
        bool known = said && json_array_size(disks) == move->count;
        bool complete = (known && all_complete(disks, &share, &rate, &text)) ||
                        json_is_true(json_object_get(said, "complete")) ||
                        fut_judge_all_whole(said);
        bool missing = said && !known && json_is_null(json_object_get(said, "vm"));
        there_ns = missing ? there_ns : fut_now_ns();
        move->seen = move->seen || fut_judge_is_primary(json_object_get(said, "vm"));
        bool gone = fut_now_ns() - there_ns > GONE_NS;
        fut_move_tell(move, "disks", complete ? 1 : share, rate, text);
        json_decref(said);
        if (complete || gone) {
            return complete;
        }
        g_usleep(2 * FUT_MOVE_LOOK_EVERY_US);
    }
}

static void stop_exports(FutMove *move)
{
    for (size_t i = 0; i < move->count; i++) {
        fut_export_stop(&move->disks[i]);
    }
}

void fut_move_finish(FutMove *move)
{
    g_autofree char *twin =
        move->twin ? g_strdup_printf("; its twin at %s is needed no more: stop it", move->twin)
                   : g_strdup("");
    g_autoptr(GError) error = NULL;

    fut_move_sync(move);
    if (move->how->protect_to) {
        json_t *args = json_pack("{s:s, s:s}", "vm", move->vm, "to", move->how->protect_to);
        bool called = move->talk || fut_move_call(move, &error);
        json_decref(called ? fut_talk_call(move->talk, "protect", json_incref(args),
                                           FUT_MOVE_CALL_MS, &error)
                           : NULL);
        json_decref(args);
    }
    bool complete = follow_disks(move);
    stop_exports(move);
    fut_move_order(move, "stop", NULL, NULL);
    const char *what = !complete     ? "it has ended there, and its disks were not seen to be "
                                       "complete: what they lack is in the images here"
                       : !move->seen ? "its QEMU has ended at both hosts; its disks are whole there"
                                     : "everything is there";
    g_autofree char *text =
        g_strdup_printf("%s%s%s%s%s", error ? "it is not protected there: " : "",
                        error ? error->message : "", error ? "; " : "", what, twin);
    fut_move_tell_end(move, complete && move->seen ? "moved" : "ended", text);
}

/* -- it stays -- */

/* Back to where it was, as far as that can be told. False: it is, or may have been, handed over: nothing of it may end here before that is
 * decided. */
static bool stay(FutMove *move, const char *why)
{
    g_autoptr(GError) fault = NULL;

    if (move->parted) {
        fut_move_order(move, "unprotect", NULL, NULL);
        fut_move_await_alone(move, NULL);
    }
    json_t *status = fut_move_ask(move, "status", NULL, &fault);
    bool runs = fut_judge_is_staying(status),
         ended = g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE);

    json_decref(status);
    if (move->bound && !runs && !ended) {
        return false;
    }
    if (move->prepared && move->talk) {
        json_decref(fut_talk_call(move->talk, "abandon", NULL, ABANDON_MS, NULL));
    }
    stop_exports(move);
    if (runs && move->parted && move->twin && *move->twin) {
        fut_move_order(move, "protect", json_pack("{s:s}", "to", move->twin), NULL);
    }
    const char *more =
        runs || (ended && !move->qemu) ? ""
        : ended                        ? "; its QEMU has ended here, its disks are whole here"
                : "; what became of it is not known: look with futago status on both hosts";
    g_autofree char *text = g_strconcat(why, more, NULL);
    fut_move_tell_end(move, ended ? "ended" : runs ? "stayed" : "unknown", text);
    return true;
}

/* Until it is decided where the VM is, and what is to be done for that is done. */
void fut_move_bring_to_end(FutMove *move, const char *why)
{
    while (!why || !stay(move, why)) {
        switch (fut_move_await_outcome(move)) {
        case FUT_OUTCOME_MOVED:
            fut_move_finish(move);
            return;
        case FUT_OUTCOME_STAYED:
            why = "it could not be handed over: see futago events";
            break;
        default:
            why = "it ended while it was handed over, and nothing of it is at the other host";
            break;
        }
    }
}
