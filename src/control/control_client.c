/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The asking side of a control socket: one request at a time, events kept until they are
 * asked for. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "control_internal.h"
#include "fut_clock.h"
#include "fut_error.h"

#define EVENTS_MAX 4096 /* kept for next_event(); the oldest go first */

struct FutControlClient {
    char *who; /* "VM 'web'" */
    int fd;
    FutLines *lines;
    GQueue events; /* json_t */
    uint64_t last_id;
};

static bool fail_gone(const FutControlClient *client, GError **error)
{
    g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s has ended: its control socket closed",
                client->who);
    return false;
}

static void set_connect_error(const char *who, const char *list, const char *path, int code,
                              GError **error)
{
    if (code == ENOENT || code == ENOTDIR) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "no %s runs on this host (no %s): %s lists those that do", who, path, list);
    } else if (code == ECONNREFUSED) {
        g_set_error(error, FUT_ERROR, FUT_ERR_STATE,
                    "no %s runs on this host (%s is left over from one that ended): start it again",
                    who, path);
    } else if (code == EAGAIN) {
        g_set_error(error, FUT_ERROR, FUT_ERR_BUSY, "%s does not take connections (%s): try again",
                    who, path);
    } else if (code == EACCES || code == EPERM) {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO,
                    "%s belongs to another user (%s): run futago as that user", who, path);
    } else {
        g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: cannot connect to %s: %s", who, path,
                    g_strerror(code));
    }
}

static FutControlClient *connect_to(const char *who, const char *list, const char *path,
                                    GError **error)
{
    struct sockaddr_un address;

    if (!fut_control_address(path, &address, error)) {
        return NULL;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        set_connect_error(who, list, path, errno, error);
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    FutControlClient *client = g_new0(FutControlClient, 1);
    client->who = g_strdup(who);
    client->fd = fd;
    client->lines = fut_lines_new();
    g_queue_init(&client->events);
    return client;
}

FutControlClient *fut_control_connect(const char *vm, GError **error)
{
    g_autofree char *path = fut_control_path(vm, error);
    g_autofree char *who = g_strdup_printf("VM '%s'", vm);

    return path ? connect_to(who, "futago status", path, error) : NULL;
}

FutControlClient *fut_control_connect_disk(const char *disk, GError **error)
{
    g_autofree char *path = fut_control_disk_path(disk, error);
    g_autofree char *who = g_strdup_printf("disk '%s'", disk);

    return path ? connect_to(who, "futago disk status", path, error) : NULL;
}

void fut_control_client_free(FutControlClient *client)
{
    json_t *event;

    if (!client) {
        return;
    }
    while ((event = g_queue_pop_head(&client->events))) {
        json_decref(event);
    }
    close(client->fd);
    fut_lines_free(client->lines);
    g_free(client->who);
    g_free(client);
}

/* Milliseconds until `deadline_ns`, for poll(): -1 for ever, 0 when it is over. */
static int poll_timeout(uint64_t deadline_ns)
{
    uint64_t now_ns = fut_now_ns();

    if (deadline_ns == UINT64_MAX) {
        return -1;
    }
    if (deadline_ns <= now_ns) {
        return 0;
    }
    return (int)MIN((deadline_ns - now_ns + FUT_NS_PER_MS - 1) / FUT_NS_PER_MS, (uint64_t)G_MAXINT);
}

/* Waits for the socket: 1 ready, 0 deadline passed, -1 error. */
static int wait_for(FutControlClient *client, short events, uint64_t deadline_ns, GError **error)
{
    for (;;) {
        struct pollfd one = { .fd = client->fd, .events = events };
        int ready = poll(&one, 1, poll_timeout(deadline_ns));

        if (ready >= 0) {
            return ready;
        }
        if (errno != EINTR) {
            g_set_error(error, FUT_ERROR, FUT_ERR_IO, "%s: poll: %s", client->who,
                        g_strerror(errno));
            return -1;
        }
    }
}

static bool send_line(FutControlClient *client, const char *line, uint64_t deadline_ns,
                      GError **error)
{
    size_t left = strlen(line);

    while (left > 0) {
        ssize_t sent = send(client->fd, line, left, MSG_NOSIGNAL);

        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return fail_gone(client, error);
        }
        if (sent < 0) {
            int ready = wait_for(client, POLLOUT, deadline_ns, error);
            if (ready < 0) {
                return false;
            }
            if (ready == 0) {
                g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                            "%s does not read its control socket", client->who);
                return false;
            }
            continue;
        }
        line += sent;
        left -= sent;
    }
    return true;
}

/* What is there to read goes into the lines. */
static bool receive(FutControlClient *client, GError **error)
{
    char bytes[16384];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), 0);

    if (got > 0) {
        bool fits = fut_lines_feed(client->lines, bytes, got, error);
        if (!fits) {
            g_prefix_error(error, "%s sent ", client->who);
        }
        return fits;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    return fail_gone(client, error);
}

/* Next message of any kind; NULL without error at the deadline. */
static json_t *next_message(FutControlClient *client, uint64_t deadline_ns, GError **error)
{
    for (;;) {
        g_autoptr(GError) fault = NULL;
        json_t *message = fut_lines_next(client->lines, &fault);

        if (message) {
            return message;
        }
        if (fault) {
            g_propagate_prefixed_error(error, g_steal_pointer(&fault), "%s sent ", client->who);
            return NULL;
        }
        if (wait_for(client, POLLIN, deadline_ns, error) <= 0 || !receive(client, error)) {
            return NULL;
        }
    }
}

static void keep_event(FutControlClient *client, json_t *take_event)
{
    if (g_queue_get_length(&client->events) >= EVENTS_MAX) {
        json_decref(g_queue_pop_head(&client->events));
    }
    g_queue_push_tail(&client->events, take_event);
}

/* The answer with that number. Answers to earlier calls that ran out of time are passed over. */
static json_t *await_answer(FutControlClient *client, uint64_t id, uint64_t deadline_ns,
                            GError **error)
{
    for (;;) {
        g_autoptr(GError) fault = NULL;
        json_t *message = next_message(client, deadline_ns, &fault);

        if (fault) {
            g_propagate_error(error, g_steal_pointer(&fault));
            return NULL;
        }
        if (!message) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                        "%s does not answer: look at its process", client->who);
            return NULL;
        }
        if (json_object_get(message, "event")) {
            keep_event(client, message);
            continue;
        }
        if (json_integer_value(json_object_get(message, "id")) == (json_int_t)id) {
            return message;
        }
        json_decref(message);
    }
}

json_t *fut_control_call(FutControlClient *client, const char *verb, json_t *take_args,
                         unsigned timeout_ms, GError **error)
{
    uint64_t id = ++client->last_id;
    uint64_t deadline_ns = fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    g_autofree char *line = fut_control_request(id, verb, take_args);

    if (!send_line(client, line, deadline_ns, error)) {
        return NULL;
    }
    json_t *message = await_answer(client, id, deadline_ns, error);
    if (!message) {
        return NULL;
    }
    json_t *result = json_incref(fut_control_answer_parse(message, error));
    json_decref(message);
    return result;
}

json_t *fut_control_next_event(FutControlClient *client, int timeout_ms, GError **error)
{
    uint64_t deadline_ns = timeout_ms < 0 ? UINT64_MAX : fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    json_t *message = g_queue_pop_head(&client->events);

    while (!message) {
        message = next_message(client, deadline_ns, error);
        if (!message) {
            return NULL;
        }
        if (!json_object_get(message, "event")) {
            json_decref(message);
            message = NULL;
        }
    }
    return message;
}
