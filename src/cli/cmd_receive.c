/* SPDX-License-Identifier: GPL-2.0-or-later */
/* futago receive: takes in VMs that another host's futago relocate sends. A process for each conversation; it stays with its VM. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli_talk.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "receive_vm.h"

#define HELLO_MS 10000
#define TICK_MS 200
/* A source that says nothing for so long, before its VM is here, is gone: it asks several times a second. */
#define SILENCE_NS (60 * FUT_NS_PER_S)
/* Conversations at a time, VMs that came and run here among them. */
#define CHILDREN_MAX 256

/* -- one conversation -- */

typedef struct {
    const FutReceiver *receiver;
    FutTalk *talk;         /* NULL: the other is gone */
    FutIncoming *incoming; /* NULL: none yet */
    uint64_t heard_ns;
} Conversation;

static json_t *do_prepare(Conversation *with, const json_t *args, GError **error)
{
    g_autofree char *theirs = fut_talk_their_host(with->talk);
    g_autofree char *ours = fut_talk_our_host(with->talk);
    g_autofree char *to = NULL;

    if (with->incoming || !theirs || !ours) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "one VM for each connection");
        return NULL;
    }
    with->incoming = fut_incoming_new(with->receiver, args, theirs, ours, &to, error);
    return with->incoming ? json_pack("{s:s, s:s}", "to", to, "node", with->receiver->node) : NULL;
}

static const char *vm_of(const json_t *args, GError **error)
{
    const char *vm = json_string_value(json_object_get(args, "vm"));

    return fut_control_name_check(vm ? vm : "", error) ? vm : NULL;
}

static json_t *do_status(Conversation *with, const json_t *args, GError **error)
{
    const char *vm = vm_of(args, error);
    json_t *status = vm ? fut_incoming_status(vm) : NULL;

    if (status) {
        fut_incoming_left(with->receiver, vm, json_integer_value(json_object_get(args, "disks")),
                          status);
    }
    if (status && with->incoming) {
        json_object_set_new(status, "complete",
                            json_boolean(fut_incoming_complete(with->incoming)));
    }
    return status;
}

static json_t *do_protect(Conversation *with, const json_t *args, GError **error)
{
    const char *vm = vm_of(args, error);
    g_autoptr(FutControlClient) client = vm ? fut_control_connect(vm, error) : NULL;
    json_t *to = json_object_get(args, "to");

    return client ? fut_control_call(client, "protect", json_pack("{s:O}", "to", to),
                                     FUT_CLI_ANSWER_MS, error)
                  : NULL;
}

static json_t *do_abandon(Conversation *with, const json_t *args, GError **error)
{
    if (with->incoming && !fut_incoming_abandon(with->incoming)) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_STATE, "the VM runs here already, or may");
        return NULL;
    }
    return json_object();
}

static json_t *run_verb(Conversation *with, const char *verb, const json_t *args, GError **error)
{
    static const struct {
        const char *name;
        json_t *(*run)(Conversation *with, const json_t *args, GError **error);
    } verbs[] = {
        { "prepare", do_prepare },
        { "status", do_status },
        { "protect", do_protect },
        { "abandon", do_abandon },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(verbs[i].name, verb) == 0) {
            return verbs[i].run(with, args, error);
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%.64s': futago receive does not know that verb",
                verb);
    return NULL;
}

static void answer(Conversation *with, const json_t *message)
{
    g_autoptr(GError) error = NULL;
    uint64_t id = 0;
    const char *verb;
    json_t *args;
    json_t *result = fut_control_request_parse(message, &id, &verb, &args, &error)
                         ? run_verb(with, verb, args, &error)
                         : NULL;

    if (result || error) {
        char *line = result ? fut_control_ok(id, result) : fut_control_error(id, error);
        if (!fut_talk_send(with->talk, line, NULL)) {
            g_clear_pointer(&with->talk, fut_talk_free);
        }
    }
}

static void listen_to_other(Conversation *with)
{
    g_autoptr(GError) error = NULL;

    if (!with->talk) {
        g_usleep(TICK_MS * 1000);
        return;
    }
    json_t *message = fut_talk_receive(with->talk, TICK_MS, &error);
    if (message) {
        answer(with, message);
        with->heard_ns = fut_now_ns();
    } else if (error) {
        g_clear_pointer(&with->talk, fut_talk_free);
    }
    json_decref(message);
}

static void converse(const FutReceiver *receiver, FutTls *tls, FutLink *take_link)
{
    g_autoptr(GError) error = NULL;
    Conversation with = { .receiver = receiver };
    bool on = true;

    with.heard_ns = fut_now_ns();
    with.talk = fut_talk_accept(take_link, tls, HELLO_MS, &error);
    if (!with.talk) {
        fprintf(stderr, "futago: turned away: %s\n", error->message);
    }
    while (on && (with.talk || with.incoming)) {
        listen_to_other(&with);
        bool there = with.talk && fut_now_ns() - with.heard_ns < SILENCE_NS;
        on = with.incoming ? fut_incoming_tick(with.incoming, there) || there : there;
    }
    fut_talk_free(with.talk);
    fut_incoming_free(with.incoming);
}

/* -- listening -- */

static void on_child(int number)
{
}

static void reap(unsigned *children)
{
    while (*children > 0 && waitpid(-1, NULL, WNOHANG) > 0) {
        (*children)--;
    }
}

static void take_call(const FutReceiver *receiver, FutTls *tls, FutListener *listener,
                      unsigned *children)
{
    g_autoptr(GError) error = NULL;
    FutLink *link = fut_listener_accept(listener, &error);

    if (!link) {
        return;
    }
    pid_t pid = *children < CHILDREN_MAX ? fork() : -1;
    if (pid == 0) {
        setsid(); /* the VM outlives whoever listens */
        signal(SIGCHLD, SIG_DFL);
        close(fut_listener_fd(listener));
        converse(receiver, tls, link);
        exit(EXIT_SUCCESS);
    }
    *children += pid > 0;
    fut_link_unref(link);
}

static bool serve(const FutReceiver *receiver, FutTls *tls, GError **error)
{
    g_autoptr(FutListener) listener = fut_listener_new(receiver->listen, error);
    struct sigaction note = { .sa_handler = on_child };
    unsigned children = 0;

    if (!listener) {
        return false;
    }
    sigaction(SIGCHLD, &note, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_autofree char *where = fut_address_text(receiver->listen);
    printf("waiting for VMs at %s, images go to %s\n", where, receiver->images);
    fflush(stdout);
    for (;;) {
        struct pollfd at = { .fd = fut_listener_fd(listener), .events = POLLIN };
        if (poll(&at, 1, 1000) > 0) {
            take_call(receiver, tls, listener, &children);
        }
        reap(&children);
    }
}

/* -- words -- */

static bool check_maps(char **maps, GError **error)
{
    for (char **map = maps; map && *map; map++) {
        if (**map == '=' || !strchr(*map, '=')) {
            g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--map %s: give OLD=NEW", *map);
            return false;
        }
    }
    return true;
}

static bool check_tls(const FutReceiver *receiver, GError **error)
{
    if (receiver->tls && !fut_tls_check(receiver->tls, receiver->tls_name, error)) {
        g_prefix_error(error, "--tls: ");
        return false;
    }
    if (!receiver->tls && !receiver->insecure && !fut_address_is_local(receiver->listen)) {
        g_set_error_literal(
            error, FUT_ERROR, FUT_ERR_ARG,
            "--listen: whoever reaches that address could start QEMU here: add --tls, "
            "or use a private network and add --insecure");
        return false;
    }
    return true;
}

static bool check(FutReceiver *receiver, const char *listen, GError **error)
{
    g_autofree char *with_port = NULL;

    if (!listen || !receiver->images) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            listen
                                ? "receive: --images is missing: name the folder for the VMs' disks"
                                : "receive: --listen is missing: say where VMs may come in");
        return false;
    }
    receiver->listen = fut_receive_address(listen, error);
    if (!receiver->listen) {
        g_prefix_error(error, "--listen: ");
        return false;
    }
    if (!g_file_test(receiver->images, G_FILE_TEST_IS_DIR)) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "--images %s: no such folder: make it",
                    receiver->images);
        return false;
    }
    char *images = g_canonicalize_filename(receiver->images, NULL);
    g_free(receiver->images);
    receiver->images = images;
    receiver->node = receiver->node ? receiver->node : g_strdup(g_get_host_name());
    return fut_control_name_check(receiver->node, error) && check_tls(receiver, error) &&
           check_maps(receiver->maps, error);
}

static bool run(int argc, char **argv, GError **error)
{
    FutReceiver receiver = { 0 };
    g_autofree char *listen = NULL;
    gboolean insecure = FALSE;
    const GOptionEntry entries[] = {
        { "listen", 0, 0, G_OPTION_ARG_FILENAME, &listen, "Where other hosts call", "HOST[:PORT]" },
        { "images", 0, 0, G_OPTION_ARG_FILENAME, &receiver.images, "Folder for the VMs' disks",
          "DIR" },
        { "node", 0, 0, G_OPTION_ARG_FILENAME, &receiver.node,
          "Name of this host (default: its host name)", "NODE" },
        { "map", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &receiver.maps,
          "Replace OLD in QEMU's command line; may be repeated", "OLD=NEW" },
        { "tls", 0, 0, G_OPTION_ARG_FILENAME, &receiver.tls,
          "Encrypt; who has that key, or a certificate, may start VMs here", "x509:DIR|psk:FILE" },
        { "tls-name", 0, 0, G_OPTION_ARG_FILENAME, &receiver.tls_name,
          "With x509: name in the other's certificate; with psk: the key's user", "NAME" },
        { "insecure", 0, 0, G_OPTION_ARG_NONE, &insecure,
          "Take VMs from whoever calls, not encrypted", NULL },
        { 0 },
    };

    if (!fut_cli_parse(&fut_cmd_receive, entries, &argc, argv, error)) {
        return false;
    }
    if (argc > 1) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "receive: unexpected word '%s'", argv[1]);
        return false;
    }
    receiver.insecure = insecure;
    if (!check(&receiver, listen, error)) {
        return false;
    }
    g_autoptr(FutTls) tls =
        receiver.tls ? fut_tls_new(receiver.tls, receiver.tls_name, error) : NULL;
    return (tls || !receiver.tls) && serve(&receiver, tls, error);
}

const FutCommand fut_cmd_receive = {
    .name = "receive",
    .usage = "",
    .summary = "Take in VMs that futago relocate sends here",
    .run = run,
};
