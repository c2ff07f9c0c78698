/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A move that another process has begun, from its record. */
#include <signal.h>

#include "cli.h"
#include "relocate_judge.h"
#include "relocate_move.h"
#include "relocate_record.h"
#include "relocate_vm.h"

/* Caller frees; NULL: there is none. */
static char *text_in(const json_t *content, const char *key)
{
    const char *code = json_string_value(json_object_get(content, key));
    gsize length = 0;
    g_autofree guchar *bytes = code && *code ? g_base64_decode(code, &length) : NULL;

    return bytes ? g_strndup((char *)bytes, length) : NULL;
}

static void take_export(FutExport *disk, const json_t *content)
{
    *disk = (FutExport){
        .fd = -1,
        .name = g_strdup(fut_cli_text(content, "name")),
        .image = text_in(content, "image"),
        .pid = (pid_t)json_integer_value(json_object_get(content, "pid")),
        .birth = (uint64_t)json_integer_value(json_object_get(content, "birth")),
    };
}

static bool take_content(FutMove *move, FutRelocate *how, const json_t *content, GError **error)
{
    const json_t *disks = json_object_get(content, "disks");

    how->to = fut_address_parse(fut_cli_text(content, "to"), error);
    move->spec = text_in(content, "tls");
    move->user = text_in(content, "tls_name");
    move->twin = text_in(content, "twin");
    how->protect_to = text_in(content, "protect_to");
    move->bound = json_is_true(json_object_get(content, "bound"));
    move->qemu = (pid_t)json_integer_value(json_object_get(content, "qemu"));
    move->qemu_birth = (uint64_t)json_integer_value(json_object_get(content, "birth"));
    move->disks = g_new0(FutExport, json_array_size(disks));
    for (; move->count < json_array_size(disks); move->count++) {
        take_export(&move->disks[move->count], json_array_get(disks, move->count));
    }
    move->tls = how->to && move->spec ? fut_tls_new(move->spec, move->user, error) : NULL;
    return how->to && (move->tls || !move->spec);
}

/* It is protected as an ordinary VM meanwhile, by whomever: that is left alone. */
static bool is_bound_by_us(const FutMove *move)
{
    json_t *status = fut_move_ask(move, "status", NULL, NULL);
    bool ours =
        fut_move_state_is(status, "alone") || json_is_true(json_object_get(status, "moving"));

    json_decref(status);
    return ours;
}

/* False: nothing was done, nor can be told. */
bool fut_move_follow(const char *vm, const json_t *content, int out_fd, GError **error)
{
    static const char why[] = "the process that moved it was killed";
    FutRelocate how = { 0 };
    FutMove move = { .how = &how, .vm = vm, .out_fd = out_fd, .record = -1 };

    move.words = g_ptr_array_new_with_free_func(g_free);
    fut_move_tell(&move, "switching", 1, 0, why);
    bool ok = take_content(&move, &how, content, error);
    if (ok && move.bound && fut_move_await_outcome(&move) == FUT_OUTCOME_MOVED) {
        fut_move_finish(&move);
    } else if (ok) {
        move.parted = is_bound_by_us(&move);
        fut_move_bring_to_end(&move, why);
    } else {
        g_prefix_error(error, "an earlier move of it cannot be followed: ");
        fut_move_tell_end(&move, "unknown", (*error)->message);
    }
    fut_move_done(&move);
    fut_address_free(how.to);
    g_free(how.protect_to);
    return ok;
}

void fut_relocate_follow(const char *vm, int out_fd)
{
    g_autoptr(GError) error = NULL;
    json_t *left = NULL;

    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    int record = fut_record_open(vm, &left, &error);
    bool over = !left || fut_move_follow(vm, left, out_fd, &error);
    json_decref(left);
    if (record >= 0 && over) {
        fut_record_remove(record, vm);
    }
}
