/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A long wire: a TCP proxy that passes each byte on after a fixed time, and not more bytes a second than a line would carry.
 *
 *   fut-delay LISTEN_ADDRESS PORT TARGET_ADDRESS PORT ONE_WAY_US [MBIT_S]
 *
 * Each direction has its own line of MBIT_S (default 0: no limit), shared by all connections, as a real one would be. Bytes
 * in flight are bounded by what the line holds and a buffer; then the sender has to wait.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <glib.h>

#include "client_util.h"
#include "fut_clock.h"

#define CONNECTIONS_MAX 64
#define CHUNK_BYTES 65536
#define BUFFER_BYTES (4u << 20)

/* Bytes on their way. */
typedef struct {
    uint64_t due_ns;
    size_t size, sent;
    char data[];
} Chunk;

typedef struct {
    uint64_t free_ns; /* when the line has sent all that was given to it */
} Line;

typedef struct {
    int from, to;
    Line *line;
    GQueue chunks;
    size_t bytes;
    bool ended, told_end; /* the sender has closed; the receiver knows */
} Way;

typedef struct {
    Way up, down;
} Connection;

static uint64_t delay_ns;
static double ns_per_byte; /* 0: no limit */
static size_t flight_max;
static Line lines[2];

static bool way_reads(const Way *way)
{
    return !way->ended && way->bytes < flight_max;
}

static const Chunk *way_due(const Way *way, uint64_t now_ns)
{
    const Chunk *first = g_queue_peek_head((GQueue *)&way->chunks);
    return first && first->due_ns <= now_ns ? first : NULL;
}

/* False when the connection is broken. */
static bool way_take(Way *way, uint64_t now_ns)
{
    Chunk *chunk = g_malloc(sizeof(*chunk) + CHUNK_BYTES);
    ssize_t got = recv(way->from, chunk->data, CHUNK_BYTES, MSG_DONTWAIT);

    if (got <= 0) {
        bool later = got < 0 && (errno == EAGAIN || errno == EINTR);
        g_free(chunk);
        way->ended |= got == 0;
        return got == 0 || later;
    }
    way->line->free_ns = MAX(way->line->free_ns, now_ns) + (uint64_t)((double)got * ns_per_byte);
    chunk->due_ns = way->line->free_ns + delay_ns;
    chunk->size = (size_t)got;
    chunk->sent = 0;
    way->bytes += chunk->size;
    g_queue_push_tail(&way->chunks, chunk);
    return true;
}

/* Passes on what has arrived. False when the connection is broken. */
static bool way_give(Way *way, uint64_t now_ns)
{
    while (way_due(way, now_ns)) {
        Chunk *chunk = g_queue_peek_head(&way->chunks);
        ssize_t put = send(way->to, chunk->data + chunk->sent, chunk->size - chunk->sent,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        chunk->sent += (size_t)put;
        if (chunk->sent < chunk->size) {
            return true;
        }
        way->bytes -= chunk->size;
        g_free(g_queue_pop_head(&way->chunks));
    }
    if (way->ended && !way->told_end && g_queue_is_empty(&way->chunks)) {
        way->told_end = true;
        shutdown(way->to, SHUT_WR);
    }
    return true;
}

static void connection_close(Connection *connection)
{
    close(connection->up.from);
    close(connection->down.from);
    g_queue_clear_full(&connection->up.chunks, g_free);
    g_queue_clear_full(&connection->down.chunks, g_free);
    g_free(connection);
}

static Connection *connection_new(int listener, const char *address, const char *port)
{
    int on = 1, front = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (front < 0) {
        return NULL;
    }
    setsockopt(front, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int back = fut_client_connect(address, port);
    Connection *connection = g_new0(Connection, 1);
    connection->up = (Way){ .from = front, .to = back, .line = &lines[0], .chunks = G_QUEUE_INIT };
    connection->down =
        (Way){ .from = back, .to = front, .line = &lines[1], .chunks = G_QUEUE_INIT };
    return connection;
}

static bool connection_work(Connection *connection, const struct pollfd *front,
                            const struct pollfd *back, uint64_t now_ns)
{
    bool lives = true;

    if (way_reads(&connection->up) && (front->revents & (POLLIN | POLLHUP | POLLERR))) {
        lives = way_take(&connection->up, now_ns);
    }
    if (lives && way_reads(&connection->down) && (back->revents & (POLLIN | POLLHUP | POLLERR))) {
        lives = way_take(&connection->down, now_ns);
    }
    lives = lives && way_give(&connection->up, now_ns) && way_give(&connection->down, now_ns);
    return lives && !(connection->up.told_end && connection->down.told_end);
}

/* What to wait for at one socket: input if there is room for it, output if bytes are due that did not fit before. */
static struct pollfd want(const Way *reads, const Way *writes, uint64_t now_ns)
{
    short events =
        (short)((way_reads(reads) ? POLLIN : 0) | (way_due(writes, now_ns) ? POLLOUT : 0));
    return (struct pollfd){ .fd = events ? reads->from : -1, .events = events };
}

static uint64_t earliest(const GPtrArray *connections, uint64_t now_ns)
{
    uint64_t at = UINT64_MAX;

    for (guint i = 0; i < connections->len; i++) {
        const Connection *connection = connections->pdata[i];
        const Way *ways[] = { &connection->up, &connection->down };
        for (guint w = 0; w < G_N_ELEMENTS(ways); w++) {
            const Chunk *first = g_queue_peek_head((GQueue *)&ways[w]->chunks);
            at = first && first->due_ns > now_ns ? MIN(at, first->due_ns) : at;
        }
    }
    return at;
}

static void wait_for_work(struct pollfd *polls, nfds_t count, const GPtrArray *connections)
{
    uint64_t now_ns = fut_now_ns(), at_ns = earliest(connections, now_ns);
    uint64_t left_ns = at_ns - now_ns;
    struct timespec left = { .tv_sec = (time_t)(left_ns / FUT_NS_PER_S),
                             .tv_nsec = (long)(left_ns % FUT_NS_PER_S) };

    if (ppoll(polls, count, at_ns == UINT64_MAX ? NULL : &left, NULL) < 0) {
        for (nfds_t i = 0; i < count; i++) {
            polls[i].revents = 0;
        }
    }
}

static void serve(int listener, const char *address, const char *port)
{
    struct pollfd polls[1 + 2 * CONNECTIONS_MAX];
    g_autoptr(GPtrArray) connections =
        g_ptr_array_new_with_free_func((GDestroyNotify)connection_close);

    for (;;) {
        uint64_t now_ns = fut_now_ns();
        polls[0] = (struct pollfd){ .fd = connections->len < CONNECTIONS_MAX ? listener : -1,
                                    .events = POLLIN };
        for (guint i = 0; i < connections->len; i++) {
            const Connection *connection = connections->pdata[i];
            polls[1 + 2 * i] = want(&connection->up, &connection->down, now_ns);
            polls[2 + 2 * i] = want(&connection->down, &connection->up, now_ns);
        }
        wait_for_work(polls, 1 + 2 * connections->len, connections);
        now_ns = fut_now_ns();
        for (guint i = connections->len; i-- > 0;) {
            if (!connection_work(connections->pdata[i], &polls[1 + 2 * i], &polls[2 + 2 * i],
                                 now_ns)) {
                g_ptr_array_remove_index(connections, i);
            }
        }
        if (polls[0].revents & POLLIN) {
            Connection *connection = connection_new(listener, address, port);
            if (connection) {
                g_ptr_array_add(connections, connection);
            }
        }
    }
}

static int listen_at(const char *address, const char *port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 16) < 0) {
        fprintf(stderr, "fut-delay: %s:%s: %s\n", address, port, strerror(errno));
        exit(EXIT_FAILURE);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr,
                "usage: fut-delay LISTEN_ADDRESS PORT TARGET_ADDRESS PORT ONE_WAY_US [MBIT_S]\n");
        return 2;
    }
    delay_ns =
        (uint64_t)(fut_client_number(argv[5], "fut-delay: microseconds", 1e7) * FUT_NS_PER_US);
    double mbit_s = argc == 7 ? fut_client_number(argv[6], "fut-delay: Mbit/s", 1e6) : 0;
    ns_per_byte = mbit_s > 0 ? 8000.0 / mbit_s : 0;
    flight_max =
        BUFFER_BYTES + (mbit_s > 0 ? (size_t)((double)delay_ns / ns_per_byte) : 16 * BUFFER_BYTES);
    prctl(PR_SET_TIMERSLACK, 1);
    int listener = listen_at(argv[1], argv[2]);
    printf("ready\n");
    fflush(stdout);
    serve(listener, argv[3], argv[4]);
    return EXIT_SUCCESS;
}
