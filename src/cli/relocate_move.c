/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_move.h"

#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cli_process.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "relocate_judge.h"
#include "relocate_record.h"

#define ALONE_MS 30000

/* -- telling -- */

static void tell(const FutMove *move, json_t *take_line)
{
    json_object_set_new(take_line, "vm", json_string(move->vm));
    char *text = json_dumps(take_line, JSON_COMPACT);
    g_autofree char *line = g_strdup_printf("%s\n", text);

    if (write(move->out_fd, line, strlen(line)) < 0) {
        /* nobody looks any more */
    }
    free(text);
    json_decref(take_line);
}

void fut_move_tell(const FutMove *move, const char *phase, double share, double rate,
                   const char *text)
{
    tell(move, json_pack("{s:s, s:f, s:f, s:s}", "phase", phase, "share", share, "rate", rate,
                         "text", text));
}

void fut_move_tell_end(const FutMove *move, const char *outcome, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    tell(move, json_pack("{s:s, s:s, s:s}", "phase", "end", "outcome", outcome, "text", valid));
}

/* -- the VM here -- */

/* Another QEMU of that name is another VM to us: it may have moved on and come back. */
static bool has_ended(const FutMove *move)
{
    return move->qemu && fut_process_birth(move->qemu) != move->qemu_birth;
}

json_t *fut_move_ask(const FutMove *move, const char *verb, json_t *take_args, GError **error)
{
    bool ended = has_ended(move);
    g_autoptr(FutControlClient) client = ended ? NULL : fut_control_connect(move->vm, error);

    if (ended) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "its QEMU has ended here");
    }
    if (!client) {
        json_decref(take_args);
        return NULL;
    }
    return fut_control_call(client, verb, take_args, FUT_MOVE_STATUS_MS, error);
}

bool fut_move_order(const FutMove *move, const char *verb, json_t *take_args, GError **error)
{
    json_t *result = fut_move_ask(move, verb, take_args, error);

    json_decref(result);
    return result != NULL;
}

bool fut_move_state_is(const json_t *status, const char *state)
{
    return strcmp(fut_cli_text(status, "state"), state) == 0;
}

bool fut_move_await_alone(const FutMove *move, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + ALONE_MS * FUT_NS_PER_MS;

    for (;;) {
        json_t *status = fut_move_ask(move, "status", NULL, error);
        bool alone = status && fut_move_state_is(status, "alone");
        bool late = fut_now_ns() > deadline_ns || fut_judge_is_handing(status);
        if (status && !alone && late) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                        "the VM is still bound to a twin (state %s): %s",
                        fut_cli_text(status, "state"), fut_cli_text(status, "reason"));
        }
        json_decref(status);
        if (alone || late || !status) {
            return alone;
        }
        g_usleep(FUT_MOVE_LOOK_EVERY_US);
    }
}

/* -- the other host -- */

bool fut_move_call(FutMove *move, GError **error)
{
    g_clear_pointer(&move->talk, fut_talk_free);
    move->talk = fut_talk_connect(move->how->to, move->tls, FUT_MOVE_CALL_MS, error);
    return move->talk != NULL;
}

/* -- the record -- */

json_t *fut_move_coded(const char *text)
{
    g_autofree char *code = text ? g_base64_encode((const guchar *)text, strlen(text)) : NULL;

    return code ? json_string(code) : json_null();
}

bool fut_move_note(const FutMove *move, GError **error)
{
    g_autofree char *to = fut_address_text(move->how->to);
    json_t *disks = json_array();

    for (size_t i = 0; i < move->count; i++) {
        const FutExport *disk = &move->disks[i];
        json_array_append_new(disks,
                              json_pack("{s:s, s:o, s:I, s:I}", "name", disk->name, "image",
                                        fut_move_coded(disk->image), "pid", (json_int_t)disk->pid,
                                        "birth", (json_int_t)disk->birth));
    }
    json_t *content =
        json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:I, s:I, s:o}", "vm", move->vm, "to", to,
                  "bound", move->bound, "tls", fut_move_coded(move->spec), "tls_name",
                  fut_move_coded(move->user), "twin", fut_move_coded(move->twin), "protect_to",
                  fut_move_coded(move->how->protect_to), "qemu", (json_int_t)move->qemu, "birth",
                  (json_int_t)move->qemu_birth, "disks", disks);
    return fut_record_write(move->record, content, error);
}

void fut_move_done(FutMove *move)
{
    for (size_t i = 0; i < move->count; i++) {
        fut_export_done(&move->disks[i]);
    }
    g_free(move->disks);
    g_ptr_array_unref(move->words);
    fut_talk_free(move->talk);
    fut_tls_unref(move->tls);
    g_free(move->spec);
    g_free(move->user);
    g_free(move->twin);
}
