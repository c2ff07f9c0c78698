/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control thread: answers the clients of the control socket. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "fut_error.h"
#include "service_internal.h"

#define CLIENTS_MAX 16
/* Bytes a client may leave unread before it is dropped. */
#define BACKLOG_MAX (1u << 20)

typedef struct {
    int fd;
    FutLines *lines;
    GString *out; /* not yet taken by the client */
    bool wants_events;
    uint64_t next_event; /* number */
} Client;

typedef struct {
    FutService *service;
    GPtrArray *clients; /* Client, owned */
} Control;

static void client_free(Client *client)
{
    close(client->fd);
    fut_lines_free(client->lines);
    g_string_free(client->out, TRUE);
    g_free(client);
}

/* -- verbs -- */

typedef json_t *(*VerbRun)(FutService *service, Client *client, json_t *args, GError **error);

static json_t *verb_status(FutService *service, Client *client, json_t *args, GError **error)
{
    return fut_service_status(service);
}

static bool set_peer(FutService *service, const char *text, GError **error)
{
    g_autoptr(FutAddress) address = fut_address_parse(text, error);
    if (!address || !fut_options_address_allowed(service->options, address, error)) {
        return false;
    }
    g_mutex_lock(&service->peer_lock);
    fut_address_free(service->peer);
    service->peer = g_steal_pointer(&address);
    g_mutex_unlock(&service->peer_lock);
    return true;
}

static json_t *verb_protect(FutService *service, Client *client, json_t *args, GError **error)
{
    FutEngineStatus status;
    fut_engine_status(service->engine, &status);
    if (status.role != FUT_ROLE_PRIMARY || status.state != FUT_STATE_ALONE) {
        /* wanted already: another address may be given while nobody answers at the old one */
        if (status.state != FUT_STATE_CONNECTING) {
            return fut_engine_protect(service->engine, error) ? json_object() : NULL;
        }
    }
    const char *to = json_string_value(json_object_get(args, "to"));
    if (to && !set_peer(service, to, error)) {
        return NULL;
    }
    g_mutex_lock(&service->peer_lock);
    bool known = service->peer != NULL;
    g_mutex_unlock(&service->peer_lock);
    if (!known) {
        g_set_error_literal(error, FUT_ERROR, FUT_ERR_ARG,
                            "no backup is known yet: say where it listens (--to ADDR)");
        return NULL;
    }
    if (status.state == FUT_STATE_CONNECTING) {
        return json_object();
    }
    return fut_engine_protect(service->engine, error) ? json_object() : NULL;
}

static json_t *verb_unprotect(FutService *service, Client *client, json_t *args, GError **error)
{
    return fut_engine_unprotect(service->engine, error) ? json_object() : NULL;
}

static json_t *verb_failover(FutService *service, Client *client, json_t *args, GError **error)
{
    return fut_engine_failover(service->engine, error) ? json_object() : NULL;
}

/* A person's word, for arbiters that ask one. It is written down; the ask thread finds it there when
 * it asks again. */
static json_t *verb_grant(FutService *service, Client *client, json_t *args, GError **error)
{
    json_int_t generation = json_integer_value(json_object_get(args, "generation"));
    FutEngineStatus status;
    fut_engine_status(service->engine, &status);
    if (status.state != FUT_STATE_ASKING && status.state != FUT_STATE_CLAIMING) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "nothing waits for a grant here (state %s): see futago status",
                    fut_state_name(status.state));
        return NULL;
    }
    if (generation <= 0 || (uint64_t)generation != status.generation + 1) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "generation %" JSON_INTEGER_FORMAT
                    " is not waited for: this host asks for %" G_GUINT64_FORMAT,
                    generation, status.generation + 1);
        return NULL;
    }
    return fut_arbiter_grant(service->arbiter, (uint64_t)generation, service->options->node, error)
               ? json_object()
               : NULL;
}

static json_t *verb_stop(FutService *service, Client *client, json_t *args, GError **error)
{
    service->vmm->ops->quit(service->vmm);
    return json_object();
}

static json_t *verb_events(FutService *service, Client *client, json_t *args, GError **error)
{
    client->wants_events = true;
    return json_object();
}

static json_t *verb_reset_stats(FutService *service, Client *client, json_t *args, GError **error)
{
    fut_engine_status_reset(service->engine);
    return json_object();
}

static const struct {
    const char *name;
    VerbRun run;
} verbs[] = {
    { "status", verb_status },       { "protect", verb_protect },
    { "unprotect", verb_unprotect }, { "failover", verb_failover },
    { "grant", verb_grant },         { "stop", verb_stop },
    { "events", verb_events },       { "reset-stats", verb_reset_stats },
};

static json_t *run_verb(FutService *service, Client *client, const char *name, json_t *args,
                        GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (g_str_equal(verbs[i].name, name)) {
            return verbs[i].run(service, client, args, error);
        }
    }
    g_set_error(error, FUT_ERROR, FUT_ERR_ARG, "'%.64s': this VM's module does not know that verb",
                name);
    return NULL;
}

/* -- clients -- */

static void put_line(Client *client, char *take_line)
{
    g_string_append(client->out, take_line);
    g_free(take_line);
}

static bool answer(FutService *service, Client *client, json_t *message)
{
    g_autoptr(GError) error = NULL;
    uint64_t id = 0;
    const char *name;
    json_t *args = NULL;
    if (!fut_control_request_parse(message, &id, &name, &args, &error)) {
        put_line(client, fut_control_error(id, error));
        return false;
    }
    json_t *result = run_verb(service, client, name, args, &error);
    put_line(client, result ? fut_control_ok(id, result) : fut_control_error(id, error));
    return true;
}

/* Writes what the client takes. False: it is gone or too slow. */
static bool flush_client(Client *client)
{
    while (client->out->len > 0) {
        ssize_t sent =
            send(client->fd, client->out->str, client->out->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR ? client->out->len <= BACKLOG_MAX : false;
        }
        g_string_erase(client->out, 0, sent);
    }
    return true;
}

static bool read_client(FutService *service, Client *client)
{
    g_autoptr(GError) error = NULL;
    char bytes[4096];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got <= 0) {
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    bool good = fut_lines_feed(client->lines, bytes, (size_t)got, &error);
    json_t *message;
    while (good && (message = fut_lines_next(client->lines, &error))) {
        good = answer(service, client, message);
        json_decref(message);
    }
    if (error) {
        put_line(client, fut_control_error(0, error));
        good = false;
    }
    return flush_client(client) && good;
}

static void send_events(FutService *service, Client *client)
{
    g_mutex_lock(&service->events_lock);
    uint64_t oldest =
        service->event_count > FUT_EVENTS_KEPT ? service->event_count - FUT_EVENTS_KEPT : 0;
    client->next_event = MAX(client->next_event, oldest);
    for (; client->next_event < service->event_count; client->next_event++) {
        const FutEvent *event = &service->events[client->next_event % FUT_EVENTS_KEPT];
        put_line(client, fut_control_event(event->id, event->time_s, event->text));
    }
    g_mutex_unlock(&service->events_lock);
}

static void accept_client(Control *control)
{
    int fd = accept4(control->service->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (control->clients->len >= CLIENTS_MAX) {
        close(fd);
        return;
    }
    Client *client = g_new0(Client, 1);
    client->fd = fd;
    client->lines = fut_lines_new();
    client->out = g_string_new(NULL);
    g_ptr_array_add(control->clients, client);
}

static bool serve_client(FutService *service, Client *client, short events)
{
    if ((events & (POLLIN | POLLHUP | POLLERR)) && !read_client(service, client)) {
        return false;
    }
    if (client->wants_events) {
        send_events(service, client);
    }
    return flush_client(client);
}

static void serve_round(Control *control)
{
    struct pollfd fds[2 + CLIENTS_MAX];
    guint count = control->clients->len;
    fds[0] = (struct pollfd){ control->service->control_fd, POLLIN, 0 };
    fds[1] = (struct pollfd){ control->service->control_wake_fd, POLLIN, 0 };
    for (guint i = 0; i < count; i++) {
        Client *client = g_ptr_array_index(control->clients, i);
        fds[2 + i] = (struct pollfd){ client->fd,
                                      (short)(POLLIN | (client->out->len > 0 ? POLLOUT : 0)), 0 };
    }
    if (poll(fds, 2 + count, -1) < 0) {
        g_assert(errno == EINTR);
        return;
    }
    if (fds[1].revents) {
        fut_wake_drain(control->service->control_wake_fd);
    }
    for (guint i = count; i-- > 0;) {
        Client *client = g_ptr_array_index(control->clients, i);
        if (!serve_client(control->service, client, fds[2 + i].revents)) {
            g_ptr_array_remove_index(control->clients, i);
        }
    }
    if (fds[0].revents) {
        accept_client(control);
    }
}

void *fut_control_thread(void *opaque)
{
    Control control = { opaque, g_ptr_array_new_with_free_func((GDestroyNotify)client_free) };
    for (;;) {
        serve_round(&control);
    }
    return NULL;
}
