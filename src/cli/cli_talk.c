/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli_talk.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "fut_clock.h"
#include "fut_error.h"

#define SEND_MS 10000

struct FutTalk {
    FutLink *link;
    FutLines *lines;
    uint64_t id; /* of the newest request */
};

const char *fut_talk_name(const FutTalk *talk)
{
    return fut_link_name(talk->link);
}

static char *numeric_host(const FutTalk *talk, int (*of)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_storage at;
    socklen_t length = sizeof(at);
    char host[NI_MAXHOST];

    if (of(fut_link_fd(talk->link), (struct sockaddr *)&at, &length) != 0 ||
        (at.ss_family != AF_INET && at.ss_family != AF_INET6) ||
        getnameinfo((struct sockaddr *)&at, length, host, sizeof(host), NULL, 0, NI_NUMERICHOST)) {
        return NULL;
    }
    return g_strdup(host);
}

char *fut_talk_their_host(const FutTalk *talk)
{
    return numeric_host(talk, getpeername);
}

char *fut_talk_our_host(const FutTalk *talk)
{
    return numeric_host(talk, getsockname);
}

static int ms_left(uint64_t deadline_ns)
{
    uint64_t now_ns = fut_now_ns();

    return now_ns >= deadline_ns ? 0 : (int)((deadline_ns - now_ns) / FUT_NS_PER_MS) + 1;
}

/* Waits until something can be done. False: the time is over. */
static bool await(FutTalk *talk, bool reading, uint64_t deadline_ns)
{
    bool writing = fut_link_pending(talk->link) > 0;
    struct pollfd at = { .fd = fut_link_fd(talk->link),
                         .events = (short)((reading ? POLLIN : 0) | (writing ? POLLOUT : 0)) };
    int left = ms_left(deadline_ns);

    return left > 0 && (poll(&at, 1, left) >= 0 || errno == EINTR);
}

static bool shake_hands(FutTalk *talk, FutTls *tls, bool server, unsigned timeout_ms,
                        GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    int done;

    if (tls) {
        fut_link_start_tls(talk->link, tls, server);
    }
    while ((done = fut_link_handshake(talk->link, error)) == 0) {
        if (!fut_link_flush(talk->link, error)) {
            return false;
        }
        if (!await(talk, true, deadline_ns)) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT,
                        "%s says nothing: is it futago receive, with the same --tls?",
                        fut_talk_name(talk));
            return false;
        }
    }
    return done > 0;
}

static FutTalk *talk_new(FutLink *take_link, FutTls *tls, bool server, unsigned timeout_ms,
                         GError **error)
{
    g_autoptr(FutTalk) talk = g_new0(FutTalk, 1);

    talk->link = take_link;
    talk->lines = fut_lines_new();
    return shake_hands(talk, tls, server, timeout_ms, error) ? g_steal_pointer(&talk) : NULL;
}

FutTalk *fut_talk_connect(const FutAddress *address, FutTls *tls, unsigned timeout_ms,
                          GError **error)
{
    FutLink *link = fut_link_connect(address, timeout_ms, error);

    return link ? talk_new(link, tls, false, timeout_ms, error) : NULL;
}

FutTalk *fut_talk_accept(FutLink *take_link, FutTls *tls, unsigned timeout_ms, GError **error)
{
    return talk_new(take_link, tls, true, timeout_ms, error);
}

void fut_talk_free(FutTalk *talk)
{
    if (talk) {
        fut_link_close(talk->link);
        fut_link_unref(talk->link);
        fut_lines_free(talk->lines);
        g_free(talk);
    }
}

/* A line that comes in pieces stays with us until it is whole, whatever the time-out. */
json_t *fut_talk_receive(FutTalk *talk, unsigned timeout_ms, GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    g_autoptr(GError) fault = NULL;
    char buffer[16384];

    for (;;) {
        json_t *message = fut_lines_next(talk->lines, &fault);
        if (message || fault) {
            if (fault) {
                g_propagate_error(error, g_steal_pointer(&fault));
            }
            return message;
        }
        ssize_t got = fut_link_recv(talk->link, buffer, sizeof(buffer), error);
        if (got < 0 || (got > 0 && !fut_lines_feed(talk->lines, buffer, (size_t)got, error))) {
            return NULL;
        }
        if (got == 0 && !fut_link_unread(talk->link) && !await(talk, true, deadline_ns)) {
            return NULL;
        }
    }
}

bool fut_talk_send(FutTalk *talk, char *take_line, GError **error)
{
    g_autofree char *line = take_line;
    struct iovec iov = { line, strlen(line) };
    uint64_t deadline_ns = fut_now_ns() + SEND_MS * FUT_NS_PER_MS;

    if (iov.iov_len > FUT_CONTROL_LINE_MAX) {
        g_set_error(error, FUT_ERROR, FUT_ERR_ARG,
                    "a message of %zu bytes, %d at most: QEMU's command line is too long",
                    iov.iov_len, FUT_CONTROL_LINE_MAX);
        return false;
    }
    if (!fut_link_send(talk->link, &iov, 1, NULL, error)) {
        return false;
    }
    while (fut_link_pending(talk->link) > 0) {
        if (!await(talk, false, deadline_ns)) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT, "%s takes nothing", fut_talk_name(talk));
            return false;
        }
        if (!fut_link_flush(talk->link, error)) {
            return false;
        }
    }
    return true;
}

/* Answers to requests that were given up are passed over. */
static bool is_answer(const FutTalk *talk, const json_t *message)
{
    return (uint64_t)json_integer_value(json_object_get(message, "id")) == talk->id;
}

json_t *fut_talk_call(FutTalk *talk, const char *verb, json_t *take_args, unsigned timeout_ms,
                      GError **error)
{
    uint64_t deadline_ns = fut_now_ns() + timeout_ms * FUT_NS_PER_MS;
    g_autoptr(GError) fault = NULL;

    if (!fut_talk_send(talk, fut_control_request(++talk->id, verb, take_args), error)) {
        return NULL;
    }
    for (;;) {
        json_t *message = fut_talk_receive(talk, (unsigned)ms_left(deadline_ns), &fault);
        if (message && is_answer(talk, message)) {
            json_t *result = json_incref(fut_control_answer_parse(message, error));
            json_decref(message);
            return result;
        }
        json_decref(message);
        if (fault) {
            g_propagate_error(error, g_steal_pointer(&fault));
            return NULL;
        }
        if (ms_left(deadline_ns) == 0) {
            g_set_error(error, FUT_ERROR, FUT_ERR_TIMEOUT, "%s does not answer",
                        fut_talk_name(talk));
            return NULL;
        }
    }
}
