/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "relocate_vm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cli_process.h"
#include "cli_talk.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "move_words.h"
#include "receive_vm.h"
#include "relocate_export.h"
#include "relocate_judge.h"
#include "relocate_record.h"

#define CALL_MS 10000
/* Several VMs are prepared one after the other there. */
#define PREPARE_MS 600000
#define STATUS_MS 10000
#define LOOK_EVERY_US 200000
#define ABANDON_MS 60000
#define ALONE_MS 30000
/* A link that does not come up again. */
#define AWAY_NS (8 * FUT_NS_PER_S)
/* A hand-over that is not decided by then is told of as unknown. */
#define UNKNOWN_NS (45 * FUT_NS_PER_S)
/* A VM that has ended there, and no server of its disks: one that died has been started anew by then. */
#define GONE_NS (60 * FUT_NS_PER_S)

typedef struct {
    const FutRelocate *how;
    const char *vm;
    int out_fd;
    FutTls *tls;       /* NULL: not encrypted */
    char *spec, *user; /* what `tls` was made of; may be NULL */
    FutTalk *talk;     /* with the receiver; NULL: lost, or not yet */
    FutExport *disks;  /* [count] */
    size_t count;
    GPtrArray *words;
    int record; /* -1: none */
    pid_t qemu; /* the VM's; 0: not known yet */
    uint64_t qemu_birth;
    char *twin;    /* where the VM's twin was before */
    bool prepared; /* the receiver waits for the VM */
    bool parted;   /* from its twin */
    bool bound;    /* to the receiver's QEMU: from here on it may be handed over, by whomever */
    bool seen;     /* there, with the VM running */
    uint64_t
        stuck_ns; /* since when both have ended, and something lies there that nobody looks after; 0: not so */
} Move;

static volatile sig_atomic_t cancelled, told_to_switch;

static void on_cancel(int number)
{
    cancelled = 1;
}

static void on_switch(int number)
{
    told_to_switch = 1;
}

/* -- telling -- */

static void tell(const Move *move, json_t *take_line)
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

static void tell_phase(const Move *move, const char *phase, double share, double rate,
                       const char *text)
{
    tell(move, json_pack("{s:s, s:f, s:f, s:s}", "phase", phase, "share", share, "rate", rate,
                         "text", text));
}

static void tell_end(const Move *move, const char *outcome, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    tell(move, json_pack("{s:s, s:s, s:s}", "phase", "end", "outcome", outcome, "text", valid));
}

/* -- the VM here -- */

/* Another QEMU of that name is another VM to us: it may have moved on and come back. */
static bool has_ended(const Move *move)
{
    return move->qemu && fut_process_birth(move->qemu) != move->qemu_birth;
}

static json_t *ask(const Move *move, const char *verb, json_t *take_args, GError **error)
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
    return fut_control_call(client, verb, take_args, STATUS_MS, error);
}

static bool order(const Move *move, const char *verb, json_t *take_args, GError **error)
{
    json_t *result = ask(move, verb, take_args, error);

    json_decref(result);
    return result != NULL;
}

static bool state_is(const json_t *status, const char *state)
{
    return strcmp(fut_cli_text(status, "state"), state) == 0;
}

static bool check_cancelled(GError **error)
{
    if (cancelled) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "cancelled");
    }
    return !cancelled;
}

static bool await_alone(const Move *move, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + ALONE_MS * FUT_NS_PER_MS;

    for (;;) {
        json_t *status = ask(move, "status", NULL, error);
        bool alone = status && state_is(status, "alone");
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
        g_usleep(LOOK_EVERY_US);
    }
}

/* -- getting ready -- */

static bool read_words(Move *move, int pid, GError **error)
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

static bool look_at_vm(Move *move, GError **error)
{
    json_t *said = ask(move, "disks", NULL, error);

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

static bool take_tls(Move *move, GError **error)
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

static bool call_receiver(Move *move, GError **error)
{
    g_clear_pointer(&move->talk, fut_talk_free);
    move->talk = fut_talk_connect(move->how->to, move->tls, CALL_MS, error);
    return move->talk != NULL;
}

static json_t *coded(const char *text)
{
    g_autofree char *code = g_base64_encode((const guchar *)text, strlen(text));

    return json_string(code);
}

static json_t *coded_or_null(const char *text)
{
    return text ? coded(text) : json_null();
}

static bool note(const Move *move, GError **error)
{
    g_autofree char *to = fut_address_text(move->how->to);
    json_t *disks = json_array();

    for (size_t i = 0; i < move->count; i++) {
        const FutExport *disk = &move->disks[i];
        json_array_append_new(disks, json_pack("{s:s, s:o, s:I, s:I}", "name", disk->name, "image",
                                               coded(disk->image), "pid", (json_int_t)disk->pid,
                                               "birth", (json_int_t)disk->birth));
    }
    json_t *content =
        json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:I, s:I, s:o}", "vm", move->vm, "to", to,
                  "bound", move->bound, "tls", coded_or_null(move->spec), "tls_name",
                  coded_or_null(move->user), "twin", coded_or_null(move->twin), "qemu",
                  (json_int_t)move->qemu, "birth", (json_int_t)move->qemu_birth, "disks", disks);
    return fut_record_write(move->record, content, error);
}

static bool start_exports(Move *move, GError **error)
{
    g_autofree char *host = fut_talk_our_host(move->talk);
    g_autofree char *rundir = fut_control_rundir();

    for (size_t i = 0; i < move->count; i++) {
        g_autofree char *log = g_strdup_printf("%s/%s-%zu.export.log", rundir, move->vm, i);
        if (!fut_export_start(&move->disks[i], host, move->spec, log, error) ||
            !note(move, error)) {
            return false;
        }
    }
    return note(move, error);
}

static json_t *request(const Move *move)
{
    json_t *words = json_array(), *disks = json_array();

    for (guint i = 0; i < move->words->len; i++) {
        json_array_append_new(words, coded(move->words->pdata[i]));
    }
    for (size_t i = 0; i < move->count; i++) {
        const FutExport *disk = &move->disks[i];
        json_array_append_new(disks, json_pack("{s:s, s:I, s:i, s:o}", "name", disk->name, "length",
                                               (json_int_t)disk->length, "port", (int)disk->port,
                                               "image", coded(disk->given)));
    }
    return json_pack("{s:i, s:s, s:o, s:o}", "version", FUT_RECEIVE_VERSION, "vm", move->vm,
                     "words", words, "disks", disks);
}

/* Where its QEMU waits, as an address here: a zone (fe80::1%eth0) has another name on each host. Caller frees. */
static char *where_from_here(const Move *move, const char *to)
{
    g_autofree char *host = fut_talk_their_host(move->talk);
    const char *port = strrchr(to, ':');

    return strchr(to, '%') && host ? g_strdup_printf("tcp:[%s]%s", host, port) : g_strdup(to);
}

/* *ret_to: where the VM's other half waits. */
static bool prepare(Move *move, char **ret_to, GError **error)
{
    json_t *status = ask(move, "status", NULL, error);

    if (!status) {
        return false;
    }
    bool good = fut_judge_is_primary(status) && !state_is(status, "fenced") &&
                !state_is(status, "handing") && json_is_true(json_object_get(status, "running"));
    if (!good) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "the VM does not run here (%s, state %s)",
                    fut_cli_text(status, "role"), fut_cli_text(status, "state"));
    } else if (!state_is(status, "alone") && !json_is_true(json_object_get(status, "moving"))) {
        move->twin = g_strdup(fut_cli_text(status, "peer_address"));
    }
    json_decref(status);
    if (!good || !look_at_vm(move, error) || !take_tls(move, error) ||
        !call_receiver(move, error) || !start_exports(move, error)) {
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
static bool check_receiver(Move *move, GError **error)
{
    json_t *said =
        fut_talk_call(move->talk, "status",
                      json_pack("{s:s, s:I}", "vm", move->vm, "disks", (json_int_t)move->count),
                      STATUS_MS, error);
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
static bool look_at_copy(const Move *move, uint64_t *linked_ns, bool *ret_there, bool *ret_handing,
                         GError **error)
{
    json_t *status = ask(move, "status", NULL, error);
    uint64_t now_ns = fut_now_ns();

    if (!status) {
        return false;
    }
    bool away = state_is(status, "connecting") || state_is(status, "alone");
    const char *reason = fut_cli_text(status, "reason");
    *ret_handing = fut_judge_is_handing(status);
    *ret_there = state_is(status, "protected");
    *linked_ns = away ? *linked_ns : now_ns;
    bool fault = now_ns - *linked_ns > AWAY_NS;
    tell_phase(move, *ret_there && move->how->hold ? "held" : "memory",
               away ? 0 : fut_cli_value(status, "copy_share"), fut_cli_value(status, "bytes_per_s"),
               away ? reason : fut_cli_text(status, "state"));
    if (fault) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE, "%s",
                    *reason ? reason : "the other host was lost");
    }
    json_decref(status);
    return !fault;
}

static bool copy_memory(Move *move, const char *to, GError **error)
{
    uint64_t linked_ns = fut_now_ns();
    bool there = false, handing = false;

    move->bound = true;
    if (!note(move, error) ||
        !order(move, "protect", json_pack("{s:s, s:b}", "to", to, "move", true), error)) {
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
        g_usleep(LOOK_EVERY_US);
    }
    return false;
}

/* -- the switch -- */

static void sync_disks(const Move *move)
{
    for (size_t i = 0; i < move->count; i++) {
        g_autoptr(GError) error = NULL;
        if (!fut_export_sync(&move->disks[i], &error)) {
            tell_phase(move, "switching", 1, 0, error->message);
        }
    }
}

/* NULL: it cannot be asked now; it is called again for the next time. */
static json_t *ask_receiver(Move *move)
{
    json_t *result = move->talk ? fut_talk_call(move->talk, "status",
                                                json_pack("{s:s, s:I}", "vm", move->vm, "disks",
                                                          (json_int_t)move->count),
                                                STATUS_MS, NULL)
                                : NULL;

    if (!result) {
        call_receiver(move, NULL);
    }
    return result;
}

static FutOutcome look_once(Move *move)
{
    g_autoptr(GError) fault = NULL;
    json_t *here = ask(move, "status", NULL, &fault);
    json_t *said = ask_receiver(move);
    bool ended = g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE);
    FutOutcome outcome = fut_judge(here, ended, said, &move->stuck_ns, fut_now_ns());

    json_decref(here);
    json_decref(said);
    return outcome;
}

/* Does not give up: somebody has to end the exports. */
static FutOutcome await_outcome(Move *move)
{
    uint64_t begin_ns = fut_now_ns();
    bool told = false;
    FutOutcome outcome;

    while ((outcome = look_once(move)) == FUT_OUTCOME_OPEN) {
        if (!told && fut_now_ns() - begin_ns > UNKNOWN_NS) {
            told = true;
            tell_end(move, "unknown",
                     "neither host says that it runs the VM: look with futago status on both; its "
                     "disks stay exported here until one does. Images of it that nobody serves at "
                     "the other host have what it wrote last: start their servers anew");
        }
        g_usleep(LOOK_EVERY_US / 4);
    }
    return outcome;
}

/* A switch is only ordered with the receiver there: it would have to look after the disks. */
static bool switch_over(Move *move, GError **error)
{
    tell_phase(move, "switching", 1, 0, "");
    sync_disks(move);
    if (!check_receiver(move, error)) {
        return false;
    }
    g_autoptr(GError) fault = NULL;
    if (order(move, "failover", NULL, &fault) ||
        !g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE)) {
        return true; /* an answer that did not come does not say that it was not heard */
    }
    json_t *status = ask(move, "status", NULL, NULL);
    bool handing = fut_judge_is_handing(status); /* somebody else was faster */
    json_decref(status);
    if (!handing) {
        g_propagate_error(error, g_steal_pointer(&fault));
    }
    return handing;
}

/* -- after it -- */

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
        bool this = state_is(disk, "complete");
        *ret_text = this ? *ret_text : fut_cli_text(disk, "state");
        complete = complete && this;
    }
    *ret_share = size > 0 ? here / size : 1;
    return complete;
}

/* False: the VM ended there before they were seen to be complete. */
static bool follow_disks(Move *move)
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
        tell_phase(move, "disks", complete ? 1 : share, rate, text);
        json_decref(said);
        if (complete || gone) {
            return complete;
        }
        g_usleep(2 * LOOK_EVERY_US);
    }
}

static void stop_exports(Move *move)
{
    for (size_t i = 0; i < move->count; i++) {
        fut_export_stop(&move->disks[i]);
    }
}

static void finish(Move *move)
{
    g_autofree char *twin =
        move->twin ? g_strdup_printf("; its twin at %s is needed no more: stop it", move->twin)
                   : g_strdup("");
    g_autoptr(GError) error = NULL;

    sync_disks(move);
    if (move->how->protect_to) {
        json_t *args = json_pack("{s:s, s:s}", "vm", move->vm, "to", move->how->protect_to);
        bool called = move->talk || call_receiver(move, &error);
        json_decref(called
                        ? fut_talk_call(move->talk, "protect", json_incref(args), CALL_MS, &error)
                        : NULL);
        json_decref(args);
    }
    bool complete = follow_disks(move);
    stop_exports(move);
    order(move, "stop", NULL, NULL);
    const char *what = !complete     ? "it has ended there, and its disks were not seen to be "
                                       "complete: what they lack is in the images here"
                       : !move->seen ? "its QEMU has ended at both hosts; its disks are whole there"
                                     : "everything is there";
    g_autofree char *text =
        g_strdup_printf("%s%s%s%s%s", error ? "it is not protected there: " : "",
                        error ? error->message : "", error ? "; " : "", what, twin);
    tell_end(move, complete && move->seen ? "moved" : "ended", text);
}

/* -- before it -- */

/* Back to where it was, as far as that can be told. False: it is, or may have been, handed over: nothing of it may end here before that is
 * decided. */
static bool stay(Move *move, const char *why)
{
    g_autoptr(GError) fault = NULL;

    if (move->parted) {
        order(move, "unprotect", NULL, NULL);
        await_alone(move, NULL);
    }
    json_t *status = ask(move, "status", NULL, &fault);
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
        order(move, "protect", json_pack("{s:s}", "to", move->twin), NULL);
    }
    const char *more =
        runs || (ended && !move->qemu) ? ""
        : ended                        ? "; its QEMU has ended here, its disks are whole here"
                : "; what became of it is not known: look with futago status on both hosts";
    g_autofree char *text = g_strconcat(why, more, NULL);
    tell_end(move, ended ? "ended" : runs ? "stayed" : "unknown", text);
    return true;
}

static bool leave_twin(Move *move, GError **error)
{
    move->parted = true;
    order(move, "unprotect", NULL, NULL); /* refused where there is none */
    return await_alone(move, error);
}

/* Until it is decided where the VM is, and what is to be done for that is done. */
static void bring_to_end(Move *move, const char *why)
{
    while (!why || !stay(move, why)) {
        switch (await_outcome(move)) {
        case FUT_OUTCOME_MOVED:
            finish(move);
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

static void move_vm(Move *move)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *to = NULL;

    tell_phase(move, "preparing", 0, 0, "");
    bool ordered = prepare(move, &to, &error) && leave_twin(move, &error) &&
                   copy_memory(move, to, &error) && switch_over(move, &error);
    signal(SIGTERM, SIG_IGN);
    bring_to_end(move, ordered ? NULL : error->message);
}

/* -- what another process has begun -- */

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

static bool take_content(Move *move, FutRelocate *how, const json_t *content, GError **error)
{
    const json_t *disks = json_object_get(content, "disks");

    how->to = fut_address_parse(fut_cli_text(content, "to"), error);
    move->spec = text_in(content, "tls");
    move->user = text_in(content, "tls_name");
    move->twin = text_in(content, "twin");
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
static bool is_bound_by_us(const Move *move)
{
    json_t *status = ask(move, "status", NULL, NULL);
    bool ours = state_is(status, "alone") || json_is_true(json_object_get(status, "moving"));

    json_decref(status);
    return ours;
}

static void move_done(Move *move)
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

/* False: nothing was done, nor can be told. */
static bool follow_left(const char *vm, const json_t *content, int out_fd, GError **error)
{
    static const char why[] = "the process that moved it was killed";
    FutRelocate how = { 0 };
    Move move = { .how = &how, .vm = vm, .out_fd = out_fd, .record = -1 };

    move.words = g_ptr_array_new_with_free_func(g_free);
    tell_phase(&move, "switching", 1, 0, why);
    bool ok = take_content(&move, &how, content, error);
    if (ok && move.bound && await_outcome(&move) == FUT_OUTCOME_MOVED) {
        finish(&move);
    } else if (ok) {
        move.parted = is_bound_by_us(&move);
        bring_to_end(&move, why);
    } else {
        g_prefix_error(error, "an earlier move of it cannot be followed: ");
        tell_end(&move, "unknown", (*error)->message);
    }
    move_done(&move);
    fut_address_free(how.to);
    return ok;
}

void fut_relocate_follow(const char *vm, int out_fd)
{
    g_autoptr(GError) error = NULL;
    json_t *left = NULL;

    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    int record = fut_record_open(vm, &left, &error);
    bool over = !left || follow_left(vm, left, out_fd, &error);
    json_decref(left);
    if (record >= 0 && over) {
        fut_record_remove(record, vm);
    }
}

/* -- all of it -- */

static bool open_record(Move *move, GError **error)
{
    json_t *left = NULL;

    move->record = fut_record_open(move->vm, &left, error);
    if (left) {
        tell_phase(move, "preparing", 0, 0, "an earlier move of it is brought to its end");
    }
    bool ok = move->record >= 0 && (!left || follow_left(move->vm, left, -1, error));
    json_decref(left);
    if (!ok && move->record >= 0) {
        close(move->record); /* it stays for who can make something of it */
    }
    return ok;
}

void fut_relocate_vm(const FutRelocate *how, const char *vm, int out_fd)
{
    Move move = { .how = how, .vm = vm, .out_fd = out_fd };
    g_autoptr(GError) error = NULL;

    signal(SIGTERM, on_cancel);
    signal(SIGUSR1, on_switch);
    signal(SIGPIPE, SIG_IGN);
    move.words = g_ptr_array_new_with_free_func(g_free);
    if (open_record(&move, &error)) {
        move_vm(&move);
        fut_record_remove(move.record, vm);
    } else {
        tell_end(&move, "stayed", error->message);
    }
    move_done(&move);
}
