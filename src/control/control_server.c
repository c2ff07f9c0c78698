/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control_server.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 16
/* Bytes a client may leave unread before it is dropped. */
#define BACKLOG_MAX (1u << 20)

typedef struct {
    int fd;
    FutLines *lines;
    GString *out;       /* not yet taken by the client */
    unsigned stream;    /* that it follows; 0: none */
    uint64_t next_line; /* of the stream */
} Client;

struct FutControlServer {
    int listen_fd, wake_fd;
    const FutControlServerOps *ops;
    void *opaque;
    GPtrArray *clients; /* Client, owned */
};

static void client_free(Client *client)
{
    close(client->fd);
    fut_lines_free(client->lines);
    g_string_free(client->out, TRUE);
    g_free(client);
}

FutControlServer *fut_control_server_new(int listen_fd, int wake_fd, const FutControlServerOps *ops,
                                         void *opaque)
{
    FutControlServer *server = g_new(FutControlServer, 1);
    *server = (FutControlServer){
        .listen_fd = listen_fd,
        .wake_fd = wake_fd,
        .ops = ops,
        .opaque = opaque,
        .clients = g_ptr_array_new_with_free_func((GDestroyNotify)client_free),
    };
    return server;
}

void fut_control_server_free(FutControlServer *server)
{
    if (server) {
        g_ptr_array_free(server->clients, TRUE);
        g_free(server);
    }
}

static void put_line(Client *client, char *take_line)
{
    g_string_append(client->out, take_line);
    g_free(take_line);
}

static bool answer(FutControlServer *server, Client *client, json_t *message)
{
    g_autoptr(GError) error = NULL;
    uint64_t id = 0;
    const char *name;
    json_t *args = NULL;
    if (!fut_control_request_parse(message, &id, &name, &args, &error)) {
        put_line(client, fut_control_error(id, error));
        return false;
    }
    unsigned stream = client->stream;
    json_t *result = server->ops->run(server->opaque, name, args, &stream, &error);
    if (stream != client->stream) {
        client->stream = stream;
        client->next_line = 0;
    }
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

static bool read_client(FutControlServer *server, Client *client)
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
        good = answer(server, client, message);
        json_decref(message);
    }
    if (error) {
        put_line(client, fut_control_error(0, error));
        good = false;
    }
    return flush_client(client) && good;
}

static void accept_client(FutControlServer *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (server->clients->len >= CLIENTS_MAX) {
        close(fd);
        return;
    }
    Client *client = g_new0(Client, 1);
    client->fd = fd;
    client->lines = fut_lines_new();
    client->out = g_string_new(NULL);
    g_ptr_array_add(server->clients, client);
}

static bool serve_client(FutControlServer *server, Client *client, short events)
{
    if ((events & (POLLIN | POLLHUP | POLLERR)) && !read_client(server, client)) {
        return false;
    }
    bool more;
    do {
        more = client->stream && server->ops->lines &&
               server->ops->lines(server->opaque, client->stream, &client->next_line, client->out);
        if (!flush_client(client)) {
            return false;
        }
    } while (more && client->out->len == 0);
    return true;
}

void fut_control_server_round(FutControlServer *server, int timeout_ms)
{
    struct pollfd fds[2 + CLIENTS_MAX];
    guint count = server->clients->len;
    fds[0] = (struct pollfd){ server->listen_fd, POLLIN, 0 };
    fds[1] = (struct pollfd){ server->wake_fd, POLLIN, 0 };
    for (guint i = 0; i < count; i++) {
        Client *client = g_ptr_array_index(server->clients, i);
        fds[2 + i] = (struct pollfd){ client->fd,
                                      (short)(POLLIN | (client->out->len > 0 ? POLLOUT : 0)), 0 };
    }
    if (poll(fds, 2 + count, timeout_ms) < 0) {
        g_assert(errno == EINTR);
        return;
    }
    if (fds[1].revents) {
        uint64_t wakes;
        g_assert(read(server->wake_fd, &wakes, sizeof(wakes)) == sizeof(wakes) || errno == EAGAIN);
    }
    for (guint i = count; i-- > 0;) {
        Client *client = g_ptr_array_index(server->clients, i);
        if (!serve_client(server, client, fds[2 + i].revents)) {
            g_ptr_array_remove_index(server->clients, i);
        }
    }
    if (fds[0].revents) {
        accept_client(server);
    }
}
