/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts up over one TCP connection, or several, and watches for anything lost or doubled.
 *
 *   fut-count ADDRESS PORT [SECONDS [CONNECTIONS]]
 *
 * The counter service accepts a number only if it is the connection's last one plus one, and tells how many it ever accepted. So:
 *   lost     a count that was acknowledged to us is missing from the service's total, or it no longer knows our last number
 *   doubled  the service's total has more than we asked for, or it answered with a number we did not just send
 * With one connection the total is known exactly at each answer; with several it lies between what was answered and what was
 * asked, and is exact again at the end, when every question is answered.
 * Prints a JSON line ten times a second, one for each gap between two answers on a connection that is over GAP_REPORT_S, and one
 * at the end ("end": true). Ends after SECONDS, on SIGTERM or SIGINT, or when the last connection is broken. Exit status 0: all
 * connections lived and nothing was lost or doubled. Times are CLOCK_MONOTONIC seconds.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "byteorder.h"
#include "client_util.h"

#define PROGRESS_S 0.1
#define GAP_REPORT_S 0.02
#define DRAIN_S 2.0
#define ANSWER_SIZE 16
#define CONNECTIONS_MAX 64

typedef struct {
    uint64_t done;  /* counts answered */
    uint64_t known; /* counts answered on all connections when the last question was asked */
    bool waits;     /* for an answer */
    double last_s;
} Connection;

typedef struct {
    struct pollfd poll[CONNECTIONS_MAX]; /* fd -1: broken */
    Connection connection[CONNECTIONS_MAX];
    unsigned connections, broken;
    uint64_t asked, done; /* over all connections */
    uint64_t base;        /* the service's total before our first */
    uint64_t total;       /* the highest it told */
    uint64_t lost, doubled;
    double started_s, progress_s;
    double longest_s, longest_at_s;
} Count;

static volatile sig_atomic_t stopping;

static void stop(int number)
{
    stopping = 1;
}

/* The signals arrive only where ret_waiting is in force: in ppoll(). */
static void catch_signals(sigset_t *ret_waiting)
{
    struct sigaction action = { .sa_handler = stop };
    sigset_t ours;

    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigprocmask(SIG_BLOCK, &ours, ret_waiting);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

static void note_gap(Count *count, unsigned i, double now_s)
{
    Connection *connection = &count->connection[i];
    double gap_s = now_s - connection->last_s;

    if (gap_s > count->longest_s) {
        count->longest_s = gap_s;
        count->longest_at_s = connection->last_s;
    }
    if (gap_s > GAP_REPORT_S) {
        printf(
            "{\"gap_ms\": %.1f, \"from\": %.6f, \"to\": %.6f, \"n\": %llu, \"connection\": %u}\n",
            gap_s * 1e3, connection->last_s, now_s, (unsigned long long)connection->done, i);
    }
    connection->last_s = now_s;
}

/* When the connection that waits longest had its last answer. */
static double oldest_s(const Count *count, double now_s)
{
    double oldest = now_s;

    for (unsigned i = 0; i < count->connections; i++) {
        if (count->poll[i].fd >= 0 && count->connection[i].last_s < oldest) {
            oldest = count->connection[i].last_s;
        }
    }
    return oldest;
}

static void note_progress(Count *count, double now_s)
{
    if (now_s - count->progress_s >= PROGRESS_S) {
        count->progress_s = now_s;
        printf("{\"t\": %.6f, \"n\": %llu, \"lost\": %llu, \"doubled\": %llu, \"broken\": %u, "
               "\"oldest\": %.6f}\n",
               now_s, (unsigned long long)count->done, (unsigned long long)count->lost,
               (unsigned long long)count->doubled, count->broken, oldest_s(count, now_s));
    }
}

/* The total must be what it was when we began plus our own counts: nobody else may count meanwhile. Of the other connections'
 * questions those under way may be in it or not. */
static void judge(Count *count, const Connection *connection, const uint8_t answer[ANSWER_SIZE])
{
    uint64_t asked = connection->done + 1;
    uint64_t got = fut_get_le64(answer), total = fut_get_le64(answer + 8);

    if (count->done == 0) {
        count->base = total - 1;
    }
    uint64_t least = count->base + connection->known + 1, most = count->base + count->asked;
    if (got != asked && got != UINT64_MAX) {
        count->doubled++;
    } else if (total > most) {
        count->doubled += total - most;
    } else if (total < least || got != asked) {
        count->lost += total < least ? least - total : 1;
    }
    count->total = total > count->total ? total : count->total;
}

static void lose_connection(Count *count, unsigned i)
{
    fprintf(stderr, "fut-count: connection %u broken at %llu: %s\n", i,
            (unsigned long long)count->connection[i].done,
            errno ? strerror(errno) : "closed by the guest");
    close(count->poll[i].fd);
    count->poll[i].fd = -1;
    count->connection[i].waits = false;
    count->broken++;
}

static void ask(Count *count, unsigned i)
{
    uint8_t request[8];

    fut_put_le64(request, count->connection[i].done + 1);
    count->asked++;
    count->connection[i].known = count->done;
    count->connection[i].waits = true;
    if (!fut_client_write(count->poll[i].fd, request, sizeof(request))) {
        lose_connection(count, i);
    }
}

static void take_answer(Count *count, unsigned i)
{
    Connection *connection = &count->connection[i];
    uint8_t answer[ANSWER_SIZE];

    if (!fut_client_read(count->poll[i].fd, answer, sizeof(answer))) {
        lose_connection(count, i);
        return;
    }
    judge(count, connection, answer);
    double now_s = fut_client_now_s();
    connection->waits = false;
    connection->done++;
    count->done++;
    note_gap(count, i, now_s);
    note_progress(count, now_s);
}

/* Takes what answers come within PROGRESS_S; each is followed by the next question, if `on`. */
static void step(Count *count, const sigset_t *waiting, bool on)
{
    struct timespec most = { .tv_nsec = (long)(PROGRESS_S * 1e9) };

    if (ppoll(count->poll, count->connections, &most, waiting) <= 0) {
        return;
    }
    for (unsigned i = 0; i < count->connections; i++) {
        if (count->poll[i].fd >= 0 && count->poll[i].revents) {
            take_answer(count, i);
            if (on && !stopping && count->poll[i].fd >= 0) {
                ask(count, i);
            }
        }
    }
}

static bool contradicted(const Count *count)
{
    return count->lost || count->doubled;
}

static bool waits(const Count *count)
{
    for (unsigned i = 0; i < count->connections; i++) {
        if (count->connection[i].waits) {
            return true;
        }
    }
    return false;
}

/* The last answers; when all are there the service's total is known. */
static void drain(Count *count, const sigset_t *waiting)
{
    double end_s = fut_client_now_s() + DRAIN_S;

    while (waits(count) && !contradicted(count) && fut_client_now_s() < end_s) {
        step(count, waiting, false);
    }
    if (count->done == count->asked && !contradicted(count)) {
        count->lost += count->base + count->done - count->total;
    }
}

/* Counts until told to stop. The first count is alone: it tells where the service's total stands. */
static void run(Count *count, const sigset_t *waiting, double end_s)
{
    ask(count, 0);
    while (!stopping && count->done == 0 && count->broken == 0) {
        step(count, waiting, false);
    }
    for (unsigned i = 0; i < count->connections && !stopping; i++) {
        if (count->poll[i].fd >= 0) {
            count->connection[i].last_s = fut_client_now_s();
            ask(count, i);
        }
    }
    while (!stopping && !contradicted(count) && count->broken < count->connections &&
           fut_client_now_s() < end_s) {
        step(count, waiting, true);
    }
    drain(count, waiting);
}

static void print_end(const Count *count)
{
    printf(
        "{\"end\": true, \"alive\": %s, \"transactions\": %llu, \"lost\": %llu, \"doubled\": %llu, "
        "\"broken\": %u, \"longest_gap_ms\": %.1f, \"longest_gap_from\": %.6f, \"started\": %.6f, "
        "\"ended\": %.6f}\n",
        count->broken ? "false" : "true", (unsigned long long)count->done,
        (unsigned long long)count->lost, (unsigned long long)count->doubled, count->broken,
        count->longest_s * 1e3, count->longest_at_s, count->started_s, fut_client_now_s());
    if (contradicted(count)) {
        fprintf(stderr, "fut-count: lost or doubled after %llu\n", (unsigned long long)count->done);
    }
}

int main(int argc, char **argv)
{
    static Count count = { .connections = 1 };
    sigset_t waiting;

    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: fut-count ADDRESS PORT [SECONDS [CONNECTIONS]]\n");
        return 2;
    }
    double seconds = argc > 3 ? fut_client_number(argv[3], "fut-count: seconds", 86400) : 86400;
    if (argc > 4) {
        count.connections =
            (unsigned)fut_client_number(argv[4], "fut-count: connections", CONNECTIONS_MAX);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; i < count.connections; i++) {
        count.poll[i] =
            (struct pollfd){ .fd = fut_client_connect(argv[1], argv[2]), .events = POLLIN };
        count.connection[i].last_s = fut_client_now_s();
    }
    catch_signals(&waiting);
    count.started_s = count.progress_s = fut_client_now_s();
    run(&count, &waiting, count.started_s + seconds);
    print_end(&count);
    return count.broken || contradicted(&count) ? EXIT_FAILURE : EXIT_SUCCESS;
}
