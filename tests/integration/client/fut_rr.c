/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request/response load: each connection sends one byte to an echo service, waits for it, and sends the next.
 *
 *   fut-rr ADDRESS PORT CONNECTIONS SECONDS [WARM_UP_SECONDS]
 *
 * Prints one JSON object: transactions a second and latency percentiles in microseconds. What happens during the warm-up
 * (default 0.5 s) is not counted. One connection is served with plain blocking calls, more with epoll.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client_util.h"
#include "fut_clock.h"
#include "histogram.h"

#define CONNECTIONS_MAX 1024
#define EVENTS_MAX 64

typedef struct {
    int fd;
    uint64_t sent_ns;
} Connection;

typedef struct {
    Connection *connections;
    unsigned count;
    uint64_t warm_ns, end_ns; /* counting begins, and ends */
    FutHistogram latency_us;
} Load;

static void broken(void)
{
    fprintf(stderr, "fut-rr: connection broken: %s\n",
            errno ? strerror(errno) : "closed by the guest");
    exit(EXIT_FAILURE);
}

static void request(Connection *connection)
{
    connection->sent_ns = fut_now_ns();
    if (!fut_client_write(connection->fd, "r", 1)) {
        broken();
    }
}

/* Takes one answer in; returns the time it came. */
static uint64_t response(Load *load, Connection *connection)
{
    char byte;

    if (!fut_client_read(connection->fd, &byte, 1)) {
        broken();
    }
    uint64_t now_ns = fut_now_ns();
    if (now_ns >= load->warm_ns && now_ns < load->end_ns) {
        fut_histogram_add(&load->latency_us, (now_ns - connection->sent_ns) / FUT_NS_PER_US);
    }
    return now_ns;
}

static void run_one(Load *load)
{
    do {
        request(&load->connections[0]);
    } while (response(load, &load->connections[0]) < load->end_ns);
}

static int poller_for(Load *load)
{
    int poller = epoll_create1(EPOLL_CLOEXEC);

    for (unsigned i = 0; i < load->count; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        if (epoll_ctl(poller, EPOLL_CTL_ADD, load->connections[i].fd, &event) < 0) {
            broken();
        }
    }
    return poller;
}

static void run_many(Load *load)
{
    struct epoll_event events[EVENTS_MAX];
    int poller = poller_for(load);

    for (unsigned i = 0; i < load->count; i++) {
        request(&load->connections[i]);
    }
    while (fut_now_ns() < load->end_ns) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, 100);
        for (int i = 0; i < ready; i++) {
            Connection *connection = &load->connections[events[i].data.u32];
            response(load, connection);
            request(connection);
        }
    }
    close(poller);
}

static void print_result(const Load *load, double seconds)
{
    const FutHistogram *h = &load->latency_us;

    printf("{\"connections\": %u, \"seconds\": %.3f, \"transactions\": %llu, \"tps\": %.1f, ",
           load->count, seconds, (unsigned long long)h->count, (double)h->count / seconds);
    printf("\"latency_us\": {\"p50\": %llu, \"p90\": %llu, \"p99\": %llu, \"max\": %llu}}\n",
           (unsigned long long)fut_histogram_percentile(h, 50),
           (unsigned long long)fut_histogram_percentile(h, 90),
           (unsigned long long)fut_histogram_percentile(h, 99), (unsigned long long)h->max);
}

int main(int argc, char **argv)
{
    static Load load;

    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: fut-rr ADDRESS PORT CONNECTIONS SECONDS [WARM_UP_SECONDS]\n");
        return 2;
    }
    load.count = (unsigned)fut_client_number(argv[3], "fut-rr: connections", CONNECTIONS_MAX);
    double seconds = fut_client_number(argv[4], "fut-rr: seconds", 3600);
    double warm_s = argc == 6 ? fut_client_number(argv[5], "fut-rr: warm-up seconds", 3600) : 0.5;

    load.connections = calloc(load.count, sizeof(*load.connections));
    for (unsigned i = 0; i < load.count; i++) {
        load.connections[i].fd = fut_client_connect(argv[1], argv[2]);
    }
    load.warm_ns = fut_now_ns() + (uint64_t)(warm_s * FUT_NS_PER_S);
    load.end_ns = load.warm_ns + (uint64_t)(seconds * FUT_NS_PER_S);
    (load.count == 1 ? run_one : run_many)(&load);
    if (load.latency_us.count == 0) {
        fprintf(stderr, "fut-rr: no answer came in the %g s that count\n", seconds);
        return EXIT_FAILURE;
    }
    print_result(&load, seconds);
    return EXIT_SUCCESS;
}
