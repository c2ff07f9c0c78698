/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_vm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cli_process.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "move_words.h"
#include "receive_vm.h"
#include "relocate_judge.h"
#include "relocate_move.h"
#include "relocate_record.h"

/* Several VMs are prepared one after the other there. */
#define PREPARE_MS 600000
/* A link that does not come up again. */
#define AWAY_NS (8 * FUT_NS_PER_S)

static volatile sig_atomic_t cancelled, told_to_switch;

static void on_cancel(int number)
{
    cancelled = 1;
}

static void on_switch(int number)
{
    told_to_switch = 1;
}

static bool check_cancelled(GError **error)
{
    if (cancelled) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "cancelled");
    }
    return !cancelled;
}

/* -- getting ready -- */

static bool read_words(FutMove *move, int pid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid);
    g_autofree char *text = NULL;
    gsize length = 0;

    if (!g_file_get_contents(path, &text, &length, NULL) || length == 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "cannot read QEMU's command line (%s)", path);
        return false;
    }
    for (gsize at = 0; at < length; at += strlen(text + at) + 1) {
        g_ptr_array_add(move->words, g_strdup(text + at));
    }
    return true;
}

static bool look_at_vm(FutMove *move, GError **error)
{
    json_t *said = fut_move_ask(move, "disks", NULL, error);

    if (!said) {
        return false;
    }
    pid_t pid = (pid_t)json_integer_value(json_object_get(said, "pid"));
    json_t *disks = json_object_get(said, "disks");
    bool ok = read_words(move, (int)pid, error);

    move->qemu_birth = fut_process_birth(pid);
    move->qemu = pid;
    move->disks = g_new0(FutExport, json_array_size(disks));
    for (; ok && move->count < json_array_size(disks); move->count++) {
        FutExport *disk = &move->disks[move->count];
        ok = fut_export_take(disk, json_array_get(disks, move->count), pid, error);
    }
    json_decref(said);
    return ok;
}

static bool take_tls(FutMove *move, GError **error)
{
    g_autofree char *spec = fut_move_option(move->words, "tls");
    g_autofree char *name = fut_move_option(move->words, "tls_name");
    g_autofree char *insecure = fut_move_option(move->words, "insecure");

    if (!spec) {
        if (g_strcmp0(insecure, "on") == 0 || fut_address_is_local(move->how->to)) {
            return true;
        }
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "memory and disks would cross the network unencrypted: start the VM "
                            "with --tls, or with --insecure on a private network");
        return false;
    }
    move->tls = fut_tls_new(spec, name, error);
    move->spec = g_steal_pointer(&spec);
    move->user = g_steal_pointer(&name);
    return move->tls != NULL;
}

static bool start_exports(FutMove *move, GError **error)
{
    g_autofree char *host = fut_talk_our_host(move->talk);
    g_autofree char *rundir = fut_control_rundir();

    for (size_t i = 0; i < move->count; i++) {
        g_autofree char *log = g_strdup_printf("%s/%s-%zu.export.log", rundir, move->vm, i);
        if (!fut_export_start(&move->disks[i], host, move->spec, log, error) ||
            !fut_move_note(move, error)) {
            return false;
        }
    }
    return fut_move_note(move, error);
}

static json_t *request(const FutMove *move)
{
    json_t *words = json_array(), *disks = json_array();

    for (guint i = 0; i < move->words->len; i++) {
        json_array_append_new(words, fut_move_coded(move->words->pdata[i]));
    }
    for (size_t i = 0; i < move->count; i++) {
        const FutExport *disk = &move->disks[i];
        json_array_append_new(disks, json_pack("{s:s, s:I, s:i, s:o}", "name", disk->name, "length",
                                               (json_int_t)disk->length, "port", (int)disk->port,
                                               "image", fut_move_coded(disk->given)));
    }
    return json_pack("{s:i, s:s, s:o, s:o}", "version", FUT_RECEIVE_VERSION, "vm", move->vm,
                     "words", words, "disks", disks);
}

/* Where its QEMU waits, as an address here: a zone (fe80::1%eth0) has another name on each host. Caller frees. */
static char *where_from_here(const FutMove *move, const char *to)
{
    g_autofree char *host = fut_talk_their_host(move->talk);
    const char *port = strrchr(to, ':');

    return strchr(to, '%') && host ? g_strdup_printf("tcp:[%s]%s", host, port) : g_strdup(to);
}

/* *ret_to: where the VM's other half waits. */
static bool prepare(FutMove *move, char **ret_to, GError **error)
{
    json_t *status = fut_move_ask(move, "status", NULL, error);

    if (!status) {
        return false;
    }
    bool good = fut_judge_is_primary(status) && !fut_move_state_is(status, "fenced") &&
                !fut_move_state_is(status, "handing") &&
                json_is_true(json_object_get(status, "running"));
    if (!good) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "the VM does not run here (%s, state %s)",
                    fut_cli_text(status, "role"), fut_cli_text(status, "state"));
    } else if (!fut_move_state_is(status, "alone") &&
               !json_is_true(json_object_get(status, "moving"))) {
        move->twin = g_strdup(fut_cli_text(status, "peer_address"));
    }
    json_decref(status);
    if (!good || !look_at_vm(move, error) || !take_tls(move, error) ||
        !fut_move_call(move, error) || !start_exports(move, error)) {
        return false;
    }
    json_t *result = fut_talk_call(move->talk, "prepare", request(move), PREPARE_MS, error);
    if (!result) {
        g_prefix_error(error, "%s: ", fut_talk_name(move->talk));
        return false;
    }
    move->prepared = true;
    *ret_to = where_from_here(move, fut_cli_text(result, "to"));
    json_decref(result);
    return check_cancelled(error);
}

/* -- memory -- */

/* The receiver answers, and its QEMU is there. */
static bool check_receiver(FutMove *move, GError **error)
{
    json_t *said =
        fut_talk_call(move->talk, "status",
                      json_pack("{s:s, s:I}", "vm", move->vm, "disks", (json_int_t)move->count),
                      FUT_MOVE_STATUS_MS, error);
    bool there = said && !json_is_null(json_object_get(said, "vm"));

    if (!said) {
        g_clear_pointer(&move->talk, fut_talk_free);
    } else if (!there) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE,
                            "its QEMU at the other host has ended");
    }
    json_decref(said);
    return there;
}

/* One look. The VM's module calls again by itself when the link breaks; what does not get better is a fault. */
static bool look_at_copy(const FutMove *move, uint64_t *linked_ns, bool *ret_there,
                         bool *ret_handing, GError **error)
{
    json_t *status = fut_move_ask(move, "status", NULL, error);
    uint64_t now_ns = fut_now_ns();

    if (!status) {
        return false;
    }
    bool away = fut_move_state_is(status, "connecting") || fut_move_state_is(status, "alone");
    const char *reason = fut_cli_text(status, "reason");
    *ret_handing = fut_judge_is_handing(status);
    *ret_there = fut_move_state_is(status, "protected");
    *linked_ns = away ? *linked_ns : now_ns;
    bool fault = now_ns - *linked_ns > AWAY_NS;
    fut_move_tell(move, *ret_there && move->how->hold ? "held" : "memory",
                  away ? 0 : fut_cli_value(status, "copy_share"),
                  fut_cli_value(status, "bytes_per_s"),
                  away ? reason : fut_cli_text(status, "state"));
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "%s",
                    *reason ? reason : "the other host was lost");
    }
    json_decref(status);
    return !fault;
}

static bool copy_memory(FutMove *move, const char *to, GError **error)
{
    uint64_t linked_ns = fut_now_ns();
    bool there = false, handing = false;

    move->bound = true;
    if (!fut_move_note(move, error) ||
        !fut_move_order(move, "protect", json_pack("{s:s, s:b}", "to", to, "move", true), error)) {
        return false;
    }
    while (look_at_copy(move, &linked_ns, &there, &handing, error)) {
        if (handing) {
            return true;
        }
        if (!check_receiver(move, error) || !check_cancelled(error)) {
            return false;
        }
        if (there && (told_to_switch || !move->how->hold)) {
            return true;
        }
        g_usleep(FUT_MOVE_LOOK_EVERY_US);
    }
    return false;
}

/* -- the switch -- */

/* A switch is only ordered with the receiver there: it would have to look after the disks. */
static bool switch_over(FutMove *move, GError **error)
{
    fut_move_tell(move, "switching", 1, 0, "");
    fut_move_sync(move);
    if (!check_receiver(move, error)) {
        return false;
    }
    g_autoptr(GError) fault = NULL;
    if (fut_move_order(move, "failover", NULL, &fault) ||
        !g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE)) {
        return true; /* an answer that did not come does not say that it was not heard */
    }
    json_t *status = fut_move_ask(move, "status", NULL, NULL);
    bool handing = fut_judge_is_handing(status); /* somebody else was faster */
    json_decref(status);
    if (!handing) {
        g_propagate_error(error, g_steal_pointer(&fault));
    }
    return handing;
}

/* -- all of it -- */

static bool leave_twin(FutMove *move, GError **error)
{
    move->parted = true;
    fut_move_order(move, "unprotect", NULL, NULL); /* refused where there is none */
    return fut_move_await_alone(move, error);
}

static void move_vm(FutMove *move)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *to = NULL;

    fut_move_tell(move, "preparing", 0, 0, "");
    bool ordered = prepare(move, &to, &error) && leave_twin(move, &error) &&
                   copy_memory(move, to, &error) && switch_over(move, &error);
    signal(SIGTERM, SIG_IGN);
    fut_move_bring_to_end(move, ordered ? NULL : error->message);
}

static bool open_record(FutMove *move, GError **error)
{
    json_t *left = NULL;

    move->record = fut_record_open(move->vm, &left, error);
    if (left) {
        fut_move_tell(move, "preparing", 0, 0, "an earlier move of it is brought to its end");
    }
    bool ok = move->record >= 0 && (!left || fut_move_follow(move->vm, left, -1, error));
    json_decref(left);
    if (!ok && move->record >= 0) {
        close(move->record); /* it stays for who can make something of it */
    }
    return ok;
}

void fut_relocate_vm(const FutRelocate *how, const char *vm, int out_fd)
{
    FutMove move = { .how = how, .vm = vm, .out_fd = out_fd };
    g_autoptr(GError) error = NULL;

    signal(SIGTERM, on_cancel);
    signal(SIGUSR1, on_switch);
    signal(SIGPIPE, SIG_IGN);
    move.words = g_ptr_array_new_with_free_func(g_free);
    if (open_record(&move, &error)) {
        move_vm(&move);
        fut_record_remove(move.record, vm);
    } else {
        fut_move_tell_end(&move, "stayed", error->message);
    }
    fut_move_done(&move);
}
