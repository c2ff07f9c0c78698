/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "receive_vm.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli_config.h"
#include "cli_process.h"
#include "cli_start.h"
#include "fut_clock.h"
#include "fut_error.h"
#include "move_words.h"

#define START_MS 30000
#define LOOK_EVERY_US 20000
#define SERVER_END_MS 30000
#define QEMU_END_MS 20000
/* A hand-over that was ordered before the source's futago was lost has come, or never will. */
#define LONELY_NS (60 * FUT_NS_PER_S)
/* Ports of QEMUs that wait: the next ones after that of `futago receive`. */
#define PORTS 200
#define ANSWER_MS 2000
/* No sum of a VM's disks wraps. */
#define LENGTH_MAX (INT64_MAX / FUT_RECEIVE_DISKS_MAX)
/* A disk's server that ends again and again. */
#define RESTART_NS (2 * FUT_NS_PER_S)

typedef struct {
    char *control; /* name of its control socket */
    char *cache, *bitmap, *socket, *log;
    GStrv server; /* command line */
    pid_t pid;
    bool made; /* the files are ours */
    uint64_t begun_ns;
} Disk;

struct FutIncoming {
    const FutReceiver *receiver;
    char *vm, *log;
    FutMoveDisk *moves; /* [count] */
    Disk *disks;        /* [count] */
    size_t count;
    pid_t qemu;
    bool waiting; /* its QEMU waits for the VM, or has it */
    bool ran, awake, abandoned, complete;
    uint64_t lonely_ns; /* since when the source's futago is gone; 0: it is there */
};

static void say(const FutIncoming *incoming, const char *what)
{
    printf("%s: %s\n", incoming->vm, what);
    fflush(stdout);
}

/* -- asking sockets of this host -- */

static json_t *ask(FutControlClient *take_client, const char *verb, GError **error)
{
    g_autoptr(FutControlClient) client = take_client;

    return client ? fut_control_call(client, verb, NULL, ANSWER_MS, error) : NULL;
}

static json_t *ask_vm(const char *vm, const char *verb, GError **error)
{
    return ask(fut_control_connect(vm, error), verb, error);
}

static json_t *ask_disk(const char *disk, const char *verb, GError **error)
{
    return ask(fut_control_connect_disk(disk, error), verb, error);
}

static char *disk_name(const char *vm, size_t number)
{
    return g_strdup_printf("%s-%zu", vm, number);
}

/* Null: there is no such thing here. Empty: it does not answer, which says nothing. */
static json_t *told(json_t *take_status, const GError *fault)
{
    bool silent = fault && !g_error_matches(fault, FUT_ERROR, FUT_ERR_STATE) &&
                  !g_error_matches(fault, FUT_ERROR, FUT_ERR_ARG);

    return take_status ? take_status : silent ? json_object() : json_null();
}

static json_t *disk_status(const char *vm, size_t number)
{
    g_autofree char *name = disk_name(vm, number);
    g_autoptr(GError) fault = NULL;
    json_t *status = ask_disk(name, "status", &fault);

    return told(status, fault);
}

json_t *fut_incoming_status(const char *vm)
{
    g_autoptr(GError) fault = NULL;
    json_t *status = ask_vm(vm, "status", &fault), *disks = json_array(), *disk = NULL;

    /* Behind one that is silent nobody is asked: whoever wants to know does not wait for ever. */
    for (size_t i = 0; i < FUT_RECEIVE_DISKS_MAX && (!disk || json_object_size(disk) > 0); i++) {
        disk = disk_status(vm, i);
        if (!json_is_null(disk)) {
            json_array_append_new(disks, disk);
        }
    }
    return json_pack("{s:o, s:o}", "vm", told(status, fault), "disks", disks);
}

/* -- what is asked for -- */

static bool bad(const char *what, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_PEER,
                "bad request: %s: install the same Futago on both hosts", what);
    return false;
}

/* Bytes without a zero in them; NULL: that is no such text. Caller frees. */
static char *bytes_of(const json_t *text)
{
    gsize length = 0;
    const char *coded = json_string_value(text);
    g_autofree guchar *bytes = coded && *coded ? g_base64_decode(coded, &length) : NULL;

    return bytes && !memchr(bytes, 0, length) ? g_strndup((char *)bytes, length) : NULL;
}

/* An IPv6 number in brackets, the sign before its zone escaped (RFC 6874). Caller frees. */
static char *uri_host(const char *host)
{
    g_auto(GStrv) parts = g_strsplit(host, "%", 2);
    g_autofree char *escaped = g_strjoinv("%25", parts);

    return strchr(host, ':') ? g_strdup_printf("[%s]", escaped) : g_strdup(host);
}

static char *source_uri(const FutReceiver *receiver, const char *host, unsigned port)
{
    const char *user = receiver->tls_name ? receiver->tls_name : "futago";
    g_autofree char *at = uri_host(host);

    if (!receiver->tls) {
        return g_strdup_printf("nbd://%s:%u/", at, port);
    }
    const char *path = strchr(receiver->tls, ':') + 1;
    g_autofree char *files = g_uri_escape_string(path, "/", FALSE);
    if (g_str_has_prefix(receiver->tls, "x509:")) {
        return g_strdup_printf("nbds://%s:%u/?tls-certificates=%s", at, port, files);
    }
    g_autofree char *escaped_user = g_uri_escape_string(user, NULL, FALSE);
    return g_strdup_printf("nbds://%s@%s:%u/?tls-psk-file=%s", escaped_user, at, port, files);
}

static bool take_disk(FutIncoming *incoming, size_t i, const json_t *asked, const char *their_host,
                      uint64_t *bytes, GError **error)
{
    FutMoveDisk *move = &incoming->moves[i];
    Disk *disk = &incoming->disks[i];
    const char *name = json_string_value(json_object_get(asked, "name"));
    json_int_t length = json_integer_value(json_object_get(asked, "length"));
    json_int_t port = json_integer_value(json_object_get(asked, "port"));
    g_autofree char *rundir = fut_control_rundir();

    move->image = bytes_of(json_object_get(asked, "image"));
    if (!name || !move->image || length <= 0 || length > LENGTH_MAX || port <= 0 || port > 65535) {
        return bad("a disk without name, image, length or port", error);
    }
    *bytes += (uint64_t)length;
    move->name = g_strdup(name);
    disk->control = disk_name(incoming->vm, i);
    move->socket = disk->socket = g_strdup_printf("%s/disks/%s.nbd", rundir, disk->control);
    disk->cache = g_strdup_printf("%s/%s.img", incoming->receiver->images, disk->control);
    disk->bitmap = g_strdup_printf("%s.bitmap", disk->cache);
    disk->log = g_strdup_printf("%s/%s.log", incoming->receiver->images, disk->control);
    g_autofree char *uri = source_uri(incoming->receiver, their_host, (unsigned)port);
    g_autofree char *plugin = fut_process_find("../nbdkit/nbdkit-futago-plugin.so", "futago");
    char *words[] = { "nbdkit",
                      "--foreground",
                      "--threads",
                      "64",
                      "--unix",
                      disk->socket,
                      plugin,
                      g_strdup_printf("cache=%s", disk->cache),
                      g_strdup_printf("source=%s", uri),
                      g_strdup_printf("name=%s", disk->control),
                      "asleep=true",
                      NULL };
    disk->server = g_strdupv(words);
    for (size_t k = 7; k < 10; k++) {
        g_free(words[k]);
    }
    return fut_control_name_check(disk->control, error);
}

static bool take_disks(FutIncoming *incoming, const json_t *asked, const char *their_host,
                       uint64_t *bytes, GError **error)
{
    size_t count = json_array_size(asked);

    if (count > FUT_RECEIVE_DISKS_MAX) {
        return bad("too many disks", error);
    }
    incoming->moves = g_new0(FutMoveDisk, count);
    incoming->disks = g_new0(Disk, count);
    incoming->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!take_disk(incoming, i, json_array_get(asked, i), their_host, bytes, error)) {
            return false;
        }
    }
    return true;
}

static GPtrArray *take_words(const json_t *asked, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    size_t i;
    json_t *coded;

    json_array_foreach(asked, i, coded)
    {
        const char *text = json_string_value(coded);
        char *word = text && !*text ? g_strdup("") : bytes_of(coded);
        if (!word) {
            bad("a word of QEMU's command line that is none", error);
            return NULL;
        }
        g_ptr_array_add(words, word);
    }
    if (words->len == 0) {
        bad("no command line", error);
        return NULL;
    }
    g_autofree char *program = g_path_get_basename(words->pdata[0]);
    if (!g_str_has_prefix(program, "qemu-system-")) {
        g_set_error(error, FUT_ERROR, FUT_ERR_REFUSED,
                    "'%s' is not started here: only qemu-system-… is", program);
        return NULL;
    }
    if (access(words->pdata[0], X_OK) != 0) {
        g_free(words->pdata[0]);
        words->pdata[0] = g_steal_pointer(&program);
    }
    return g_steal_pointer(&words);
}

/* -- servers -- */

static bool make_cache(Disk *disk, GError **error)
{
    const char *taken = access(disk->bitmap, F_OK) == 0 ? disk->bitmap : disk->cache;
    int fd = taken == disk->cache ? open(disk->cache, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                                  : -1;

    if (fd < 0) {
        int code = taken == disk->cache ? errno : EEXIST;
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    code == EEXIST
                        ? "%s: %s: it may be another VM's disk; move it away if it is not needed"
                        : "%s: %s",
                    taken, g_strerror(code));
        return false;
    }
    close(fd);
    disk->made = true;
    return true;
}

static bool start_server(Disk *disk, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + START_MS * FUT_NS_PER_MS;

    disk->begun_ns = fut_now_ns();
    unlink(disk->socket);
    disk->pid = fut_process_start(disk->server, disk->log, &FUT_PROCESS_CHILD, error);
    while (disk->pid && fut_process_runs(disk->pid) && fut_now_ns() < deadline_ns) {
        json_t *status = ask_disk(disk->control, "status", NULL);
        json_decref(status);
        if (status && access(disk->socket, F_OK) == 0) {
            return true;
        }
        g_usleep(LOOK_EVERY_US);
    }
    if (disk->pid) {
        g_autofree char *words = fut_process_last_words(disk->log);
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "the disk's server does not come up: %s (%s)",
                    *words ? words : "it says nothing", disk->log);
    }
    return false;
}

static bool start_servers(FutIncoming *incoming, GError **error)
{
    g_autofree char *rundir = fut_control_rundir();
    g_autofree char *folder = g_build_filename(rundir, "disks", NULL);

    if (incoming->count > 0 && g_mkdir_with_parents(folder, 0700) < 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: %s", folder, g_strerror(errno));
        return false;
    }
    for (size_t i = 0; i < incoming->count; i++) {
        if (!make_cache(&incoming->disks[i], error) || !start_server(&incoming->disks[i], error)) {
            return false;
        }
    }
    return true;
}

/* -- QEMU -- */

/* A port that is free at this moment; those who look for one are let in one by one. 0: none is. */
static unsigned free_port(const char *host, unsigned first)
{
    struct addrinfo *at = NULL;
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    unsigned found = 0;

    for (unsigned port = first; port < first + PORTS && port < 65536 && !found; port++) {
        g_autofree char *text = g_strdup_printf("%u", port);
        if (getaddrinfo(host, text, &hints, &at) != 0) {
            return 0;
        }
        int on = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (fd >= 0 && bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, 1) == 0) {
            found = port;
        }
        close(fd);
        freeaddrinfo(at);
    }
    return found;
}

static char *plugin_option(const FutIncoming *incoming, GPtrArray *words, const char *to,
                           GError **error)
{
    const FutReceiver *receiver = incoming->receiver;
    g_autofree char *module = fut_start_module(error);
    g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(g_free);

    if (!module) {
        return NULL;
    }
    g_ptr_array_add(own, g_strdup_printf("file=%s", module));
    g_ptr_array_add(own, g_strdup("role=backup"));
    g_ptr_array_add(own, g_strdup("moving=on"));
    g_ptr_array_add(own, g_strdup_printf("node=%s", receiver->node));
    g_ptr_array_add(own, g_strdup_printf("listen=%s", to));
    if (receiver->tls) {
        g_ptr_array_add(own, g_strdup_printf("tls=%s", receiver->tls));
    }
    if (receiver->tls_name) {
        g_ptr_array_add(own, g_strdup_printf("tls_name=%s", receiver->tls_name));
    }
    if (receiver->insecure) {
        g_ptr_array_add(own, g_strdup("insecure=on"));
    }
    g_ptr_array_add(own, NULL);
    return fut_move_plugin(words, (char **)own->pdata);
}

static bool await_qemu(FutIncoming *incoming, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + START_MS * FUT_NS_PER_MS;

    while (fut_process_runs(incoming->qemu) && fut_now_ns() < deadline_ns) {
        json_t *status = ask_vm(incoming->vm, "status", NULL);
        json_decref(status);
        if (status) {
            return true;
        }
        g_usleep(LOOK_EVERY_US);
    }
    g_autofree char *words = fut_process_last_words(incoming->log);
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "QEMU does not come up here: %s (%s)",
                *words ? words : "it says nothing", incoming->log);
    return false;
}

static bool start_qemu(FutIncoming *incoming, GPtrArray *words, const char *our_host, char **ret_to,
                       GError **error)
{
    unsigned port = free_port(our_host, incoming->receiver->listen->port + 1u);
    FutAddress at = { .kind = FUT_ADDRESS_TCP, .host = (char *)our_host, .port = (uint16_t)port };

    if (port == 0) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY, "no free port on %s after %u", our_host,
                    incoming->receiver->listen->port);
        return false;
    }
    g_autofree char *to = fut_address_text(&at);
    g_autofree char *plugin = plugin_option(incoming, words, to, error);
    g_autoptr(GPtrArray) moved =
        plugin ? fut_move_words(words, plugin, incoming->moves, incoming->count, error) : NULL;
    if (!moved) {
        return false;
    }
    g_ptr_array_add(moved, NULL);
    incoming->qemu =
        fut_process_start((char **)moved->pdata, incoming->log, &FUT_PROCESS_CHILD, error);
    if (!incoming->qemu || !await_qemu(incoming, error)) {
        return false;
    }
    incoming->waiting = true;
    *ret_to = g_steal_pointer(&to);
    return true;
}

/* -- beginning -- */

static bool check_free(const char *vm, GError **error)
{
    g_autoptr(FutControlClient) client = fut_control_connect(vm, NULL);

    if (client) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY,
                    "VM '%s' is on that host already: stop it there first", vm);
    }
    return !client;
}

static bool start_all(FutIncoming *incoming, GPtrArray *words, uint64_t bytes, const char *our_host,
                      char **ret_to, GError **error)
{
    int lock = fut_receive_lock(incoming->receiver->images, error);

    if (lock < 0) {
        return false;
    }
    bool ok = check_free(incoming->vm, error) &&
              fut_receive_room(incoming->receiver->images, bytes, error) &&
              start_servers(incoming, error) &&
              start_qemu(incoming, words, our_host, ret_to, error);
    close(lock);
    return ok;
}

static void map_all(FutIncoming *incoming, GPtrArray *words)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new();

    for (size_t i = 0; i < incoming->count; i++) {
        g_ptr_array_add(images, incoming->moves[i].image);
    }
    fut_move_map(words, incoming->receiver->maps);
    fut_move_map(images, incoming->receiver->maps);
    for (size_t i = 0; i < incoming->count; i++) {
        incoming->moves[i].image = images->pdata[i];
    }
}

FutIncoming *fut_incoming_new(const FutReceiver *receiver, const json_t *args,
                              const char *their_host, const char *our_host, char **ret_to,
                              GError **error)
{
    const char *vm = json_string_value(json_object_get(args, "vm"));
    uint64_t bytes = 0;

    if (json_integer_value(json_object_get(args, "version")) != FUT_RECEIVE_VERSION || !vm) {
        bad("another version", error);
        return NULL;
    }
    g_autoptr(GPtrArray) words = take_words(json_object_get(args, "words"), error);
    if (!words || !fut_control_name_check(vm, error)) {
        return NULL;
    }
    g_autoptr(FutIncoming) incoming = g_new0(FutIncoming, 1);
    incoming->receiver = receiver;
    incoming->vm = g_strdup(vm);
    incoming->log = g_strdup_printf("%s/%s.log", receiver->images, vm);
    if (!take_disks(incoming, json_object_get(args, "disks"), their_host, &bytes, error)) {
        return NULL;
    }
    map_all(incoming, words);
    if (!start_all(incoming, words, bytes, our_host, ret_to, error)) {
        fut_incoming_abandon(incoming);
        return NULL;
    }
    say(incoming, "is being received");
    return g_steal_pointer(&incoming);
}

/* -- end -- */

/* "" when it does not say. Caller frees. */
static char *state_of(const Disk *disk)
{
    json_t *status = disk->pid ? ask_disk(disk->control, "status", NULL) : NULL;
    char *state = g_strdup(fut_cli_text(status, "state"));

    json_decref(status);
    return state;
}

/* The guest has written there, or was seen to run. */
static bool is_awake(const Disk *disk)
{
    g_autofree char *state = state_of(disk);

    return *state && strcmp(state, "asleep") != 0;
}

/* Nothing that the guest wrote is in there. A server that has died is started once more: it knows. */
static bool is_untouched(Disk *disk)
{
    if (disk->pid && !fut_process_runs(disk->pid)) {
        start_server(disk, NULL);
    }
    g_autofree char *state = state_of(disk);

    return disk->pid == 0 || strcmp(state, "asleep") == 0;
}

static void put_away(FutIncoming *incoming, Disk *disk)
{
    bool untouched = !incoming->ran && disk->made && is_untouched(disk);

    if (!disk->made) {
        return; /* what has its name belongs to another VM */
    }
    fut_process_end(disk->pid, SERVER_END_MS);
    disk->pid = 0;
    unlink(disk->socket);
    if (untouched) {
        unlink(disk->cache);
        unlink(disk->bitmap);
        unlink(disk->log);
    }
}

/* It has come at the last moment, or is coming. Who does not answer may run it. */
static bool may_be_here(const FutIncoming *incoming)
{
    json_t *status = ask_vm(incoming->vm, "status", NULL);
    const char *state = fut_cli_text(status, "state");
    bool here = !status || strcmp(fut_cli_text(status, "role"), "primary") == 0 ||
                strcmp(state, "claiming") == 0 || strcmp(state, "taking") == 0;

    json_decref(status);
    return here;
}

static void end_all(FutIncoming *incoming)
{
    if (fut_process_runs(incoming->qemu)) {
        json_decref(ask_vm(incoming->vm, "stop", NULL));
        uint64_t deadline_ns = fut_now_ns() + QEMU_END_MS * FUT_NS_PER_MS;
        while (fut_process_runs(incoming->qemu) && fut_now_ns() < deadline_ns) {
            g_usleep(LOOK_EVERY_US);
        }
        fut_process_end(incoming->qemu, QEMU_END_MS);
    }
    incoming->qemu = 0;
    for (size_t i = 0; i < incoming->count; i++) {
        put_away(incoming, &incoming->disks[i]);
    }
    incoming->abandoned = true;
}

bool fut_incoming_abandon(FutIncoming *incoming)
{
    if (incoming->waiting && fut_process_runs(incoming->qemu) && may_be_here(incoming)) {
        return false;
    }
    end_all(incoming);
    return true;
}

void fut_incoming_free(FutIncoming *incoming)
{
    if (!incoming) {
        return;
    }
    for (size_t i = 0; i < incoming->count; i++) {
        Disk *disk = &incoming->disks[i];
        g_free(incoming->moves[i].name);
        g_free(incoming->moves[i].image);
        g_free(incoming->moves[i].socket);
        g_free(disk->control);
        g_free(disk->cache);
        g_free(disk->bitmap);
        g_free(disk->log);
        g_strfreev(disk->server);
    }
    g_free(incoming->moves);
    g_free(incoming->disks);
    g_free(incoming->vm);
    g_free(incoming->log);
    g_free(incoming);
}

/* -- meanwhile -- */

static void wake_disks(FutIncoming *incoming)
{
    bool awake = true;

    for (size_t i = 0; i < incoming->count; i++) {
        json_t *status = ask_disk(incoming->disks[i].control, "wake", NULL);
        awake = awake && status;
        json_decref(status);
    }
    incoming->awake = awake;
}

static bool disks_complete(const FutIncoming *incoming)
{
    bool complete = true;

    for (size_t i = 0; i < incoming->count && complete; i++) {
        g_autofree char *state = state_of(&incoming->disks[i]);
        complete = strcmp(state, "complete") == 0;
    }
    return complete;
}

/* QEMU waits a while for a server that is away. */
static void keep_servers(FutIncoming *incoming)
{
    for (size_t i = 0; i < incoming->count; i++) {
        Disk *disk = &incoming->disks[i];
        g_autoptr(GError) error = NULL;
        if (fut_process_runs(disk->pid) || fut_now_ns() - disk->begun_ns < RESTART_NS) {
            continue;
        }
        say(incoming, "a disk's server has ended: started anew");
        incoming->awake = false;
        if (!start_server(disk, &error)) {
            say(incoming, error->message);
        }
    }
}

/* The source's futago is gone. As long as its QEMU has a link to ours, a hand-over may be on its way. */
static bool is_forlorn(FutIncoming *incoming, const json_t *status, bool connected)
{
    const char *state = fut_cli_text(status, "state");
    uint64_t now_ns = fut_now_ns();

    if (connected || strcmp(state, "claiming") == 0 || strcmp(state, "taking") == 0) {
        incoming->lonely_ns = 0;
        return false;
    }
    incoming->lonely_ns = incoming->lonely_ns ? incoming->lonely_ns : now_ns;
    bool waiting = strcmp(state, "waiting") == 0 || strcmp(state, "failed") == 0;
    uint64_t patience_ns = waiting ? 2 * FUT_NS_PER_S : LONELY_NS;
    return now_ns - incoming->lonely_ns > patience_ns;
}

/* What is not here yet still comes after the VM has ended: else its disks would be in two places. */
static bool tick_ended(FutIncoming *incoming)
{
    if (incoming->qemu) {
        incoming->qemu = 0;
        say(incoming, "has ended here");
    }
    for (size_t i = 0; i < incoming->count && !incoming->ran; i++) {
        incoming->ran = is_awake(&incoming->disks[i]); /* for less than we take to look */
    }
    incoming->complete = incoming->ran && disks_complete(incoming);
    if (incoming->complete || !incoming->ran) {
        end_all(incoming);
        return false;
    }
    keep_servers(incoming);
    if (!incoming->awake) {
        wake_disks(incoming);
    }
    return true;
}

bool fut_incoming_complete(const FutIncoming *incoming)
{
    return incoming->complete;
}

bool fut_incoming_tick(FutIncoming *incoming, bool connected)
{
    if (incoming->abandoned) {
        return false;
    }
    if (!fut_process_runs(incoming->qemu)) {
        return tick_ended(incoming);
    }
    json_t *status = ask_vm(incoming->vm, "status", NULL);
    bool here = strcmp(fut_cli_text(status, "role"), "primary") == 0;
    if (here && !incoming->ran) {
        say(incoming, "runs here");
    }
    incoming->ran = incoming->ran || here;
    keep_servers(incoming);
    if (incoming->ran && !incoming->awake) {
        wake_disks(incoming);
    }
    bool over = status && !incoming->ran && is_forlorn(incoming, status, connected);
    json_decref(status);
    if (!over || !fut_incoming_abandon(incoming)) {
        return true;
    }
    say(incoming, "did not come: the source is gone");
    return false;
}
